"""Which processes belong to a head, and how to end all of them.

Ray's processes come in three kinds: children of `ray start --block`, which die with it; workers and agents
below the raylet; and the entrypoints of jobs, which live in sessions of their own. So a process group is not
enough to find them. What they share is an environment variable that the head is born with. Some of them
overwrite their environment (they set a title as long as it), but these all stay in the head's session.
This module never starts a process, and signals none that it cannot tie to the head in one of these two ways.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

MARK = "MUSTER_HEAD"
"""Environment variable that every process of a head inherits; its value is the head's temporary folder."""

KEEPER = "muster.cluster.keeper"
"""The module of the process that ends a head after its last job."""

_PROC = Path("/proc")


class _Stat(NamedTuple):
    state: str
    session: int
    start_tick: int


def birth(pid: int) -> str | None:
    """Name the process behind `pid` once and for all (boot, start tick); None when there is none.

    A pid alone is reused; a record that outlives its process must not claim a stranger.
    """
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return None
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{stat.start_tick}"


def of_head(mark: str, session: int) -> list[int]:
    """Pids of the living processes of the head with this mark and session; the caller's own is left out."""
    mine = os.getuid()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        try:
            if entry.stat().st_uid == mine and _belongs(pid, mark, session):
                found.append(pid)
        except OSError:  # it ended while we looked
            continue
    return sorted(found)


def end(mark: str, session: int, *, polite_s: float = 5.0, firm_s: float = 3.0) -> list[int]:
    """End every process of a head; returns the pids that outlived even SIGKILL (normally none).

    First SIGTERM to its keeper, which has nothing left to do, and to `ray start --block`, which takes its children
    down in order (1-3 s); then SIGTERM to whatever is left, then SIGKILL, again and again, for a dying process may
    still fork.
    """
    found = of_head(mark, session)
    _signal([pid for pid in found if _keeps(pid)], signal.SIGTERM)
    if session in found:
        _signal([session], signal.SIGTERM)
        if _gone(mark, session, polite_s):
            return []
    _signal(of_head(mark, session), signal.SIGTERM)
    if _gone(mark, session, firm_s):
        return []
    for _ in range(10):
        _signal(of_head(mark, session), signal.SIGKILL)
        if _gone(mark, session, 0.5):
            return []
    return of_head(mark, session)


def _keeps(pid: int) -> bool:
    try:
        return KEEPER.encode() in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it ended while we looked
        return False


def _belongs(pid: int, mark: str, session: int) -> bool:
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return False
    if f"{MARK}={mark}".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
        return True
    # The session number could be somebody else's by now if the head died long ago: ask for the title too.
    return stat.session == session and (_PROC / str(pid) / "cmdline").read_bytes().startswith(b"ray")


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], session=int(fields[3]), start_tick=int(fields[19]))


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _gone(mark: str, session: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while of_head(mark, session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
