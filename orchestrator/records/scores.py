"""What scores and times are called and how they are written, for the terminal and the report alike.

It computes no score.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from muster.workers.score.metrics import RECALL, SHOWN

Row = Mapping[str, Any]


SHOWN_ROWS = 16  # a longer table is thinned


def percent(share: float | None, sign: bool = False) -> str:
    """A share in 0..1 as percent with one decimal; '-' where there is none."""
    if share is None or not math.isfinite(share):
        return "-"
    return f"{100 * share:{'+' if sign else ''}.1f}"


def duration(seconds: float | None) -> str:
    """0:42, 12:05, 3:07:00 or 4d 03h; '-:--' where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02}h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def recall_ks(rows: Sequence[Row]) -> list[int]:
    """Every K that the rows hold a recall@K for, ascending."""
    names = {name for row in rows for name in row}
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"recall_at_(\d+)", name)))


def sure_text(found: Row, edges: Row, *, sign: bool = False) -> str:
    """ "95 %: 69.0 to 75.5": between which `edges` an interval or a gain lies."""
    return f"{_share(found)}: {_between(edges, sign)}"


def _share(found: Row) -> str:
    return f"{100 * found['share']:.0f} %"


def _between(edges: Row, sign: bool = False) -> str:
    return f"{percent(edges['low'], sign)} to {percent(edges['high'], sign)}"


def curve_table(
    rows: Sequence[Row], ks: Sequence[int], interval: Row | None = None, floors: Sequence[Row] = ()
) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of the curve's table, for the terminal and the report alike; with the `interval` of the
    first recall of each size, where it is known, and a row for each of the `floors`."""
    head = [
        "L",
        *(f"recall@{k}" if i == 0 else f"@{k}" for i, k in enumerate(ks)),
        *(metric.title for metric in SHOWN),
    ]
    fields = [*(f"{RECALL}{k}" for k in ks), *(metric.name for metric in SHOWN)]
    named = [(str(row["L"]), row) for row in rows] + [(one["name"], one["curve"][-1]) for one in floors]
    cells = [[name, *(percent(row.get(field)) for field in fields)] for name, row in named]
    if interval and interval["of"] in fields:
        at = fields.index(interval["of"]) + 1
        edges = {one["L"]: _between(one) for one in interval["rows"]}
        head.insert(at + 1, _share(interval))
        for cell, row in itertools.zip_longest(cells, rows):
            cell.insert(at + 1, edges.get(row["L"], "-") if row else "-")
    return head, cells


def gain_text(gain: Row | None) -> str:
    """What an ensemble finds more than one of its members; empty where that is not known."""
    if not gain:
        return ""
    return (
        f"Gain by the ensemble over a member alone: {percent(gain['mean'], sign=True)} points of "
        f"{gain['of'].replace(RECALL, 'recall@')} ({sure_text(gain, gain, sign=True)}, over {len(gain['alone'])} "
        "members)."
    )


def thinned(rows: Sequence[Row]) -> list[Row]:
    """The rows themselves if they are few, else those of L = 1, 2, 4, 8, ... and the last."""
    if len(rows) <= SHOWN_ROWS:
        return list(rows)
    return [row for row in rows[:-1] if int(row["L"]).bit_count() == 1] + [rows[-1]]


#: Below it, what rounding could change is not seen in a score's last printed decimal.
TOLD_TIES = 0.001


def near_tie_text(curve: Sequence[Row], queries: int) -> str:
    """What rounding could change of a curve's scores, if it would be seen, where it could the most; else ""."""
    row = max(reversed(curve), key=lambda one: float(one.get("near_ties", 0)))
    share = row.get("near_ties", 0) / max(1, queries)
    if share < TOLD_TIES:
        return ""
    where = f"At L = {row['L']}, " if row is not curve[-1] else ""
    return (
        f"{where}{row['near_ties']:,} of {queries:,} queries are near ties: rounding decides them, and recall could be "
        f"{100 * share:.1f} points otherwise. Do all images look alike to the network?"
    )


def spread_text(row: Mapping[str, Any]) -> str:
    """The recalls of a row with their spread over the draws, in per cent; empty where nothing was drawn."""
    found = [
        f"recall@{name.removeprefix('recall_at_')} {100 * row[name]:.1f} (spread {100 * spread:.2f})"
        for name in row
        if (spread := row.get(f"{name}_spread")) is not None and name.startswith("recall_at_")
    ]
    return (
        f"At L = {row['L']}: {', '.join(found)}; the spread is the draws' standard deviation."
        if found
        else ""
    )
