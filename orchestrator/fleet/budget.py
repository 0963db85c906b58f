"""What a run may spend on training, what it has spent, and whether another member still fits.

What was spent is read from the store alone: a member is this run's own if the attempt that its commit
record names has its log in the run's folder. So a resumed run knows what its earlier attempts cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster.workers.errors import CorruptFileError
from muster.workers.store.layout import ModelFolder, Store


@dataclass(frozen=True)
class Budget:
    """The most a run may train; None: as much as it likes."""

    members: int | None = None
    device_seconds: float | None = None
    share: float = 1.0
    "The share of a device that a member takes."
    expected: float | None = None
    "Seconds of a member, until one was measured."

    @property
    def unlimited(self) -> bool:
        return self.members is None and self.device_seconds is None

    def overshoot(self, spent: dict[str, float]) -> str:
        """What was spent beyond the budget, for people; "" if nothing was."""
        found = []
        if self.members is not None and len(spent) > self.members:
            found.append(f"{len(spent) - self.members} members")
        over = sum(spent.values()) * self.share - (self.device_seconds or 0)
        if self.device_seconds is not None and over > 0:
            found.append(f"{over / 3600:.3g} device-hours")
        return " and ".join(found)


@dataclass
class Spending:
    """A budget and what is left of it."""

    budget: Budget
    spent: dict[str, float] | None = None
    "Seconds of each member that the run trained; None until it was read from the store."

    def refusal(self, running: int) -> str:
        """Why no further member may start beside `running` ones, or "". Running ones count at the mean."""
        spent, budget = self.spent or {}, self.budget
        if budget.members is not None and len(spent) + running >= budget.members:
            return f"budget: {len(spent)} of {budget.members} members are trained, {running} are running"
        if budget.device_seconds is None:
            return ""
        total = sum(spent.values())
        mean = total / len(spent) if spent else budget.expected or 0.0
        used = (total + running * mean) * budget.share
        if used >= budget.device_seconds:
            hours = f"{used / 3600:.3g} of {budget.device_seconds / 3600:.3g} device-hours"
            return f"budget: {hours} are spent, with {running} running members at the mean of {mean:.0f} s"
        return ""


def trained_seconds(store: Store, run: str) -> dict[str, float]:
    """Seconds of training of each member that this run itself trained, in any of its attempts, by key."""
    found = {}
    logs = store.files.names(store.run(run) / "logs")
    attempts = [
        (key, attempt) for key, _, attempt in (log.removesuffix(".log").partition("-") for log in logs)
    ]
    for key, attempt in attempts:
        seconds = seconds_of(store.model(key), attempt)
        if seconds is not None:
            found[key] = seconds
    return found


def seconds_of(folder: ModelFolder, attempt: str) -> float | None:
    """Seconds that a member's training took if it was this attempt that finished it, else None."""
    try:
        done = folder.done()
    except CorruptFileError:  # it is trained anew, and counts then
        return None
    return float(done.facts["seconds"]) if done is not None and done.facts["attempt"] == attempt else None
