"""The folders that muster writes to on this machine: where each is, what moves it, and whether it can be written.

Looked at before a head is started, so that a full or a read-only disk is told at once and all of them together,
and by `muster doctor`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muster.orchestrator.machine.complaints import CURES
from muster.workers.errors import StoreError, UsageError
from muster.workers.packs.cache import cache_folder
from muster.workers.quantities import bytes_text
from muster.workers.store.files import nearest_folder
from muster.workers.store.layout import Store

#: Written and removed again: a disk that has no room for this much has none for a log either.
PROBE_BYTES = 1 << 20
#: The folders of a store.
PARTS = ("packs", "weights", "models", "runs")


@dataclass(frozen=True)
class Place:
    """One of muster's own folders, which need not be there yet."""

    name: str
    folder: Path
    moved_by: str
    "The flag or variable that puts it elsewhere."
    enough: int
    "Bytes free, below which a warning is due."
    problem: str = ""
    "Why nothing can be written there; a whole sentence."
    free: int = 0
    "Bytes."

    @property
    def detail(self) -> str:
        """For `doctor`: where, how much room there is, and what moves it."""
        if self.problem:
            return self.problem
        few = ": free some, or move it" if self.free < self.enough else ""
        return f"{self.folder}: {bytes_text(self.free)} free{few} ({self.moved_by})"


def places(store: Store) -> list[Place]:
    """All of them, each tried; the store is one of them where it is on a disk of this machine."""
    from muster.cluster import launch, local

    found = [
        _tried("state", local.state_dir, local.STATE_DIR, 10**7),
        _tried("cache", cache_folder, "MUSTER_CACHE", 10**9),
        _tried("temporary files", launch.temp_base, "MUSTER_TEMP_DIR", 10**9, launch.temp_problem),
    ]
    root = store.files.local_root
    if root is not None:
        whole = _tried("store", lambda: root, "--storage", 5 * 10**9)
        parts = [_tried("store", lambda: root / part, "--storage", 0) for part in PARTS]  # noqa: B023  (called at once)
        found.insert(0, next((part for part in parts if part.problem and not whole.problem), whole))
    return found


def check_places(store: Store) -> None:
    """Raises UsageError with all that keeps muster from writing where it has to on this machine."""
    problems = [place.problem for place in places(store) if place.problem]
    if store.files.local_root is None:
        try:
            store.files.check_writable()
        except StoreError as error:
            problems.insert(0, str(error))
    if problems:
        raise UsageError(problems)


def refuse_no_store(store: Store) -> None:
    """Raises UsageError or StoreError if there is no store on this disk and none can be made. One that is there is
    only read."""
    root = store.files.local_root
    if root is None:
        return
    if not root.is_dir():
        store.files.check_writable()
    wrong = [root / part for part in PARTS if os.path.lexists(root / part) and not (root / part).is_dir()]
    if wrong:
        raise UsageError(
            [f"{path} is no folder, and has to be one in a store: is --storage right?" for path in wrong]
        )


def unwritable(store: Store) -> str:
    """Why a launch could not write to the store, "" if it could; for a preview, which need not."""
    try:
        store.files.check_writable()
    except StoreError as error:
        return f"{error} A launch would be refused."
    return ""


def _tried(
    name: str,
    where: Callable[[], Path],
    moved_by: str,
    enough: int,
    refused: Callable[[Path], str] = lambda _: "",
) -> Place:
    """A place after a look: below a folder that is not there yet nothing is made, the nearest one above is tried."""
    folder, free, problem = Path("~"), 0, ""
    try:
        folder = where()
        problem = refused(folder)
        there = nearest_folder(folder)
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0" * PROBE_BYTES)
            file.flush()
    except (OSError, RuntimeError) as error:  # RuntimeError: of a ~ that nobody knows
        cause, cure = str(error).rstrip("."), ""
        if isinstance(error, OSError):
            cause, cure = error.strerror or cause, CURES.get(error.errno or 0, "")
        problem = problem or " ".join(
            part
            for part in (f"Can't write {folder} ({name}): {cause}.", cure, f"{moved_by} moves it.")
            if part
        )
    return Place(name, folder, moved_by, enough, problem, free)
