"""The methods that there are. This list is the one place where a method is entered."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from muster.workers.methods.base import Method
from muster.workers.spec import ModelSpec

#: Each is a folder here, and one of the same name in `orchestrator/methods`.
NAMES = ("dreml", "bier", "baseline", "distill")


def _found(name: str) -> Method:
    method: Method = importlib.import_module(f"muster.workers.methods.{name}.settings").METHOD
    return method


METHODS: Mapping[str, Method] = {name: _found(name) for name in NAMES}
#: No method that one could ask for: what all of them are compared with.
FLOOR = _found("floor")


def method_of(spec: ModelSpec) -> Method:
    """The method of a model."""
    return FLOOR if spec.method == FLOOR.name else METHODS[spec.method]
