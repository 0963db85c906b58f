"""What training took of models like those that are planned, out of the records of the newest runs.

It reads and measures nothing itself; `ensemble.cost` makes a plan's cost of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from muster.workers.errors import StoreError
from muster.workers.forms import form
from muster.workers.spec import ModelSpec, content_key
from muster.workers.store.layout import Store
from muster.workers.store.records import parse_json

#: Records that are read for an estimate, and how many of those alike count: the newest.
READ, COUNTED = 60, 12
READERS = 16
#: Settings, of whatever method, that decide how long an image takes.
PACED = frozenset(
    "method backbone precision threads deterministic batch_norm resize crop pad flip rotate batch_size labels images"
    .split()
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where members are to be trained."""

    device: str
    "gpu or cpu."
    slots: int
    "Members at once."
    cards: tuple[str, ...] = ()
    "The kinds of its GPUs, as Ray names them; () if that is not known."

    def has(self, device: str) -> bool:
        """Whether it has a device that a commit record calls so: "NVIDIA H100 80GB HBM3", "cpu (x86_64)"."""
        if device.startswith("cpu") or self.device == "cpu":
            return device.startswith("cpu") and self.device == "cpu"
        return not self.cards or any(card.partition("-")[0] in device for card in self.cards)


@dataclass(frozen=True)
class Measured:
    """What one model took."""

    pace: Mapping[str, Any]
    ranks: int
    train_digest: str
    device: str
    per_image: float
    "Seconds of training for each image shown."
    overhead: float
    "Seconds of its start, its checkpoints and its end."
    per_embedded: float
    "Seconds for each image embedded; 0.0 if that was not recorded."

    def seconds(self, shown: int, embedded: int) -> float:
        """Of a model that is shown and embeds so many images."""
        return self.per_image * shown + self.overhead + self.per_embedded * embedded


class Measurements:
    """The records of a store, newest first, read once."""

    def __init__(self, store: Store, first: Iterable[str] = (), place: Place | None = None) -> None:
        """`first`: keys to be looked at before all others. What other devices than the place's took tells nothing."""
        keys = list(islice(dict.fromkeys([*first, *newest_keys(store)]), READ))
        with ThreadPoolExecutor(READERS) as pool:
            found = [one for one in pool.map(lambda key: _measured(store, key), keys) if one is not None]
        self.found = [one for one in found if place is None or place.has(one.device)]

    def like(self, spec: ModelSpec, ranks: int) -> list[Measured]:
        """Of models alike in pace, all on the newest one's device; of the same images if there are such."""
        pace = _pace(form(spec))
        alike = [one for one in self.found if one.pace == pace and one.ranks == ranks]
        alike = [one for one in alike if one.device == alike[0].device]
        same = [one for one in alike if one.train_digest == spec.train_digest]
        return (same or alike)[:COUNTED]


def newest_keys(store: Store) -> Iterator[str]:
    """Keys of models, those whose training began last first; then those of which no run has a log."""

    def logs_of(run: str) -> list[str]:
        with contextlib.suppress(StoreError):  # another user's own: there are others to measure by
            return store.files.names(store.run(run) / "logs")
        return []

    with ThreadPoolExecutor(READERS) as pool:
        logs = pool.map(logs_of, store.runs())
        attempts = [
            (attempt, key)
            for names in logs
            for key, _, attempt in (name.removesuffix(".log").partition("-") for name in names)
        ]
    yield from (key for _, key in sorted(attempts, reverse=True))
    yield from store.files.names("models")


def _measured(store: Store, key: str) -> Measured | None:
    """What a finished model's records say; None if it is not finished, or if they don't say what it took."""
    folder = store.model(key)
    try:
        done, saved = folder.done(), store.files.find(folder / "spec.json")
        if done is None or saved is None:
            return None
        facts, spec = done.facts, parse_json(saved)
        if content_key({name: value for name, value in spec.items() if name != "key"}) != key:
            return None  # it is not what it was when its key was made of it
        found = Measured(
            pace=_pace(spec),
            ranks=int(facts.get("ranks", 1)),
            train_digest=str(spec["train_digest"]),
            device=str(facts["device"]),
            per_image=float(facts["seconds"]) / (facts["images"] * facts["epochs"]),
            overhead=float(facts.get("overhead_seconds", 0.0)),
            per_embedded=_per_embedded(store, key),
        )
    except (StoreError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return None  # damaged, another user's own, or an older store's: there are others to measure by
    return found if found.device and math.isfinite(found.seconds(1, 1)) else None


def _per_embedded(store: Store, key: str) -> float:
    folder = store.model(key)
    for digest in store.files.names(folder / "embeddings")[:1]:
        done = folder.embedding(digest).done()
        if done is not None and "images_per_s" in done.facts:
            return 1 / float(done.facts["images_per_s"])
    return 0.0


def _pace(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a spec's document that decide how long an image takes, however deep they lie."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, dict):
            found |= _pace(value)
        elif name in PACED:
            found[name] = value
    return found
