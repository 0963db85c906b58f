"""Standard output and standard error, which can be closed, full, or of an encoding that lacks a letter."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from muster.orchestrator.machine.complaints import explained
from muster.workers.errors import UsageError


class AnswerLostError(Exception):
    """Standard output could not be written. No OSError: those that name no file could be anything's."""


class _Answer(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with _lost():
            return super().write(text)

    def flush(self) -> None:
        with _lost():
            super().flush()


class _Messages(io.TextIOWrapper):
    """Where it can't be written there is nobody left to tell: the exit code and the answer still count."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AnswerLostError(error) from error


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Within, an output that was closed goes nowhere, and one that has no letter for a character gets its number.

    Ends the process with exit code 2 where the answer could not be written whole, and with 0 where its reader left,
    as `head` does.
    """
    sys.stdout = _opened(sys.stdout, _Answer)
    sys.stderr = _opened(sys.stderr, _Messages)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except AnswerLostError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try once more when it ends
        cause = error.args[0]
        if isinstance(cause, BrokenPipeError):
            sys.exit(0)
        sys.stderr.write(f"muster: can't write the answer to standard output: {explained(cause)}\n")
        sys.exit(UsageError.exit_code)


def _opened(stream: Any, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    if stream is None:  # closed by the shell: >&-
        return kind(open(os.devnull, "wb"), encoding="utf-8")
    encoding, by_lines = stream.encoding, stream.line_buffering
    return kind(stream.detach(), encoding=encoding, errors="backslashreplace", line_buffering=by_lines)
