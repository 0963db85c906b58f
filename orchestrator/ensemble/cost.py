"""What training takes of what the store lacks, by what was measured of its like."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from muster.orchestrator.fleet.budget import device_time
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.measured import Measurements, Place
from muster.orchestrator.records.scores import duration
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask


class Expected(NamedTuple):
    """What something takes: the middle of what was measured of its like, the least and the most of it."""

    middle: float
    least: float
    most: float

    def __add__(self, other: Expected) -> Expected:  # type: ignore[override]
        return Expected(*map(sum, zip(self, other, strict=True)))

    def times(self, factor: float) -> Expected:
        return Expected(*(factor * value for value in self))


NOTHING = Expected(0.0, 0.0, 0.0)


class Group(NamedTuple):
    """Members of one kind of training, and what they have in common."""

    tasks: Sequence[MemberTask]
    devices: float
    "That a member takes."
    images: int
    "That they are trained on."
    embedded: int
    "That each embeds."


@dataclass(frozen=True)
class Cost:
    """What members take that are still to be trained."""

    members: int
    "Different ones that are asked for."
    to_train: int
    seconds: Expected | None
    "Of training and embedding them, with starts and checkpoints, all added up; None if it is not known of all of them."
    device_time: Expected | None
    "The same for their shares of devices, in seconds."
    basis: str
    slots: int = 0
    "Members at once; 0: not known."

    @property
    def in_store(self) -> int:
        return self.members - self.to_train

    @property
    def device_seconds(self) -> float | None:
        """The middle of what is expected."""
        return None if self.device_time is None else self.device_time.middle

    @property
    def seconds_each(self) -> float | None:
        """The mean of those to train."""
        return self.seconds.middle / self.to_train if self.seconds and self.to_train else None

    @property
    def clock_seconds(self) -> float | None:
        """From the first start to the last end."""
        if self.seconds is None or not self.slots or not self.to_train:
            return None
        return math.ceil(self.to_train / self.slots) * self.seconds.middle / self.to_train

    @property
    def numbers(self) -> dict[str, float | list[float] | None]:
        """For JSON, in seconds: the middle of what devices are expected to take and, where it is known, its range and
        the time on the clock."""
        known = self.device_time if self.to_train else None
        if known is None:
            return {"device_seconds": None}
        clock = {} if self.clock_seconds is None else {"clock_seconds": round(self.clock_seconds, 2)}
        spread = [round(known.least, 2), round(known.most, 2)]
        return {"device_seconds": round(known.middle, 2), "device_seconds_range": spread, **clock}

    def of(self, members: int) -> Cost:
        """If at most so many of them are trained."""
        if members >= self.to_train:
            return self
        share = members / self.to_train
        return replace(
            self,
            members=self.in_store + members,
            to_train=members,
            seconds=self.seconds and self.seconds.times(share),
            device_time=self.device_time and self.device_time.times(share),
        )

    def sentence(self, what: str, like: str) -> str:
        """The plan in one line: `what` it is of, and of what (`it`) nothing like is in the store if that is so."""
        if not self.to_train:
            return f"{what}: all found in the store, none to train."
        return f"{what}: {self.in_store} in the store, {self.to_train} to train, {self.text(like)}."

    def text(self, like: str) -> str:
        """What training takes and how that is known."""
        if self.device_time is None:
            return f"cost unknown: nothing like {like} in the store"
        clock = self.clock_seconds
        ends = f"{duration(clock)} on the clock with {self.slots} at once, " if clock is not None else ""
        return f"about {spread(self.device_time)}, {ends}{self.basis}"


def spread(expected: Expected) -> str:
    """Device-seconds, for people: from the least to the most, where that shows."""
    least, most = device_time(expected.least), device_time(expected.most)
    if least == most:
        return device_time(expected.middle)
    number, _, unit = least.partition(" ")
    return f"{number if unit == most.partition(' ')[2] else least} to {most}"


def plan_event(cost: Cost, text: str) -> Event:
    """The `plan` event of these members."""
    counts = {"asked": cost.members, "reused": cost.in_store, "to_train": cost.to_train}
    return event("plan", **counts, text=text)


def cost_of(
    groups: Iterable[Group],
    to_train: Collection[str],
    store: Store,
    place: Place | None = None,
    measured: Measurements | None = None,
) -> Cost:
    """The cost of groups of members; one that several groups have counts once. `place` is where they are to be trained,
    if that is known; `measured` is what the store's records say, if they have been read."""
    groups = list(groups)
    keys = {task.key: None for group in groups for task in group.tasks}
    lacking = [key for key in keys if key in to_train]
    if lacking and measured is None:
        measured = Measurements(store, [key for key in keys if key not in to_train], place)
    seconds, device_seconds, known = NOTHING, NOTHING, set[str]()
    used: dict[str, int] = {}
    for group in groups:
        for task in group.tasks:
            if measured is None or task.key not in to_train or task.key in known:
                continue
            alike = measured.like(task.spec, task.ranks)
            if not alike:
                continue
            known.add(task.key)
            used[alike[0].device] = max(used.get(alike[0].device, 0), len(alike))
            took = [one.seconds(task.spec.shown(group.images), group.embedded) for one in alike]
            expected = Expected(statistics.median(took), min(took), max(took))
            seconds += expected
            device_seconds += expected.times(group.devices)
    bases = [f"measured on {count} like member{'s' * (count > 1)} on {name}" for name, count in used.items()]
    whole = len(known) == len(lacking)
    return Cost(
        len(keys),
        len(lacking),
        seconds if whole else None,
        device_seconds if whole else None,
        "; ".join(bases),
        place.slots if place else 0,
    )
