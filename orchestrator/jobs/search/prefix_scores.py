"""Running similarities of many trials' ensembles, so that a prefix's scores cost one member's increment.

It works inside the `Prefixes` actor and is a module of its own because it needs torch: whoever holds a handle of
an actor imports the actor's module, and a trial's process must stay small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from muster.orchestrator.jobs.search.plan import SearchPlan
from muster.orchestrator.vectors.evaluate import protocol_of
from muster.orchestrator.vectors.vectors import member_vectors
from muster.workers.score.combine import Combination
from muster.workers.score.protocol import Protocol
from muster.workers.score.ranking import PrefixScore, bytes_per_query
from muster.workers.score.retrieval import PrefixScorer, prefix_curve
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask, Target

Row = dict[str, Any]
#: A scorer works through the queries in blocks; with room for fewer at once it would crawl.
LEAST_QUERIES = 64


@dataclass
class Running:
    """One trial's members, the rows of the prefixes scored so far, and their similarities where they are kept."""

    tasks: tuple[MemberTask, ...]
    combination: Combination | None
    "How the learners of each are combined, where it has some."
    rows: list[Row] = field(default_factory=list)
    scorer: PrefixScorer | None = None


class Scores:
    """Keeps as many trials' similarities as fit into `memory` bytes; a trial that doesn't fit is scored afresh."""

    def __init__(self, store: Store, plan: SearchPlan, memory: int) -> None:
        self.store, self.plan, self.memory = store, plan, memory
        self.split = plan.request.search.select_on
        self.held = 0
        self._protocol: Protocol | None = None

    def reach(self, trial: Running, L: int) -> Row:
        """The row of a trial's first L members, which the store must have. Raises DamagedMember."""
        torch.set_num_threads(1)  # the training members have the CPUs
        while len(trial.rows) < L:
            trial.rows.append(self._next(trial))
        return trial.rows[L - 1]

    def forget(self, trial: Running) -> None:
        """Frees a trial's memory; its rows stay."""
        if trial.scorer is not None:
            trial.scorer = None
            self.held -= 1

    def _next(self, trial: Running) -> Row:
        member = len(trial.rows)
        if trial.scorer is None:
            before = [self._vectors(trial, n) for n in range(member)]
            trial.scorer = self._new_scorer(trial)
            if trial.scorer is None:
                members = [*before, self._vectors(trial, member)]
                scores = prefix_curve(
                    members, self.protocol(trial), self.plan.ks, map_at_r=True, memory=self.memory
                )
                return _row(scores[-1])
            for vectors in before:
                trial.scorer.add(vectors)
        return _row(trial.scorer.add(self._vectors(trial, member)))

    def _new_scorer(self, trial: Running) -> PrefixScorer | None:
        """A scorer for one more trial, or None if the memory is taken."""
        protocol = self.protocol(trial)
        kept, temporary = bytes_per_query(protocol, True)
        need = kept * len(protocol.query)
        spare = self.memory - need * (self.held + 1)
        if spare < temporary * LEAST_QUERIES:
            return None
        self.held += 1
        return PrefixScorer(protocol, self.plan.ks, map_at_r=True, memory=need + spare)

    def protocol(self, trial: Running) -> Protocol:
        """Who is compared with whom: the same in all trials, however they see the images."""
        if self._protocol is None:
            self._protocol = protocol_of(self.store, self._target(trial))
        return self._protocol

    def _vectors(self, trial: Running, member: int) -> np.ndarray:
        key, digest = trial.tasks[member].key, self._target(trial).digest
        return member_vectors(self.store, key, digest, combination=trial.combination)

    def _target(self, trial: Running) -> Target:
        return next(target for target in trial.tasks[0].targets if target.split == self.split)


def _row(score: PrefixScore) -> Row:
    """A score as the row of a trial: shares in 0..1."""
    return {**score.full_row, "ended": "", "message": ""}
