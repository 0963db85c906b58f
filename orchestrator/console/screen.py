"""Standard error and standard output as rich draws on them, and text that is fit for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from muster.cluster.text import printable

# Names and paths may hold :words: that rich would draw as pictures.
err = Console(stderr=True, emoji=False)
out = Console(emoji=False)


def shown(value: Any, keep: str = "\n\t") -> Any:
    """A JSON-like value with all of its text fit for a terminal: names of files may hold anything."""
    if isinstance(value, str):
        return printable(value, keep=keep)
    if isinstance(value, Mapping):
        return {shown(key, keep): shown(item, keep) for key, item in value.items()}
    return [shown(item, keep) for item in value] if isinstance(value, list | tuple) else value
