"""The table of what each query found: written beside the curve, in the images' names, and the scores are its means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.vectors.evaluate import prefix_scores
from muster.orchestrator.vectors.queries import queries_name
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


def test_random_galleries_have_their_rows_each(made: tuple[Store, EnsembleResult]) -> None:
    scores, table = written(made, "drawn.parquet", draws=3)
    assert table["draw"].value_counts().to_dict() == dict.fromkeys(range(3), scores["queries"])
    means = [(part["rank_L3"] == 1).mean() for _, part in table.groupby("draw")]
    assert scores["curve"][-1]["recall_at_1"] == pytest.approx(np.mean(means))


def test_other_splits_have_a_file_of_their_own() -> None:
    assert [queries_name(split) for split in ("test", "val")] == ["queries.parquet", "queries-val.parquet"]
