"""BIER's learners one by one: what each finds alone, and how alike they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from muster.workers.score.combine import combine, correlation
from muster.workers.score.protocol import Protocol

#: Fewer learners or images than these have no correlation.
LEAST_LEARNERS, LEAST_IMAGES = 2, 3


def learner_scores(
    raw: np.ndarray,
    sizes: tuple[int, ...],
    protocol: Protocol,
    ks: Sequence[int],
    memory: int,
    device: str = "cpu",
) -> dict[str, Any]:
    """`learners`: a row of scores for each, alone; `correlation`: those of BIER's `combine` (docs/bier.md), None
    for a single learner. `raw`: float32 [n, sum of sizes]. Shares are in 0..1.
    """
    from muster.workers.score.retrieval import prefix_curve

    unit = combine(raw, sizes, "concat")
    rows = []
    for number, part in enumerate(np.split(unit, np.cumsum(sizes)[:-1], axis=1), start=1):
        alone = [np.ascontiguousarray(part)]
        (score,) = prefix_curve(alone, protocol, ks, map_at_r=True, memory=memory, device=device)
        rows.append({"learner": number, "dimension": part.shape[1], **score.row})
    return {"learners": rows, "correlation": correlation_row(raw, sizes)}


def correlation_row(raw: np.ndarray, sizes: tuple[int, ...]) -> dict[str, Any] | None:
    """The correlation between learners, and between dimensions of different learners; None for one learner."""
    if len(sizes) < LEAST_LEARNERS or len(raw) < LEAST_IMAGES:
        return None
    found = correlation(raw, sizes)
    measures = {"between_learners": found.clf_corr, "between_dimensions": found.feat_corr}
    finite = {name: value if math.isfinite(value) else None for name, value in measures.items()}
    return {**finite, "constant_dimensions": found.constant, "images": found.images}
