"""A training batch on the host, and making the next one while the device computes: the one place where training
has a second thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from muster.workers.packs.pack import Int64, Uint8
from muster.workers.rng import Float64

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Batch:
    """Images on their way to the device."""

    images: torch.Tensor
    "uint8 [n, crop, crop, 3], on the host."
    labels: torch.Tensor
    "Classes or meta-classes, int64 [n]."
    draws: Float64
    "Each image's randomness, float64 [n, 4]."


def host_batch(crops: Uint8, labels: Int64, draws: Float64, device: torch.device) -> Batch:
    """A batch of arrays; in pinned memory where a GPU will fetch it."""
    images, classes = torch.from_numpy(crops), torch.from_numpy(labels)
    if device.type == "cuda":
        images, classes = images.pin_memory(), classes.pin_memory()
    return Batch(images, classes, draws)


def fetched_ahead(make: Callable[[A], B], items: Iterable[A], device: torch.device) -> Iterator[B]:
    """make(item) for each item, in order; for a GPU each is made while the one before is at work.

    For the CPU nothing is fetched ahead: the core that would do it is the one that computes.
    """
    if device.type != "cuda":
        yield from map(make, items)
        return
    with ThreadPoolExecutor(1) as pool:
        following = None
        for item in items:
            ready, following = following, pool.submit(make, item)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()
