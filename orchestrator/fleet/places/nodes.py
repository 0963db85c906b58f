"""What fits on which nodes, on which of them members fail again and again, and where a member had better not go.

It knows no Ray: nodes are ids, with what each has.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

#: Futile attempts in a row on one node, of any members, after which it gets no more for a while.
STRIKES = 3
QUARANTINE_SECONDS = 600.0

#: The nodes that are alive, by id, and how much each has of "CPU", "GPU" and the like.
Resources = Mapping[str, Mapping[str, float]]


def room_of(nodes: Resources, gpus: float, threads: int) -> dict[str, int]:
    """How many members fit on each node: by their share of a GPU and a CPU each, or without GPUs by their threads."""
    if gpus:
        return {node: gpus_of(has) * on_each_gpu(has, gpus) for node, has in nodes.items()}
    return {node: int(has.get("CPU", 0) // threads) for node, has in nodes.items()}


def gpus_of(has: Mapping[str, float]) -> int:
    """How many of a node's GPUs members can use: each needs a CPU too."""
    return int(min(has.get("GPU", 0), has.get("CPU", 0)))


def on_each_gpu(has: Mapping[str, float], share: float) -> int:
    """How many members share a GPU of a node: no more than shares of one, which no two GPUs can give together, nor
    than CPUs for each GPU."""
    return min(int(1 / share + 1e-6), int(has.get("CPU", 0) // max(1, gpus_of(has))))


class Nodes:
    """What has been seen of the nodes so far, by their ids; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.strikes: Counter[str] = Counter()
        self.quarantined: dict[str, float] = {}

    def strike(self, node: str) -> str:
        """An attempt on this node was futile. What to say where that was one too many, else ""."""
        if not node:
            return ""
        self.strikes[node] += 1
        if self.strikes[node] < STRIKES:
            return ""
        self.quarantined[node] = self.clock() + QUARANTINE_SECONDS
        self.forgive(node)
        return (
            f"node {node[:12]} failed {STRIKES} times in a row: it gets no members for "
            f"{QUARANTINE_SECONDS / 60:.0f} minutes"
        )

    def forgive(self, node: str) -> None:
        """A member was finished on this node."""
        self.strikes.pop(node, None)

    def avoided(self, last: str, room: Mapping[str, int], width: int = 1) -> list[str]:
        """Where a member had better not go that failed on `last`, as long as the others have room for it.

        `room` is how many members each node holds, `width` how many of those places this one takes.
        """
        now = self.clock()
        self.quarantined = {node: until for node, until in self.quarantined.items() if until > now}
        for bad in ({last, *self.quarantined}, {last}):
            if sum(places for node, places in room.items() if node not in bad) >= width:
                return sorted(bad & room.keys())
        return []
