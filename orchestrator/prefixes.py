"""The members and the scores of every trial's ensemble, prefix by prefix: one actor for all trials.

It asks the fleet for members, a few ahead of the prefix that is wanted, and adds each to its trial's running
similarities, so that a prefix costs one member's increment. It holds nothing that the store lacks: if it dies,
Ray starts it again, calls are repeated, and the running sums are made anew from the vectors in the store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import ray

from orchestrator.evaluate import protocol_of
from orchestrator.fleet import Outcome
from orchestrator.search_plan import SearchPlan
from orchestrator.vectors import DamagedMember, member_vectors
from workers.member import MemberTask
from workers.store import Store

MENDINGS = 3
Row = dict[str, Any]


@dataclass
class _Trial:
    """One trial's members in flight and its rows so far."""

    tasks: tuple[MemberTask, ...]
    asked: dict[int, asyncio.Task[Outcome]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    scorer: Any = None


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Prefixes:
    """See the module. It reserves no CPU: scoring a prefix is short, and a CPU held all along would stand idle."""

    def __init__(self, plan: SearchPlan, rungs: tuple[int, ...], fleet: Any, memory: int) -> None:
        self.plan, self.rungs, self.fleet = plan, rungs, fleet
        self.store = Store(plan.request.storage)
        self.scores = _Scores(self.store, plan, memory)
        self.trials: dict[int, _Trial] = {}
        self.scoring = asyncio.Lock()

    async def prefix(self, number: int, settings: dict[str, Any], L: int) -> Row:
        """The scores of a trial's first L members, once they are there; `ended` says why there are none."""
        trial = self.trials.get(number)
        if trial is None:
            trial = self.trials[number] = _Trial(self.plan.tasks(settings))
        for index in range(1, self.plan.reach(L, self.rungs) + 1):
            if index not in trial.asked:
                trial.asked[index] = asyncio.create_task(self._ask(number, trial.tasks[index - 1]))
        for _ in range(MENDINGS):
            for index in range(1, L + 1):
                outcome = await trial.asked[index]
                if outcome.state not in {"done", "reused"}:
                    return _ended(L, outcome)
            try:
                async with self.scoring:
                    await asyncio.to_thread(self.scores.reach, trial, L)
                return trial.rows[L - 1]
            except DamagedMember as error:
                await self._mend(number, trial, error.key)
        return {
            "L": L - 1,
            "ended": "failed",
            "message": f"vectors were damaged {MENDINGS} times: check the disk",
        }

    async def release(self, number: int) -> None:
        """The trial is over: frees its memory and drops the queued members that it alone waits for."""
        trial = self.trials.get(number)
        if trial is not None:
            self.scores.forget(trial)
        await self.fleet.withdraw.remote(f"trial-{number}")

    async def _ask(self, number: int, task: MemberTask) -> Outcome:
        (outcome,) = await self.fleet.ensure.remote([task], f"trial-{number}", number)
        found: Outcome = outcome
        return found

    async def _mend(self, number: int, trial: _Trial, key: str) -> None:
        """Forgets a member's damaged vectors and has the fleet make them again."""
        task = next(task for task in trial.tasks if task.key == key)
        for target in task.targets:
            await asyncio.to_thread(self.store.model(key).embedding(target.digest).distrust)
        trial.asked[task.spec.index] = asyncio.create_task(self._ask(number, task))


def _ended(L: int, outcome: Outcome) -> Row:
    """The row of a trial that can't go on: its L-th member will not be there."""
    why = "failed" if outcome.state == "failed" else "stopped"
    if outcome.message.startswith("budget"):
        why = "budget"
    return {"L": L - 1, "ended": why, "message": outcome.message}


class _Scores:
    """Running similarities, as many trials' as fit into the memory; a trial that doesn't fit is scored afresh."""

    def __init__(self, store: Store, plan: SearchPlan, memory: int) -> None:
        self.store, self.plan, self.memory = store, plan, memory
        self.target = plan.target(plan.request.search.select_on)
        self.held = 0
        self._protocol: Any = None

    def reach(self, trial: _Trial, L: int) -> None:
        """Adds members to a trial's rows until there are L. Raises DamagedMember."""
        import torch

        torch.set_num_threads(1)  # the training members have the CPUs
        while len(trial.rows) < L:
            trial.rows.append(self._next(trial))

    def forget(self, trial: _Trial) -> None:
        if trial.scorer is not None:
            trial.scorer = None
            self.held -= 1

    def _next(self, trial: _Trial) -> Row:
        from workers.retrieval import prefix_curve

        member = len(trial.rows)
        if trial.scorer is None:
            before = [self._vectors(task) for task in trial.tasks[:member]]
            trial.scorer = self._new_scorer()
            for vectors in before if trial.scorer else ():
                trial.scorer.add(vectors)
        if trial.scorer is not None:
            return row_of(trial.scorer.add(self._vectors(trial.tasks[member])))
        members = [*before, self._vectors(trial.tasks[member])]
        scores = prefix_curve(members, self.protocol, self.plan.ks, map_at_r=True, memory=self.memory)
        return row_of(scores[-1])

    def _new_scorer(self) -> Any:
        """A scorer for one more trial, or None if the memory is taken."""
        from workers.ranking import bytes_per_query
        from workers.retrieval import PrefixScorer

        kept, temporary = bytes_per_query(self.protocol, True)
        need = kept * len(self.protocol.query)
        spare = self.memory - need * (self.held + 1)
        if spare < temporary * 64:
            return None
        self.held += 1
        return PrefixScorer(self.protocol, self.plan.ks, map_at_r=True, memory=need + spare)

    @property
    def protocol(self) -> Any:
        if self._protocol is None:
            self._protocol = protocol_of(self.store, self.target)
        return self._protocol

    def _vectors(self, task: MemberTask) -> Any:
        return member_vectors(self.store, task.key, self.target.digest)


def row_of(score: Any) -> Row:
    """A `PrefixScore` as the row of a trial: shares in 0..1."""
    return {
        "L": score.members,
        **{f"recall_at_{k}": share for k, share in score.recall.items()},
        "map_at_r": score.map_at_r,
        "r_precision": score.r_precision,
        "near_ties": score.near_ties,
        "ended": "",
        "message": "",
    }
