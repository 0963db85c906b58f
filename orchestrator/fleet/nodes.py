"""Nodes on which members fail again and again, and which of them a member had better not go to. It knows no Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

#: Futile attempts in a row on one node, of any members, after which it gets no more for a while.
STRIKES = 3
QUARANTINE_SECONDS = 600.0


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

    def avoided(self, last: str, able: Collection[str]) -> list[str]:
        """Where a member had better not go that failed on `last`, as long as another of those that are `able` to take
        it is left."""
        now = self.clock()
        self.quarantined = {node: until for node, until in self.quarantined.items() if until > now}
        bad = ({last} | set(self.quarantined)) & set(able)
        if set(able) - bad:
            return sorted(bad)
        return [last] if last in able and len(able) > 1 else []
