"""Pictures of an object store, read and decoded by all nodes of a cluster: each image's pixels go to whoever packs.

A disk is read by the packing process itself, with its threads: there nodes would get in each other's way.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from muster.workers.datasets import DataSet, Item, OwnPictures
from muster.workers.errors import MusterError
from muster.workers.packs.build import Decode, Decoded, decoded
from muster.workers.packs.pack import ResizeRule
from muster.workers.store.remote import AT_ONCE, RemotePath

#: Bytes of pixels that a task gives back, and so many images at least and at most.
TASK_BYTES, FEWEST, MOST = 1 << 24, 16, 512
#: Tasks at once, at most: their pixels wait in memory for their turn.
TASKS = 32
#: Requests of a task that wait for answers at once.
THREADS = 8


def reader_of(data: DataSet) -> Decode:
    """How a data set's images are read: where it lies in an object store by tasks, if this process is a job's."""
    if not (isinstance(data, OwnPictures) and isinstance(data.root, RemotePath)):
        return decoded
    ray = sys.modules.get("ray")  # of a terminal that packs it is not even loaded
    return _by_tasks if ray is not None and ray.is_initialized() else partial(decoded, threads=AT_ONCE)


def _by_tasks(data: DataSet, items: Sequence[Item], rule: ResizeRule) -> Iterator[Decoded]:
    """The images in order, decoded by tasks that are spread over the nodes; as many are out as there are CPUs.

    They take none: most of the time they wait for the network, and others' members may have all CPUs for hours.
    """
    import ray

    task: Any = ray.remote(num_cpus=0, max_retries=3, scheduling_strategy="SPREAD")(_some)
    size = max(FEWEST, min(MOST, TASK_BYTES // (rule.side * rule.side * 3)))
    at_once = max(2, min(TASKS, int(ray.cluster_resources().get("CPU", 0))))
    shared, window = ray.put(data), deque[Any]()
    for start in range(0, len(items), size):
        window.append(task.remote(shared, items[start : start + size], rule))
        if len(window) >= at_once:
            yield from _result(window.popleft())
    yield from itertools.chain.from_iterable(map(_result, window))


def _some(data: DataSet, items: Sequence[Item], rule: ResizeRule) -> list[Decoded]:
    return list(decoded(data, items, rule, THREADS))


def _result(promised: Any) -> list[Decoded]:
    """What a task gave. Raises what went wrong in it as it was raised there."""
    import ray

    try:
        found: list[Decoded] = ray.get(promised)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MusterError) else error from None
    return found
