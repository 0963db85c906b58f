"""DREML, Fig. 6: queries with their four nearest images; right ones have a green border, wrong ones a red one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.jobs.reproduce.figures import canvas
from muster.orchestrator.jobs.reproduce.figures.ensembles import table_ensemble, table_flags
from muster.orchestrator.jobs.reproduce.figures.sheet import Sheet, drawable, note_of, write
from muster.orchestrator.jobs.reproduce.figures.similarities import Float32, Int64
from muster.orchestrator.jobs.reproduce.figures.vectors import ensemble_vectors, images_of
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.records.scores import percent
from muster.orchestrator.report.plots import INK, MUTED
from muster.orchestrator.vectors.evaluate import protocol_of
from muster.workers.rng import permutation
from muster.workers.score.protocol import Protocol
from muster.workers.store.layout import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "dreml-fig6"
NEAREST = 4
#: Queries shown whose nearest image is right, and as many whose nearest is wrong.
SHOWN = 4
#: Of glyphs the ensemble that a plain launch trains, and Fig. 3; of the papers' data sets that of their table.
GLYPHS = {"ensemble.D": 100, "ensemble.L": 8}
#: Larger pictures are made smaller: px.
THUMBNAIL = 112
RIGHT, WRONG = "#1a9850", "#d73027"


@dataclass(frozen=True)
class Answers:
    """The nearest images of every query that has a right one: rows of the split's table."""

    queries: Int64
    "int64 [Q]."
    nearest: Int64
    "int64 [Q, k], the most similar first."
    similarity: Float32
    "float32 [Q, k]: mean cosines."
    right: np.ndarray
    "bool [Q, k]."


def requests(options: ReproduceOptions) -> list[EnsembleRequest]:
    """One ensemble for each data set, seed 0."""
    found = []
    for dataset in options.datasets:
        flags = {**table_flags(options, dataset), **(GLYPHS if dataset == "glyphs" else {})}
        found.append(table_ensemble(options, dataset, flags))
    return found


def draw(store: Store, folder: str, got: Mapping[str, EnsembleResult]) -> list[str]:
    """Writes the figure of each data set below `folder`; the files' names.

    Raises MusterError without members, DamagedMember, and what `open_images` raises.
    """
    ready, lacking = drawable(FIGURE, got)
    sheets = [_sheet(store, dataset, mine[0]) for dataset, mine in ready.items()]
    return write(store, folder, FIGURE, sheets, lacking)


def answers(members: Sequence[Float32], protocol: Protocol) -> Answers:
    """The nearest images of each query by the whole ensemble; among equals a wrong one comes first."""
    from muster.workers.score.queries import QueryRecord
    from muster.workers.score.retrieval import prefix_curve

    record = QueryRecord(protocol, [len(members)])
    prefix_curve(members, protocol, (1,), record=record)
    asking, labels = np.flatnonzero(protocol.references > 0), protocol.labels
    queries, k = protocol.query[asking], min(NEAREST, len(protocol.gallery) - 1)
    nearest = protocol.gallery[record.nearest[asking, :k]]
    similarity = record.similarity[asking, :k] / np.float32(len(members))
    return Answers(queries, nearest, similarity, labels[nearest] == labels[queries, None])


def chosen(found: Answers, labels: Int64) -> tuple[list[int], list[int]]:
    """Which queries are shown, numbers into `found`: some whose nearest image is right, and some where it is wrong.

    The first ones of a seeded order, each of another class as far as there are classes.
    """
    order = permutation(("fig6",), len(found.queries))
    picked = []
    for right in (True, False):
        mine = [int(n) for n in order if found.right[n, 0] == right]
        classes = labels[found.queries[mine]]
        firsts = sorted(np.unique(classes, return_index=True)[1].tolist()) if mine else []
        rest = [n for n in range(len(mine)) if n not in set(firsts)]
        picked.append([mine[n] for n in (*firsts, *rest)][:SHOWN])
    return picked[0], picked[1]


def _sheet(store: Store, dataset: str, got: EnsembleResult) -> Sheet:
    protocol = protocol_of(store, got.target("test"))
    with ensemble_vectors(store, got, "test") as vectors:
        found = answers(vectors, protocol)
    shown = chosen(found, protocol.labels)
    note = note_of([got])
    ensemble = got.request.launch.ensemble
    networks = "1 network" if len(got.members) == 1 else f"{len(got.members)} networks"
    title = f"The {NEAREST} nearest images on {dataset}: {networks}, D = {ensemble.D}"
    _, ids, names = images_of(store, got, "test")
    rows = [*shown[0], *shown[1]]
    thumbs = _thumbnails(store, got, np.unique([*found.queries[rows], *found.nearest[rows].ravel()]))
    svg, png = canvas.rendered(lambda: _figure(found, shown, thumbs, title, note))
    return Sheet(
        dataset=dataset, title=title, caption=_caption(found), finding=finding(found), note=note,
        svg=svg, png=png, rows=numbers(dataset, found, rows, ids, names),
    )  # fmt: skip


def numbers(
    dataset: str, found: Answers, rows: Sequence[int], ids: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each query shown and neighbour: ids, classes, and the mean cosine."""
    return [
        {
            "dataset": dataset, "query": ids[found.queries[n]], "query_class": names[found.queries[n]],
            "rank": rank + 1, "image": ids[row], "class": names[row],
            "similarity": float(found.similarity[n, rank]), "right": bool(found.right[n, rank]),
        }
        for n in rows
        for rank, row in enumerate(found.nearest[n])
    ]  # fmt: skip


def finding(found: Answers) -> tuple[str, str]:
    """Two sentences: of how many queries the rows are drawn, and what the wrong ones look like."""
    first = found.right[:, 0]
    k = found.right.shape[1]
    one = (
        f"Of {len(first):,} queries {percent(float(first.mean()))} % have a right image nearest and "
        f"{percent(float(found.right.any(axis=1).mean()))} % one among the {k} nearest: the {SHOWN} right and the "
        f"{SHOWN} wrong queries shown are drawn at random from each kind and are not in that proportion."
    )
    if first.all() or not first.any():
        return one, f"All of them are {'right' if first.any() else 'wrong'}."
    later = float(found.right[~first].any(axis=1).mean())
    sure = [float(np.median(found.similarity[kind, 0])) for kind in (first, ~first)]
    return one, (
        f"Where the nearest is wrong, {percent(later)} % have a right one among the next {k - 1}; the median dot "
        f"product to the nearest is {sure[0]:.2f} where it is right and {sure[1]:.2f} where it is wrong."
    )


def _caption(found: Answers) -> str:
    return (
        f"DREML, Fig. 6. Test images as queries and their {found.right.shape[1]} nearest images by dot product, the "
        "nearest first; a green border: the same class, a red one: another class; below, the dot product "
        "divided by the number of networks. Queries are the first of a seeded order, each of another class; seed 0."
    )


def _thumbnails(store: Store, got: EnsembleResult, rows: Int64) -> dict[int, np.ndarray]:
    """What the networks see of the images, uint8 [side, side, 3], by row of the split's table."""
    from PIL import Image

    from muster.workers.member import open_images
    from muster.workers.train.augment import centre_crops

    target = got.target("test")
    pack, part = open_images(store, target.images)
    batch = centre_crops(pack, part.rows[rows], target.view.crop)
    found = {}
    for row, pixels in zip(rows.tolist(), batch, strict=True):
        image = Image.fromarray(pixels)
        if image.width > THUMBNAIL:
            image = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        found[row] = np.asarray(image)
    return found


def _figure(
    found: Answers,
    shown: tuple[list[int], list[int]],
    thumbs: Mapping[int, np.ndarray],
    title: str,
    note: str,
) -> Figure:
    """Two blocks side by side; a row of each is a query and its nearest images."""
    k = found.right.shape[1]
    cell, below, head, gap = 0.64, 0.2, 0.5, 0.12
    lines = max(map(len, shown))
    figure = canvas.titled(title, note, head + lines * (cell + below) + 0.12)
    width, height = figure.get_size_inches()
    block = width - 0.24 - 0.18 - ((k + 1) * (cell + 0.06) + gap)
    for n, (queries, heading) in enumerate(zip(shown, ("nearest is right", "nearest is wrong"), strict=True)):
        left, top = 0.24 + n * block, lines * (cell + below) + 0.12
        figure.text(left / width, (top + 0.28) / height, heading, color=MUTED, fontsize=9.5)
        figure.text(
            (left + cell / 2) / width, (top + 0.07) / height, "query", ha="center", color=MUTED, fontsize=8
        )
        for line, number in enumerate(queries):
            y = top - cell - line * (cell + below)
            for rank in range(-1, k):
                x = left + (rank + 1) * (cell + 0.06) + (gap if rank >= 0 else 0)
                axes = figure.add_axes((x / width, y / height, cell / width, cell / height))
                _cell(axes, found, thumbs, number, rank)
    return figure


def _cell(axes: Axes, found: Answers, thumbs: Mapping[int, np.ndarray], number: int, rank: int) -> None:
    """One picture: the query itself (rank -1) or one of its nearest images."""
    row = int(found.queries[number] if rank < 0 else found.nearest[number, rank])
    axes.imshow(thumbs[row], interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    right = rank >= 0 and bool(found.right[number, rank])
    color = INK if rank < 0 else RIGHT if right else WRONG
    axes.spines[:].set_color(color)
    axes.spines[:].set_linewidth(0.8 if rank < 0 else 2.6)
    if rank >= 0:
        sign = "\N{CHECK MARK}" if right else "\N{BALLOT X}"  # for eyes that don't tell red from green
        axes.set_xlabel(f"{sign} {found.similarity[number, rank]:.2f}", fontsize=7.5, color=MUTED, labelpad=2)
