"""How figures are shown: numbers as text, the cells of the curve's table, its plots as PNG and SVG bytes.

Owns the wording of the numbers (a share becomes percent with one decimal) and the look of the plots.
It never computes a score, never opens a file, and draws without pyplot, so that no backend and no
global figure is touched. The same rows and title give the same bytes on the same matplotlib version.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from muster.orchestrator.records.scores import SHOWN_ROWS, Row, percent, recall_ks
from muster.workers.score.metrics import NMI, SHOWN

if TYPE_CHECKING:  # matplotlib takes half a second to import: only who draws pays for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
# From dark to light blue: the smaller K, the harder the question and the stronger the line.
RECALL_BLUES = ("#08457e", "#2a71b0", "#5596cf", "#86b6df", "#a5c8e7", "#bfd7ee")
NMI_GREEN = "#00795c"
#: Of the metrics beside recall and NMI, in their order.
OTHERS = ("#c4500b", "#7b3f98", "#b8860b")
WIDE, NARROW, HEIGHT = 8.0, 4.6, 4.8  # inches; the narrow one is for phones
LABEL_POINTS = 12.5  # the distance between the base lines of two labels


#: Curves to compare with: the recall at the smallest K of other runs, by their names.
Others = Sequence[tuple[str, Sequence[Row]]]


def curve_png(rows: Sequence[Row], title: str, others: Others = ()) -> bytes:
    """The curve as a PNG of 200 dots an inch. `rows` are those of a `curve` event, at least one."""
    with our_style():
        return saved(_curve_figure(rows, title, WIDE, others), "png")


def curve_svg(rows: Sequence[Row], title: str, inches: float = WIDE, others: Others = ()) -> bytes:
    """The curve as an SVG on a white ground, its text as outlines: it needs no font to be installed."""
    with our_style():
        return saved(_curve_figure(rows, title, inches, others), "svg")


def loss_svg(
    losses: Mapping[int, Sequence[float | None]],
    title: str = "Training loss, one line for each member",
    unit: str = "epoch",
    inches: float = WIDE,
) -> bytes:
    """The mean loss of each member's epochs as an SVG; at least one epoch of one member is needed."""
    with our_style():
        return saved(_loss_figure(losses, title, unit, inches), "svg")


@contextmanager
def our_style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's matplotlibrc says, until the figure is saved."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "DejaVu Sans",  # comes with matplotlib
                "font.size": 9.5,
                "text.color": INK,
                "axes.labelcolor": MUTED,
                "axes.edgecolor": "#9aa5b1",
                "xtick.color": MUTED,
                "ytick.color": MUTED,
                "svg.hashsalt": "muster",  # else the ids inside the file are random
                "svg.fonttype": "path",
            }
        )
        yield


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file, the same for the same figure."""
    nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=200, facecolor="white", metadata=nothing)
    return out.getvalue()


class _Series(NamedTuple):
    name: str
    points: list[tuple[int, float]]  # (L, percent)
    line: dict[str, Any]


def _series(rows: Sequence[Row]) -> list[_Series]:
    """What is drawn, from recall at the smallest K on; a measure that no row has is left out."""
    dots = len(rows) <= SHOWN_ROWS  # on a long curve they would hide the line
    plain: dict[str, Any] = {"marker": "o", "markersize": 4.5 if dots else 0}
    asked = [
        (
            f"recall@{k}",
            f"recall_at_{k}",
            {**plain, "color": RECALL_BLUES[min(i, 5)], "linewidth": 1.6 if i else 2.4},
        )
        for i, k in enumerate(recall_ks(rows))
    ]
    # NMI is measured at few L: its dots say where, the dashes between them are no measurement.
    dashed = {
        "marker": "D",
        "markersize": 4.5,
        "linestyle": (0, (3, 2)),
        "linewidth": 1.4,
        "color": NMI_GREEN,
    }
    colours = itertools.cycle(OTHERS)
    for metric in SHOWN:
        line = {**plain, "marker": "s", "color": next(colours), "linewidth": 2.0}
        asked.append((metric.title, metric.name, dashed if metric is NMI else line))
    found = [
        _Series(name, [(int(r["L"]), 100 * r[key]) for r in rows if percent(r.get(key)) != "-"], line)
        for name, key, line in asked
    ]
    return [one for one in found if one.points]


def _other_series(name: str, curve: Sequence[Row], k: int) -> _Series:
    """Another run's recall at this K, in grey and dashed."""
    points = [(int(row["L"]), 100 * row[f"recall_at_{k}"]) for row in curve]
    line: dict[str, Any] = {
        "marker": "o",
        "markersize": 3,
        "color": MUTED,
        "linewidth": 1.6,
        "linestyle": "--",
    }
    return _Series(f"{name}, @{k}", points, line)


def _curve_figure(rows: Sequence[Row], title: str, inches: float, others: Others) -> Figure:
    figure, axes = _empty_figure(title, inches, right=1.48)
    series = [*_series(rows), *(_other_series(name, curve, recall_ks(rows)[0]) for name, curve in others)]
    for one in reversed(series):  # recall@1 last, above the others
        x, y = zip(*one.points, strict=True)
        axes.plot(x, y, **one.line, clip_on=False, solid_capstyle="round")
        axes.plot(
            x[-1], y[-1], marker=one.line["marker"], color=one.line["color"], markersize=6, clip_on=False
        )
    last = max(x for one in series for x, _ in one.points)
    _count_axis(axes, last, "ensemble size L (members)")
    _percent_axis(axes, [y for one in series for _, y in one.points])
    _label_ends(axes, series, last)
    return figure


def _loss_figure(
    losses: Mapping[int, Sequence[float | None]], title: str, unit: str, inches: float
) -> Figure:
    figure, axes = _empty_figure(title, inches, right=0.4)
    alpha = max(0.25, min(1.0, 6 / len(losses)))
    for values in losses.values():
        points = [(i, v) for i, v in enumerate(values, 1) if v is not None and math.isfinite(v)]
        if points:
            x, y = zip(*points, strict=True)
            dots = 4 if len(points) < 3 else 0
            axes.plot(x, y, "o-", color=RECALL_BLUES[1], linewidth=1.4, alpha=alpha, markersize=dots)
    _count_axis(axes, max(len(values) for values in losses.values()), unit)
    axes.set_ylabel(f"mean loss of the {unit}" if unit == "epoch" else f"mean loss before the {unit}")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    return figure


def _empty_figure(title: str, inches: float, right: float) -> tuple[Figure, Axes]:
    """Axes with a title, and `right` inches free beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(inches, HEIGHT))
    left = 0.68
    axes = figure.add_axes((left / inches, 0.125, (inches - left - right) / inches, 0.77))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    size = min(12.0, 106 * inches / max(1, len(title)))  # a long title in smaller letters, not cut off
    # Not parsed as mathematics: a data set may have a $ in its name.
    figure.text(0.24 / inches, 0.945, title, fontsize=size, fontweight="bold", parse_math=False)
    return figure, axes


def _count_axis(axes: Axes, last: int, label: str) -> None:
    """Whole numbers from 1 to `last`, at most about nine of them, the first and the last among them."""
    step = 1
    while last / step > 9:
        step *= 2
    inner = [x for x in range(step, last, step) if 1 < x <= last - step / 2]
    axes.set_xticks(sorted({1, *inner, last}))
    room = 0.5 if last == 1 else 0.025 * (last - 1)
    axes.set_xlim(1 - room, last + room)
    axes.set_xlabel(label, labelpad=8)


def _percent_axis(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = min(values, default=0.0), max(values, default=100.0)
    room = max(2.0, 0.06 * (high - low))
    axes.set_ylim(max(-1.0, low - room), min(101.0, high + room))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set_ylabel("score (%)", labelpad=8)


def _label_ends(axes: Axes, series: Sequence[_Series], last: int) -> None:
    """Each line's name and last value right of its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    box = axes.get_position()
    to_points = 72 * HEIGHT * box.height / (high - low)
    ends = sorted(series, key=lambda one: one.points[-1][1])
    wanted = [(one.points[-1][1] - low) * to_points for one in ends]
    for one, at, want in zip(ends, _apart(wanted, (high - low) * to_points), wanted, strict=True):
        x, y = one.points[-1]
        away = abs(at - want) > 2 or x < last
        axes.annotate(
            f"{one.name}  {y:.1f}",
            xy=(x, y),
            xytext=(box.x1 + 0.022 if last > 1 else box.x0 + box.width / 2 + 0.035, at),
            textcoords=("figure fraction", "axes points"),
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            fontweight="bold" if one is series[0] else "normal",
            arrowprops={"arrowstyle": "-", "color": one.line["color"], "linewidth": 0.8, "shrinkB": 4}
            if away
            else None,
            annotation_clip=False,
        )


def _apart(wanted: Sequence[float], height: float) -> list[float]:
    """Ascending positions moved as little as needed to lie `LABEL_POINTS` apart, inside the height."""
    groups: list[list[float]] = []
    for y in wanted:
        groups.append([y])
        # A group is spread around the mean of its wishes; groups that would touch become one.
        while (
            len(groups) > 1
            and _spread(groups[-2], height)[-1] + LABEL_POINTS > _spread(groups[-1], height)[0]
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [y for group in groups for y in _spread(group, height)]


def _spread(group: Sequence[float], height: float) -> list[float]:
    long = (len(group) - 1) * LABEL_POINTS
    bottom = min(sum(group) / len(group) - long / 2, height - long)
    return [bottom + i * LABEL_POINTS for i in range(len(group))]
