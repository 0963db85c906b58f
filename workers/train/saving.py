"""Checkpoints that are written while the training goes on: one at a time, and of those that wait the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from muster.workers.errors import ToldToEndError
from muster.workers.store.checkpoint import Checkpoint


class Saver:
    """Hands checkpoints to `write`, in a thread of its own. What one write raises, the next call here raises.

    A checkpoint that comes while another is being written waits; a newer one takes its place. Left by an error, as of a
    process that is told to end, it writes what waits; left at the end of a training, whose weights are committed next,
    it does not.
    """

    def __init__(self, write: Callable[[Checkpoint], None]) -> None:
        self.write = write
        self.changed = threading.Condition()
        self.waiting: Checkpoint | None = None
        self.over = False
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def __call__(self, checkpoint: Checkpoint) -> None:
        """One more. Its tensors must be nobody else's. Raises what an earlier write did."""
        with self.changed:
            self._raise()
            self.waiting = checkpoint
            self.changed.notify_all()

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            if error is None:
                self.waiting = None
            self.over = True
            self.changed.notify_all()
        self.thread.join()
        if error is None or isinstance(error, ToldToEndError):  # which says that all is saved
            self._raise()

    def _raise(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _run(self) -> None:
        while (checkpoint := self._next()) is not None:
            try:
                self.write(checkpoint)
            except BaseException as error:  # told to whoever trains
                self.failed = error
                return

    def _next(self) -> Checkpoint | None:
        """The one to write; None once there will be none."""
        with self.changed:
            self.changed.wait_for(lambda: self.over or self.waiting is not None)
            found, self.waiting = self.waiting, None
            return found
