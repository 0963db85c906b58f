"""Synchronous successive halving over trials whose time is L, the number of members.

Every trial reaches a rung before any is cut there, so the verdicts are a function of results and of the
trials' order, never of who came first. It decides and knows no Ray: `schedulers` lets Tune act on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


def rungs_of(first: int, reduction: int, max_L: int) -> tuple[int, ...]:
    """The L at which trials are compared: first, first x reduction, ... below max_L."""
    found = []
    rung = first
    while rung < max_L:
        found.append(rung)
        rung *= reduction
    return tuple(found)


def schedule_cost(trials: int, rungs: Iterable[int], reduction: int, max_L: int) -> int:
    """The members that halving trains if no trial ends early and none shares a member with another."""
    total, before = 0, 0
    for rung in (*rungs, max_L):
        total += trials * (rung - before)
        before, trials = rung, -(-trials // reduction)
    return total


@dataclass(frozen=True)
class Verdict:
    """What was decided at a rung: the trials that go on and those that end, each best first."""

    rung: int
    goes: tuple[int, ...]
    cut: tuple[int, ...]
    values: dict[int, float]


@dataclass
class Halving:
    """The race: which trials are in it, and what those that reached the next rung had there."""

    trials: Iterable[int]
    rungs: tuple[int, ...]
    reduction: int = 2
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.active = set(self.trials)
        self.waiting: dict[int, float] = {}

    @property
    def rung(self) -> int | None:
        """The rung that is decided next; None when all are."""
        return self.rungs[len(self.verdicts)] if len(self.verdicts) < len(self.rungs) else None

    def waits(self, trial: int, size: int, value: float) -> bool:
        """Notes a result; whether the trial must wait there. What it reported before is replayed freely."""
        if trial not in self.active or size != self.rung:
            return False
        self.waiting[trial] = value
        return True

    def leave(self, trial: int) -> None:
        """The trial ended or failed: nobody waits for it any longer."""
        self.active.discard(trial)
        self.waiting.pop(trial, None)

    def settle(self) -> Verdict | None:
        """The verdict, once every trial that is left has reached the rung. Equal ones: the first trial wins."""
        if self.rung is None or not self.active or self.waiting.keys() != self.active:
            return None
        order = sorted(self.waiting, key=lambda trial: (-self.waiting[trial], trial))
        kept = -(-len(order) // self.reduction)
        verdict = Verdict(self.rung, tuple(order[:kept]), tuple(order[kept:]), dict(self.waiting))
        self.verdicts.append(verdict)
        self.active, self.waiting = set(verdict.goes), {}
        return verdict


def flat(values: dict[int, float], size: int, k: int, epsilon: float) -> bool:
    """Whether the last k of `size` members added less than epsilon to the metric. `values` are by size."""
    return size - k in values and values[size] - values[size - k] < epsilon
