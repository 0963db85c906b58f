"""All that the fleet's scheduler knows of a cluster: `actors/` has Ray's, and the tests have one that plays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from muster.orchestrator.fleet.places.gpus import Gpu
from muster.orchestrator.fleet.places.nodes import Resources
from muster.workers.task import MemberTask


@dataclass(frozen=True)
class Former:
    """An attempt that ended because its scheduler's own process did, which was then started again."""

    key: str
    node: str
    others: int
    "How many ended with it."
    memory: bool
    "Was it the memory of the node where both were?"


class Processes(Protocol):
    """All that the scheduler asks of a cluster. Its methods may block, but for `run`."""

    def nodes(self) -> Resources:
        """The nodes that are alive."""

    def free(self) -> Resources:
        """What nobody has of them, as of a moment ago."""

    def leaving(self) -> Collection[str]:
        """Those of them that are soon taken away: what runs there had better save, and go elsewhere."""

    def former(self) -> Sequence[Former]:
        """What ran when a process of this scheduler died, before it was started again."""

    def remember_stop(self) -> None:
        """Nothing more is to be started, also not by a further process of this scheduler."""

    def stopped(self) -> bool:
        """Whether a former process of this scheduler was told so."""

    def hire(self, task: MemberTask, *, ranked: bool, avoided: Sequence[str], node: str = "") -> Any:
        """A process for one attempt, on none of the nodes `avoided`, or on this `node`; None if another job has one for
        this key."""

    def prepare(self, process: Any, task: MemberTask) -> None:
        """Has a process read its code and its pictures before its turn; nobody waits for it."""

    async def lives(self, process: Any) -> bool:
        """Whether a process that was hired before is still there."""

    async def run(self, process: Any, task: MemberTask, attempt: str, gpu: Gpu | None = None) -> None:
        """The whole attempt, on this GPU. Raises what the member raises, or what became of its process."""

    def kill(self, process: Any) -> None:
        """Ends a process, if it has not ended, and frees its name and its share of the device."""

    def hold(self, node: str, members: int, avoided: Sequence[str] = ()) -> Any:
        """A process that holds a GPU of this node ("": of any but those avoided), with the CPUs of so many members,
        once it gets one."""

    async def card(self, holder: Any) -> Gpu:
        """The GPU that it holds; waits for it."""

    async def ended(self, holder: Any) -> None:
        """Waits until it holds nothing any more: it was killed, or its node is gone."""

    async def probe(self, gpu: Gpu, *, alone: bool) -> str:
        """Has a process of its own compute on a GPU: what is wrong with it, or "". `alone`: nobody should be on it."""
