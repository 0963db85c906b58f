"""Members that are killed as memory ran out, alone and beside others, also with the fleet that watched them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError

from muster.orchestrator.fleet.processes import Former
from muster.workers.task import MemberTask
from tests.orchestrator.fleet.stubs import TRAINING, Attempt, PlayedFleet, fails, member, played, well

MEMORY = OutOfMemoryError("the node had no memory left")


def test_a_member_out_of_memory_beside_others_is_tried_beside_fewer(tmp_path: Path) -> None:
    """Eight fit by their CPUs; by their memory only three do, and the newest is killed."""
    fleet = PlayedFleet(tmp_path)
    fleet.alive = {"a": {"CPU": 8}}

    async def heavy(attempt: Attempt) -> None:
        await (fails(MEMORY, after=1) if len(fleet.at_work()) > 3 else well)(attempt)

    for index in range(1, 10):
        fleet.scenes[index] = [heavy] * 20
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 10))))
    assert [outcome.state for outcome in outcomes] == ["done"] * 9
    assert max(outcome.attempts for outcome in outcomes) <= 4
    assert fleet.said() == []  # no node is at fault


def test_after_a_kill_for_memory_half_as_many_may_run_beside_it(tmp_path: Path) -> None:
    """Five run; the fifth is killed, and then runs beside two. Whoever comes later waits for it."""
    fleet = PlayedFleet(tmp_path, parallel=5)
    takes = {1: 10.0, 2: 20.0, 3: 30.0, 4: 100.0}

    async def lasts(attempt: Attempt) -> None:
        await asyncio.sleep(takes[attempt.index])
        attempt.finish()

    for index in takes:
        fleet.scenes[index] = [lasts]
    fleet.scenes[5] = [fails(MEMORY, after=1)]
    fleet.train(*(member(index) for index in range(1, 7)))
    assert [(one.index, one.began) for one in fleet.attempts[5:]] == [(5, 20), (6, 30)]


def test_a_member_that_needs_more_memory_than_there_is_is_given_up(tmp_path: Path) -> None:
    """Beside others it is no fault of its own: it is tried alone, and what fails then counts."""
    fleet = PlayedFleet(tmp_path, parallel=4)
    fleet.scenes[2] = [fails(MEMORY)] * 20
    fleet.scenes[4] = [fails(MEMORY)] * 20
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 7))))
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "done", "failed", "done", "done"]
    assert "killed: its node ran out of memory" in outcomes[1].message
    assert "Give it a node with more memory" in outcomes[1].message
    alone = [one.began for one in fleet.attempts if one.index == 2][-3:]
    assert not [one for one in fleet.attempts if one.index != 2 and alone[0] <= one.began <= alone[-1]]


def test_a_member_that_began_alone_was_not_alone_once_others_came(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    fleet.scenes[1] = [fails(MEMORY)]
    fleet.train(member(1), member(2))
    assert fleet.attempts[0].index == 1
    assert fleet.scheduler.works[member(1).key].futile == 0


def test_alone_a_kill_for_memory_counts(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    fleet.scenes[1] = [fails(MEMORY)]
    fleet.train(member(1))
    assert fleet.scheduler.works[member(1).key].futile == 1


def fell(task: MemberTask, others: int, *, memory: bool = True) -> Former:
    return Former(task.key, "a", others, memory)


def most_at_once(fleet: PlayedFleet) -> int:
    """The most members that began before the first of those under way ended, all of which train for the same time."""
    began = [one.began for one in fleet.attempts]
    return max(sum(start <= other < start + TRAINING for other in began) for start in began)


@pytest.mark.parametrize(
    ("others", "memory", "at_once"), [(3, True, 2), (1, True, 1), (0, True, 3), (3, False, 4)]
)
def test_members_that_fell_with_the_fleet_for_memory_go_on_beside_fewer(
    tmp_path: Path, others: int, memory: bool, at_once: int
) -> None:
    fleet = PlayedFleet(tmp_path)
    members = [member(index) for index in range(1, 5)]
    fleet.fell = [fell(one, others, memory=memory) for one in members]
    if not others:
        fleet.fell = [fell(members[0], 0, memory=memory)]
    outcomes = played(fleet.ensure(*members))
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    assert [outcome.attempts for outcome in outcomes] == ([2] * 4 if others else [2, 1, 1, 1])
    assert most_at_once(fleet) == at_once
    assert len([text for text in fleet.said() if "memory ran out where the fleet runs" in text]) == memory


def test_of_several_falls_the_last_one_counts(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    members = [member(index) for index in range(1, 5)]
    fleet.fell = [fell(one, others) for others in (3, 1) for one in members[: others + 1]]
    played(fleet.ensure(*members))
    assert fleet.started == [1, 2, 3, 4]
    first, second, third, _ = (one.began for one in fleet.attempts)
    assert (second - first, third - second) == (TRAINING, TRAINING)  # these two alone


def test_a_member_that_fell_alone_for_memory_is_given_up_the_third_time(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.fell = [fell(member(1), 0)] * 3 + [fell(member(2), 0)] * 2
    fleet.scenes[2] = [fails()]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("failed", 3), ("failed", 3)]
    assert outcomes[0].message.splitlines() == [
        f"member 1 (key {member(1).key}): killed: its node ran out of memory",
        "    given up after 3 attempt(s), the last on no node",
        "    Give it a node with more memory, or run fewer members at once: --parallel.",
    ]
    assert fleet.started == [2]


def test_a_member_that_fell_for_memory_avoids_the_node_where_that_was(
    tmp_path: Path,
) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.fell = [fell(member(1), 1), fell(member(2), 1, memory=False)]
    played(fleet.ensure(member(1), member(2)))
    assert [one.avoided for one in fleet.attempts] == [["a"], []]


def test_a_cluster_that_does_not_say_what_fell_is_told_and_stops_nothing(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    def silent() -> list[Former]:
        raise ConnectionError("no answer")

    fleet.former = silent  # type: ignore[method-assign]
    assert fleet.train(member(1)) == ["done"]
    assert fleet.said() == [
        "warning: the cluster does not say what became of the members that ran: no answer"
    ]
