"""Making the next batch while the device computes: the one place where training has a second thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


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
