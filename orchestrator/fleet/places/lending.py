"""GPUs that a fleet lends for work that is no member's: scores. Nobody else is on a lent one, and what it fails there
counts against it as with members."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from muster.orchestrator.fleet.places.gpus import Gpu, Held
from muster.orchestrator.fleet.places.holding import Holding

#: For so long a GPU is waited for: other jobs may hold all of them.
LEND_SECONDS = 60.0


class Lending:
    """The loans of one fleet."""

    def __init__(self, holding: Holding | None, changed: Callable[[], None]) -> None:
        """`changed` is called where a GPU is wanted, or comes free."""
        self.holding, self.changed = holding, changed
        self.waiting: dict[str, asyncio.Future[Held]] = {}
        self.lent: dict[str, Held] = {}

    def __len__(self) -> int:
        """How many GPUs are wanted or lent."""
        return len(self.waiting) + len(self.lent)

    async def lend(self) -> tuple[str, Gpu] | None:
        """A GPU and the name of its loan; None where there is none."""
        if self.holding is None:
            return None
        # A name of its own also beside those that a former process of the fleet gave.
        name, found = f"loan {uuid.uuid4().hex}", asyncio.get_running_loop().create_future()
        self.waiting[name] = found
        self.changed()
        await asyncio.wait({found}, timeout=LEND_SECONDS)
        self.waiting.pop(name, None)
        if not found.done():
            self.changed()
            return None
        self.lent[name] = found.result()
        return name, self.lent[name].gpu

    def serve(self) -> None:
        """Gives GPUs on which nobody is to those that wait."""
        for name, found in self.waiting.items():
            if found.done() or self.holding is None:
                continue
            held = self.holding.gpus.place((), (), 0)
            if held is not None:
                held.members[name], held.idle_since = 0, None  # nobody may be beside it
                found.set_result(held)

    def take_back(self, name: str, cause: str, *, done: bool) -> None:
        """A loan is over; `cause`: what the GPU failed with, or ""; `done`: whether the work came to its end."""
        held = self.lent.pop(name, None)
        if held is None or self.holding is None:  # lent by a former process of this fleet
            return
        held.members.pop(name, None)
        if cause:
            self.holding.failed(held, cause)
        elif done:
            held.forgive()
        self.changed()
