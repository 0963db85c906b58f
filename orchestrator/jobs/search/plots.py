"""The two panels of the paper's Fig. 3: the metric over L, a line for each trial, and over D, or what else is
searched, at some L."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.orchestrator.jobs.search.space import Axis
from muster.orchestrator.records.scores import Row
from muster.orchestrator.report.plots import GRID, INK, MUTED, our_style, saved
from muster.workers.score.metrics import is_share

#: Values of a searched axis that are written below it one by one.
MOST_TICKS = 12
#: From dark to light, as many as can be told apart; more trials repeat them.
LINES = ("#08457e", "#c4500b", "#00795c", "#7b3f98", "#b8860b", "#2a71b0", "#8c2d2d", "#52606d")


def by_members(rows: Sequence[Row], metric: str, title: str, kind: str) -> bytes:
    """Left: the metric in percent over L, one line for each trial."""
    with our_style():
        figure, axes = _empty(title, "ensemble size L (members)", metric)
        lines = sorted({row["trial"] for row in rows})
        for n, number in enumerate(lines):
            mine = [row for row in rows if row["trial"] == number]
            axes.plot(
                [row["L"] for row in mine],
                [100 * row[metric] for row in mine],
                "o-",
                color=LINES[n % len(LINES)],
                markersize=4,
                linewidth=1.8,
                label=_label(mine[0]),
            )
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) <= 12:
            axes.legend(frameon=False, loc="lower right")
        return saved(figure, kind)


def by_axis(rows: Sequence[Row], axis: Axis, metric: str, title: str, kind: str) -> bytes:
    """Right: the metric in percent over what is searched first, mostly D, one line for each of a few L; the best trial
    where several share a value."""
    with our_style():
        figure, axes = _empty(title, "meta-classes D" if axis.key == "D" else axis.key, metric)
        named = axis.kind in {str, bool}  # between names there is nothing that a line could show
        if axis.scale == "log":
            values = sorted({row[axis.key] for row in rows})
            axes.set_xscale("log")
            if len(values) <= MOST_TICKS:
                axes.set_xticks(values, [f"{value:g}" for value in values])
                axes.minorticks_off()
        reached: dict[int, int] = {}
        for row in rows:
            reached[row["trial"]] = max(reached.get(row["trial"], 0), row["L"])
        # One member, the largest ensemble that all trials have, and the largest there is.
        shown = sorted({1, min(reached.values()), max(reached.values())})
        for n, size in enumerate(shown):
            best: dict[Any, float] = {}
            for row in rows:
                if row["L"] == size:
                    value = str(row[axis.key]) if named else row[axis.key]
                    best[value] = max(best.get(value, 0.0), 100 * row[metric])
            x, y = zip(*sorted(best.items()), strict=True)
            axes.plot(
                x, y, "o" if named else "o-", color=LINES[n % len(LINES)], markersize=6 if named else 4,
                linewidth=1.8, label=f"L = {size}",
            )  # fmt: skip
        if shown != [1]:
            axes.legend(frameon=False, loc="lower right")
        return saved(figure, kind)


def _label(row: Row) -> str:
    own = {"split", "trial", "dimensions", "L", "near_ties"}
    return ", ".join(f"{key} = {value}" for key, value in row.items() if key not in own and not is_share(key))


def _empty(title: str, x: str, metric: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.8))
    axes = figure.add_axes((0.1, 0.13, 0.86, 0.74))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(f"{metric.replace('_at_', '@')} (%)", color=MUTED)
    size = min(11.0, 650 / max(1, len(title)))
    figure.text(0.03, 0.94, title, fontsize=size, fontweight="bold", color=INK, parse_math=False)
    return figure, axes
