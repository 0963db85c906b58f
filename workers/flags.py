"""Which settings have a flag on the command line: a field says so itself, and the text below it is the flag's help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flag(name: str = "", *, only: str = "") -> Mapping[str, Any]:
    """The metadata of a field that is a flag: by default `--its-name`.

    `only`: what a method must be able to do to have it, a property of `workers/methods/base.py`'s Method.
    """
    return {"flag": name, "only": only}
