"""The members and the scores of every trial's ensemble, prefix by prefix: one actor for all trials.

It asks the fleet for members, a few ahead of the prefix that is wanted, and has each added to its trial's running
similarities. It holds nothing that the store lacks: if it dies, Ray starts it again, calls are repeated, and the
similarities are made anew from the vectors in the store.

The driver starts it, and the fleet grants it nothing: it computes on one CPU thread for a moment between members,
and takes no accelerator, which is what the fleet shares out. Every trial's process imports this module with the
actor's handle; so it imports what needs torch only inside of the actor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from muster.orchestrator.fleet.work import Outcome
    from muster.orchestrator.jobs.search.plan import SearchPlan
    from muster.orchestrator.jobs.search.prefix_scores import Running
    from muster.workers.task import MemberTask

MENDINGS = 3
Row = dict[str, Any]


@dataclass
class _Trial:
    """One trial's rows so far, and its members that were asked for."""

    running: Running
    asked: dict[int, asyncio.Task[Outcome]] = field(default_factory=dict)

    def lacks(self, index: int) -> bool:
        """Must the member be asked for? Also if asking went wrong: a repeated call is a new try."""
        task = self.asked.get(index)
        return task is None or (task.done() and (task.cancelled() or task.exception() is not None))


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
        self.scoring = asyncio.Lock()

    async def prefix(self, number: int, settings: dict[str, Any], L: int) -> Row:
        """The scores of a trial's first L members, once they are there; `ended` says why there are none."""
        from muster.orchestrator.vectors.vectors import DamagedMember

        trial = self._trial(number, settings)
        for index in range(1, self.plan.reach(L, self.rungs) + 1):
            if trial.lacks(index):
                self._ask(number, trial, index)
        for _ in range(MENDINGS):
            for index in range(1, L + 1):
                outcome = await trial.asked[index]
                if outcome.state not in {"done", "reused"}:
                    return _ended(L, outcome)
            try:
                async with self.scoring:
                    return await asyncio.to_thread(self.scores.reach, trial.running, L)
            except DamagedMember as error:
                await self._mend(number, trial, error.key)
        message = f"vectors were damaged {MENDINGS} times: check the disk"
        return {"L": L - 1, "ended": "failed", "message": message}

    async def release(self, number: int) -> None:
        """The trial is over: frees its memory and drops the queued members that it alone waits for."""
        trial = self.trials.get(number)
        if trial is not None:
            async with self.scoring:
                self.scores.forget(trial.running)
        await self.fleet.withdraw.remote(_asker(number))

    def _trial(self, number: int, settings: dict[str, Any]) -> _Trial:
        from muster.orchestrator.jobs.search.prefix_scores import Running

        if number not in self.trials:
            self.trials[number] = _Trial(Running(self.plan.tasks(settings)))
        return self.trials[number]

    def _ask(self, number: int, trial: _Trial, index: int) -> None:
        """Asks the fleet for a member without waiting for it. Of equal indices the first trial's goes first."""
        task = trial.running.tasks[index - 1]
        trial.asked[index] = asyncio.create_task(self._outcome(number, task))

    async def _outcome(self, number: int, task: MemberTask) -> Outcome:
        (outcome,) = await self.fleet.ensure.remote([task], _asker(number), number)
        found: Outcome = outcome
        return found

    async def _mend(self, number: int, trial: _Trial, key: str) -> None:
        """Forgets a member's damaged vectors and has the fleet make them again."""
        task = next(task for task in trial.running.tasks if task.key == key)
        for target in task.targets:
            await asyncio.to_thread(self.store.model(key).embedding(target.digest).distrust)
        self._ask(number, trial, task.spec.index)


def _asker(number: int) -> str:
    """Who waits for a trial's members, as the fleet knows it."""
    return f"trial-{number}"


def _ended(L: int, outcome: Outcome) -> Row:
    """The row of a trial that can't go on: its L-th member will not be there."""
    why = "failed" if outcome.state == "failed" else "stopped"
    if outcome.message.startswith("budget"):
        why = "budget"
    return {"L": L - 1, "ended": why, "message": outcome.message}
