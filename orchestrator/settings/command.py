"""The command that launches, or finds again, exactly the ensemble that a request describes."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from muster.orchestrator.settings.request import LaunchRequest, load

#: Fields with a flag of their own; any other that differs from its default is set by name.
FLAGS = {
    "data.dataset": "--dataset",
    "data.root": "--data-root",
    "data.train_classes": "--train-classes",
    "data.val_classes": "--val-classes",
    "ensemble.D": "--D",
    "ensemble.L": "--L",
    "ensemble.backbone": "--backbone",
    "ensemble.seed": "--seed",
    "ensemble.weights": "--weights",
    "recipe.epochs": "--epochs",
    "baseline.loss": "--loss",
}


def launch_command(request: LaunchRequest) -> str:
    """`muster launch ...` as a shell takes it; what the defaults give is left out."""
    given: dict[str, Any] = {
        "data.dataset": request.data.dataset,
        "data.root": request.data.root,
        "ensemble.D": request.ensemble.D,
        "ensemble.L": request.ensemble.L,
        "ensemble.backbone": request.ensemble.backbone,
        "recipe.epochs": getattr(request.recipe, "epochs", None),
        "baseline.loss": request.baseline.loss if request.baseline else None,
    }
    alone = request.method != "dreml"  # one model: its dimension follows from its own settings
    if alone:
        given |= {"ensemble.D": None, "ensemble.L": None}
    given = {name: value for name, value in given.items() if value is not None}
    default = load(None, {**given, "method": request.method, "preset": request.preset}, [])
    words = ["muster", "launch", request.method]
    for name, value in given.items():
        words += [FLAGS[name], str(value)]
    words += ["--preset", request.preset]
    if request.combine != default.combine:
        words += ["--combine", request.combine]
    parts = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    for section, wanted in parts.items():
        if section == "resources" or not dataclasses.is_dataclass(wanted):
            continue
        there = getattr(default, section)
        for field in dataclasses.fields(wanted):
            value, name = getattr(wanted, field.name), f"{section}.{field.name}"
            if value == getattr(there, field.name) or (alone and name == "ensemble.D"):
                continue
            flag = FLAGS.get(name)
            words += [flag, str(value)] if flag else ["--set", f"{name}={_toml(value)}"]
    return shlex.join([*words, "--storage", request.storage])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
