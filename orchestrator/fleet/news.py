"""What a fleet says, kept for whoever asks: its events, numbered from the first."""

from __future__ import annotations

import asyncio
import contextlib

from muster.orchestrator.records.events import Event
from muster.workers.store.layout import new_attempt_id

#: How long a poll waits for news.
POLL_SECONDS = 0.5
#: Of events so many are kept for whoever polls; of more the older half goes.
KEPT_EVENTS = 20_000


class News:
    """The events of one process of a fleet."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.first = 0
        "The number of the oldest that is kept."
        self.generation = new_attempt_id()
        "Of another process of the same fleet it is another, and numbers begin anew."
        self.said = asyncio.Event()

    def say(self, item: Event) -> None:
        """One more."""
        self.events.append(item)
        self.said.set()
        if len(self.events) > KEPT_EVENTS:
            dropped = len(self.events) // 2
            self.events, self.first = self.events[dropped:], self.first + dropped

    async def poll(self, generation: str, since: int, wait: bool) -> tuple[str, int, list[Event]]:
        """The generation, the number of the next event, and all after `since` of this `generation`; with `wait`, waits
        a moment if there are none."""
        if wait and generation == self.generation and self.first + len(self.events) <= since:
            self.said.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self.said.wait()
        start = max(0, since - self.first) if generation == self.generation else 0
        return self.generation, self.first + len(self.events), self.events[start:]
