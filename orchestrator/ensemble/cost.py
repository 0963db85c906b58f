"""What training takes of what the store lacks, by what was measured of its like."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from muster.orchestrator.fleet.device_time import device_time
from muster.orchestrator.records.events import Event, event
from muster.workers.errors import StoreError
from muster.workers.spec import ModelSpec
from muster.workers.store.layout import Done, Store, parse_json
from muster.workers.task import MemberTask

SAMPLED_MODELS = 40


@dataclass(frozen=True)
class Cost:
    """What members take that are still to be trained."""

    members: int
    "Different ones that are asked for."
    to_train: int
    seconds: float | None
    "Of training them, all added up; None if it is not known of all of them."
    device_seconds: float | None
    "The same for their shares of devices."
    basis: str

    @property
    def in_store(self) -> int:
        return self.members - self.to_train

    @property
    def seconds_each(self) -> float | None:
        """The mean of those to train."""
        return self.seconds / self.to_train if self.seconds and self.to_train else None

    def device_seconds_of(self, members: int) -> float | None:
        """Expected if at most so many of them are trained."""
        if self.device_seconds is None or not self.to_train:
            return None
        return self.device_seconds * min(1.0, members / self.to_train)

    def sentence(self, what: str, like: str) -> str:
        """The plan in one line: `what` it is of, and of what (`it`) nothing like is in the store if that is so."""
        if not self.to_train:
            return f"{what}: all found in the store, none to train."
        counts = f"{self.in_store} in the store, {self.to_train} to train"
        return f"{what}: {counts}, {cost_text(self.device_seconds, self.basis, like)}."


def plan_event(cost: Cost, text: str) -> Event:
    """The `plan` event of these members."""
    counts = {"asked": cost.members, "reused": cost.in_store, "to_train": cost.to_train}
    return event("plan", **counts, text=text)


def cost_text(device_seconds: float | None, basis: str, like: str) -> str:
    """What training takes and how that is known."""
    if device_seconds is None:
        return f"cost unknown: nothing like {like} in the store"
    return f"about {device_time(device_seconds)}, {basis}"


def cost_of(
    groups: Iterable[tuple[Sequence[MemberTask], float]], to_train: Collection[str], store: Store
) -> Cost:
    """The cost of groups of members that are alike, each with the devices that a member takes. A member that several
    groups have counts once."""
    keys: set[str] = set()
    seconds: dict[str, float] = {}
    device_seconds: dict[str, float] = {}
    bases: list[str] = []
    for tasks, devices in groups:
        mine = [task.key for task in tasks if task.key in to_train and task.key not in seconds]
        keys |= {task.key for task in tasks}
        each, basis = expected_seconds(store, tasks, to_train) if mine else (None, "")
        if each is not None:
            seconds |= dict.fromkeys(mine, each)
            device_seconds |= dict.fromkeys(mine, each * devices)
            bases.append(basis)
    lacking = len(keys.intersection(to_train))
    known = len(seconds) == lacking
    return Cost(
        len(keys),
        lacking,
        sum(seconds.values()) if known else None,
        sum(device_seconds.values()) if known else None,
        "; ".join(dict.fromkeys(bases)),
    )


def expected_seconds(
    store: Store, tasks: Sequence[MemberTask], to_train: Collection[str]
) -> tuple[float | None, str]:
    """Mean seconds of a member like these, and where that is from: the finished ones, else others in the store."""
    mine = [done for task in tasks if task.key not in to_train and (done := store.model(task.key).done())]
    if mine:
        mean = float(np.mean([done.facts["seconds"] for done in mine]))
        return mean, f"measured on {len(mine)} of its members on {mine[0].facts['device']}"
    for key in store.files.names("models")[:SAMPLED_MODELS]:
        spec = tasks[0].spec
        try:
            done = store.model(key).done()
            alike = done is not None and _alike(store, key, spec)
        except StoreError:  # damaged, or another user's own: there are others to measure by
            continue
        if done is not None and alike and (expected := _expected_like(done, spec)) is not None:
            return expected, _measured_on(done)
    return None, ""


def _expected_like(done: Done, spec: ModelSpec) -> float | None:
    """Seconds of a model like one that is finished; None if its record does not say what it took."""
    facts = done.facts
    try:
        each = float(facts["seconds"]) / (facts["images"] * facts["epochs"])
        expected = each * spec.shown(facts["images"])
        return expected if math.isfinite(expected) and facts["device"] else None
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _alike(store: Store, key: str, spec: ModelSpec) -> bool:
    found = store.files.find(store.model(key) / "spec.json")
    if found is None:
        return False
    same = ("method", "backbone", "train_digest", "precision", "threads")
    try:
        other = parse_json(found)
        return (
            all(other[name] == getattr(spec, name) for name in same) and other["recipe"]["crop"] == spec.crop
        )
    except (ValueError, KeyError, TypeError):  # damaged: there are others to measure by
        return False


def _measured_on(done: Done) -> str:
    return f"measured on a like member on {done.facts['device']}"
