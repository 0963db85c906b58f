"""A run's report: one HTML file that needs nothing beside it.

Owns what the page says and in which order; `templates/report.html.j2` owns how it looks. It never reads
the store or computes a score: everything comes in as `ReportData`. The page holds no script and loads
nothing, every value in it is escaped, and plots are images inside the file (an image can't run anything,
and the ids of two of them can't clash).
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from muster.orchestrator.records.scores import Row, curve_table, duration, percent, sure_text, thinned
from muster.orchestrator.report import plots
from muster.workers.quantities import bytes_text
from muster.workers.score.metrics import BY_RANK, SHOWN

MEMBER_STATES = ("trained", "reused", "failed")
SPARK_WIDTH, SPARK_HEIGHT = 64, 18


@dataclass(frozen=True)
class DataSet:
    """What was trained and evaluated on."""

    name: str
    digest: str
    splits: Sequence[Mapping[str, Any]] = ()
    """One mapping for each split: `split`, `images`, `classes`, and the `names` of the first and last of these."""


@dataclass(frozen=True)
class Reference:
    """Another run, to be compared with."""

    name: str
    curve: Sequence[Row]
    text: str
    """The comparison in a sentence."""


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. Shares are in 0..1; what is empty or None is left out or shown as '-'."""

    name: str
    created: str
    state: str
    """"done", "partial 3 of 4" or whatever else the run ended as."""
    command: str
    """The shell command that makes this run again."""
    request: Mapping[str, Any]
    """The settings, flat, in the order to show them."""
    dataset: DataSet
    members: Sequence[Mapping[str, Any]]
    """`index`, `key`, `state` (trained|reused|failed) and, where known: `epochs`, `final_loss`, `seconds`,
    `images_per_s`, `device`, `node`, `attempts`, `message`."""
    curve: Sequence[Row] = ()
    """The rows of a `curve` event, ascending in L; empty when nothing could be evaluated."""
    ks: Sequence[int] = (1, 2, 4, 8)
    title: str = ""
    """Above the plot: data set, D, L, seed. By default the data set and the run's name."""
    notes: Sequence[str] = ()
    """Where the protocol departs from the paper's, or the paper leaves a choice."""
    references: Sequence[Reference] = ()
    """Runs whose curves stand beside this one's."""
    interval: Mapping[str, Any] = field(default_factory=dict)
    """How sure the first recall is: `of`, `share`, and `rows` with `L`, `low` and `high`."""
    floors: Sequence[Row] = ()
    """What is found without training: `name`, and a `curve` of one row."""
    gain: Mapping[str, Any] = field(default_factory=dict)
    """What the ensemble finds more than a member alone: `mean`, `low`, `high`."""
    near_ties: int | None = None
    """Queries whose answer at the smallest K, by all members, is decided by no more than rounding."""
    gathered: Sequence[Mapping[str, Any]] = ()
    """One mapping for each shard: `path`, `rows`, `bytes`."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Name of a tool -> the code that reads the shards with it."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    """Shown at the top: what a reader must know before trusting the numbers."""
    losses: Mapping[int, Sequence[float | None]] = field(default_factory=dict)
    """Member index -> the mean loss of each of its epochs, or of each stretch between checkpoints."""
    learners: Sequence[Row] = ()
    """The learners alone: `learner`, `dimension` and scores."""
    correlation: Mapping[str, Any] = field(default_factory=dict)
    """`between_learners`, `between_dimensions`, `images`; see docs/bier.md."""
    heat_map: bytes = b""
    """PNG of the correlation of all dimensions."""


class Figure(NamedTuple):
    """One of the numbers at the top of the page."""

    label: str
    value: str
    unit: str
    note: str = ""


def render_report(data: ReportData) -> str:
    """The whole page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("muster.orchestrator.report"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name must not become an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(duration=duration, count=_count, size=_size, decimals=_decimals)
    shown = thinned(data.curve)
    unit = "checkpoint" if data.learners else "epoch"  # what a loss is the mean over
    return env.get_template("report.html.j2").render(
        data=data,
        figures=key_figures(
            data.curve, data.ks, "all learners" if data.learners else "", data.interval, data.gain
        ),
        curve=curve_table(shown, data.ks, data.interval, data.floors),
        whole_curve=curve_table(data.curve, data.ks, data.interval) if len(shown) < len(data.curve) else None,
        curve_text=_curve_in_words(data),
        curve_plot=_images(
            functools.partial(plots.curve_svg, others=[(one.name, one.curve) for one in data.references]),
            data.curve,
            data.title or f"{data.dataset.name}, {data.name}",
        )
        if data.curve and not data.learners  # one point is no curve
        else None,
        learners=_learner_table(data),
        heat_map=base64.b64encode(data.heat_map).decode(),
        one_model=bool(data.learners),
        loss_plot=_loss_plot(data, unit),
        loss_unit=unit,
        members=[{**_EMPTY_MEMBER, **member} for member in data.members],
        summary=_summary(data.members),
        sparks=_sparks(data.losses, unit),
        spark_box=f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}",
    )


_OPTIONAL = ("epochs", "final_loss", "seconds", "images_per_s", "device", "node", "attempts", "message")
_EMPTY_MEMBER: dict[str, Any] = dict.fromkeys(_OPTIONAL)


def key_figures(
    curve: Sequence[Row],
    ks: Sequence[int],
    whole: str = "",
    interval: Row | None = None,
    gain: Row | None = None,
) -> list[Figure]:
    """The numbers at the top: recall at the last L and at L = 1, the gain, MAP@R and NMI.

    `whole` is what stands in for "at L = ..." where there is no ensemble; the rest as in `ReportData`.
    """
    if not curve or not ks:
        return []
    first, last, k = curve[0], curve[-1], ks[0]
    here, before = last.get(f"recall_at_{k}"), first.get(f"recall_at_{k}")
    at_last = whole or f"at L = {last['L']}"
    sure = f", {sure_text(interval, interval['rows'][-1])}" if interval else ""
    found = [Figure(f"recall@{k}", percent(here), "%", at_last + sure)]
    if len(curve) > 1 and here is not None and before is not None:
        found.append(Figure(f"recall@{k}", percent(before), "%", f"at L = {first['L']}"))
        note, value = "by the ensemble", here - before
        if gain:
            note, value = f"over a member alone, {sure_text(gain, gain, sign=True)}", gain["mean"]
        found.append(Figure("gain", percent(value, sign=True), "points", note))
    for metric in SHOWN:
        value = percent(last.get(metric.name))
        known = value != "-"
        found.append(Figure(metric.title, value, "%" * known, at_last if known else "not measured"))
    return found


def _curve_in_words(data: ReportData) -> str:
    """The plot for those who can't see it."""
    if not data.curve:
        return ""
    last = data.curve[-1]
    head, cells = curve_table([last], data.ks)
    values = ", ".join(
        f"{name} {value} %" for name, value in zip(head[1:], cells[0][1:], strict=True) if value != "-"
    )
    return f"Scores against ensemble size L from {data.curve[0]['L']} to {last['L']}. At L = {last['L']}: {values}."


def _learner_table(data: ReportData) -> tuple[list[str], list[list[str]]]:
    """Header and cells: each learner alone, and all of them combined."""
    if not data.learners:
        return [], []
    names = {
        **{f"recall_at_{k}": f"recall@{k}" if k == data.ks[0] else f"@{k}" for k in data.ks},
        **{metric.name: metric.title for metric in SHOWN if metric in BY_RANK},
    }
    whole = {
        "learner": "combined",
        "dimension": sum(row["dimension"] for row in data.learners),
        **data.curve[-1],
    }
    cells = [
        [f"{row['learner']} ({row['dimension']})", *(percent(row.get(name)) for name in names)]
        for row in [*data.learners, whole]
    ]
    return ["learner (dimensions)", *names.values()], cells


def _images(draw: Any, *what: Any) -> dict[str, str]:
    """A plot as two data URIs: for a page and for a phone's narrow one."""
    sizes = {"wide": plots.WIDE, "narrow": plots.NARROW}
    return {
        name: "data:image/svg+xml;base64," + base64.b64encode(draw(*what, inches=inches)).decode()
        for name, inches in sizes.items()
    }


def _loss_plot(data: ReportData, unit: str) -> dict[str, str] | None:
    if not any(data.losses.values()):
        return None
    if not data.learners:
        return _images(plots.loss_svg, data.losses)
    return _images(plots.loss_svg, data.losses, "Training loss", unit)


def _summary(members: Sequence[Mapping[str, Any]]) -> str:
    """How many members there are of each state, and what training took."""
    states = [str(member.get("state")) for member in members]
    parts = [
        f"{states.count(state)} {state}"
        for state in dict.fromkeys([*MEMBER_STATES, *states])
        if state in states
    ]
    trained = sum(m.get("seconds") or 0 for m in members if m.get("state") == "trained")
    if trained:
        parts.append(f"{duration(trained)} of training, added up")
    return ", ".join(parts)


def _sparks(losses: Mapping[int, Sequence[float | None]], unit: str) -> dict[int, dict[str, str]]:
    """Each member's loss as the points of a small line, all on one scale, so that an outlier shows."""
    known = {i: [v for v in values if v is not None and math.isfinite(v)] for i, values in losses.items()}
    low = min((min(v) for v in known.values() if v), default=0.0)
    span = max((max(v) for v in known.values() if v), default=1.0) - low or 1.0
    sparks = {}
    for index, values in known.items():
        if len(values) < 2:
            continue
        wide, high = SPARK_WIDTH - 4, SPARK_HEIGHT - 4
        places = [
            f"{2 + wide * i / (len(values) - 1):.1f},{2 + high * (1 - (value - low) / span):.1f}"
            for i, value in enumerate(values)
        ]
        text = f"loss from {values[0]:.3f} to {values[-1]:.3f} in {len(values)} {unit}s"
        sparks[index] = {"points": " ".join(places), "text": text}
    return sparks


def _count(value: Any) -> str:
    """A whole number with commas; '-' for None."""
    return "-" if value is None else f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _decimals(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _size(value: float | None) -> str:
    return "-" if value is None else bytes_text(value)
