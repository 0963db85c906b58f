"""Batches that are made ahead: in order, by threads, into buffers that nobody overwrites too early."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from muster.workers.train import prefetch
from muster.workers.train.prefetch import Buffer, fed
from tests.workers.samples import CPU, small_recipe, small_spec, synthetic_pack, trainer_of

PACK = synthetic_pack()
PART = PACK.index.part()
GPU = torch.device("cuda")


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What CUDA has and a CPU lacks, told in the order in which it is asked for: no GPU is needed to try who waits for
    whom. Memory is pageable."""
    told: list[Any] = []

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking  # or whoever waits would burn a core

        def record(self, stream: object) -> None:
            told.append(("read", self))

        def synchronize(self) -> None:
            told.append(("waited for", self))

    fake = SimpleNamespace(Event=Event, current_stream=lambda device: None)
    monkeypatch.setattr(prefetch.torch, "cuda", fake)
    monkeypatch.setattr(Buffer, "__init__", lambda self, device: _pageable(self))
    return told


def _pageable(buffer: Buffer) -> None:
    buffer.pinned, buffer._images = False, torch.empty(0, dtype=torch.uint8)


def test_batches_are_the_same_from_threads_across_epochs(quick_switches: None) -> None:
    trainer = trainer_of(small_spec(PART, small_recipe(epochs=12)), PACK)
    steps = range(trainer.units * trainer.steps)
    wanted = [trainer.batch(step, Buffer(CPU)) for step in steps]
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda step: trainer.batch(step, Buffer(CPU)), steps))
        for mine, theirs in zip(found, wanted, strict=True):
            assert torch.equal(mine.images(), theirs.images())
            assert torch.equal(mine.labels, theirs.labels)


def test_a_buffer_is_written_again_once_its_batch_was_read(events: list[Any]) -> None:
    made: list[tuple[int, Buffer]] = []
    lock = threading.Lock()

    def make(step: int, buffer: Buffer) -> tuple[int, Buffer]:
        time.sleep(0.001 * (step % 3))
        with lock:
            made.append((step, buffer))
        return step, buffer

    seen = []
    for step, buffer in fed(make, range(3, 40), GPU):
        # What is at work, and what comes next, is in other memory.
        assert not any(later > step and other is buffer for later, other in made)
        seen.append(step)
    assert seen == list(range(3, 40))
    assert len({id(buffer) for _, buffer in made}) == prefetch.AHEAD
    read = [event for what, event in events if what == "read"]
    waited = [event for what, event in events if what == "waited for"]
    assert len(read) == len(seen)
    assert set(waited) <= set(read)
    assert len(waited) == len(seen) - prefetch.AHEAD
    assert all(events.index(("read", one)) < events.index(("waited for", one)) for one in waited)


def test_an_error_is_raised_at_its_batch_and_ends_the_threads(events: list[Any]) -> None:
    def make(step: int, buffer: Buffer) -> int:
        if step == 5:
            raise ValueError("no such image")
        return step

    batches = fed(make, range(100), GPU)
    assert [next(batches) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="no such image"):
        next(batches)
    before = threading.active_count()
    fed(make, range(3), GPU).close()
    unfinished = fed(make, range(4), GPU)
    next(unfinished)
    unfinished.close()
    assert threading.active_count() <= before


def test_a_cpu_makes_none_ahead_and_has_one_buffer() -> None:
    made: list[Buffer] = []

    def make(step: int, buffer: Buffer) -> int:
        made.append(buffer)
        return step

    for step in fed(make, range(4), CPU):
        assert len(made) == step + 1
    assert len(set(map(id, made))) == 1


def test_a_buffer_grows_and_is_kept() -> None:
    buffer = Buffer(CPU)
    first = buffer.images(2, 8)
    assert first.shape == (2, 8, 8, 3)
    larger = buffer.images(5, 8)
    assert buffer.images(3, 8).data_ptr() == larger.data_ptr() != first.data_ptr()


@pytest.mark.parametrize("place", [(-3, -3), (12, 12), (-3, 12), (100, 0), (-100, 4), (0, 0), (5, -2)])
def test_crops_into_used_memory_are_those_into_new(place: tuple[int, int]) -> None:
    import numpy as np

    rows = PART.rows[:4]
    tops, lefts = (np.full(4, at) for at in place)
    used = np.full((4, 16, 16, 3), 77, np.uint8)
    fresh = np.zeros_like(used)
    for target, row in zip(fresh, rows.tolist(), strict=True):
        image = np.pad(PACK.image(row), ((200, 200), (200, 200), (0, 0)))
        target[:] = image[200 + place[0] : 216 + place[0], 200 + place[1] : 216 + place[1]]
    assert (PACK.crops(rows, tops, lefts, 16, used) == fresh).all()
