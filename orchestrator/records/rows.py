"""Rows on their way to a table: made by who knows what they mean, drawn by `console`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class PaperTable(NamedTuple):
    """A table of a paper with what was measured, ready to be drawn."""

    blocks: Sequence[dict[str, Any]]
    "One for each data set: title, columns, rows, notes."
    notes: Sequence[str]
    "Below all of them."
