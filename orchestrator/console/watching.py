"""A line on the terminal while many files are looked at: how many so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from muster.orchestrator.console.screen import err

#: So many are over before anybody could read of it.
FEW = 20_000
STEP = 1_000


@contextmanager
def number_shown(what: str) -> Iterator[Callable[[int], None]]:
    """While entered, what it gives shows a number of `what` on standard error; nothing for the first thousands."""
    with ExitStack() as line:
        due, update = FEW, None

        def show(number: int) -> None:
            nonlocal due, update
            if number < due:
                return
            if update is None:
                update = line.enter_context(err.status("")).update
            update(f"{number:,} {what}")
            due = number + STEP

        yield show
