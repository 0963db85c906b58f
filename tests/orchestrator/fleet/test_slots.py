"""Which member starts when: as many at once as there are places, by their index, and never two for one key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.fleet.budget import Budget
from muster.workers.store.records import Done
from muster.workers.task import MemberTask
from tests.orchestrator.fleet.stubs import (
    TRAINING,
    Attempt,
    PlayedFleet,
    bier,
    fails,
    member,
    played,
    well,
)


def most_at_once(fleet: PlayedFleet) -> int:
    """How many attempts overlapped; each took TRAINING."""
    begins = [one.began for one in fleet.attempts]
    return max(sum(begin <= other < begin + TRAINING for other in begins) for begin in begins)


@pytest.mark.parametrize(
    ("parallel", "nodes", "gpus", "threads", "places"),
    [
        (0, [{"CPU": 2}, {"CPU": 3}], 0.0, 1, 5),
        (3, [{"CPU": 2}, {"CPU": 3}], 0.0, 1, 3),
        (0, [{"CPU": 2}, {"CPU": 5}], 0.0, 2, 3),  # a node's rest holds none
        (0, [{"CPU": 1}], 0.0, 2, 1),  # it would fit nowhere; an autoscaler sees that it is wanted
        (0, [{"CPU": 8, "GPU": 2}, {"CPU": 8}], 1.0, 1, 2),
        (0, [{"CPU": 8, "GPU": 1}], 0.25, 1, 4),
        (0, [{"CPU": 8, "GPU": 1}], 1 / 3, 1, 3),  # and not 2.9999
        (0, [{"CPU": 8, "GPU": 2}], 0.4, 1, 4),  # no two GPUs give a share together
        (0, [{"CPU": 4, "GPU": 2}], 0.25, 1, 4),  # a CPU each
        (0, [{"CPU": 2, "GPU": 4}], 1.0, 1, 2),
    ],
)
def test_as_many_members_run_as_there_are_places(
    tmp_path: Path, parallel: int, nodes: list[dict[str, float]], gpus: float, threads: int, places: int
) -> None:
    fleet = PlayedFleet(tmp_path, parallel, gpus)
    fleet.alive = {f"node {number}": has for number, has in enumerate(nodes)}
    assert fleet.train(*(member(index, threads=threads) for index in range(1, 8))) == ["done"] * 7
    assert most_at_once(fleet) == places


def test_a_place_that_comes_free_is_taken_at_once(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    fleet.train(*(member(index) for index in range(1, 6)))
    assert [one.began for one in fleet.attempts] == [0, 0, TRAINING, TRAINING, 2 * TRAINING]


@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_places_that_come_free_together_are_filled_together_on_a_slow_store(
    tmp_path: Path, gpus: float
) -> None:
    fleet = PlayedFleet(tmp_path, gpus=gpus)
    fleet.alive = {"a": {"CPU": 4, "GPU": 4}}
    slow(fleet, 1.0)
    fleet.train(*(member(index) for index in range(1, 9)))
    first, second = fleet.attempts[:4], fleet.attempts[4:]
    assert len({one.began for one in first}) == len({one.began for one in second}) == 1


def slow(fleet: PlayedFleet, seconds: float) -> None:
    """Its store takes so long to say what is missing."""
    look = fleet.scheduler._missing

    async def looks(task: MemberTask) -> tuple[bool, list[Any]]:
        await asyncio.sleep(seconds)
        return await look(task)

    fleet.scheduler._missing = looks  # type: ignore[method-assign]


def test_with_a_budget_members_are_counted_one_after_the_other(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, budget=Budget(members=3))
    fleet.alive = {"a": {"CPU": 4}}
    slow(fleet, 1.0)
    states = fleet.train(*(member(index) for index in range(1, 7)))
    assert states == ["done"] * 3 + ["dropped"] * 3


def test_of_members_that_others_made_meanwhile_a_budget_counts_none(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, budget=Budget(members=2))
    fleet.alive = {"a": {"CPU": 1}}

    async def others(attempt: Attempt) -> None:
        """Another job makes the next two while this one is at work."""
        await well(attempt)
        for index in (2, 3):
            Attempt(fleet, member(index), False, (), "a").finish()

    fleet.scenes[1] = [others]
    assert fleet.train(*(member(index) for index in range(1, 5))) == ["done", "reused", "reused", "done"]


def test_a_node_that_joins_is_used_soon(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.alive = {"a": {"CPU": 1}}

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(1)
        fleet.alive["b"] = {"CPU": 1}
        await asked

    played(scene())
    assert [one.began for one in fleet.attempts] == [0, 5]


def test_a_cluster_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.silent_until = 7
    assert fleet.train(member(1), member(2)) == ["done", "done"]
    assert [one.began for one in fleet.attempts] == [10, 10]
    assert set(fleet.said()) == {"warning: the cluster does not say what it has: no answer"}


def test_members_start_by_their_index_whatever_the_order_they_are_asked_in(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.train(member(3), member(1), member(4), member(2))
    assert fleet.started == [1, 2, 3, 4]


def test_of_members_with_one_index_that_of_the_lowest_rank_is_first(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def scene() -> None:
        asked = [fleet.ensure(member(1, D=6 - rank), member(2, D=6 - rank), rank=rank) for rank in (2, 0, 1)]
        await asyncio.gather(*asked)

    played(scene())
    assert [(one.index, one.task.spec.dimension) for one in fleet.attempts] == [
        (1, 6), (1, 5), (1, 4), (2, 6), (2, 5), (2, 4),
    ]  # fmt: skip


def test_of_those_of_one_rank_the_first_that_was_asked_for_is_first(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.train(member(1, D=5), member(1, D=2), member(1, D=4), member(1, D=3))
    assert [one.task.spec.dimension for one in fleet.attempts] == [5, 2, 4, 3]


def test_a_member_that_is_tried_again_keeps_its_turn(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.scenes[1] = [fails(), fails()]
    assert fleet.train(member(1), member(2), member(3)) == ["done"] * 3
    assert fleet.started == [1, 1, 1, 2, 3]


def test_two_askers_of_a_member_share_one_training(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def scene() -> None:
        one, other = await asyncio.gather(
            fleet.ensure(member(1), asker="x"), fleet.ensure(member(1), asker="y")
        )
        assert one == other
        assert (one[0].key, one[0].index, one[0].state, one[0].attempts) == (member(1).key, 1, "done", 1)
        assert one[0].message == ""

    played(scene())
    assert fleet.started == [1]


def test_outcomes_come_in_the_order_asked(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    found = played(fleet.ensure(member(2), member(1)))
    assert [outcome.index for outcome in found] == [2, 1]


def test_what_the_store_has_is_not_made_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    task = member(1)
    fleet.store.model(task.key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    fleet.store.model(task.key).embedding(task.targets[0].digest).commit(Done({}, {}))
    assert fleet.train(task) == ["reused"]
    assert fleet.started == []
    assert [item["epoch"] for item in fleet.said("member")] == [3]


def test_a_member_that_was_made_while_it_queued_is_not_made_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def makes_the_other(attempt: Attempt) -> None:
        await well(attempt)
        Attempt(fleet, member(2), False, [], "").finish()

    fleet.scenes[1] = [makes_the_other]
    assert fleet.train(member(1), member(2)) == ["done", "reused"]
    assert fleet.started == [1]
    assert fleet.said("member")[-1]["epoch"] == 3


def test_a_key_that_another_job_trains_is_waited_for(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.taken = {member(1).key}

    async def scene() -> list[str]:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(7)
        fleet.taken.clear()
        return [outcome.state for outcome in await asked]

    assert played(scene()) == ["done", "done"]
    assert [(one.index, one.began) for one in fleet.attempts] == [(2, 0), (1, 8)]  # it looks each two seconds
    waits = [(item["state"], item["message"]) for item in fleet.said("member") if "message" in item]
    assert waits == [("queued", "waiting: another job on the cluster trains it")]  # it may be hours
    assert fleet.said() == ["info: member 1 waits, as another job on the cluster trains it"]


@pytest.mark.parametrize(("ranks", "gpus", "beside"), [(2, 0.0, 1), (2, 1.0, 1), (2, 0.5, 0), (3, 0.0, 0)])
def test_a_model_of_several_ranks_takes_their_places(
    tmp_path: Path, ranks: int, gpus: float, beside: int
) -> None:
    fleet = PlayedFleet(tmp_path, parallel=3, gpus=gpus)
    if gpus:
        fleet.alive = {"a": {"CPU": 4, "GPU": 4}}
    model = bier(ranks)

    async def scene() -> None:
        await asyncio.gather(fleet.ensure(model), fleet.ensure(member(2), member(3), rank=1))

    played(scene())
    assert [one.ranked for one in fleet.attempts] == [True, False, False]
    assert [one.began for one in fleet.attempts].count(0) == 1 + beside


def test_a_wide_model_waits_for_its_places_and_starts_once_nothing_else_runs(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)

    async def scene() -> None:
        first = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(1)
        await asyncio.gather(first, fleet.ensure(bier(5), rank=1))

    played(scene())
    assert [(one.ranked, one.began) for one in fleet.attempts] == [(False, 0), (False, 0), (True, TRAINING)]


def test_of_a_ranked_model_the_vectors_are_one_process_work(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    model = bier(2)
    fleet.store.model(model.key).commit(Done({}, {"attempt": "old", "seconds": 1.0}))
    assert fleet.train(model, member(2)) == ["done", "done"]
    assert [(one.ranked, one.began) for one in fleet.attempts] == [(False, 0), (False, 0)]


def test_each_attempt_has_a_name_of_its_own_and_its_process_ends_with_it(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails()]
    fleet.train(member(1), member(2))
    assert len({one.name for one in fleet.attempts}) == 3
    assert fleet.at_work() == []


def test_a_fleet_is_idle_without_members(tmp_path: Path) -> None:
    assert PlayedFleet(tmp_path).train() == []
