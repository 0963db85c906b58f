"""Batches on their way to the device, and making the next ones while it computes: the one place where training has
further threads.

Crops are written into buffers that are used again and again, for a GPU in pinned memory: new memory for each batch
would cost as much as the crops themselves, and a copy from pageable memory would hold up the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from muster.workers.packs.pack import Int64
from muster.workers.train.augment import Turns

Made = TypeVar("Made")
#: For a GPU so many batches are made ahead, by so many threads: NumPy copies without the interpreter's lock.
AHEAD, THREADS = 4, 2


@dataclass(frozen=True)
class Batch:
    """Images and what belongs to them, all on the host but for the images where the device has them."""

    images: Callable[[], torch.Tensor]
    "Brings them to the device: uint8 [n, crop, crop, 3]. On a CPU they are the buffer's, which the next batch \
overwrites."
    labels: torch.Tensor
    "Classes or meta-classes, int64 [n]."
    turns: Turns


class Buffer:
    """Memory for the images of a batch, and of the next one once the device has read them."""

    def __init__(self, device: torch.device) -> None:
        self.pinned = device.type == "cuda"
        self._images = torch.empty(0, dtype=torch.uint8)

    def images(self, count: int, side: int) -> torch.Tensor:
        """uint8 [count, side, side, 3], with whatever was there."""
        size = count * side * side * 3
        if len(self._images) < size:
            self._images = torch.empty(size, dtype=torch.uint8, pin_memory=self.pinned)
        return self._images[:size].view(count, side, side, 3)

    def held(self, small: torch.Tensor) -> torch.Tensor:
        """A small tensor that goes to the device with the images: pinned where they are."""
        return small.pin_memory() if self.pinned else small


def host_batch(images: Callable[[], torch.Tensor], labels: Int64, turns: Turns, buffer: Buffer) -> Batch:
    """A batch whose labels and turns are held as the buffer's images are."""
    held = Turns(*(None if part is None else buffer.held(part) for part in turns))
    return Batch(images, buffer.held(torch.from_numpy(labels)), held)


def fed(make: Callable[[int, Buffer], Made], steps: range, device: torch.device) -> Generator[Made]:
    """make(step, buffer) for each step, in order; for a GPU some are made while the ones before are at work.

    What was made is valid until the next is asked for. For the CPU nothing is made ahead: the core that would do it is
    the one that computes.
    """
    if device.type != "cuda":
        buffer = Buffer(device)
        for step in steps:
            yield make(step, buffer)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        left, waiting = iter(steps), deque[tuple[Buffer, Future[Made]]]()

        def begin(buffer: Buffer, read: torch.cuda.Event | None) -> None:
            if (step := next(left, None)) is not None:
                waiting.append((buffer, pool.submit(_made, make, step, buffer, read)))

        for _ in range(AHEAD):
            begin(Buffer(device), None)
        while waiting:
            buffer, future = waiting.popleft()
            yield future.result()
            read = torch.cuda.Event(blocking=True)  # who waits for it sleeps: a member has one core
            # After all that was asked of the device for this batch.
            read.record(torch.cuda.current_stream(device))
            begin(buffer, read)


def _made(
    make: Callable[[int, Buffer], Made], step: int, buffer: Buffer, read: torch.cuda.Event | None
) -> Made:
    if read is not None:
        read.synchronize()
    return make(step, buffer)
