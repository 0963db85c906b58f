"""The methods' faces to the command line, for every method that `workers/methods/registry.py` has."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from muster.orchestrator.methods.base import Frontend
from muster.workers.methods.registry import NAMES


def _found(name: str) -> Frontend:
    frontend: Frontend = importlib.import_module(f"muster.orchestrator.methods.{name}.frontend").FRONTEND
    return frontend


FRONTENDS: Mapping[str, Frontend] = {name: _found(name) for name in NAMES}
