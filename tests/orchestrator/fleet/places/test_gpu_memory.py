"""Members that run out of a GPU's memory, beside others and alone. GPUs are played, as in stubs.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from muster.workers.task import InputPlace
from tests.orchestrator.fleet.places.test_gpus import FULL, fleet_of
from tests.orchestrator.fleet.stubs import Attempt, fails, member, played


def test_where_a_gpu_s_memory_runs_out_a_member_goes_on_with_fewer_beside_it(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, share=0.25)

    async def long(attempt: Attempt) -> None:
        await attempt.step(1)
        await asyncio.sleep(24)
        attempt.finish()

    fleet.scenes[2] = [fails(FULL, after=3), fails(FULL, after=3)]
    fleet.scenes[4] = [long]
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 5))))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [
        ("done", attempts) for attempts in (1, 3, 1, 1)
    ]
    # First beside three, then beside one at most, then alone.
    assert [one.began for one in fleet.attempts if one.index == 2] == [0, 10, 25]
    assert fleet.scheduler.placing.nodes.strikes == {}


def test_alone_on_a_gpu_its_images_leave_it_first_and_then_it_is_its_own_fault(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.scenes[1] = [fails(FULL)] * 9
    outcomes = played(fleet.ensure(member(1)))
    assert (outcomes[0].state, outcomes[0].attempts) == ("failed", 4)
    assert "--gpus-per-member" in outcomes[0].message
    assert "--input host" in outcomes[0].message
    assert [one.task.input for one in fleet.attempts] == ["auto", *["host"] * 3]


@pytest.mark.parametrize("asked", ["host", "device"])
def test_where_the_images_are_to_be_was_said_memory_that_runs_out_counts_at_once(
    tmp_path: Path, asked: InputPlace
) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.scenes[1] = [fails(FULL)] * 9
    outcomes = played(fleet.ensure(member(1, input=asked)))
    assert (outcomes[0].state, outcomes[0].attempts) == ("failed", 3)
    assert {one.task.input for one in fleet.attempts} == {asked}


def test_beside_others_the_images_leave_the_gpu_too(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, share=0.5)
    fleet.scenes[2] = [fails(FULL, after=3)]
    assert fleet.train(member(1), member(2)) == ["done", "done"]
    assert [one.task.input for one in fleet.attempts if one.index == 2] == ["auto", "host"]
