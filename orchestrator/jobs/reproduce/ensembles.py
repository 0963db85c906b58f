"""What a table or a figure asks of the fleet, and what it gets: several launches' worth of models in one job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.orchestrator.settings.request import LaunchRequest

if TYPE_CHECKING:  # they bring torch, which a command line has no time for
    from muster.orchestrator.ensemble.plan import Prepared
    from muster.workers.task import MemberTask, Target


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An ensemble, or one model of another method, that a row or a panel is made of."""

    name: str
    "Unique within the table or figure; for people: `cub200 (R,12,48) seed 0`."
    request: LaunchRequest
    splits: tuple[str, ...] = ()
    'Splits whose vectors are wanted beside test\'s: "train".'
    note: str = ""
    "Must stand on whatever is made of it: that it is a rehearsal."


@dataclass(frozen=True, kw_only=True)
class Got:
    """What became of an ask. Without data there are no members, and `trouble` says why."""

    ask: Ask
    prepared: Prepared | None = None
    asked: tuple[MemberTask, ...] = ()
    members: tuple[MemberTask, ...] = ()
    "The finished ones, in index order."
    metrics: dict[str, Any] | None = None
    "As in a run's metrics.json: `splits` -> split -> `curve`, a row for each L."
    trouble: str = ""

    def target(self, split: str) -> Target:
        """The vectors of a split. Raises KeyError if they were not asked for."""
        found = {target.split: target for task in self.asked for target in task.targets}
        return found[split]
