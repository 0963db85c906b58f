"""Learners at test time: how the vectors of a model's parts are combined, and how correlated they are.

Owns what is done with stored raw learner vectors; it never trains, embeds or reads a file. Memory is bounded:
images are read in chunks, and no table of image pairs is made, whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Combine = Literal["share", "sqrt", "concat"]

CHUNK = 8192
SMALLEST_NORM = 1e-5
#: A spread below this share of the mean square is rounding, not variation.
SMALLEST_VARIANCE = 1e-10


def combine(vectors: npt.NDArray[np.floating], sizes: tuple[int, ...], how: Combine = "share") -> Float32:
    """Raw learner vectors [n, sum of sizes] to the vectors compared by dot product: float32, same shape.

    Each learner's part is brought to unit length and multiplied by:
    share: its share of the dimensions, so similarities count by its square (authors' code);
    sqrt: the root of 2m / (M (M + 1)) for learner m of M, so similarities count by the weights of the
    eta form's ensemble; concat: 1 (BIER section II: "we simply concatenate").
    Raises ValueError if the sizes don't add up to the vectors' length.
    """
    factors = combination_factors(sizes, how)
    joined = np.empty(vectors.shape, dtype=np.float32)
    done = 0
    for parts in _unit_chunks(vectors, sizes):
        chunk = np.concatenate([part * f for part, f in zip(parts, factors, strict=True)], axis=1)
        joined[done : done + len(chunk)] = chunk
        done += len(chunk)
    return joined


def combination_factors(sizes: tuple[int, ...], how: Combine) -> list[float]:
    """What each learner's unit vector is multiplied by; see `combine`. Raises ValueError for another `how`."""
    M = len(sizes)
    if how == "share":
        return [size / sum(sizes) for size in sizes]
    if how == "sqrt":
        return [(2 * m / (M * (M + 1))) ** 0.5 for m in range(1, M + 1)]
    if how == "concat":
        return [1.0] * M
    raise ValueError(f"combine = {how!r}: must be share, sqrt or concat")


@dataclass(frozen=True)
class Combination:
    """How a model's learners, stored raw and side by side, become the vectors that are compared."""

    sizes: tuple[int, ...]
    how: Combine


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How alike the learners are on a set of images. The measures are ours: the paper gives none."""

    feat_corr: float
    "Mean |Pearson r| over all pairs of dimensions from different learners, 0..1."
    clf_corr: float
    "Mean Pearson r over pairs of learners of their cosine similarities of all image pairs, -1..1."
    table: Float64
    "Pearson r of all dimensions with each other, float64 [d, d]; NaN for a dimension that is constant."
    constant: int
    "Dimensions without variation, which feat_corr leaves out."
    images: int


def correlation(vectors: npt.NDArray[np.floating], sizes: tuple[int, ...]) -> Correlation:
    """The learners' correlation on raw vectors [n, sum of sizes], in float64, each learner at unit length.

    The similarities of all n (n - 1) / 2 image pairs are counted without being made: their sums are
    |sum_i e_i|^2 for a learner, and |E_i^T E_j|^2 for the products of two, less the diagonal. A figure is NaN
    where nothing varies. Raises ValueError for fewer than 2 learners, fewer than 3 images, or sizes that
    don't add up to the vectors' length.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes = {sizes}: correlation between learners needs at least 2 of them")
    if len(vectors) < 3:
        raise ValueError(f"correlation needs at least 3 images, got {len(vectors)}")
    n, d = vectors.shape
    total, products = np.zeros(d), np.zeros((d, d))
    lengths = np.zeros((len(sizes), len(sizes)))
    squares = np.zeros(len(sizes))
    for parts in _unit_chunks(vectors, sizes):
        chunk = np.concatenate(parts, axis=1)
        total += chunk.sum(axis=0)
        products += chunk.T @ chunk
        own = np.stack([(part**2).sum(axis=1) for part in parts])  # a vector's similarity with itself
        lengths += own @ own.T
        squares += own.sum(axis=1)
    table = _pearson(products / n, total / n)
    r = _between(table, sizes)
    constant = int(np.isnan(np.diag(table)).sum())
    return Correlation(
        feat_corr=_mean(np.abs(r)),
        clf_corr=_similarity_correlation(products, total, lengths, squares, n, sizes),
        table=table,
        constant=constant,
        images=n,
    )


def reduction(mine: float, other: float) -> float:
    """By what share a correlation is below another's: 1 - mine / other; 0.478 would be 47.8 %."""
    return 1 - mine / other if other else float("nan")


def _similarity_correlation(
    products: Float64, total: Float64, lengths: Float64, squares: Float64, n: int, sizes: tuple[int, ...]
) -> float:
    """Mean Pearson r over learner pairs of the vectors of similarities of image pairs i < j."""
    borders = np.cumsum(sizes)[:-1]
    pairs = n * (n - 1) / 2
    rows = [np.split(row, borders, axis=1) for row in np.split(products, borders, axis=0)]
    second = np.array([[(block**2).sum() for block in row] for row in rows])
    first = np.array([(part**2).sum() for part in np.split(total, borders)])
    table = _pearson((second - lengths) / 2 / pairs, (first - squares) / 2 / pairs)
    return _mean(np.array([table[i, j] for i, j in combinations(range(len(sizes)), 2)]))


def _pearson(products: Float64, mean: Float64) -> Float64:
    """Pearson r [d, d] from mean products [d, d] and means [d]; NaN for what does not vary."""
    covariance = products - np.outer(mean, mean)
    variance = np.diag(covariance).copy()
    variance[variance <= SMALLEST_VARIANCE * np.diag(products)] = np.nan
    table: Float64 = np.clip(covariance / np.sqrt(np.outer(variance, variance)), -1, 1)
    return table


def _between(table: Float64, sizes: tuple[int, ...]) -> Float64:
    """The entries above the diagonal whose dimensions belong to different learners."""
    learner = np.repeat(np.arange(len(sizes)), sizes)
    entries: Float64 = table[learner[:, None] < learner[None, :]]
    return entries


def _mean(values: Float64) -> float:
    """The mean of those that are not NaN; NaN if none is."""
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _unit_chunks(vectors: npt.NDArray[np.floating], sizes: tuple[int, ...]) -> Iterator[list[Float64]]:
    """Each learner's part at unit length, float64, for some thousand images at a time."""
    if vectors.ndim != 2 or vectors.shape[1] != sum(sizes):
        raise ValueError(f"vectors {vectors.shape} don't fit sizes {sizes}: they add up to {sum(sizes)}")
    borders = np.cumsum(sizes)[:-1]
    for start in range(0, len(vectors), CHUNK):
        parts = np.split(vectors[start : start + CHUNK].astype(np.float64), borders, axis=1)
        yield [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), SMALLEST_NORM) for p in parts]
