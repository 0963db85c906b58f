"""Members that hang: they raise nothing, so they are known by their silence between two steps of training.

Only steps are timed. A store, a pack, a first step, a checkpoint or an embedding may take as long as it takes: how
long is usual for them nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muster.workers.errors import MusterError

#: So many times the usual time of a step. A team tells of each tenth step alone: ten of silence are usual, thirty not.
HANG_STEPS = 30
#: And at least so long: short steps may wait for minutes where a node swaps or its disk is busy, and go on by
#: themselves. To be wrong costs the steps since the last checkpoint; to wait costs ten minutes of one device.
HANG_SECONDS = 600.0


class HungError(MusterError):
    """A member in training has taken no step for far longer than its steps take."""


@dataclass
class StepWatch:
    """When the last step of one attempt was told of, and how long a step usually takes."""

    last: float | None = None
    "When, by the fleet's clock; None while it does something else than steps."
    usual: float = 0.0
    "Seconds of a step, as the member measured them."

    def follow(self, progress: dict[str, Any], now: float) -> None:
        """Takes what a member tells, and takes out of it what is meant for the watchdog alone."""
        self.usual = progress.pop("step_seconds", 0.0)
        self.last = now if progress.pop("stepping", False) else None

    def silence(self, now: float, least: float = HANG_SECONDS) -> float:
        """For how many seconds it has hung; 0 if it does not."""
        if self.last is None:
            return 0.0
        silent = now - self.last
        return silent if silent >= max(least, HANG_STEPS * self.usual) else 0.0
