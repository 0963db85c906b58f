"""Batches of P labels x K images, BIER's and the baselines': a pure function of (seed, step).

Owns which images a step sees and in what order; reads no pixels and keeps no state that matters (a cache of
the current epoch of labels is all). So a run that was killed and resumed, or that is spread over other
ranks, sees what an undisturbed one would.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from muster.workers.rng import Float64, Int64, permutation, uniforms
from muster.workers.spec import LabelBatchShape


class LabelBatches:
    """The global batches of a run, and each rank's slice of them.

    Labels come from a queue of shuffled epochs: in each epoch every label is drawn once. A batch that ends
    one epoch and begins the next still has P different labels: those that the old epoch's end has put into
    it are moved back in the new epoch. Source: authors' code (a shuffled queue of labels).
    """

    def __init__(self, labels: Int64, settings: LabelBatchShape, seed: int, world_size: int = 1) -> None:
        """`labels`: int64 [n], the class of each training image, any numbers.

        Raises ValueError, naming all mistakes, if P is above the number of classes or the batch does not
        divide by the ranks (the nearest sizes that do are named).
        """
        _, by_image, self._counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.classes = len(self._counts)
        settings.check_batch(self.classes, world_size)
        self.P, self.K, self.seed, self.world_size = settings.labels, settings.images, seed, world_size
        self._by_class = np.argsort(by_image, kind="stable")
        self._starts = np.cumsum(self._counts) - self._counts
        self._cached: tuple[int, Int64] | None = None

    @property
    def size(self) -> int:
        """Images in the global batch."""
        return self.P * self.K

    def batch(self, step: int) -> Int64:
        """The global batch of a step, counted from 0: int64 [P x K], positions in the labels given.

        The K images of a label stand together. A class of at least K images gives K different ones; a
        smaller class is drawn from with replacement.
        """
        chosen = self.labels(step)
        picks = _picks(self._counts[chosen], uniforms(("bier-images", self.seed), self.P, self.K, epoch=step))
        rows: Int64 = self._by_class[self._starts[chosen][:, None] + picks]
        return rows.reshape(-1)

    def share(self, step: int, rank: int) -> Int64:
        """A rank's part of the global batch, int64 [P x K / ranks]: equal parts, in rank order."""
        return self.batch(step)[self.positions(rank)]

    def positions(self, rank: int) -> slice:
        """Where a rank's images stand in the global batch; key each image's augmentation by this place."""
        each = self.size // self.world_size
        return slice(rank * each, (rank + 1) * each)

    def labels(self, step: int) -> Int64:
        """The P different classes of a step, int64 [P]: places in the sorted list of classes."""
        epoch, first = divmod(step * self.P, self.classes)
        chosen = self._epoch(epoch)[first : first + self.P]
        if len(chosen) < self.P:
            chosen = np.concatenate([chosen, self._epoch(epoch + 1)[: self.P - len(chosen)]])
        return chosen

    def _epoch(self, epoch: int) -> Int64:
        """All classes in the order of an epoch, int64 [classes].

        An order depends on the end of the one before, and that chain begins anew wherever an epoch begins
        with a batch; so any epoch can be computed from at most P others, and the next one from the last.
        """
        first = epoch - epoch % (self.P // gcd(self.P, self.classes))
        if self._cached is not None and first <= self._cached[0] <= epoch:
            first, order = self._cached
        else:
            order = self._shuffled(first)
        for current in range(first + 1, epoch + 1):
            left = current * self.classes % self.P  # what the old epoch puts into the batch they share
            order = _moved_back(self._shuffled(current), order[self.classes - left :], self.P - left)
        self._cached = epoch, order
        return order

    def _shuffled(self, epoch: int) -> Int64:
        return permutation(("bier-labels", self.seed), self.classes, epoch=epoch)


def _moved_back(order: Int64, taken: Int64, count: int) -> Int64:
    """The order with its first `count` classes free of the `taken` ones, otherwise unchanged."""
    if len(taken) == 0:
        return order
    front = np.flatnonzero(~np.isin(order, taken))[:count]
    return np.concatenate([order[front], np.delete(order, front)])


def _picks(counts: Int64, draws: Float64) -> Int64:
    """K images of each class: int64 [P, K] in 0 .. counts-1, different ones where there are enough.

    `counts` int64 [P]; `draws` float64 [P, K] in [0, 1). The k-th pick is a place among those not yet
    taken, counted up past the taken ones in rising order.
    """
    K = draws.shape[1]
    scarce = counts < K
    room = np.where(scarce[:, None], counts[:, None], counts[:, None] - np.arange(K))
    picks = np.floor(draws * room).astype(np.int64)
    for k in range(1, K):
        taken = np.sort(picks[:, :k], axis=1)
        for other in taken.T:
            picks[:, k] += ~scarce & (picks[:, k] >= other)
    return picks
