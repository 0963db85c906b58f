"""Which retrieval protocol a request is scored with, in words and in draws; and the mean of several draws.

No key depends on it: the same vectors are scored in each way.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from muster.orchestrator.settings.request import DataRequest, open_data

Row = dict[str, Any]
#: What a row of a curve holds that is no share.
COUNTS = {"L", "near_ties"}


def draws_of(data: DataRequest) -> int:
    """How many random galleries are asked; 0: the data set's own protocol, which has nothing random."""
    return data.repeats if data.vehicleid_protocol == "reid" else 0


def protocol_text(data: DataRequest) -> str:
    """Who asks whom, in a clause."""
    if draws_of(data):
        return (
            f"re-identification: one random image of each vehicle is the gallery, the others are looked for in it; "
            f"means of {data.repeats} draws"
        )
    return open_data(data).traits.protocol


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


def mean_curve(curves: Sequence[Sequence[Row]]) -> list[Row]:
    """One curve of several draws: each share's mean, and beside a recall its `_spread`, the standard deviation.

    `near_ties` is that of the draw with the most.
    """
    if len(curves) == 1:
        return list(curves[0])
    return [_mean_row(rows) for rows in zip(*curves, strict=True)]


def _mean_row(rows: Sequence[Row]) -> Row:
    found: Row = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        found[name] = max(values) if name in COUNTS else statistics.fmean(values)
        if name.startswith("recall_at_"):
            found[f"{name}_spread"] = statistics.stdev(values)
    return found
