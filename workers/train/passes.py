"""Passes over all training images, each in a random order of its own: a pure function of (names, step)."""

from __future__ import annotations

from muster.workers.rng import Float64, Int64, permutation
from muster.workers.train.augment import epoch_draws


class Passes:
    """The batches of every epoch over `images` images; reads no pixels and keeps no state that matters.

    Batches are of `size`; the last, smaller one is kept, but for a single image, which joins the one before:
    BatchNorm has no statistics for one.
    """

    def __init__(self, names: tuple[object, ...], images: int, size: int) -> None:
        self.names, self.length = names, images
        starts = list(range(0, images, size))
        if len(starts) > 1 and images - starts[-1] == 1:
            starts.pop()
        self.slices = [slice(a, b) for a, b in zip(starts, [*starts[1:], images], strict=True)]
        self._epoch = -1
        self._order: Int64
        self._draws: Float64

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.slices)

    def images(self, step: int) -> int:
        """Images of a step, counted over all epochs from 0."""
        part = self.slices[step % self.steps]
        return part.stop - part.start

    def at(self, step: int) -> tuple[Int64, Float64]:
        """The images of a step, int64 [n], places in the set, and their augmentation's randomness, float64 [n, 4]."""
        epoch, place = divmod(step, self.steps)
        if epoch != self._epoch:
            self._order = permutation(("order", *self.names), self.length, epoch=epoch)
            self._draws = epoch_draws(self.names, epoch, self.length)
            self._epoch = epoch
        chosen = self._order[self.slices[place]]
        return chosen, self._draws[chosen]
