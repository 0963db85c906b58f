"""How far a score may be trusted: bootstrap intervals, over classes for a recall and over members for a gain.

Images of a class are alike, so that what is drawn anew are whole classes: an interval over images would be too narrow.
Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentiles).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHARE = 0.95
SAMPLES = 1000
#: Draws that are made at once: with 11,000 classes they take 9 MB.
_AT_ONCE = 100
Edges = tuple[float, float]


def over_classes(hits: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> list[Edges]:
    """The interval of each row's share of hits: `hits` bool [L, Q], `labels` int64 [Q] of the queries. Always the same
    draws, so that rows can be compared."""
    classes, place = np.unique(labels, return_inverse=True)
    count = len(classes)
    sizes = np.bincount(place, minlength=count).astype(np.float64)
    found = np.stack([np.bincount(place, weights=row, minlength=count) for row in hits])
    rng, shares = np.random.default_rng(0), []
    for _ in range(SAMPLES // _AT_ONCE):
        drawn = rng.integers(count, size=(_AT_ONCE, count)) + np.arange(_AT_ONCE)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=_AT_ONCE * count).reshape(_AT_ONCE, count)
        shares.append((weights @ found.T) / (weights @ sizes)[:, None])
    return _edges(np.concatenate(shares))


def over_members(whole: float, alone: npt.NDArray[np.float64]) -> Edges:
    """The interval of what an ensemble of recall `whole` gains over one of its members: `alone` float64 [m], the
    recalls of some of them."""
    rng = np.random.default_rng(0)
    means = alone[rng.integers(len(alone), size=(SAMPLES, len(alone)))].mean(axis=1)
    return _edges(whole - means[:, None])[0]


def _edges(samples: npt.NDArray[np.float64]) -> list[Edges]:
    """The interval of each column of samples [n, k]."""
    tail = (1 - SHARE) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
