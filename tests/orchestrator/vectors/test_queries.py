"""The table of what each query found: written beside the curve, in the images' names, and the scores are its means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.vectors.evaluate import prefix_scores
from muster.orchestrator.vectors.queries import queries_name, query_table
from muster.orchestrator.vectors.vectors import images_of
from muster.workers.store.layout import Store
from muster.workers.store.parquet import read_table
from tests.orchestrator.made_ensembles import concatenation, made_ensemble


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EnsembleResult]:
    store = Store(str(tmp_path_factory.mktemp("queries")))
    return store, made_ensemble(store, shapes, "made", D=4, L=3)


def written(made: tuple[Store, EnsembleResult], name: str, draws: int = 0):
    store, got = made
    keys = [task.key for task in got.members]
    scores = prefix_scores(
        store.root, got.target("test"), keys, [1, 4], 1 << 30, 1, draws=draws, queries=name
    )
    return scores, read_table(store.files.get(name)).to_pandas()


def test_scores_are_the_means_of_its_ranks(made: tuple[Store, EnsembleResult]) -> None:
    scores, table = written(made, "queries.parquet")
    assert list(table) == [
        "draw", "image_id", "label", "rank_L1", "rank_L2", "rank_L3", "nearest", "nearest_label", "similarity",
    ]  # fmt: skip
    assert len(table) == scores["queries"]
    for row in scores["curve"]:
        ranks = table[f"rank_L{row['L']}"]
        assert row["recall_at_1"] == pytest.approx((ranks == 1).mean())
        assert row["recall_at_4"] == pytest.approx((ranks <= 4).mean())


def test_nearest_images_are_named_and_never_the_query_itself(made: tuple[Store, EnsembleResult]) -> None:
    store, got = made
    _, table = written(made, "queries.parquet")
    index, part = images_of(store, got.target("test"))
    images = index.table.take(part.rows).to_pandas()
    classes = dict(zip(images["image_id"], images["class_name"], strict=True))
    whole = concatenation(store, got, "test", 3)
    similar = dict(zip(images["image_id"], range(len(images)), strict=True))
    for row in table.itertuples():
        assert row.label == classes[row.image_id]
        assert row.image_id not in row.nearest
        assert [classes[name] for name in row.nearest] == list(row.nearest_label)
        assert (row.nearest_label[0] == row.label) == (row.rank_L3 == 1)
        products = [float(whole[similar[row.image_id]] @ whole[similar[name]]) for name in row.nearest]
        np.testing.assert_allclose(row.similarity, products, atol=1e-5)
        assert sorted(products, reverse=True) == products


def test_each_list_is_its_query_s_own_and_ends_where_nothing_is_left() -> None:
    names = pa.table({"image_id": list("abcd"), "class_name": ["x", "x", "y", "y"]})
    protocol = SimpleNamespace(
        query=np.array([3, 0, 1]), gallery=np.array([1, 2, 0]), references=np.array([1, 0, 1])
    )
    record = SimpleNamespace(
        sizes=[1, 2],
        ranks=np.array([[2, 1], [0, 0], [1, 3]]),
        nearest=np.array([[0, 2, 1], [0, 1, 2], [1, -1, -1]]),
        similarity=np.array([[0.9, 0.5, 0.25], [0, 0, 0], [0.75, -1, -1]], np.float32),
    )
    found = query_table(names, [protocol, protocol], [record, record])
    rows = [
        {
            "image_id": "d", "label": "y", "rank_L1": 2, "rank_L2": 1, "nearest": ["b", "a", "c"],
            "nearest_label": ["x", "x", "y"], "similarity": [np.float32(0.9), 0.5, 0.25],
        },
        {
            "image_id": "b", "label": "x", "rank_L1": 1, "rank_L2": 3, "nearest": ["c"],
            "nearest_label": ["y"], "similarity": [0.75],
        },
    ]  # fmt: skip
    assert found.to_pylist() == [{"draw": draw, **row} for draw in (0, 1) for row in rows]
    assert str(found.schema.field("draw").type) == "int32"
    with pytest.raises(ValueError, match="zip"):
        query_table(names, [protocol], [record, record])


def test_random_galleries_have_their_rows_each(made: tuple[Store, EnsembleResult]) -> None:
    scores, table = written(made, "drawn.parquet", draws=3)
    assert table["draw"].value_counts().to_dict() == dict.fromkeys(range(3), scores["queries"])
    means = [(part["rank_L3"] == 1).mean() for _, part in table.groupby("draw")]
    assert scores["curve"][-1]["recall_at_1"] == pytest.approx(np.mean(means))


def test_other_splits_have_a_file_of_their_own() -> None:
    assert [queries_name(split) for split in ("test", "val")] == ["queries.parquet", "queries-val.parquet"]
