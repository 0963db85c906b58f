"""What askers are told, and what becomes of members that nobody waits for, or that the run may no longer train."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from muster.orchestrator.fleet.budget import Budget
from muster.workers.store.records import Done
from muster.workers.task import MemberTask
from tests.orchestrator.fleet.stubs import TRAINING, Attempt, PlayedFleet, fails, member, played, targets


def look_ups_take(fleet: PlayedFleet, seconds: Callable[[int], float]) -> None:
    """The store is slow: by a member's index."""
    look_up = fleet.scheduler._missing

    async def slowly(task: MemberTask) -> Any:
        await asyncio.sleep(seconds(task.spec.index))
        return await look_up(task)

    fleet.scheduler._missing = slowly  # type: ignore[method-assign]


Deed = Callable[[PlayedFleet], Awaitable[Any]]


def during(fleet: PlayedFleet, deed: Deed, *tasks: MemberTask, asker: str = "") -> list[Any]:
    """The outcomes of members, where something is done in the middle."""

    async def scene() -> list[Any]:
        asked = asyncio.ensure_future(fleet.ensure(*tasks, asker=asker))
        await asyncio.sleep(5)
        await deed(fleet)
        return await asked

    return played(scene())


def stop(fleet: PlayedFleet) -> Awaitable[int]:
    return fleet.scheduler.stop()


def withdraw(*askers: str) -> Deed:
    async def deed(fleet: PlayedFleet) -> None:
        for asker in askers:
            await fleet.scheduler.withdraw(asker)

    return deed


def test_what_one_asker_withdraws_from_goes_on_for_another(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def scene() -> list[str]:
        mine = asyncio.ensure_future(fleet.ensure(member(1), member(2), member(3), asker="mine"))
        theirs = asyncio.ensure_future(fleet.ensure(member(2), member(4), asker="theirs", rank=1))
        await asyncio.sleep(5)
        await fleet.scheduler.withdraw("mine")
        found = [*await mine, *await theirs]
        assert found[2].message == "dropped: nobody waits for it any longer"
        return [outcome.state for outcome in found]

    assert played(scene()) == ["done", "done", "dropped", "done", "done"]
    assert fleet.started == [1, 2, 4]


def test_after_a_withdrawal_the_others_still_start_by_their_index(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def scene() -> None:
        keep = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 9)), asker="keep"))
        drop = asyncio.ensure_future(fleet.ensure(*(member(index, D=4) for index in (2, 3)), asker="drop"))
        await asyncio.sleep(5)
        await fleet.scheduler.withdraw("drop")
        await asyncio.gather(keep, drop)

    played(scene())
    assert fleet.started == list(range(1, 9))


@pytest.mark.parametrize("when", ["looked up", "waiting for another job", "failing"])
def test_what_nobody_waits_for_is_not_started_wherever_it_was(tmp_path: Path, when: str) -> None:
    fleet = PlayedFleet(tmp_path)
    attempts = 0
    if when == "looked up":
        look_ups_take(fleet, lambda index: 7)
    if when == "waiting for another job":
        fleet.taken = {member(1).key}
    if when == "failing":
        fleet.scenes[1] = [fails()]
        attempts = 1
    (outcome,) = during(fleet, withdraw("trial"), member(1), asker="trial")
    assert (outcome.state, outcome.message) == ("dropped", "dropped: nobody waits for it any longer")
    assert len(fleet.attempts) == attempts


def test_what_all_askers_withdraw_from_is_dropped(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def scene() -> None:
        asked = [
            asyncio.ensure_future(fleet.ensure(member(1), member(2), asker=name))
            for name in ("mine", "theirs")
        ]
        await asyncio.sleep(5)
        await withdraw("mine", "theirs")(fleet)
        assert [outcome.state for outcome in await asked[1]] == ["done", "dropped"]
        await asked[0]

    played(scene())


def test_what_runs_goes_on_though_nobody_waits_for_it(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    (outcome,) = during(fleet, withdraw("trial", "never heard of"), member(1), asker="trial")
    assert outcome.state == "done"


def test_vectors_alone_cost_no_training(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, budget=Budget(members=0))
    fleet.store.model(member(1).key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [outcome.state for outcome in outcomes] == ["done", "dropped"]
    assert outcomes[1].message == "budget: 0 of 0 members are trained, 0 are running"


def test_who_wants_more_vectors_than_the_one_before_gets_them(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def scene() -> list[str]:
        first = asyncio.ensure_future(fleet.ensure(member(1, splits="test")))
        await asyncio.sleep(1)
        (outcome,) = await fleet.ensure(member(1, splits="test train"))
        await first
        return [outcome.state]

    assert played(scene()) == ["done"]
    assert [len(one.task.targets) for one in fleet.attempts] == [1, 2]


@pytest.mark.parametrize(("withdrawn", "state"), [("theirs", "dropped"), ("mine", "done")])
def test_who_wants_more_vectors_may_withdraw_too(tmp_path: Path, withdrawn: str, state: str) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def scene() -> None:
        first = asyncio.ensure_future(fleet.ensure(member(1), member(2), member(3), asker="mine"))
        second = asyncio.ensure_future(fleet.ensure(member(2, splits="test train"), asker="theirs", rank=5))
        await asyncio.sleep(1.5 * TRAINING)
        fleet.taken = {member(2).key}  # so that it waits for its other vectors
        await asyncio.sleep(TRAINING)
        await fleet.scheduler.withdraw(withdrawn)
        fleet.taken.clear()
        assert [outcome.state for outcome in await second] == [state]
        await first

    played(scene())
    assert fleet.scheduler.works[member(2).key].order[0] == 5


def test_a_member_that_ended_may_be_asked_for_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails()] * 3

    async def scene() -> list[str]:
        return [(await fleet.ensure(member(1)))[0].state for _ in range(3)]

    assert played(scene()) == ["failed", "done", "reused"]


@pytest.mark.parametrize(
    ("budget", "trained"),
    [
        (Budget(), 4),
        (Budget(members=2), 2),
        (Budget(members=3, device_seconds=15.0), 2),
        (Budget(device_seconds=20.0), 2),
        (Budget(device_seconds=20.1), 3),
        (Budget(device_seconds=20.0, share=0.5), 4),
        (Budget(device_seconds=0.0), 0),
    ],
)
def test_a_budget_ends_the_training(tmp_path: Path, budget: Budget, trained: int) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1, budget=budget)
    states = fleet.train(*(member(index) for index in range(1, 5)))
    assert states == ["done"] * trained + ["dropped"] * (4 - trained)


def test_what_runs_counts_towards_a_budget(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=4, budget=Budget(members=3))
    assert fleet.train(*(member(index) for index in range(1, 5))) == ["done", "done", "done", "dropped"]
    assert fleet.states(4) == ["queued", "dropped"]
    (message,) = [item["message"] for item in fleet.said("member") if "message" in item]
    assert message == "budget: 0 of 3 members are trained, 3 are running"


def test_what_the_run_trained_before_counts_and_what_others_did_does_not(tmp_path: Path) -> None:
    before = PlayedFleet(tmp_path)
    assert before.train(member(1)) == ["done"]
    foreign = member(2)
    before.store.model(foreign.key).commit(Done({}, {"attempt": "of another run", "seconds": 1.0}))
    fleet = PlayedFleet(tmp_path, parallel=1, budget=Budget(members=2))
    assert fleet.train(*(member(index) for index in range(1, 5))) == ["reused", "done", "done", "dropped"]


def test_a_member_that_learns_from_others_waits_for_their_vectors(tmp_path: Path) -> None:
    teachers = tuple(member(index, D=4, splits="train") for index in (1, 2))
    student = member(1, inputs=teachers)
    fleet = PlayedFleet(tmp_path)
    fleet.store.model(teachers[0].key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    fleet.store.model(teachers[0].key).embedding(teachers[0].targets[0].digest).commit(Done({}, {}))
    assert fleet.train(student) == ["done"]
    assert [(one.task.key, one.began) for one in fleet.attempts] == [
        (teachers[1].key, 0),
        (student.key, TRAINING),
    ]
    assert fleet.said() == ["info: first, 1 of the 2 models it learns from embed what it needs"]
    assert {item["key"] for item in fleet.said("member")} == {
        student.key
    }  # the others are none of this run's


@pytest.mark.parametrize("first", [True, False])
def test_a_teacher_that_the_run_wants_itself_is_told_of(tmp_path: Path, first: bool) -> None:
    teacher = member(2, D=4)
    fleet = PlayedFleet(tmp_path)

    async def scene() -> None:
        student = asyncio.ensure_future(fleet.ensure(member(1, inputs=(teacher,)), rank=3))
        if not first:
            await asyncio.sleep(5)
        await asyncio.gather(student, fleet.ensure(teacher, rank=7))

    played(scene())
    assert {item["key"] for item in fleet.said("member")} == {member(1).key, teacher.key}
    assert fleet.scheduler.works[teacher.key].order[0] == (7 if first else 3)


def test_a_teacher_that_waits_for_other_vectors_stays_none_of_the_run_s_own(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    one, other = (member(7, D=4, splits=splits) for splits in ("test", "train"))
    students = (member(1, inputs=(one,)), member(2, inputs=(other,)))
    assert fleet.train(*students) == ["done", "done"]
    assert {item["key"] for item in fleet.said("member")} == {student.key for student in students}


def test_without_its_inputs_a_member_fails_and_says_which_is_missing(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[7] = [fails(RuntimeError("no luck"))] * 3
    (outcome,) = played(fleet.ensure(member(1, inputs=(member(7, D=4),))))
    assert outcome.state == "failed"
    assert outcome.message.startswith("what it is trained from could not be made: member 7 (key ")
    assert fleet.started == [7] * 3


def test_vectors_of_a_member_need_nothing_that_it_was_trained_from(tmp_path: Path) -> None:
    student = member(1, inputs=(member(7, D=4),))
    fleet = PlayedFleet(tmp_path)
    fleet.store.model(student.key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    assert fleet.train(student) == ["done"]
    assert fleet.started == [1]


def test_a_look_up_that_fails_fails_its_member_alone(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / member(1).key).write_text("no folder")
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].message.startswith("member 1: ")
    assert member(1).key in outcomes[0].message


def test_members_start_by_their_index_however_long_their_look_up_takes(tmp_path: Path) -> None:
    """The store answers for low indices last."""
    fleet = PlayedFleet(tmp_path, parallel=1)
    look_ups_take(fleet, lambda index: 0.5 * (5 - index))
    assert fleet.train(*(member(index) for index in (1, 2, 3, 4))) == ["done"] * 4
    assert fleet.started == [1, 2, 3, 4]


def test_a_look_up_that_fails_late_holds_nobody_up(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    look_up = fleet.scheduler._missing

    async def broken(task: MemberTask) -> Any:
        if task.spec.index == 1:
            await asyncio.sleep(1)
            raise OSError("the store can't be read")
        return await look_up(task)

    fleet.scheduler._missing = broken  # type: ignore[method-assign]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].message == "member 1: the store can't be read"
    assert [one.began for one in fleet.attempts] == [1]


def student(teacher: MemberTask) -> MemberTask:
    return member(2, inputs=(replace(teacher, targets=targets("train")),))


def test_a_store_that_fails_while_inputs_are_looked_up_fails_that_member(tmp_path: Path) -> None:
    fleet, task = PlayedFleet(tmp_path), student(member(1))
    look_up, looks = fleet.scheduler._missing, Counter[str]()

    async def fails_for_inputs(asked: MemberTask) -> Any:
        looks[asked.key] += 1
        if asked.key == member(1).key:
            raise OSError("the disk is gone")
        return await look_up(asked)

    fleet.scheduler._missing = fails_for_inputs  # type: ignore[method-assign]
    (outcome,) = played(fleet.ensure(task))
    assert (outcome.state, outcome.message) == ("failed", "member 2: the disk is gone")


def test_with_a_budget_inputs_that_a_member_needs_after_all_are_made(tmp_path: Path) -> None:
    """Its weights were there, and its own process found them damaged: it is trained again, by its teacher's vectors."""
    fleet = PlayedFleet(tmp_path, budget=Budget(members=50))
    task = student(member(1))
    folder = fleet.store.model(task.key)
    folder.commit(Done({}, {"attempt": "before", "seconds": 1.0}))

    async def finds_damage(attempt: Attempt) -> None:
        await attempt.arrive()
        folder.distrust()
        raise ActorDiedError

    fleet.scenes[2] = [finds_damage]
    assert fleet.train(task) == ["done"]
    assert fleet.started == [2, 1, 2]
