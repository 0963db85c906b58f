"""Where packs are made before they are committed: folders beside the store's packs, or in this node's cache.

A builder that dies leaves its folder behind, and the next builder of the same pack goes on with it. Builders
share a lock, which the system frees when a process ends; what nobody goes on with is swept in time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from muster.workers.errors import UsageError
from muster.workers.packs.cache import cache_folder
from muster.workers.store.layout import Store

SCRATCH = "muster-pack-"
PART = "muster-part-"
DAY = 24 * 3600
WEEK = 7 * DAY


@contextlib.contextmanager
def workshop(store: Store, source: str) -> Iterator[Path]:
    """The folder to make the pack of `source` in: with what a builder of it left that was killed or interrupted.

    A request that can't be met empties it, since the next attempt has other files or another request. After any other
    error the next builder goes on. While another builder makes the very same pack, it is a scratch folder that nobody
    goes on with.
    """
    with scratch_folder(store) as scratch:
        folder = scratch.parent / f"{PART}{source}"
        with contextlib.ExitStack() as stack:
            if not _own(folder, stack):
                yield scratch
                return
            try:
                yield folder
            except UsageError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)


def _own(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Makes a folder this builder's own; False if it is another's, or was removed by one that has just ended."""
    try:
        folder.mkdir(exist_ok=True)
        lock = stack.enter_context((folder / "lock").open("a"))
        return (
            _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            and os.fstat(lock.fileno()).st_ino == (folder / "lock").stat().st_ino
        )
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def scratch_folder(store: Store) -> Iterator[Path]:
    """A folder on the store's own disk if it is local, else in this node's cache; gone afterwards.

    What killed builders left is removed first. Whoever has the shared lock alone knows that no other builder is
    alive on this host; what other hosts left goes after a day without a write.
    """
    local = store.files.local_root
    parent = cache_folder() / "packing" if local is None else local / "packs"
    if local is not None:
        store.files.check_writable()  # says in the store's words what is wrong
    parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    with (parent / ".lock").open("a") as lock:
        _sweep(parent, host if _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB) else None)
        _locked(lock, fcntl.LOCK_SH)
        with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{host}-", dir=parent) as scratch:
            yield Path(scratch)


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except OSError:  # somebody else has it, or the file system has no locks
        return False
    return True


def _sweep(parent: Path, host: str | None) -> None:
    """Removes the scratch folders of `host`, others that nobody has written to for a day, and parts of packs that
    nobody has gone on with for a week."""
    for left in parent.glob(f"{SCRATCH}*"):
        if left.name.rpartition("-")[0] == f"{SCRATCH}{host}" or _idle(left) > DAY:
            shutil.rmtree(left, ignore_errors=True)
    for left in parent.glob(f"{PART}*"):
        if _idle(left) > WEEK:
            with contextlib.ExitStack() as stack:
                if _own(left, stack):
                    shutil.rmtree(left, ignore_errors=True)


def _idle(folder: Path) -> float:
    """Seconds since anything in a folder was written; 0 if it can't be told."""
    with contextlib.suppress(OSError):
        return time.time() - max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
    return 0.0
