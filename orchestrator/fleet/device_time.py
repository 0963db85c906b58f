"""Time on devices: what members take of them, expected and spent, and how it is told.

A member alone on a GPU for an hour takes a device-hour; with half a GPU it takes half of one; a model of four ranks
takes four. Without GPUs the device is a training process's share of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muster.orchestrator.settings.resources import Resources


def taken(facts: Mapping[str, Any], resources: Resources) -> float:
    """Device-seconds of training, by a model's commit record. The record does not say which share of a device a
    member had: it is taken to be what `resources` gives one."""
    return float(facts["seconds"]) * int(facts.get("ranks", 1)) * resources.share


def images_per_s(facts: Mapping[str, Any]) -> float:
    """The speed of training, by a model's commit record."""
    return float(facts["images"] * facts["epochs"] / max(facts["seconds"], 1e-9))


def device_time(seconds: float) -> str:
    """Device-seconds, for people."""
    hours = seconds / 3600
    return f"{hours:.1f} device-hours" if hours >= 0.1 else f"{hours * 60:.1f} device-minutes"
