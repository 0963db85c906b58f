"""Whose turn it is to write a run: one job's at a time, of however many clusters share the store.

A turn is a file in the run's folder, `turns/NUMBER.json`, which is created once and names its job; the one with the
highest number counts. Its job rewrites it as `over` when it ends. Another job of the same run waits for that, or for
the job's death: its process is gone from this machine, or, where it runs on another one, it has told the store nothing
for a while. Ages are taken from the store's own clock, so that it does not matter what the machines' clocks say.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.cluster import procs
from muster.orchestrator.records.events import event
from muster.orchestrator.records.stages import Emit
from muster.workers.errors import StoreError
from muster.workers.store.records import parse_json, to_json
from muster.workers.store.runs import RunFolder

TURNS = "turns"
LOOK_SECONDS = 1.0
#: A job that told the store nothing for so long is dead: it says something every 20 seconds.
SILENT_SECONDS = 90.0
#: Where two jobs can both succeed in creating a file, the later one stands after this.
SETTLING_SECONDS = 2.0


@dataclass(frozen=True)
class Turn:
    """A job's turn."""

    run: RunFolder
    number: int
    document: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{TURNS}/{self.number:06d}.json"

    def check(self) -> None:
        """Raises StoreError if another job has taken this one for dead: what it writes is the run's, then."""
        now = _newest(self.run)
        if now is not None and now.number > self.number:
            raise StoreError(
                f"{self.run.run} was taken over by {now.document.get('attempt')} on {now.document.get('host')}: this "
                f"job had told the store nothing for {SILENT_SECONDS:.0f} s. Its result is that one's."
            )


@contextlib.contextmanager
def turn_of(run: RunFolder, attempt: str, emit: Emit) -> Iterator[Turn]:
    """Waits until no other job writes the run; within, none but this one does."""
    mine, told = _document(attempt), False
    while (turn := _taken(run, mine)) is None:
        holder = _newest(run)
        if holder is None or _is_over(holder):
            continue
        if not told:
            told = True
            text = (
                f"{run.run} is being written by {holder.document.get('attempt')} on {holder.document.get('host')}: "
                f"waiting until that ends. If it is dead and nobody notices, delete {run.place(holder.name)}."
            )
            emit(event("message", level="warning", text=text))
        time.sleep(LOOK_SECONDS)
    try:
        yield turn
    finally:
        with contextlib.suppress(StoreError):  # the store is gone: there is no turn either
            if run.files.exists(run / turn.name):
                run.write(turn.name, {**mine, "over": True})


def _taken(run: RunFolder, mine: dict[str, Any]) -> Turn | None:
    """The next turn, if the last one is over and nobody was faster."""
    before = _newest(run)
    if before is not None and not _is_over(before):
        return None
    turn = Turn(run, before.number + 1 if before else 1, mine)
    if not run.files.create(run / turn.name, to_json(mine)):
        return None
    if run.files.local_root is None:
        time.sleep(SETTLING_SECONDS)
    if (now := _newest(run)) is None or now.number != turn.number or now.document != mine:
        return None  # another one was as fast, and stands
    for name in run.files.names(run / TURNS):
        if f"{TURNS}/{name}" < turn.name:
            run.files.delete(run / f"{TURNS}/{name}")
    return turn


def _newest(run: RunFolder) -> Turn | None:
    numbers = [
        int(stem) for name in run.files.names(run / TURNS) if (stem := name.partition(".")[0]).isdecimal()
    ]
    if not numbers:
        return None
    turn = Turn(run, max(numbers), {})
    try:
        found = parse_json(run.files.find(run / turn.name) or b"{}")
    except ValueError:
        found = {}
    return Turn(run, turn.number, found if isinstance(found, dict) else {})


def _document(attempt: str) -> dict[str, Any]:
    """Who takes a turn: its process, as this machine and the store's other users know it."""
    return {
        "attempt": attempt,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "birth": procs.birth(os.getpid()),
        "nonce": secrets.token_hex(8),
    }


def _machine() -> str:
    """What tells this machine since its start, and where its processes are counted (a container), from any other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_over(turn: Turn) -> bool:
    """Whether a turn has ended, or its job has died."""
    holder = turn.document
    if holder.get("over") or not holder.get("attempt"):
        return True  # ended, or it can't be read, and so binds nobody
    if holder.get("machine") and holder["machine"] == _machine() and isinstance(holder.get("pid"), int):
        return procs.birth(holder["pid"]) != holder.get("birth")
    return _silence(turn) > SILENT_SECONDS


def _silence(turn: Turn) -> float:
    """Seconds since the job of a turn told the store anything, by the store's clock; 0 where it has none."""
    run, attempt = turn.run, str(turn.document.get("attempt"))
    names = [name for name in run.files.names(run / "events") if name.rpartition("-")[0] == attempt]
    told = [turn.name, *(f"events/{name}" for name in names[-1:])]
    times = [found for name in told if (found := run.files.modified(run / name)) is not None]
    now = run.files.now(run / TURNS)
    return 0.0 if now is None or not times else now - max(times)
