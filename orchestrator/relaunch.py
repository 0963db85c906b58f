"""The command that launches, or finds again, exactly the ensemble that a request describes."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from orchestrator.spec import SECTIONS, LaunchRequest, load

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
}


def launch_command(request: LaunchRequest) -> str:
    """`muster launch ...` as a shell takes it; what the defaults give is left out."""
    given: dict[str, Any] = {
        "data.dataset": request.data.dataset,
        "data.root": request.data.root,
        "preset": request.preset,
        "ensemble.D": request.ensemble.D,
        "ensemble.L": request.ensemble.L,
        "ensemble.backbone": request.ensemble.backbone,
        "recipe.epochs": getattr(request.recipe, "epochs", None),
    }
    default = load(None, given, [])
    words = ["muster", "launch", request.method]
    for name in (
        "data.dataset",
        "data.root",
        "ensemble.D",
        "ensemble.L",
        "ensemble.backbone",
        "recipe.epochs",
    ):
        if given[name] is not None:
            words += [FLAGS[name], str(given[name])]
    words += ["--preset", request.preset]
    for section in SECTIONS:
        if section == "resources":
            continue
        wanted, there = getattr(request, section), getattr(default, section)
        for field in dataclasses.fields(wanted):
            value, name = getattr(wanted, field.name), f"{section}.{field.name}"
            if value == getattr(there, field.name):
                continue
            flag = FLAGS.get(name)
            words += [flag, str(value)] if flag else ["--set", f"{name}={_toml(value)}"]
    return shlex.join([*words, "--storage", request.storage])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
