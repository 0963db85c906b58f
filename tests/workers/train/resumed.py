"""Killed or told to end, and resumed, is the same as never interrupted: what every method is held to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import torch

from muster.workers.errors import ToldToEndError
from muster.workers.store.checkpoint import Checkpoint
from tests.workers.samples import same_tensors


def told_after(steps: int) -> Callable[[], bool]:
    """Whether a process is told to end: from so many steps on."""
    taken = itertools.count(1)
    return lambda: next(taken) >= steps


def same_when_resumed(train: Callable[..., Checkpoint]) -> tuple[Checkpoint, list[bytes]]:
    """Trains straight through; from each of its checkpoints as bytes, in the state of a new process; and in processes
    of which each is told to end after a step. Returns the last state and the checkpoints of the first.

    `train` takes what `loop.train` takes beside the trainer.
    """
    saved: list[bytes] = []
    straight = train(save=lambda state: saved.append(state.to_bytes()))
    for number, data in enumerate(saved, start=1):
        torch.manual_seed(number)
        resumed = train(resume=Checkpoint.from_bytes(data))
        _same(resumed, straight)
    assert resumed.to_bytes() == saved[-1]
    _same(_in_many_processes(train), straight)
    return straight, saved


def _in_many_processes(train: Callable[..., Checkpoint]) -> Checkpoint:
    """The last state of as many processes as it takes, of which each is told to end at once."""
    saved: list[bytes] = []
    for number in itertools.count():
        torch.manual_seed(number)
        resume = Checkpoint.from_bytes(saved[-1]) if saved else None
        with contextlib.suppress(ToldToEndError):
            return train(
                resume=resume, save=lambda state: saved.append(state.to_bytes()), told_to_end=told_after(1)
            )
        assert len(saved) == number + 1
    raise AssertionError


def _same(one: Checkpoint, other: Checkpoint) -> None:
    for part in ("model", "optimizer", "best"):
        assert same_tensors(getattr(one, part), getattr(other, part)), part
    assert _timeless(one) == _timeless(other)


def _timeless(state: Checkpoint) -> list[str]:
    """Its history, but for how long it took; as text, in which NaN equals itself."""
    return [
        str({name: value for name, value in row.items() if name not in ("seconds", "images_per_s", "ended")})
        for row in state.history
    ]
