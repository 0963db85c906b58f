"""What a stop drops and what it lets finish, also where the fleet's process died since."""

from __future__ import annotations

import asyncio
from pathlib import Path

from muster.workers.store.records import Done
from tests.orchestrator.fleet.stubs import PlayedFleet, fails, member, played
from tests.orchestrator.fleet.test_asking import during, look_ups_take, stop


def test_a_stopped_fleet_lets_members_finish_and_drops_the_others(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    outcomes = during(fleet, stop, *(member(index) for index in range(1, 5)))
    assert [outcome.state for outcome in outcomes] == ["done", "done", "dropped", "dropped"]
    assert outcomes[3].message == "dropped: the run was stopped before it started"
    assert outcomes[3].attempts == 0
    assert fleet.said() == ["warning: stopping; 2 running members finish"]


def test_a_member_that_fails_while_the_fleet_stops_is_not_tried_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails(RuntimeError("no luck"))]
    (outcome,) = during(fleet, stop, member(1))
    assert (outcome.state, outcome.attempts) == ("dropped", 1)
    assert outcome.message == "dropped: the run is stopping, and it failed: RuntimeError: no luck"


def test_a_stopped_fleet_tells_what_it_has_and_starts_nothing_more(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def scene() -> None:
        assert await fleet.scheduler.stop() == 0
        task = member(2)
        fleet.store.model(task.key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
        fleet.store.model(task.key).embedding(task.targets[0].digest).commit(Done({}, {}))
        found = await fleet.ensure(member(1), task)
        assert [outcome.state for outcome in found] == ["dropped", "reused"]
        assert found[0].message == "dropped: the run is stopping"

    played(scene())
    assert fleet.started == []


def test_a_member_that_waits_for_another_job_is_dropped_by_a_stop(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.taken = {member(1).key}
    (outcome,) = during(fleet, stop, member(1))
    assert outcome.state == "dropped"
    assert outcome.message == "dropped: the run is stopping"


def test_vectors_that_wait_for_another_job_are_dropped_by_a_stop(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.taken = {member(1).key}
    fleet.store.model(member(1).key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    (outcome,) = during(fleet, stop, member(1))
    assert outcome.message == "dropped: the run was stopped before it started"


def test_a_stop_drops_a_member_that_waits_for_its_inputs(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    (outcome,) = during(fleet, stop, member(1, inputs=(member(7, D=4),)))
    assert (outcome.state, outcome.message) == ("dropped", "dropped: the run is stopping")
    assert fleet.started == [7]


def test_what_was_stopped_stays_so_where_the_scheduler_s_process_died_since(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.told_to_stop = True
    assert fleet.train(member(1), member(2)) == ["dropped"] * 2
    assert fleet.started == []


def test_a_stop_that_comes_while_a_new_process_of_the_scheduler_looks_around_holds(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    looks = fleet.former

    async def scene() -> list[str]:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(0)
        await fleet.scheduler.stop()
        return [outcome.state for outcome in await asked]

    assert played(scene()) == ["dropped"] * 2
    fleet = PlayedFleet(tmp_path)
    fleet.told_to_stop, fleet.former = True, lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert fleet.train(member(1)) == ["dropped"]
    assert looks() == []


def test_a_stop_counts_only_members_that_have_begun(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    look_ups_take(fleet, lambda index: 4.0)

    async def stops(fleet: PlayedFleet) -> None:
        assert await fleet.scheduler.stop() == 0

    outcomes = during(fleet, stops, *(member(index) for index in range(1, 5)))
    assert [one.state for one in outcomes] == ["dropped"] * 4
    assert "warning: stopping; 0 running members finish" in fleet.said()
