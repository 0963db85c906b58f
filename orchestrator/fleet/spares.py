"""Processes that are started before their members' turn, so that a GPU need not wait for imports and a pack.

One for each node on which the fleet holds GPUs, and more where the node has memory and CPUs for them: members that end
together are then followed together. A spare has read its code and its pictures, sees no GPU, and takes none of the
cluster's CPUs before it is told to train.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from muster.orchestrator.fleet.processes import Processes
from muster.orchestrator.fleet.work import Work

#: A process that was ended frees its name within a moment: how often, and after how many seconds, it is tried again.
TRIES, WAIT_SECONDS = 20, 0.1


class Spares:
    """Those of one fleet, by their members' keys."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.nodes: dict[str, str] = {}
        "Where each is, or is being started."
        self.hired: dict[str, Any] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def look(self, queue: Sequence[Work], nodes: Mapping[str, int], placed: Mapping[str, str]) -> None:
        """Has so many on each of these nodes, for the first members that wait, and none for those that don't. Members
        that got a place just now, by their keys, are about to take theirs: their nodes' next ones come after them."""
        waiting = {work.task.key: work for work in queue if not work.ranked}
        unclaimed = {key: node for key, node in self.nodes.items() if key not in placed}
        for key in [key for key, node in unclaimed.items() if key not in waiting or node not in nodes]:
            self.end(key)
            del unclaimed[key]
        without = (work for key, work in waiting.items() if key not in self.nodes)
        there = Counter(unclaimed.values())
        # Each node's first, then each node's second.
        ready = {node: most for node, most in nodes.items() if node not in placed.values()}
        places = sorted((place, node) for node, most in ready.items() for place in range(there[node], most))
        for (_, node), work in zip(places, without, strict=False):
            self.nodes[work.task.key] = node
            task = asyncio.create_task(self._start(work, node))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _start(self, work: Work, node: str) -> None:
        key = work.task.key
        try:
            process = await self._hire(work, node)
        except Exception:  # it is hired again when it is needed, and what is wrong is told then
            process = None
        if self.nodes.get(key) != node:  # it is not wanted any more
            if process is not None:
                self.processes.kill(process)
        elif process is None:
            del self.nodes[key]
        else:
            self.hired[key] = process
            self.processes.prepare(process, work.task)

    async def take(self, work: Work, node: str) -> Any:
        """The process for a member whose turn it is on this node: its spare, or a new one; None where another job has
        one for this key."""
        key = work.task.key
        there, spare = self.nodes.pop(key, ""), self.hired.pop(key, None)
        if spare is not None and there == node and await self.processes.lives(spare):
            return spare
        if spare is not None:
            self.processes.kill(spare)
        for _ in range(TRIES if there else 1):
            process = await self._hire(work, node)
            if process is not None:
                return process
            await asyncio.sleep(WAIT_SECONDS)
        return None

    async def _hire(self, work: Work, node: str) -> Any:
        return await asyncio.to_thread(self.processes.hire, work.task, ranked=False, avoided=(), node=node)

    def end(self, key: str) -> None:
        """A member needs no process any more."""
        self.nodes.pop(key, None)
        if (process := self.hired.pop(key, None)) is not None:
            self.processes.kill(process)
