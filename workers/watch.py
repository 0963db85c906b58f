"""Looks at many files, told to whoever shows them: a terminal's bar, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

#: Called with how many there were so far, now and then.
Tell = Callable[[int], None]
#: Called with what is counted ("files seen"); what it gives hears the numbers while it is entered.
Show = Callable[[str], AbstractContextManager[Tell]]


@contextmanager
def _unseen(what: str) -> Iterator[Tell]:
    yield lambda number: None


_show: ContextVar[Show] = ContextVar("show", default=_unseen)


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """While entered, whatever is watched in this context is shown so."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


def watched(what: str) -> AbstractContextManager[Tell]:
    """A look at many things of a kind: while entered, what it gives is called with their number so far."""
    return _show.get()(what)
