"""The errors that users see. Each says what is wrong, where, and what to do about it.

The command line prints a `MusterError` as its message alone, without a traceback, and exits with its
`exit_code`. Anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class MusterError(Exception):
    """The work failed for a reason that the message explains."""

    exit_code = 1


class UsageError(MusterError):
    """The request, its input or its configuration is wrong: nothing was started.

    `problems` holds one sentence for each mistake, so that all of them are told at once.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:  # crosses Ray's process borders whole
        return (type(self), (self.problems,))


#: Images that are named of those that can't be read; all are counted.
BAD_SHOWN = 10


class BadImagesError(UsageError):
    """Images that can't be read; by default nothing is trained on what is left."""

    @classmethod
    def of(cls, which: str, bad: Sequence[tuple[str, str]]) -> BadImagesError:
        """One message for all: `which` they are, as in "3 of 24 images of ...", and of the first the name and cause."""
        lines = [f"{which} can't be read:", *(f"  {name}: {cause}" for name, cause in bad[:BAD_SHOWN])]
        lines += [f"  and {len(bad) - BAD_SHOWN} more"] * (len(bad) > BAD_SHOWN)
        return cls(["\n".join([*lines, "Mend or remove them, or go on without them: --skip-bad-images."])])


class StoreError(MusterError):
    """The store can't be read or written."""

    exit_code = 2


class SourceError(StoreError):
    """Data can't be read where they lie; a moment later they may be."""


class DamagedRunError(StoreError):
    """A file of a run's folder is not what it should be. No model is lost by that."""


class ChangedFileError(DamagedRunError):
    """A file of a run's folder is not what the run's record promises; by itself it may look right."""


class CorruptFileError(StoreError):
    """A file's content differs from what its record promises. The key goes back to the fleet."""

    exit_code = 1


class LackingFactError(CorruptFileError, KeyError):
    """A commit record does not say what is asked of it."""

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedMember(CorruptFileError):  # noqa: N818  (names the member, and crosses process borders)
    """A member's vectors are damaged or gone: its key goes back to the fleet."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[1])


class DivergedError(MusterError):
    """The loss became NaN or infinite. Training again would do the same: it is not retried."""


class ToldToEndError(MusterError):
    """The process got SIGTERM, or its machine is taken back. What it did is saved, and goes on elsewhere."""


class DeviceError(MusterError):
    """The GPU of a member failed, or is none that it can use: that is not the member's fault."""


def said(error: BaseException) -> str:
    """What somebody else's code raised, in a line without a full stop. One that ends the process says so."""
    text = str(error).strip().splitlines()
    if isinstance(error, SystemExit):
        return "it ends the process (sys.exit)"
    return f"{type(error).__name__}: {text[0]}".rstrip(".") if text else type(error).__name__


def loss_before(last: float) -> str:
    """What is known of the loss before it diverged, for the message; `last` is NaN where none was finite."""
    if math.isfinite(last):
        return f"the last finite loss seen was {last:.4g}"
    return "no loss before was finite"
