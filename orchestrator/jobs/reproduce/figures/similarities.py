"""Dot products of an ensemble's vectors as counts in fixed bins, for several of its sizes from one pass.

The dot product of two concatenations is the sum of the members'; it is divided by their number here, so that
ensembles of every size share the axis from -1 to 1. All in blocks of rows: memory is bounded by `BLOCK_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from muster.workers.rng import permutation

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

BINS = 200
EDGES: Float64 = np.linspace(-1.0, 1.0, BINS + 1)
#: Of one block's similarities; its temporaries take some four times as much.
BLOCK_BYTES = 32 << 20
#: Above it pairs are those of whole classes, drawn until they hold so many images.
MOST_IMAGES = 20_000


def bins_of(cosines: npt.NDArray[np.floating]) -> Int64:
    """The bin of each cosine, 0 .. BINS-1; what rounding put beyond -1 and 1 counts in the last ones."""
    found: Int64 = np.floor((cosines + 1.0) * (BINS / 2)).astype(np.int64)
    return found.clip(0, BINS - 1, out=found)


def pair_counts(members: Sequence[Float32], labels: Int64, sizes: Sequence[int]) -> dict[int, Int64]:
    """Counts of all pairs of different images, by ensemble size: int64 [2, BINS], different class and same class.

    `members[l]`: float32 [n, D] of unit rows; `labels` int64 [n].
    """
    found = {size: np.zeros((2, BINS), dtype=np.int64) for size in sizes}
    n = len(labels)
    for start, stop in _blocks(n, n):
        same = labels[start:stop, None] == labels[None, start:]
        later = np.arange(n - start)[None, :] > np.arange(stop - start)[:, None]
        kinds = (BINS * same)[later]
        for size, cosines in _prefixes(members, members, slice(start, stop), slice(start, n), sizes):
            counts = np.bincount(bins_of(cosines[later]) + kinds, minlength=2 * BINS)
            found[size] += counts.reshape(2, BINS)
    return found


def nearest(
    queries: Sequence[Float32], gallery: Sequence[Float32], sizes: Sequence[int]
) -> dict[int, Float32]:
    """The mean cosine of each query to its closest image of the gallery, float32 [Q], by ensemble size."""
    Q, G = len(queries[0]), len(gallery[0])
    found = {size: np.empty(Q, dtype=np.float32) for size in sizes}
    for start, stop in _blocks(Q, G):
        for size, cosines in _prefixes(queries, gallery, slice(start, stop), slice(0, G), sizes):
            found[size][start:stop] = cosines.max(axis=1)
    return found


def sampled(labels: Int64, most: int = MOST_IMAGES) -> Int64:
    """All rows if they are at most `most`, else those of whole classes, in a seeded order, until they are so many:
    ascending. Whole classes, because a sample of images would have few pairs of one class left."""
    if len(labels) <= most:
        return np.arange(len(labels))
    sizes = np.bincount(labels)
    order = permutation(("pairs",), len(sizes))
    fits = np.cumsum(sizes[order]) <= most
    kept = order[: max(1, int(fits.sum()))]
    return np.flatnonzero(np.isin(labels, kept))


def shown_sizes(wanted: Sequence[int], there: int) -> list[int]:
    """Those of the wanted ensemble sizes that there are members for; the largest is replaced by what there is."""
    return sorted({min(size, there) for size in wanted})


def share_above(counts: Int64, limit: float) -> float:
    """The share of counts in bins from `limit` on, which must be an edge."""
    first = round((limit + 1) * BINS / 2)
    return float(counts[first:].sum() / counts.sum())


def auc(different: Int64, same: Int64) -> float:
    """How often a random same-class pair is the more similar one of it and a random other pair; a bin's ties half."""
    below = np.cumsum(different) - different
    wins = (same * (below + different / 2)).sum()
    return float(wins / (int(same.sum()) * int(different.sum())))


def _prefixes(
    left: Sequence[Float32], right: Sequence[Float32], rows: slice, columns: slice, sizes: Sequence[int]
) -> Iterator[tuple[int, Float32]]:
    """(size, mean cosines of the first so many members [rows, columns]) for each size, ascending."""
    total = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    for count, (one, other) in enumerate(zip(left, right, strict=True), 1):
        total += one[rows] @ other[columns].T
        if count in sizes:
            yield count, np.divide(total, count, dtype=np.float32)


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // (4 * max(1, columns)))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))
