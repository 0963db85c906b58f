"""A job's events as it prints them and as the store keeps them."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from muster.orchestrator.records.events import Event, event, to_line
from muster.workers.errors import StoreError
from muster.workers.store.files import FileRecord

SEGMENT_SECONDS = 3.0


BEAT_SECONDS = 20.0


class EventLog:
    """Prints events and keeps them in the store: immutable segments, closed every few seconds.

    Where nothing happens for a while it says so: a run that is silent has lost its driver.
    """

    def __init__(self, attempt: str) -> None:
        self.lock = threading.RLock()
        self.attempt, self.number = attempt, 0
        self.run: Any = None
        self.lines: list[str] = []
        self.closed = time.monotonic()
        self.ticks: dict[str, str] = {}
        self.records: dict[str, FileRecord] = {}
        "The segments that were kept, by their names in the run."

    def keep_in(self, run: Any) -> None:
        """From now on segments are written to this run's folder."""
        self.run = run

    def __call__(self, item: Event) -> None:
        with self.lock:
            self.tell(item)
            self.keep(item)

    def beat(self) -> None:
        """Says every now and then that the driver lives; runs in a thread of its own, to the process's end."""
        while True:
            time.sleep(BEAT_SECONDS)
            if time.monotonic() - self.closed >= BEAT_SECONDS:
                with contextlib.suppress(StoreError):  # the next event that is no beat ends the job by it
                    self(event("alive"))

    def tell(self, item: Event) -> None:
        """Prints an event, for whoever follows the job."""
        with self.lock:
            print(to_line(item), flush=True)

    def keep(self, item: Event) -> None:
        """Keeps an event in the store, with others or, if it is the end, at once. Raises StoreError."""
        with self.lock:
            self._keep(item)

    def _keep(self, item: Event) -> None:
        if item["event"] in {"pack", "ensemble"} or item.get("state") == "training":
            self.ticks[f"{item['event']} {item.get('key')}"] = to_line(item)  # the newest is enough
        else:
            self.lines.append(to_line(item))
        if time.monotonic() - self.closed >= SEGMENT_SECONDS or item["event"] == "end":
            self.close()

    def close(self) -> None:
        """Writes what has come since the last segment. Raises StoreError, also where the run's folder is gone."""
        lines = [*self.ticks.values(), *self.lines]
        if self.run is None or not lines:
            return
        if not self.run.files.exists(self.run / "run.json"):
            raise StoreError(
                f"{self.run.place('run.json')} is gone: somebody deleted it, or has another disk mounted there. Launch "
                "again: what is left of the store is found."
            )
        name = f"events/{self.attempt}-{self.number:06d}.jsonl"
        data = ("\n".join(lines) + "\n").encode()
        self.run.files.put(self.run / name, data)
        self.records[name] = FileRecord.of(data)
        self.number, self.lines, self.ticks, self.closed = self.number + 1, [], {}, time.monotonic()
