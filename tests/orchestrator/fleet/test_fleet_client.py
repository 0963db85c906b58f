"""A job's side of its fleet: what it forwards, what it remembers, and how often it has damaged vectors made again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from muster.orchestrator.fleet import client as module
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.repair import MAX_REPAIRS, RepairError
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.forecast import Forecast
from muster.workers.errors import CorruptFileError, DamagedMember
from muster.workers.store.records import Done
from muster.workers.store.vectors import VECTORS, read_vectors, write_vectors
from muster.workers.task import MemberTask
from tests.orchestrator.fleet.stubs import member


class FakeRay:
    """Calls are made when their results are asked for."""

    def get(self, found: Any) -> Any:
        return [call() for call in found] if isinstance(found, list) else found()

    def wait(self, calls: list[Any], num_returns: int, timeout: float | None = None) -> tuple[Any, Any]:
        return calls, []


class FakeFleet:
    """Every member that is asked for ends as `ending` says; its events are those of a fleet."""

    def __init__(self, ending: str = "done") -> None:
        self.ending = ending
        self.events: list[Event] = []
        self.asked: list[tuple[list[str], str, int]] = []
        self.ensure = SimpleNamespace(remote=self._ensure)
        self.poll = SimpleNamespace(remote=self._poll)

    def _ensure(self, tasks: list[MemberTask], asker: str, rank: int) -> Any:
        self.asked.append(([task.key for task in tasks], asker, rank))
        for task in tasks:
            self.events.append(event("member", index=task.spec.index, key=task.key, state=self.ending))
        ended = [Outcome(task.key, task.spec.index, self.ending) for task in tasks]
        return lambda: ended

    def _poll(self, generation: str, since: int, wait: bool = True) -> Any:
        return lambda: ("first", len(self.events), self.events[since:])


@pytest.fixture
def task() -> MemberTask:
    return member()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(module, "ray", FakeRay())
    return []


def client_of(fleet: FakeFleet, tmp_path: Path, told: list[Event], *to_train: str) -> FleetClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "start_fleet", lambda settings, name: fleet)
        settings = FleetSettings(str(tmp_path / "store"), "run", 0, 0.0)
        return FleetClient(settings, "fleet", told.append, Forecast(1, None), to_train)


def test_events_name_the_first_ensemble_that_wants_a_member(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    fleet = FakeFleet()
    client = client_of(fleet, tmp_path, told, task.key)
    client.train([("first", [task]), ("second", [task])])
    assert fleet.asked == [([task.key], "first", 0), ([task.key], "second", 1)]
    assert [item["of"] for item in told if item["event"] == "member"] == ["first", "first"]
    assert client.outcomes[task.key].state == "done"
    assert client.trained == {task.key}


def test_only_keys_that_the_store_lacked_count_as_trained(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    client = client_of(FakeFleet(), tmp_path, told)
    client.train([("", [task])])  # "done": it was embedded
    assert client.trained == set()
    assert "of" not in told[0]
    assert [item["event"] for item in told] == ["member", "ensemble"]


def test_what_happens_while_others_ask_is_forwarded_too(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    fleet = FakeFleet()
    client = client_of(fleet, tmp_path, told)
    with client.forwarding():
        fleet.ensure.remote([task], "trial-1", 1)
    assert [item["event"] for item in told] == ["member", "ensemble"]


def test_damaged_vectors_are_made_again_and_the_work_is_done_once_more(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    fleet = FakeFleet()
    client = client_of(fleet, tmp_path, told)
    folder = client.store.model(task.key).embedding(task.targets[0].digest)
    folder.commit(Done({}, {}))
    tries = []

    def work() -> str:
        tries.append(folder.done() is not None)
        if len(tries) == 1:
            raise DamagedMember(task.key, "vectors of a member are damaged.")
        return "scores"

    assert client.repaired(work, [task]) == "scores"
    assert tries == [True, False]  # the record was taken away, so that a fleet makes the vectors anew
    assert fleet.asked == [([task.key], "", 0)]
    assert told[0]["text"] == "vectors of a member are damaged. It is made again."


def test_damage_that_several_meet_at_once_is_repaired_once(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    """Ensembles that share members are scored side by side."""
    fleet = FakeFleet()
    client = client_of(fleet, tmp_path, told)
    folder = client.store.model(task.key).embedding(task.targets[0].digest)
    vectors = np.ones((3, 2), np.float32)

    def makes(tasks: list[MemberTask], asker: str, rank: int) -> Any:
        write_vectors(folder, vectors, {})
        return FakeFleet._ensure(fleet, tasks, asker, rank)

    fleet.ensure.remote = makes
    write_vectors(folder, vectors, {})
    folder.files.put(folder / VECTORS, b"damaged")
    together = threading.Barrier(4)

    def scores() -> float:
        tries = []

        def work() -> float:
            try:
                found = read_vectors(folder)
            except CorruptFileError as error:
                if not tries:
                    together.wait(10)
                tries.append(error)
                raise DamagedMember(task.key, str(error)) from error
            return float(found.sum())

        return client.repaired(work, [task])

    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(scores) for _ in range(4)]] == [6.0] * 4
    made = [text for text in (item.get("text", "") for item in told) if "made again" in text]
    assert len(made) == 4  # each says what it met
    assert len(fleet.asked) == 4


def test_a_disk_that_goes_on_damaging_files_is_named(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    fleet = FakeFleet()
    client = client_of(fleet, tmp_path, told)

    def work() -> None:
        raise DamagedMember(task.key, "damaged")

    with pytest.raises(RepairError, match=f"damaged {MAX_REPAIRS} times in a row: check its disk"):
        client.repaired(work, [task])
    assert len(fleet.asked) == MAX_REPAIRS


def test_a_member_that_can_t_be_made_again_has_failed(
    tmp_path: Path, task: MemberTask, told: list[Event]
) -> None:
    client = client_of(FakeFleet("failed"), tmp_path, told)
    client.outcomes[task.key] = Outcome(task.key, 1, "done")

    def work() -> str:
        if client.outcomes[task.key].state == "done":
            raise DamagedMember(task.key, "damaged")
        return "the others' scores"

    assert client.repaired(work, [task]) == "the others' scores"
