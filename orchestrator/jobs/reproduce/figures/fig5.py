"""DREML, Fig. 5: how close each unseen image comes to an image that was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.jobs.reproduce.figures import canvas, similarities
from muster.orchestrator.jobs.reproduce.figures.ensembles import table_ensemble
from muster.orchestrator.jobs.reproduce.figures.sheet import Sheet, drawable, listed, note_of, write
from muster.orchestrator.jobs.reproduce.figures.similarities import BINS, EDGES, Float32
from muster.orchestrator.jobs.reproduce.figures.vectors import ensemble_vectors
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.records.scores import percent
from muster.workers.store.layout import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE = "dreml-fig5"
#: Section 4.3: the first 96 training classes, each on its own, and in 24 meta-classes of 4.
CLASSES, META_CLASSES, SIZES = 96, 24, (1, 4, 24)
#: Section 4.3 calls a closest image nearer than this "very close".
CLOSE = 0.9
#: Bins that are joined for the drawing: there are only as many numbers as test images.
JOINED = 4


@dataclass(frozen=True)
class Series:
    """One line: the dot product of each test image to its closest training image, by one set of networks."""

    name: str
    D: int
    members: int
    closest: Float32
    recall_at_1: float | None


def requests(options: ReproduceOptions) -> list[EnsembleRequest]:
    """For each data set one network with an output for each class, and the ensemble over its meta-classes."""
    return [
        table_ensemble(
            options,
            dataset,
            {"data.train_classes": CLASSES, "ensemble.D": D, "ensemble.L": L},
            splits=("train",),
        )
        for dataset in options.datasets
        for D, L in ((CLASSES, 1), (META_CLASSES, max(SIZES)))
    ]


def draw(store: Store, folder: str, got: Mapping[str, EnsembleResult]) -> list[str]:
    """Writes the figure of each data set below `folder`; the files' names.

    Raises MusterError without members, DamagedMember.
    """
    ready, lacking = drawable(FIGURE, got)
    sheets = []
    for dataset, mine in ready.items():
        series = [one for each in mine for one in closest(store, each)]
        note = note_of([one for one in got.values() if one.request.launch.data.dataset == dataset])
        classes = mine[0].request.launch.data.train_classes
        title = f"Each unseen image's closest training image on {dataset}"
        svg, png = canvas.rendered(lambda: _figure(series, title, note))  # noqa: B023  (called at once)
        sheets.append(
            Sheet(
                dataset=dataset, title=title, caption=_caption(series, classes), finding=finding(series), note=note,
                svg=svg, png=png, rows=numbers(dataset, series),
            )
        )  # fmt: skip
    return write(store, folder, FIGURE, sheets, lacking)


def closest(store: Store, got: EnsembleResult) -> list[Series]:
    """The lines of one ensemble, one for each of the figure's sizes. Raises DamagedMember."""
    request = got.request.launch
    sizes = similarities.shown_sizes(SIZES if request.ensemble.L > 1 else (1,), len(got.members))
    with ensemble_vectors(store, got, "test") as test, ensemble_vectors(store, got, "train") as train:
        found = similarities.nearest(test, train, sizes)
    curve = {row["L"]: row["recall_at_1"] for row in (got.metrics or {})["splits"]["test"]["curve"]}
    D = request.ensemble.D
    grouped = request.data.train_classes > D
    return [
        Series(_name(D, size, grouped), D, size, values, curve.get(size)) for size, values in found.items()
    ]


def _name(D: int, size: int, grouped: bool) -> str:
    what = f"{D} meta-classes" if grouped else f"{D} classes"
    return f"one network, {what}" if size == 1 else f"{size} networks, {what}"


def counts_of(one: Series) -> np.ndarray:
    """int64 [BINS]: the line's images in each bin."""
    return np.bincount(similarities.bins_of(one.closest), minlength=BINS)


def numbers(dataset: str, series: Sequence[Series]) -> list[dict[str, Any]]:
    """A row for each line and bin: its edges, the count and the share."""
    return [
        {
            "dataset": dataset, "networks": one.members, "D": one.D,
            "low": float(EDGES[n]), "high": float(EDGES[n + 1]),
            "count": int(count), "share": float(count / len(one.closest)),
        }
        for one in series
        for n, count in enumerate(counts_of(one))
    ]  # fmt: skip


def finding(series: Sequence[Series]) -> tuple[str, str]:
    """Two sentences: how close the images come, and whether that goes with recall."""
    medians = listed([f"{np.median(one.closest):.2f} ({one.name})" for one in series])
    close = listed([percent(float((one.closest > CLOSE).mean())) for one in series])
    order = [float(np.median(one.closest)) for one in series]
    falls = all(a > b for a, b in pairwise(order))
    like = (
        "in the order of the paper"
        if falls
        else "not in the paper's order, in which each is below the one before"
    )
    one = (
        f"The median unseen image has its closest training image at {medians}, {like}; "
        f"{close} % of the images are closer than {CLOSE}."
    )
    recalls = listed([percent(each.recall_at_1) for each in series])
    two = (
        f"Recall@1 of the same four is {recalls} %"
        if len(series) == 4
        else f"Recall@1 of the same is {recalls} %"
    )
    return one, (
        f"{two}; the largest of a mean is never above the mean of the largest, so part of the shift from one network "
        "to several is arithmetic and is no evidence for better retrieval."
    )


def _caption(series: Sequence[Series], classes: int) -> str:
    return (
        f"DREML, Fig. 5. Dot product of each of the {len(series[0].closest):,} test images to its closest image of the "
        f"first {classes} training classes, divided by the number of networks; share of the images in bins of "
        f"{JOINED * (EDGES[1] - EDGES[0]):.2g}; seed 0."
    )


def _figure(series: Sequence[Series], title: str, note: str) -> Figure:
    figure, (axes,) = canvas.panels(title, note, 1, 3.3)
    middle = EDGES[:-1].reshape(-1, JOINED)[:, 0] + JOINED / BINS
    lowest = 1.0
    for n, one in enumerate(series):
        shares = 100 * counts_of(one).reshape(-1, JOINED).sum(axis=1) / len(one.closest)
        lowest = min(lowest, float(one.closest.min()))
        color, marker = canvas.FOUR[n % 4], canvas.MARKERS[n % 4]
        axes.plot(middle, shares, color=color, marker=marker, markersize=4, linewidth=1.7, label=one.name)
    axes.set_xlim(max(-1.0, lowest - 0.04), 1.0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("dot product to the closest training image / number of networks")
    axes.set_ylabel(f"test images in each {JOINED * (EDGES[1] - EDGES[0]):.2g} (%)")
    axes.legend(frameon=False, loc="upper left")
    return figure
