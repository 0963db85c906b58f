"""Lines for people: what went wrong and what goes on, to standard error; a plain answer, to standard output."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from muster.cluster.text import printable
from muster.orchestrator.console.screen import err
from muster.orchestrator.console.tables import show_document


def refuse(problems: Sequence[str], exit_code: int, as_json: bool) -> None:
    """Tells why a command ends, a line for each problem; with `as_json` as the document, too."""
    for problem in problems:
        tell(f"muster: {problem}")
    if as_json:
        show_document({"state": "failed", "exit_code": exit_code, "message": "\n".join(problems)})


def tell(text: str) -> None:
    err.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line on standard output."""
    typer.echo(printable(text))
