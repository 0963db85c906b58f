"""DREML, Fig. 3: recall@1 against the ensemble's size L for several D, and that of the largest ensemble against D."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.jobs.reproduce.figures import canvas
from muster.orchestrator.jobs.reproduce.figures.ensembles import table_ensemble
from muster.orchestrator.jobs.reproduce.figures.sheet import Sheet, counted, drawable, listed, note_of, write
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.records.scores import percent
from muster.orchestrator.report.plots import MUTED
from muster.workers.store.layout import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE = "dreml-fig3"
#: Of CUB and Cars, with 100 and 98 training classes. Which D and L the paper drew is not legible in the text that
#: we have; these hold those that it names: 12 in Table 1, 24 in Fig. 4 and its L, 96 in Fig. 5.
PAPER_D, PAPER_L = (6, 12, 24, 48, 96), 24
GLYPHS_D, GLYPHS_L = (12, 25, 50, 100, 200), 8

Row = dict[str, Any]
#: L -> recall@1, the mean over the seeds, of one D.
Curve = dict[int, float]


def requests(options: ReproduceOptions) -> list[EnsembleRequest]:
    """An ensemble for each data set, D and seed. A rehearsal's cut may make one D of several."""
    found: dict[tuple[str, int, int], EnsembleRequest] = {}
    for dataset in options.datasets:
        sizes, L = (GLYPHS_D, GLYPHS_L) if dataset == "glyphs" else (PAPER_D, PAPER_L)
        for seed in range(options.seeds):
            for D in sizes:
                flags = {"ensemble.D": D, "ensemble.L": L}
                request = table_ensemble(options, dataset, flags, seed=seed)
                found.setdefault((dataset, request.launch.ensemble.D, seed), request)
    return list(found.values())


def draw(store: Store, folder: str, got: Mapping[str, EnsembleResult]) -> list[str]:
    """Writes the figure of each data set below `folder`; the files' names. Raises MusterError without members."""
    ready, lacking = drawable(FIGURE, got)
    sheets = []
    for dataset, mine in ready.items():
        rows = numbers(mine)
        note = note_of([one for one in got.values() if one.request.launch.data.dataset == dataset])
        title = f"Recall@1 on {dataset}: D meta-classes, L members"
        svg, png = canvas.rendered(lambda: _figure(rows, title, note))  # noqa: B023  (called at once)
        sheets.append(
            Sheet(
                dataset=dataset, title=title, caption=_caption(rows), finding=finding(rows), note=note,
                svg=svg, png=png, rows=rows,
            )
        )  # fmt: skip
    return write(store, folder, FIGURE, sheets, lacking)


def numbers(mine: Sequence[EnsembleResult]) -> list[Row]:
    """A row for each D, seed and L: recall at each K and MAP@R, shares in 0..1."""
    rows: list[Row] = []
    for one in sorted(
        mine, key=lambda one: (one.request.launch.ensemble.D, one.request.launch.ensemble.seed)
    ):
        ensemble, scores = one.request.launch.ensemble, (one.metrics or {})["splits"]["test"]
        for point in scores["curve"]:
            shares = {k: v for k, v in point.items() if k.startswith("recall_at_") or k == "map_at_r"}
            row = {"dataset": one.request.launch.data.dataset, "D": ensemble.D, "seed": ensemble.seed}
            rows.append({**row, "L": point["L"], **shares, "queries": scores["queries"]})
    return rows


def curves(rows: Sequence[Row]) -> dict[int, Curve]:
    """Recall@1 by D and L, the mean over the seeds; an L counts if all seeds of its D have it."""
    found: dict[int, Curve] = {}
    for D in sorted({row["D"] for row in rows}):
        mine = [row for row in rows if row["D"] == D]
        seeds = len({row["seed"] for row in mine})
        sizes = sorted({row["L"] for row in mine})
        points = {L: [row["recall_at_1"] for row in mine if row["L"] == L] for L in sizes}
        found[D] = {L: fmean(values) for L, values in points.items() if len(values) == seeds}
    return found


def common_size(found: Mapping[int, Curve]) -> int:
    """The largest L that all D have: only equal ones are compared."""
    return min(max(curve) for curve in found.values())


def finding(rows: Sequence[Row]) -> tuple[str, str]:
    """Two sentences: what D does to the largest ensembles, and what L does."""
    found = curves(rows)
    L = common_size(found)
    last = {D: curve[L] for D, curve in found.items()}
    error = max(math.sqrt(p * (1 - p) / rows[0]["queries"]) for p in last.values())
    return _about_classes(last, L, error), _about_members(found, L)


def _about_classes(last: Mapping[int, float], L: int, error: float) -> str:
    """What D does; a difference below two standard errors is taken as none."""
    best, low, high = max(last, key=last.__getitem__), min(last), max(last)
    measured = listed([f"{percent(share)} % with D = {D}" for D, share in last.items()])
    text = f"With {counted(L, 'member')} recall@1 is {measured}"
    if len(last) == 1:
        return f"{text}."
    worse = [end for end in (low, high) if last[best] - last[end] > 2 * error]
    shape = {
        (low, high): f"both ends of the range are worse than D = {best}, as in the paper",
        (low,): "small D costs recall, as in the paper, and the paper's loss at large D does not show",
        (high,): "large D costs recall, as in the paper, and the paper's loss at small D does not show",
        (): "neither end of the range is worse than the best D, unlike in the paper",
    }[tuple(worse)]
    return f"{text}: {shape} (differences below {percent(2 * error)} points, two standard errors, count as none)."


def _about_members(found: Mapping[int, Curve], L: int) -> str:
    gains = {D: curve[L] - curve[1] for D, curve in found.items()}
    most, least = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
    text = f"From one member to {counted(L, 'member')} recall@1 changes by {percent(gains[least], sign=True)}"
    if most != least:
        text += f" (D = {least}) to {percent(gains[most], sign=True)} points (D = {most})"
    else:
        text += f" points (D = {most})"
    if L >= 4:
        half = {D: curve[L] - curve[L // 2] for D, curve in found.items()}
        low, high = percent(min(half.values()), sign=True), percent(max(half.values()), sign=True)
        text += f", of which the last doubling, from {L // 2} to {L}, gives {low} to {high}"
    return f"{text}."


def _caption(rows: Sequence[Row]) -> str:
    seeds = sorted({row["seed"] for row in rows})
    L = common_size(curves(rows))
    over = f"The mean of {len(seeds)} seeds." if len(seeds) > 1 else f"One seed ({seeds[0]})."
    bars = (
        " Bars: the lowest and the highest seed."
        if len(seeds) > 1
        else " Bars: one standard error over the queries."
    )
    return (
        f"DREML, Fig. 3. Left: recall@1 against the number of members L, a line for each number of meta-classes D. "
        f"Right: recall@1 of the ensembles of {L} against D. {over}{bars} {rows[0]['queries']:,} queries."
    )


def _figure(rows: Sequence[Row], title: str, note: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = canvas.panels(title, note, 2, 3.3)
    found = curves(rows)
    for n, (D, curve) in enumerate(found.items()):
        style: dict[str, Any] = {
            "color": canvas.ORDERED[n % 8],
            "marker": canvas.MARKERS[n % 8],
            "markersize": 4.5,
        }
        if len(curve) > 16:
            style["markevery"] = 4
        x, y = zip(*sorted(curve.items()), strict=True)
        left.plot(x, [100 * share for share in y], linewidth=1.7, label=f"D = {D}", **style)
    left.set_xlabel("ensemble size L (members)")
    left.set_ylabel("recall@1 (%)")
    left.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 4, 5, 10]))
    left.legend(frameon=False, loc="lower right")
    L = common_size(found)
    _by_classes(right, rows, {D: curve[L] for D, curve in found.items()}, L)
    canvas.label(left, "by ensemble size")
    canvas.label(right, f"by D, ensembles of {L}")
    return figure


def _by_classes(axes: Any, rows: Sequence[Row], last: Mapping[int, float], L: int) -> None:
    low, high = [], []
    for D, mean in last.items():
        seeds = [row["recall_at_1"] for row in rows if row["D"] == D and row["L"] == L]
        error = math.sqrt(mean * (1 - mean) / rows[0]["queries"])
        low.append(mean - min(seeds) if len(seeds) > 1 else error)
        high.append(max(seeds) - mean if len(seeds) > 1 else error)
    spread = [[100 * share for share in low], [100 * share for share in high]]
    x, y = list(last), [100 * share for share in last.values()]
    axes.errorbar(
        x, y, yerr=spread, color=MUTED, ecolor=MUTED, elinewidth=1, capsize=3, linewidth=1.4, zorder=2
    )
    for n, (D, share) in enumerate(last.items()):
        axes.plot(
            D, 100 * share, marker=canvas.MARKERS[n % 8], color=canvas.ORDERED[n % 8], markersize=7, zorder=3
        )
        axes.annotate(
            f"{100 * share:.1f}",
            (D, 100 * share),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
        )
    axes.set_xscale("log")
    axes.set_xticks(x, [str(D) for D in x])
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.2)
    axes.set_xlabel("meta-classes D")
