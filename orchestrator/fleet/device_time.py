"""Time on devices: what members take of them, expected and spent, and how it is told.

A member alone on a GPU for an hour takes a device-hour; with half a GPU it takes half of one; a model of four ranks
takes four. Without GPUs the device is a training process's share of a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from muster.orchestrator.settings.resources import Resources
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask


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
