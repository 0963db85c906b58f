"""Processes that are there before their members' turn. GPUs are played, as in stubs.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.orchestrator.fleet.places.test_gpus import fleet_of
from tests.orchestrator.fleet.stubs import TRAINING, Attempt, member, played


def test_the_next_member_s_process_is_there_before_its_turn(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2, 1)
    fleet.train(*(member(index) for index in range(1, 10)))
    # One on each node, and the next once the first went to work.
    assert sorted(fleet.prepared[:2]) == [(4, "a", 0.0), (5, "b", 0.0)]
    assert all(
        one.node == node for index, node, _ in fleet.prepared for one in fleet.attempts if one.index == index
    )
    assert fleet.started == sorted(fleet.started)
    assert len(fleet.hired) == 9
    assert fleet.at_work() == []


def test_a_node_with_memory_and_cores_has_several_ready(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 8, 2)
    fleet.alive["a"] |= {"CPU": 32, "memory": 64 << 30}  # of either room for four
    fleet.alive["b"] |= {"CPU": 96, "memory": 512 << 30}  # and no more than run there
    fleet.train(*(member(index) for index in range(1, 31)))
    first = [(index, node) for index, node, at in fleet.prepared if not at]
    assert [node for _, node in sorted(first)] == ["a", "b", "a", "b", "a", "a"]
    assert sorted(index for index, _ in first) == list(range(11, 17))
    assert fleet.at_work() == []
    assert len(fleet.hired) == 30


def test_a_member_whose_process_is_elsewhere_does_not_hold_up_a_gpu(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)

    async def long(attempt: Attempt) -> None:
        await attempt.step(1)
        await asyncio.sleep(60)
        attempt.finish()

    fleet.scenes[1] = [long]
    fleet.train(*(member(index) for index in range(1, 5)))
    # Of 3 and 4 one waited on the node of the long member: it went to the other node in the end.
    assert [one.began for one in fleet.attempts] == [0, 0, TRAINING, 2 * TRAINING]
    assert {one.node for one in fleet.attempts[2:]} == {fleet.attempts[1].node}


def test_a_process_that_died_before_its_turn_is_hired_again(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)

    async def scene() -> list[str]:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(3)
        (spare,) = [one for one in fleet.hired if one.index == 2]
        spare.ended.set()
        return [outcome.state for outcome in await asked]

    assert played(scene()) == ["done", "done"]
    assert [one.index for one in fleet.hired] == [1, 2, 2]


def test_processes_of_members_that_nobody_wants_any_more_end(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)

    async def scene() -> None:
        first = asyncio.ensure_future(fleet.ensure(member(1)))
        second = asyncio.ensure_future(fleet.ensure(member(2), asker="other"))
        await asyncio.sleep(3)
        assert [one.index for one in fleet.at_work()] == [1, 2]
        await fleet.scheduler.withdraw("other")
        assert [one.index for one in fleet.at_work()] == [1]
        await asyncio.gather(first, second)

    played(scene())
