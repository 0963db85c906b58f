"""DREML's figures: their numbers against a plain computation, their files, and what they say."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.jobs.reproduce.figures import fig3, fig4, fig5, fig6, similarities
from muster.orchestrator.jobs.reproduce.figures.sheet import captions
from muster.orchestrator.jobs.reproduce.figures.similarities import BINS, EDGES
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.targets import TARGETS
from muster.workers.errors import MusterError
from muster.workers.score.protocol import Protocol
from muster.workers.store.layout import Store
from tests.orchestrator.made_ensembles import concatenation, labels_of, made_ensemble

FOLDER = "runs/try/figures/one"
FIGURES: dict[str, Any] = {"dreml-fig3": fig3, "dreml-fig4": fig4, "dreml-fig5": fig5, "dreml-fig6": fig6}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even small sets take several blocks, of different sizes."""
    monkeypatch.setattr(similarities, "BLOCK_BYTES", 4 * 96 * 7)


def table(store: Store, names: Sequence[str]) -> list[dict[str, str]]:
    (name,) = (name for name in names if name.endswith(".csv"))
    return list(csv.DictReader(io.StringIO(store.files.get(name).decode())))


def same_histogram(counts: Sequence[int], values: np.ndarray) -> None:
    """Whether counts in bins are those of the values, up to what rounding moves over an edge."""
    below = np.concatenate([[0], np.cumsum(counts)])
    assert below[-1] == len(values)
    for edge, count in zip(EDGES[1:-1], below[1:-1], strict=True):
        assert (values < edge - 1e-6).sum() <= count <= (values < edge + 1e-6).sum()


def test_fig4_counts_every_pair_once(store: Store, shapes: Path) -> None:
    got = made_ensemble(store, shapes, "folder D = 4", D=4, L=24)
    rows = table(store, fig4.draw(store, FOLDER, {got.request.name: got}))
    for split in ("train", "test"):
        labels = labels_of(store, got, split)
        one, other = np.triu_indices(len(labels), 1)
        for size in (1, 4, 24):
            joined = concatenation(store, got, split, size)
            cosines = np.einsum("nd,nd->n", joined[one], joined[other]) / size
            for kind, chosen in (
                ("same", labels[one] == labels[other]),
                ("different", labels[one] != labels[other]),
            ):
                mine = [r for r in rows if (r["split"], r["pairs"], r["members"]) == (split, kind, str(size))]
                assert [float(row["low"]) for row in mine] == pytest.approx(EDGES[:-1], abs=1e-6)
                same_histogram([int(row["count"]) for row in mine], cosines[chosen])
                shares = np.array([int(row["count"]) for row in mine]) / chosen.sum()
                assert [float(row["share"]) for row in mine] == pytest.approx(shares, abs=1e-6)


def test_fig4_says_how_often_a_pair_of_one_class_is_the_more_similar(store: Store, shapes: Path) -> None:
    got = made_ensemble(store, shapes, "folder D = 4", D=4, L=4)
    found = fig4.pairs(store, got, "test").counts[4]
    labels = labels_of(store, got, "test")
    joined = concatenation(store, got, "test", 4)
    one, other = np.triu_indices(len(labels), 1)
    cosines = np.einsum("nd,nd->n", joined[one], joined[other]) / 4
    same, different = cosines[labels[one] == labels[other]], cosines[labels[one] != labels[other]]
    plain = (same[:, None] > different[None, :]).mean()
    assert similarities.auc(*found) == pytest.approx(plain, abs=0.01)  # pairs within one bin count half
    middle = np.average((EDGES[:-1] + EDGES[1:]) / 2, weights=found[fig4.SAME])
    assert middle == pytest.approx(same.mean(), abs=0.005)
    assert similarities.share_above(found[fig4.DIFFERENT], 0.75) == pytest.approx(
        (different >= 0.75).mean(), abs=1e-3
    )
    fig4.draw(store, FOLDER, {"one": got})
    assert (
        f"{100 * similarities.auc(*found):.1f} % with 4 networks" in captions(store, FOLDER)[0]["finding"][0]
    )


def test_fig5_takes_the_closest_image_of_the_classes_trained_on(store: Store, shapes: Path) -> None:
    single = made_ensemble(store, shapes, "one", D=10, L=1, train_classes=10)
    ensemble = made_ensemble(store, shapes, "more", D=4, L=24, train_classes=10)
    names = fig5.draw(store, FOLDER, {"one": single, "more": ensemble})
    rows, (words,) = table(store, names), captions(store, FOLDER)
    assert len(labels_of(store, single, "train")) == 10 * 8
    recalls = []
    for got, D, size in ((single, 10, 1), (ensemble, 4, 1), (ensemble, 4, 4), (ensemble, 4, 24)):
        train, test = (concatenation(store, got, split, size) for split in ("train", "test"))
        closest = (test @ train.T).max(axis=1) / size
        mine = [row for row in rows if (row["D"], row["networks"]) == (str(D), str(size))]
        assert len(mine) == BINS
        same_histogram([int(row["count"]) for row in mine], closest)
        assert f"{np.median(closest):.2f} (" in words["finding"][0]
        recalls.append((got.metrics or {})["splits"]["test"]["curve"][size - 1]["recall_at_1"])
    told = re.search(r"Recall@1 of the same four is ([\d., and]+) %", words["finding"][1])
    assert told
    assert re.findall(r"\d+\.\d", told[1]) == [f"{100 * recall:.1f}" for recall in recalls]


def test_fig6_shows_the_nearest_images(store: Store, shapes: Path) -> None:
    got = made_ensemble(store, shapes, "folder D = 4", D=4, L=3)
    names = fig6.draw(store, FOLDER, {got.request.name: got})
    rows = table(store, names)
    _, ids, classes = fig6.images_of(store, got, "test")
    joined = concatenation(store, got, "test", 3)
    cosines = joined @ joined.T / 3
    np.fill_diagonal(cosines, -np.inf)
    queries = list(dict.fromkeys(row["query"] for row in rows))
    kinds = []
    for query in queries:
        mine = [row for row in rows if row["query"] == query]
        number = ids.index(query)
        nearest = np.argsort(-cosines[number])[:4]
        assert [row["image"] for row in mine] == [ids[n] for n in nearest]
        assert [float(row["similarity"]) for row in mine] == pytest.approx(cosines[number, nearest], abs=1e-5)
        assert [row["right"] for row in mine] == [str(classes[n] == classes[number]) for n in nearest]
        assert [row["rank"] for row in mine] == ["1", "2", "3", "4"]
        kinds.append(mine[0]["right"])
    assert kinds == ["True"] * 4 + ["False"] * 4
    recall = (got.metrics or {})["splits"]["test"]["curve"][-1]["recall_at_1"]
    assert f"{100 * recall:.1f} % have a right image nearest" in captions(store, FOLDER)[0]["finding"][0]


def test_fig6_borders_are_green_and_red(store: Store, shapes: Path) -> None:
    got = made_ensemble(store, shapes, "folder D = 4", D=4, L=3)
    names = fig6.draw(store, FOLDER, {got.request.name: got})
    right = sum(row["right"] == "True" for row in table(store, names))
    svg = next(store.files.get(name).decode() for name in names if name.endswith(".svg"))
    # Each picture has four spines.
    assert svg.count(f"stroke: {fig6.RIGHT}") == 4 * right
    assert svg.count(f"stroke: {fig6.WRONG}") == 4 * (8 * 4 - right)


def test_a_query_looks_for_its_answers_in_the_gallery_alone() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), 4)
    vectors = rng.normal(size=(24, 5)).astype(np.float32)
    queries, gallery = np.arange(0, 24, 4), np.setdiff1d(np.arange(24), np.arange(0, 24, 4))
    gallery = gallery[labels[gallery] != 5]  # the last query has no right answer, and is left out
    found = fig6.answers([vectors], Protocol(labels, queries, gallery))
    assert found.queries.tolist() == queries[:5].tolist()
    plain = np.argsort(-(vectors[queries[:5]] @ vectors[gallery].T), axis=1)[:, :4]
    assert found.nearest.tolist() == gallery[plain].tolist()


def test_among_equals_the_wrong_image_is_the_nearer() -> None:
    vectors = np.ones((6, 2), dtype=np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = fig6.answers([vectors], Protocol(labels, np.arange(6), np.arange(6)))
    assert not found.right[:, :3].any()


def test_fig3_takes_recall_from_the_scores(store: Store, shapes: Path) -> None:
    got = {f"folder D = {D}": made_ensemble(store, shapes, f"folder D = {D}", D=D, L=6) for D in (2, 4, 8)}
    rows = table(store, fig3.draw(store, FOLDER, got))
    assert len(rows) == 3 * 6
    for one in got.values():
        labels = labels_of(store, one, "test")
        for size in (1, 6):
            joined = concatenation(store, one, "test", size)
            cosines = joined @ joined.T
            np.fill_diagonal(cosines, -np.inf)
            recall = (labels[cosines.argmax(axis=1)] == labels).mean()
            D = str(one.request.launch.ensemble.D)
            (row,) = (row for row in rows if (row["D"], row["L"]) == (D, str(size)))
            assert float(row["recall_at_1"]) == pytest.approx(recall, abs=1e-6)


def curve_rows(last: dict[int, float], seeds: int = 1) -> list[dict[str, Any]]:
    """Rows of Fig. 3 whose ensembles of 4 reach `last` by D; smaller ones less by 0.1 for each member."""
    return [
        {
            "dataset": "x",
            "D": D,
            "seed": seed,
            "L": L,
            "recall_at_1": top - 0.1 * (4 - L) + 0.02 * seed,
            "queries": 3200,
        }
        for D, top in last.items()
        for seed in range(seeds)
        for L in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({12: 0.6, 50: 0.8, 200: 0.7}, "both ends of the range are worse than D = 50, as in the paper"),
        (
            {12: 0.6, 50: 0.8, 200: 0.81},
            "small D costs recall, as in the paper, and the paper's loss at large D",
        ),
        (
            {12: 0.8, 50: 0.8, 200: 0.7},
            "large D costs recall, as in the paper, and the paper's loss at small D",
        ),
        (
            {12: 0.80, 50: 0.81, 200: 0.805},
            "neither end of the range is worse than the best D, unlike in the paper",
        ),
        ({12: 0.8}, "With 4 members recall@1 is 80.0 % with D = 12."),
    ],
)
def test_fig3_says_what_D_does(last: dict[int, float], said: str) -> None:  # noqa: N802
    first, second = fig3.finding(curve_rows(last))
    assert said in first
    assert f"{100 * last[12]:.1f} % with D = 12" in first
    assert "by +30.0" in second
    assert "from 2 to 4, gives +20.0 to +20.0" in second


def test_fig3_takes_the_mean_of_the_seeds_and_equal_sizes() -> None:
    rows = [
        r for r in curve_rows({12: 0.6, 50: 0.7}, seeds=2) if not (r["D"] == 50 and r["seed"] and r["L"] > 3)
    ]
    found = fig3.curves(rows)
    assert found[12][4] == pytest.approx(0.61)
    assert sorted(found[50]) == [1, 2, 3]  # one of its seeds has no fourth member
    assert fig3.common_size(found) == 3
    assert fig3.finding(rows)[0].startswith(
        "With 3 members recall@1 is 51.0 % with D = 12 and 61.0 % with D = 50"
    )


def ready(store: Store, root: Path, figure: str, **changes: Any) -> dict[str, EnsembleResult]:
    if figure == "dreml-fig5":
        one = made_ensemble(store, root, "one", D=12, L=1, train_classes=12, **changes)
        return {"one": one, "more": made_ensemble(store, root, "more", D=4, L=5, train_classes=12, **changes)}
    return {"folder": made_ensemble(store, root, "folder D = 4", D=4, L=5, **changes)}


@pytest.mark.parametrize("figure", FIGURES)
def test_files_are_whole_and_the_same_again(figure: str, store: Store, shapes: Path) -> None:
    got = ready(store, shapes, figure)
    names = FIGURES[figure].draw(store, FOLDER, got)
    before = [store.files.get(name) for name in names]
    assert [name.removeprefix(f"{FOLDER}/") for name in names] == [
        f"{figure}-folder.svg", f"{figure}-folder.png", f"{figure}-folder.csv", "captions.json",
    ]  # fmt: skip
    assert before[0].startswith(b"<?xml")
    assert Image.open(io.BytesIO(before[1])).size[0] == 1600
    assert FIGURES[figure].draw(store, FOLDER, got) == names
    assert [store.files.get(name) for name in names] == before
    (words,) = captions(store, FOLDER)
    assert len(words["finding"]) == 2
    assert all(text.endswith(".") for text in words["finding"])
    assert words["note"] == ""
    assert words["files"]["png"] == f"{figure}-folder.png"
    assert words["caption"].startswith(f"DREML, Fig. {figure[-1]}.")


@pytest.mark.parametrize("figure", FIGURES)
def test_no_member_at_all_is_told_and_nothing_is_written(figure: str, store: Store, shapes: Path) -> None:
    got = ready(store, shapes, figure, done=0)
    with pytest.raises(
        MusterError, match=f"^{figure} can't be drawn. folder: no member was trained: the disk is full"
    ):
        FIGURES[figure].draw(store, FOLDER, got)
    assert store.files.names(FOLDER) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_what_is_there_is_drawn_and_what_lacks_is_said(figure: str, store: Store, shapes: Path) -> None:
    got = ready(store, shapes, figure)
    rehearsal = {
        name: replace(
            one, request=replace(one.request, note="REHEARSAL at scale 0.1."), members=one.members[:3]
        )
        for name, one in got.items()
    }
    absent = replace(
        next(iter(got.values())).request,
        name="cars196",
        launch=replace(
            got[next(iter(got))].request.launch,
            data=replace(got[next(iter(got))].request.launch.data, dataset="cars196"),
        ),
    )
    rehearsal["cars196"] = EnsembleResult(request=absent, trouble="no data at /nowhere")
    names = FIGURES[figure].draw(store, FOLDER, rehearsal)
    assert len(names) == 4
    (words,) = captions(store, FOLDER)
    assert words["note"].startswith("REHEARSAL at scale 0.1.")
    assert "3 of 5 members." in words["note"]
    assert "cars196: no data at /nowhere." in store.files.get(names[-1]).decode()
    if figure == "dreml-fig4":
        assert {row["members"] for row in table(store, names)} == {"1", "3"}


def test_a_missing_line_of_fig5_is_named(store: Store, shapes: Path) -> None:
    got = ready(store, shapes, "dreml-fig5")
    got["one"] = made_ensemble(store, shapes, "folder, one class each", D=12, L=1, train_classes=12, done=0)
    fig5.draw(store, FOLDER, got)
    note = captions(store, FOLDER)[0]["note"]
    assert note == "Without folder, one class each: no member was trained: the disk is full."


def test_large_sets_are_sampled_by_whole_classes() -> None:
    labels = np.repeat(np.arange(50), 7)
    assert similarities.sampled(labels, most=350).tolist() == list(range(350))
    rows = similarities.sampled(labels, most=100)
    kept, counts = np.unique(labels[rows], return_counts=True)
    assert len(kept) == 14
    assert set(counts) == {7}
    assert rows.tolist() == similarities.sampled(labels, most=100).tolist()
    assert kept.tolist() != list(range(14))


def options(target: str, *names: str, **changes: Any) -> ReproduceOptions:
    return ReproduceOptions(target=target, datasets=names, name="x", **changes)


def test_asks_on_glyphs() -> None:
    sizes = {
        figure: [
            (one.launch.ensemble.D, one.launch.ensemble.L, one.launch.data.train_classes, one.splits)
            for one in module.requests(options(figure, "glyphs"))
        ]
        for figure, module in FIGURES.items()
    }
    assert sizes["dreml-fig3"] == [(D, 8, 0, ()) for D in (12, 25, 50, 100, 200)]
    assert sizes["dreml-fig4"] == [(24, 24, 0, ("train",))]
    assert sizes["dreml-fig5"] == [(96, 1, 96, ("train",)), (24, 24, 96, ("train",))]
    assert sizes["dreml-fig6"] == [(100, 8, 0, ())]


def test_fig6_shows_the_ensembles_of_the_tables(tmp_path: Path) -> None:
    named = {
        "cub200": "dreml-table1",
        "cars196": "dreml-table1",
        "inshop": "dreml-table2",
        "vehicleid": "dreml-table3",
    }
    for dataset, name in named.items():
        where = {"data_root": str(tmp_path)}
        (mine,) = fig6.requests(options("dreml-fig6", dataset, **where))
        asked = TARGETS[name].requests(options(name, dataset, rows=("dreml-r",), **where))
        assert mine.launch.identity() in [one.launch.identity() for one in asked]


def test_a_rehearsal_asks_for_each_D_once() -> None:  # noqa: N802
    found = fig3.requests(options("dreml-fig3", "glyphs", scale=0.25, seeds=2))
    assert [(one.launch.ensemble.D, one.launch.ensemble.seed) for one in found] == [
        (12, 0), (25, 0), (12, 1), (25, 1),
    ]  # fmt: skip
    assert [one.name for one in found][:2] == ["glyphs D = 12, L = 2, seed 0", "glyphs D = 25, L = 2, seed 0"]
    assert all(one.note.startswith("REHEARSAL") for one in found)
