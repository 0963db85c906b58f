"""DREML, Fig. 4: how similar two images are, of the same class and of different ones, as the ensemble grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.jobs.reproduce.figures import canvas, similarities
from muster.orchestrator.jobs.reproduce.figures.ensembles import table_ensemble
from muster.orchestrator.jobs.reproduce.figures.sheet import Sheet, drawable, listed, note_of, write
from muster.orchestrator.jobs.reproduce.figures.similarities import EDGES, Int64
from muster.orchestrator.jobs.reproduce.figures.vectors import ensemble_vectors, images_of
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.records.scores import percent
from muster.workers.store.layout import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE = "dreml-fig4"
D, SIZES = 24, (1, 4, 24)
#: Section 4.1 speaks of the pairs of different classes with a larger dot product than this.
HIGH = 0.75
SPLITS = {"train": "training classes", "test": "unseen classes"}
SAME, DIFFERENT = 1, 0
#: Bins that are joined for the drawing: pairs of one class are few.
JOINED = 2


@dataclass(frozen=True)
class Pairs:
    """The pairs of a split: counts by ensemble size, int64 [2, bins], and of how many images."""

    counts: Mapping[int, Int64]
    images: int
    of: int
    "Images of the split; more than `images` if they were sampled."


def requests(options: ReproduceOptions) -> list[EnsembleRequest]:
    """One ensemble for each data set, seed 0; the smaller ones are its first members."""
    flags = {"ensemble.D": D, "ensemble.L": max(SIZES)}
    return [table_ensemble(options, dataset, flags, splits=("train",)) for dataset in options.datasets]


def draw(store: Store, folder: str, got: Mapping[str, EnsembleResult]) -> list[str]:
    """Writes the figure of each data set below `folder`; the files' names.

    Raises MusterError without members, DamagedMember.
    """
    ready, lacking = drawable(FIGURE, got)
    sheets = [_sheet(store, dataset, mine[0]) for dataset, mine in ready.items()]
    return write(store, folder, FIGURE, sheets, lacking)


def pairs(store: Store, got: EnsembleResult, split: str) -> Pairs:
    """Counts of the pairs of a split's images. Raises DamagedMember."""
    part, _, _ = images_of(store, got, split)
    rows = similarities.sampled(part.labels)
    sizes = similarities.shown_sizes(SIZES, len(got.members))
    with ensemble_vectors(store, got, split) as vectors:
        chosen = [one[rows] for one in vectors]
    return Pairs(similarities.pair_counts(chosen, part.labels[rows], sizes), len(rows), len(part.rows))


def _sheet(store: Store, dataset: str, got: EnsembleResult) -> Sheet:
    found = {split: pairs(store, got, split) for split in SPLITS}
    meta_classes = got.request.launch.ensemble.D
    title = f"Dot products of pairs on {dataset}, D = {meta_classes}"
    note = note_of([got])
    svg, png = canvas.rendered(lambda: _figure(found, title, note))
    return Sheet(
        dataset=dataset, title=title, caption=_caption(found, meta_classes), finding=finding(found), note=note,
        svg=svg, png=png, rows=numbers(dataset, found),
    )  # fmt: skip


def numbers(dataset: str, found: Mapping[str, Pairs]) -> list[dict[str, Any]]:
    """A row for each split, kind of pair, ensemble size and bin: its edges, the count and the share."""
    return [
        {
            "dataset": dataset, "split": split, "pairs": kind, "members": size,
            "low": float(EDGES[n]), "high": float(EDGES[n + 1]), "count": int(count),
            "share": float(count / max(1, counts[row].sum())),
        }
        for split, one in found.items()
        for size, counts in one.counts.items()
        for kind, row in (("same", SAME), ("different", DIFFERENT))
        for n, count in enumerate(counts[row])
    ]  # fmt: skip


def finding(found: Mapping[str, Pairs]) -> tuple[str, str]:
    """Two sentences: how far the two kinds of pairs part, and the paper's remark on large dot products."""
    test, train = found["test"].counts, found["train"].counts
    first, last = min(test), max(test)
    parted = listed(
        [f"{percent(similarities.auc(*counts))} % with {_networks(size)}" for size, counts in test.items()]
    )
    one = (
        f"Drawn at random, a pair of unseen images of one class is more similar than a pair of different classes in "
        f"{parted} (training classes: {percent(similarities.auc(*train[first]))} to "
        f"{percent(similarities.auc(*train[last]))} %)"
    )
    if first == last:
        return f"{one}.", _high(found["test"].counts, first, last)
    gained = similarities.auc(*test[last]) - similarities.auc(*test[first])
    verdict = "separate, as in the paper" if gained > 0 else "do not separate further, unlike in the paper"
    return f"{one}: as the ensemble grows the distributions {verdict}.", _high(test, first, last)


def _high(test: Mapping[int, Int64], first: int, last: int) -> str:
    """The shares of pairs of unseen classes with a large dot product, with one network and with all."""
    high = {
        size: {kind: 100 * similarities.share_above(counts[kind], HIGH) for kind in (SAME, DIFFERENT)}
        for size, counts in test.items()
    }
    text = (
        f"Of the pairs of different unseen classes {high[first][DIFFERENT]:.2g} % have a dot product above {HIGH} "
        f"with {_networks(first)}"
    )
    if first == last:
        return f"{text}."
    text += f" and {high[last][DIFFERENT]:.2g} % with {_networks(last)}"
    of_same = f"{high[first][SAME]:.2g} % and {high[last][SAME]:.2g} %"
    if high[last][SAME] >= high[first][SAME]:
        return f"{text}; of those of one class it is {of_same}."
    return f"{text}, but of those of one class, too, it is {of_same}: a mean is high only where the networks agree."


def _networks(size: int) -> str:
    return "one network" if size == 1 else f"{size} networks"


def _caption(found: Mapping[str, Pairs], meta_classes: int) -> str:
    counted = []
    for split, one in found.items():
        pairs_in_all = one.images * (one.images - 1) // 2
        sample = "" if one.images == one.of else f" (whole classes, drawn with a seed, of {one.of:,})"
        counted.append(f"{pairs_in_all:,} pairs of {one.images:,} images of {SPLITS[split]}{sample}")
    return (
        f"DREML, Fig. 4. Dot products of pairs of images of the same class (solid) and of different classes (dashed), "
        f"divided by the number of networks, each of D = {meta_classes}; share of the pairs in bins of "
        f"{JOINED * (EDGES[1] - EDGES[0]):.2g}. All {' and all '.join(counted)}; seed 0."
    )


def _figure(found: Mapping[str, Pairs], title: str, note: str) -> Figure:
    sizes = list(found["test"].counts)
    figure, all_axes = canvas.panels(title, note, len(sizes), 2.6, legend=0.5, shared=True)
    width = JOINED * (EDGES[1] - EDGES[0])
    middle = EDGES[:-1:JOINED] + width / 2
    drawn = [("train", SAME), ("test", SAME), ("train", DIFFERENT), ("test", DIFFERENT)]
    lowest = 1.0
    for axes, size in zip(all_axes, sizes, strict=True):
        for split, kind in drawn:
            counts = found[split].counts[size][kind].reshape(-1, JOINED).sum(axis=1)
            shares = 100 * counts / max(1, counts.sum())
            lowest = min(lowest, float(middle[(shares > 0.01).argmax()]))
            axes.plot(
                middle, shares, linewidth=1.5,
                color=canvas.SEEN if split == "train" else canvas.UNSEEN,
                linestyle="-" if kind == SAME else (0, (4, 2)),
                label=f"{SPLITS[split]}, {'same class' if kind == SAME else 'different classes'}",
            )  # fmt: skip
        canvas.label(axes, _networks(size))
    all_axes[0].set_ylim(bottom=0)
    all_axes[0].set_xlim(max(-1.0, lowest - 0.05), 1.0)
    all_axes[0].set_ylabel(f"pairs in each {width:.2g} (%)")
    all_axes[len(sizes) // 2].set_xlabel("dot product / number of networks")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize=9, handlelength=2.6)
    return figure
