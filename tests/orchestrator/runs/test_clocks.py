"""Clocks of drivers that are off by hours: what is running, and what was last, is told by the storage's clock."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.runs.status import list_runs, run_status
from muster.workers.quantities import time_text
from muster.workers.store.layout import Store

HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    store.run("one").write("run.json", {"kind": "launch", "ensemble": {"L": 2}, "made_by": {"node": "n"}})
    return store


def said(store: Store, attempt: str, number: int, *events: dict[str, Any], written: float) -> None:
    """A segment of events that the driver of `attempt` wrote, as the storage's clock has it."""
    name = store.run("one") / f"events/{attempt}-{number:06d}.jsonl"
    lines = (json.dumps({"event": item.pop("event"), **item}, separators=(",", ":")) for item in events)
    store.files.put(name, "".join(f"{line}\n" for line in lines).encode())
    os.utime(store.files.path(name), (written, written))


@pytest.mark.parametrize("off", [-5 * HOUR, 0, 5 * HOUR])
def test_a_run_is_running_whatever_its_drivers_clock_says(store: Store, off: float) -> None:
    now = time.time()
    stage = {"event": "stage", "name": "train", "state": "start", "t": now + off}
    said(store, "one-20260101T000000-aa", 0, stage, written=now - 5)
    found = run_status(store, "one")
    assert (found["state"], found["heard"]) == ("running", time_text(now + off))
    said(store, "one-20260101T000000-aa", 0, stage | {"event": "stage"}, written=now - 70)
    assert run_status(store, "one")["state"] == "lost"


def test_a_driver_that_died_before_a_clock_was_set_back_is_lost(store: Store) -> None:
    stage = {"event": "stage", "name": "train", "state": "start", "t": time.time()}
    said(store, "one-20260101T000000-aa", 0, stage, written=time.time() + 5 * HOUR)
    before = sorted(store.files.below("runs/one"))
    assert run_status(store, "one")["state"] == "lost"
    assert sorted(store.files.below("runs/one")) == before


def test_a_running_run_is_told_where_the_readers_clock_is_off(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    stage = {"event": "stage", "name": "train", "state": "start", "t": now}
    said(store, "one-20260101T000000-aa", 0, stage, written=now)
    for off in (-5 * HOUR, 5 * HOUR):
        monkeypatch.setattr("muster.orchestrator.runs.status.time.time", lambda off=off: now + off)
        assert run_status(store, "one")["state"] == "running"


def test_the_newest_attempt_is_the_one_that_was_written_last(store: Store) -> None:
    now = time.time()
    ended = {"event": "end", "state": "done", "t": now, "message": "", "exit_code": 0, "answer": {}}
    stage = {"event": "stage", "name": "train", "state": "start", "t": now + 5 * HOUR}
    said(store, "one-20260101T170000-aa", 0, stage, written=now - HOUR)  # by a clock that was ahead
    said(store, "one-20260101T120000-bb", 0, ended, written=now - 10)
    assert run_status(store, "one")["state"] == "done"


def test_times_are_told_with_their_zone(store: Store) -> None:
    said(store, "one-x-aa", 0, {"event": "alive", "t": 1790000000.5}, written=1790000000.5)
    (row,) = list_runs(store)
    assert row["heard"] == "2026-09-21T14:13:20Z"
