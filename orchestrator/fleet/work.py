"""A member that somebody waits for, and how it ended: what the fleet keeps and what it answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from muster.orchestrator.fleet.failures import Failure, StepWatch
from muster.orchestrator.fleet.places.gpus import Held
from muster.orchestrator.fleet.processes import Former
from muster.workers.methods.registry import method_of
from muster.workers.task import MemberTask

#: Attempts in a row that made no new checkpoint, after which a member is given up.
FUTILE_ATTEMPTS = 3
#: So many attempts in a row may die between the end of an epoch and that of the write of its checkpoint.
MOST_UNSAVED = 6


@dataclass(frozen=True)
class Outcome:
    """How a member ended."""

    key: str
    index: int
    state: str
    "done, reused, failed or dropped."
    attempts: int = 0
    message: str = ""

    @property
    def in_store(self) -> bool:
        """Whether it is there, with all that was wanted of it."""
        return self.state in {"done", "reused"}


@dataclass(eq=False)
class Work:
    """A member that somebody waits for."""

    task: MemberTask
    finished: asyncio.Future[Outcome]
    order: tuple[int, int]
    "Rank, then who came first."
    askers: set[str] = field(default_factory=set)
    "Who waits for it; with none left it need not be started."
    attempts: int = 0
    futile: int = 0
    unsaved: int = 0
    "Attempts in a row that saved nothing new."
    avoid: str = ""
    "The node that the last attempt failed on."
    attempt: str = ""
    process: Any = None
    "Of this attempt."
    node: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    "The last progress that was reported."
    steps: StepWatch = field(default_factory=StepWatch)
    "Of this attempt."
    siblings: bool = False
    "Have others run beside this attempt? Then a kill for memory need not be its fault."
    beside: float = math.inf
    "Beside how many others it may run: fewer, once it was killed for memory."
    held: Held | None = None
    "The GPU of this attempt."
    shared: bool = False
    "Have others been on that GPU during this attempt? Then its memory need not have been too small."
    beside_on_gpu: float = math.inf
    "Beside how many others it may be on a GPU: fewer, once the GPU's memory ran out."
    failed_on: set[str] = field(default_factory=set)
    "The keys of the GPUs that failed it, since it last made a checkpoint."
    told_of_other: bool = False
    "Was it said that another job on the cluster trains it?"
    trains: bool = True
    "Or are only vectors wanted? Those are one process's work."
    quiet: bool = False
    "Is it wanted only as what another member is trained from, or compared with? Then it is none of the run's own."

    def __lt__(self, other: Work) -> bool:
        return (self.task.spec.index, self.order) < (other.task.spec.index, other.order)

    @property
    def ranked(self) -> bool:
        """Do several processes train it together?"""
        return self.trains and method_of(self.task.spec).multi_rank

    def width(self, gpus: float) -> int:
        """How many members' places it takes: a rank has a GPU to itself, or its threads."""
        return self.task.ranks * (int(1 / gpus + 1e-6) if gpus else 1) if self.ranked else 1

    def begin(self, attempt: str) -> None:
        """A new attempt, of which nothing is known yet."""
        self.attempt, self.where, self.node, self.steps = attempt, {}, "", StepWatch()
        self.siblings = self.shared = False
        self.process = None

    def recall(self, former: Iterable[Former]) -> None:
        """Takes account of its attempts that a former process of the scheduler began, the oldest first."""
        for one in former:
            if one.key == self.task.key:
                self.attempts += 1
                if one.memory:
                    self.avoid = one.node
                    self.crowded(one.others)
                    self.futile += not one.others

    def went_on(self, before: tuple[int, int], after: tuple[int, int]) -> bool:
        """Whether an attempt came further than what was saved `before` it: by what is saved `after` it, or by an epoch
        whose checkpoint was still being written. The latter counts a few times only: it has to be trained again."""
        if after > before:
            self.unsaved = 0
            return True
        self.unsaved += 1
        return int(self.where.get("epoch", 0)) > before[0] and self.unsaved <= MOST_UNSAVED

    def crowded(self, others: int) -> None:
        """It was killed for memory, with so many others at work."""
        self.beside = others // 2

    def crowded_gpu(self) -> None:
        """The memory of its GPU ran out, with others on it."""
        assert self.held is not None
        self.beside_on_gpu = (len(self.held.members) - 1) // 2

    def eased(self) -> bool:
        """The memory of its GPU ran out: its images stay on the host from now on. Whether that is something new."""
        may_be_there = self.task.input == "auto"
        if may_be_there:
            self.task = replace(self.task, input="host")
        return may_be_there and self.trains

    def given_up(self, failure: Failure, log: bytes | None = None) -> str:
        """The member, its node, its step, the cause and the log's tail, and what to do."""
        where = f", {self.place}" if self.place else ""
        lines = [
            f"member {self.task.spec.index} (key {self.task.key}): {failure.cause}",
            f"    given up after {self.attempts} attempt(s), the last on {self.host}{where}"
            + ("; the end of its log:" if log else ""),
        ]
        lines += [f"    {line}" for line in (log or b"").decode(errors="replace").splitlines()[-8:]]
        return "\n".join([*lines, f"    {failure.cure}"])

    @property
    def host(self) -> str:
        """The node of the attempt, and its GPU, for people."""
        host = str(self.where.get("node", "no node"))
        return f"{host}, GPU {self.held.gpu.visible}" if self.held is not None else host

    @property
    def place(self) -> str:
        """How far it was when it last said so, for people; "" if it had taken no step."""
        if "step" not in self.where:
            return ""
        return f"epoch {self.where['epoch'] + 1}, step {self.where['step']} of {self.where['steps']}"
