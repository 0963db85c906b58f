"""Whose turn it is to write a run: one job's at a time, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from muster.cluster import procs
from muster.orchestrator.jobs import turn as module
from muster.orchestrator.jobs.turn import turn_of
from muster.orchestrator.records.events import Event
from muster.workers.errors import StoreError
from muster.workers.store.layout import Store
from muster.workers.store.records import to_json
from muster.workers.store.runs import RunFolder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    return Store(str(tmp_path)).run("one")


def turns(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(run.files.get(run / f"turns/{name}")) for name in run.files.names(run / "turns")]


def held_by(run: RunFolder, **changes: Any) -> None:
    run.write("turns/000007.json", {**module._document("one-other"), **changes})


def taken(run: RunFolder) -> list[Event]:
    """Takes a turn; what was said while it was waited for."""
    said: list[Event] = []
    with turn_of(run, "one-mine", said.append):
        assert [one["attempt"] for one in turns(run)] == ["one-mine"]
    assert turns(run)[0]["over"]
    return said


def test_turns_follow_each_other_and_leave_one_file(run: RunFolder) -> None:
    for number in (1, 2, 3):
        assert taken(run) == []
        assert run.files.names(run / "turns") == [f"{number:06d}.json"]


def test_of_many_at_once_each_has_its_own_turn(run: RunFolder) -> None:
    inside, most, done = [0], [0], list[int]()
    lock = threading.Lock()

    def job(number: int) -> None:
        with turn_of(run, f"one-{number}", lambda item: None):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            with lock:
                inside[0] -= 1
                done.append(number)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(8))
    assert most == [1]


def test_a_job_that_lives_is_waited_for_and_told_of(run: RunFolder) -> None:
    held_by(run)
    said: list[Event] = []
    thread = threading.Thread(target=lambda: turn_of(run, "one-mine", said.append).__enter__(), daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert len(said) == 1
    assert "is being written by one-other" in said[0]["text"]
    run.write("turns/000007.json", {"attempt": "one-other", "over": True})
    thread.join(10)
    assert not thread.is_alive()


def test_nobody_waits_for_a_process_that_is_gone(run: RunFolder) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = procs.birth(process.pid)
    process.kill()
    process.wait()
    held_by(run, pid=process.pid, birth=birth)
    assert taken(run) == []


def test_nor_for_another_one_that_has_its_number(run: RunFolder) -> None:
    held_by(run, pid=os.getpid(), birth="another")
    assert taken(run) == []


@pytest.mark.parametrize(("told", "waits"), [("long ago", False), ("just now", True), ("by an event", True)])
def test_a_job_of_another_machine_is_dead_once_it_is_silent(
    run: RunFolder, told: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by(run, machine="another", pid=1)
    path = Path(run.files.root) / "runs/one/turns/000007.json"
    if told != "just now":
        os.utime(path, (time.time() - 100, time.time() - 100))
    if told == "by an event":
        run.files.put(run / "events/one-other-000001.jsonl", b"{}\n")
    monkeypatch.setattr(time, "time", lambda: 0.0)  # what this machine's clock says is nothing to it
    assert module._is_over(module._newest(run)) != waits  # type: ignore[arg-type]
    assert run.files.names(run / "turns") == ["000007.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_turn_that_can_t_be_read_binds_nobody(run: RunFolder, content: bytes) -> None:
    run.files.put(run / "turns/000007.json", content)
    assert taken(run) == []


def test_a_job_that_fails_gives_its_turn_back(run: RunFolder) -> None:
    with pytest.raises(SystemExit), turn_of(run, "one-mine", lambda item: None):
        raise SystemExit  # as Ray ends a driver
    assert turns(run)[0]["over"]


def test_a_job_that_was_taken_for_dead_and_was_not_leaves_the_run_alone(run: RunFolder) -> None:
    with turn_of(run, "one-mine", lambda item: None) as turn:
        turn.check()
        run.write("turns/000002.json", module._document("one-other"))
        with pytest.raises(StoreError, match="taken over by one-other"):
            turn.check()


def test_where_two_can_create_a_file_the_later_one_stands(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store has no way to refuse the second; it is seen after a moment who wrote last."""
    monkeypatch.setattr(module, "SETTLING_SECONDS", 0.0)
    far = Store("memory://two-at-once").run("one")
    mine, other = module._document("one-mine"), module._document("one-other")

    def with_another(files: Any, name: str, data: bytes) -> bool:
        files.put(name, data)
        files.put(name, to_json(other))
        return True

    with monkeypatch.context() as patch:
        patch.setattr(type(far.files), "create", with_another)
        assert module._taken(far, mine) is None
    assert [one["attempt"] for one in turns(far)] == ["one-other"]
    far.write("turns/000001.json", {**other, "over": True})
    taken = module._taken(far, mine)
    assert taken is not None
    assert taken.number == 2
