"""A member that somebody waits for, and how it ended: what the fleet keeps and what it answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from muster.workers.task import MemberTask


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
    avoid: str = ""
    "The node that the last attempt failed on."
    attempt: str = ""
    node: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    "The last progress that was reported."
    siblings: bool = False
    "Were others running when it started? Then a kill for memory need not be its fault."
    trains: bool = True
    "Or are only vectors wanted? Those are one process's work."
    quiet: bool = False
    "Is it wanted only as what another member is trained from? Then it is none of the run's own."

    def __lt__(self, other: Work) -> bool:
        return (self.task.spec.index, self.order) < (other.task.spec.index, other.order)
