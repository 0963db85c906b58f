"""The members and the scores of every trial's ensemble, prefix by prefix: one actor for all trials.

It asks the fleet for members, a few ahead of the prefix that is wanted, and has each added to its trial's running
similarities. It holds nothing that the store lacks: if it dies, Ray starts it again, calls are repeated, and the
similarities are made anew from the vectors in the store.

The driver starts it, and the fleet grants it nothing: it computes on one CPU thread for a moment between members,
and takes no accelerator, which is what the fleet shares out. Every trial's process imports this module with the
actor's handle; so it imports what needs torch only inside of the actor.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from muster.orchestrator.fleet.repair import RepairError, invalidate_vectors, repaired
from muster.workers.errors import DamagedMember

if TYPE_CHECKING:
    from muster.orchestrator.fleet.work import Outcome
    from muster.orchestrator.jobs.search.plan import SearchPlan
    from muster.orchestrator.jobs.search.prefix_scores import Running
    from muster.workers.task import MemberTask

Row = dict[str, Any]
#: The actor's threads. Each trial that runs has one call waiting; far fewer of them run at a time.
CALLS_AT_ONCE = 64


@dataclass
class _Trial:
    """One trial's rows so far, and its members that were asked for."""

    running: Running
    asked: dict[int, Any] = field(default_factory=dict)
    "References to the answers of the fleet, by the member's index."

    def outcome(self, index: int) -> Outcome:
        """How a member ended, once it has."""
        try:
            (found,) = ray.get(self.asked[index])
        except Exception:  # asking went wrong: when the call is repeated, that is a new try
            self.asked.pop(index, None)
            raise
        outcome: Outcome = found
        return outcome


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Prefixes:
    """See the module. It reserves no CPU: scoring a prefix is short, and a CPU held all along would stand idle."""

    def __init__(self, plan: SearchPlan, rungs: tuple[int, ...], fleet: Any, memory: int) -> None:
        from muster.orchestrator.jobs.search.prefix_scores import Scores
        from muster.workers.store.layout import Store

        self.plan, self.rungs, self.fleet = plan, rungs, fleet
        self.store = Store(plan.request.storage)
        self.scores = Scores(self.store, plan, memory)
        self.trials: dict[int, _Trial] = {}
        self.scoring = threading.Lock()

    def prefix(self, number: int, settings: dict[str, Any], L: int) -> Row:
        """The scores of a trial's first L members, once they are there; `ended` says why there are none."""
        trial = self._trial(number, settings)
        for index in range(1, self.plan.reach(L, self.rungs) + 1):
            if index not in trial.asked:
                self._ask(number, trial, trial.running.tasks[index - 1])
        again = functools.partial(self._retrain_damaged, number, trial)
        try:
            return repaired(functools.partial(self._scored, trial, L), again, self.store.root)
        except RepairError as error:
            return {"L": L - 1, "ended": "failed", "message": str(error)}

    def release(self, number: int) -> None:
        """The trial is over: frees its memory and drops the queued members that it alone waits for."""
        trial = self.trials.get(number)
        if trial is not None:
            with self.scoring:
                self.scores.forget(trial.running)
        ray.get(self.fleet.withdraw.remote(_asker(number)))

    def _trial(self, number: int, settings: dict[str, Any]) -> _Trial:
        from muster.orchestrator.jobs.search.prefix_scores import Running

        if number not in self.trials:
            self.trials[number] = _Trial(Running(self.plan.tasks(settings), self.plan.combination(settings)))
        return self.trials[number]

    def _ask(self, number: int, trial: _Trial, task: MemberTask) -> None:
        """Asks the fleet for a member without waiting for it. Of equal indices the first trial's goes first."""
        trial.asked[task.spec.index] = self.fleet.ensure.remote([task], _asker(number), number)

    def _scored(self, trial: _Trial, L: int) -> Row:
        """The row of the first L members, or why there is none. Raises DamagedMember."""
        for index in range(1, L + 1):
            outcome = trial.outcome(index)
            if not outcome.in_store:
                return _ended(L, outcome)
        with self.scoring:
            return self.scores.reach(trial.running, L)

    def _retrain_damaged(self, number: int, trial: _Trial, error: DamagedMember) -> None:
        task = next(task for task in trial.running.tasks if task.key == error.key)
        invalidate_vectors(self.store, task)
        self._ask(number, trial, task)


def _asker(number: int) -> str:
    """Who waits for a trial's members, as the fleet knows it."""
    return f"trial-{number}"


def _ended(L: int, outcome: Outcome) -> Row:
    """The row of a trial that can't go on: its L-th member will not be there."""
    why = "failed" if outcome.state == "failed" else "stopped"
    if outcome.message.startswith("budget"):
        why = "budget"
    return {"L": L - 1, "ended": why, "message": outcome.message}
