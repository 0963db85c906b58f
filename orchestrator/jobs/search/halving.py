"""Synchronous successive halving over trials whose time is L, the number of members.

Every trial reaches a rung before any is cut there, so the verdicts are a function of results and of the
trials' order, never of who came first. It decides and knows no Ray: `schedulers` lets Tune act on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

#: At a rung one trial in so many goes on, unless a search says otherwise.
REDUCTION = 2


@dataclass(frozen=True)
class Schedule:
    """At which L trials are compared, and how many go on from there if all are still in the race."""

    trials: int
    last: int
    "The L of the largest ensemble."
    rungs: tuple[int, ...] = ()
    keeps: tuple[int, ...] = ()
    reduction: int = REDUCTION

    @property
    def members(self) -> int:
        """What it trains if no trial ends early and none shares a member with another."""
        total, before, trials = 0, 0, self.trials
        for rung, kept in zip((*self.rungs, self.last), (*self.keeps, 0), strict=True):
            total += trials * (rung - before)
            before, trials = rung, kept
        return total

    @property
    def thrifty(self) -> bool:
        """Does it train at most half of the grid's members?"""
        return 2 * self.members <= self.trials * self.last


def make_schedule(trials: int, first: int, max_L: int, reduction: int | None = None) -> Schedule:
    """Rungs at first, first x reduction, ... below max_L, where one trial in `reduction` goes on (rounded up).

    Without a `reduction` it is 2, and fewer go on where half of the grid's members would not pay for so many.
    Where they would not pay even for one to go on from the first rung, it is 2 after all.
    """
    factor = reduction or REDUCTION
    rungs = []
    rung = first
    while rung < max_L:
        rungs.append(rung)
        rung *= factor
    keeps, left = [], trials
    for _ in rungs:
        left = -(-left // factor)
        keeps.append(left)
    plain = Schedule(trials, max_L, tuple(rungs), tuple(keeps), factor)
    if reduction is not None or not rungs or plain.thrifty:
        return plain
    thrifty = _capped(plain)
    return thrifty if thrifty.thrifty else plain


def rung_for_half(trials: int, max_L: int, reduction: int | None = None) -> Schedule | None:
    """The schedule with the latest first rung that trains at most half of the grid; None if there is none.

    n trials to L = r, and one of them to L_max, are n r + L_max - r members; so r can be at most
    L_max (n - 2) / (2 (n - 1)): no rung saves half of a search with two trials.
    """
    schedules = (make_schedule(trials, first, max_L, reduction) for first in range(max_L - 1, 0, -1))
    return next((found for found in schedules if found.thrifty), None)


def _capped(plain: Schedule) -> Schedule:
    """The same rungs; at each as many go on as half of the grid pays for, if only one goes on from the next."""
    ends = (*plain.rungs[1:], plain.last)
    keeps: list[int] = []
    spare = plain.trials * plain.last // 2 - plain.trials * plain.rungs[0]
    left = plain.trials
    for rung, end in zip(plain.rungs, ends, strict=True):
        most = (spare - (plain.last - end)) // (end - rung)
        left = max(1, min(-(-left // plain.reduction), most))
        spare -= left * (end - rung)
        keeps.append(left)
    return replace(plain, keeps=tuple(keeps))


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
    schedule: Schedule
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.active = set(self.trials)
        self.waiting: dict[int, float] = {}

    @property
    def rung(self) -> int | None:
        """The rung that is decided next; None when all are."""
        rungs = self.schedule.rungs
        return rungs[len(self.verdicts)] if len(self.verdicts) < len(rungs) else None

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
        # Fewer than planned may be in the race: some failed, or came to a plateau.
        kept = min(self.schedule.keeps[len(self.verdicts)], -(-len(order) // self.schedule.reduction))
        verdict = Verdict(self.rung, tuple(order[:kept]), tuple(order[kept:]), dict(self.waiting))
        self.verdicts.append(verdict)
        self.active, self.waiting = set(verdict.goes), {}
        return verdict


def flat(values: dict[int, float], size: int, k: int, epsilon: float) -> bool:
    """Whether the last k of `size` members added less than epsilon to the metric. `values` are by size."""
    return size - k in values and values[size] - values[size - k] < epsilon
