"""A store behind a network is asked again for a while: it may not answer, or have trouble of its own, for a moment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from ftplib import error_perm
from typing import TypeVar

import pyarrow as pa

from muster.workers.errors import MusterError

Found = TypeVar("Found")
#: What pyarrow's own file systems raise.
OF_FILES = (OSError, pa.ArrowException)
#: The variable with the seconds for which it is asked again, and what holds without it.
PATIENCE, SHORT_PATIENCE = "MUSTER_STORE_PATIENCE", 10.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
#: In what object stores answer: they were reached, and will answer the same again.
REFUSAL = re.compile(
    r"ACCESS_DENIED|NO_SUCH|INVALID|MALFORMED|SIGNATURE|EXPIRED|UNAUTHORI|FORBIDDEN|PERMISSION_DENIED|NOT_FOUND"
    r"|HTTP status 4(?!08|29)\d\d",
    re.IGNORECASE,
)


def asked_again(act: Callable[[], Found], raised: tuple[type[Exception], ...]) -> Found:
    """What `act` returns, once it does. Raises what it raised last: a refusal at once, anything else of `raised` when
    patience is at its end."""
    until, wait = time.monotonic() + patience(), FIRST_WAIT
    while True:
        try:
            return act()
        except raised as error:
            if time.monotonic() >= until or not _may_pass(error):
                raise
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def patience() -> float:
    """Seconds. A job has more of them than somebody who waits at a terminal."""
    try:
        return max(0.0, float(os.environ.get(PATIENCE, "")))
    except ValueError:
        return SHORT_PATIENCE


def _may_pass(error: BaseException) -> bool:
    """Whether the answer can be another one a moment later."""
    refusals = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
    others = (
        pa.ArrowInvalid,
        pa.ArrowNotImplementedError,
        error_perm,
        MusterError,
    )  # error_perm: an FTP server's no
    if isinstance(error, (*refusals, *others)):
        return False
    return REFUSAL.search(str(error)) is None
