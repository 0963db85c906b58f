"""The exit codes of all commands, as docs/operations.md has them; 2, wrong use, is UsageError's own."""

from __future__ import annotations


class Detached(Exception):  # noqa: N818  (no error: the job goes on)
    """The terminal was left, and has been told how to go on: the command ends with EXIT_INTERRUPTED."""


EXIT_FAILED = 1
EXIT_PARTIAL = 3
"K of L members are done."
EXIT_INTERRUPTED = 130
"Interrupted, detached, or ended by `muster stop --now` or a node that shuts down."
