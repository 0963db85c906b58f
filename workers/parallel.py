"""Work for threads, in order, with a window of it in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
#: Of each thread, so many pieces of work wait or are done before their turn.
AHEAD = 16


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each item with what `work` gives for it, in the order of the items. What it raises is raised at its turn."""
    with ThreadPoolExecutor(threads) as pool:
        window: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            window.append((item, pool.submit(work, item)))
            if len(window) >= AHEAD * threads:
                first, future = window.popleft()
                yield first, future.result()
        for first, future in window:
            yield first, future.result()
