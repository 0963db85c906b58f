"""Which retrieval protocol a request is scored with, in words and in draws; and the mean of several draws.

No key depends on it: the same vectors are scored in each way.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from muster.orchestrator.settings.request import DataRequest, LaunchRequest, open_data

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


def recall_at(request: LaunchRequest) -> tuple[int, ...]:
    """The K of recall@K that are usual for the data set."""
    return open_data(request.data).traits.recall_at
