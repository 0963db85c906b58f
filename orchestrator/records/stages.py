"""A job's stages and ticks, told as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from muster.orchestrator.records.events import Event, event

Emit = Callable[[Event], None]


@contextmanager
def stage(emit: Emit, name: str) -> Iterator[None]:
    """Tells when a part of the run begins and ends."""
    started = time.monotonic()
    emit(event("stage", name=name, state="start"))
    yield
    emit(event("stage", name=name, state="end", seconds=round(time.monotonic() - started, 2)))


def pack_ticker(emit: Emit) -> Callable[[str, int, int], None]:
    """What tells of packing, twice a second."""
    started: dict[str, tuple[float, int]] = {}
    last = 0.0

    def tick(split: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if split not in started:  # the first image, or those of a builder that was killed, start the clock
            started[split], last = (now, done), now
            return
        if now - last >= 0.5 or done == total:
            last = now
            begun, before = started[split]
            speed = (done - before) / max(now - begun, 1e-9)
            emit(event("pack", split=split, done=done, total=total, images_per_s=round(speed, 1)))

    return tick
