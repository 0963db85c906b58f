"""Time on devices: what members take of them, how it is told, what a run may spend of it, and whether another fits.

A member alone on a GPU for an hour takes a device-hour; with half a GPU it takes half of one; a model of four ranks
takes four. Without GPUs the device is a training process's share of a node.

What was spent is read from the store alone: a member is this run's own if the attempt that its commit
record names has its log in the run's folder. So a resumed run knows what its earlier attempts cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.settings.resources import Resources
from muster.workers.errors import CorruptFileError
from muster.workers.store.layout import ModelFolder, Store
from muster.workers.task import MemberTask


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

    async def read(self, store: Store, run: str) -> None:
        """Reads what the run spent before, once, where that matters."""
        if self.spent is None and not self.budget.unlimited:
            self.spent = await asyncio.to_thread(trained_seconds, store, run)

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
    """Seconds that a member's training took if it was this attempt that finished it, else None; also of what is not
    trained at all."""
    try:
        done = folder.done()
    except CorruptFileError:  # it is trained anew, and counts then
        return None
    if done is None or done.facts["attempt"] != attempt or not done.facts.get("epochs", 1):
        return None
    return float(done.facts["seconds"])


def taken(store: Store, tasks: Iterable[MemberTask], resources: Resources) -> float:
    """Device-seconds of models, by their records: of training with starts and checkpoints, and of the vectors that the
    tasks ask for. Records don't say which share of a device a member had: it is taken to be what `resources` gives one.

    Raises CorruptFileError.
    """
    total = 0.0
    for task in tasks:
        folder = store.model(task.key)
        done = folder.done()
        if done is None:
            continue
        seconds = float(done.facts["seconds"]) + float(done.facts.get("overhead_seconds", 0.0))
        records = (folder.embedding(target.digest).done() for target in task.targets)
        embedding = sum(float(record.facts.get("seconds", 0.0)) for record in records if record)
        total += seconds * int(done.facts.get("ranks", 1)) + embedding
    return total * resources.share


def images_per_s(facts: Mapping[str, Any]) -> float:
    """The speed of training, by a model's commit record."""
    return float(facts["images"] * facts["epochs"] / max(facts["seconds"], 1e-9))


def device_time(seconds: float) -> str:
    """Device-seconds, for people."""
    if seconds < 60:
        return f"{seconds:.1f} device-seconds"
    return f"{seconds / 60:.1f} device-minutes" if seconds < 360 else f"{seconds / 3600:.1f} device-hours"
