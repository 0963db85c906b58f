"""GPUs that a fleet lends for scores: whose they are meanwhile, and what they are blamed for. GPUs are played, as in
stubs.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from muster.orchestrator.fleet.places.lending import LEND_SECONDS
from tests.orchestrator.fleet.places.test_gpus import fleet_of
from tests.orchestrator.fleet.stubs import TRAINING, fails, member, now, played


def held(fleet: Any) -> int:
    return sum(not one.ended.is_set() for one in fleet.holders)


def test_a_lent_gpu_is_nobody_else_s_and_is_given_back(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, share=0.25)

    async def scene() -> None:
        loan, gpu = await fleet.scheduler.lend()
        assert gpu.visible == "a0"
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(30)
        assert fleet.attempts == []
        await fleet.scheduler.take_back(loan)
        await asked
        assert {one.began for one in fleet.attempts} == {30}
        await asyncio.sleep(1)
        assert held(fleet) == 0

    played(scene())


def test_it_is_lent_once_the_members_on_it_have_ended(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1)))
        await asyncio.sleep(3)
        assert await fleet.scheduler.lend() is not None
        assert now() == TRAINING
        await asyncio.sleep(60)
        assert held(fleet) == 1  # though nothing waits to be trained
        await asked

    played(scene())


def test_two_loans_have_two_gpus(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)

    async def scene() -> list[str]:
        loans = await asyncio.gather(*(fleet.scheduler.lend() for _ in range(2)))
        return sorted(gpu.visible for _, gpu in filter(None, loans))

    assert played(scene()) == ["a0", "b0"]


def test_where_none_comes_free_or_there_is_none_cpus_do_it(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)
    fleet.others.add("a0")

    async def scene() -> None:
        assert await fleet.scheduler.lend() is None
        assert now() == LEND_SECONDS
        fleet.others.clear()
        await asyncio.sleep(10)
        assert held(fleet) == 0  # nobody waits for it any more

    played(scene())
    without = fleet_of(tmp_path, 0, share=0.0)

    async def at_once() -> None:
        assert await without.scheduler.lend() is None
        assert now() == 0

    played(at_once())


def test_what_a_gpu_fails_counts_against_it(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)

    async def scene() -> None:
        loan, gpu = await fleet.scheduler.lend()
        fleet.sick[gpu.visible] = "CUDA error: unspecified launch failure"
        await fleet.scheduler.take_back(loan, "CUDA error: an illegal memory access was encountered")
        await fleet.ensure(member(1), member(2))
        assert {one.gpu for one in fleet.attempts} == {"a0", "a1"} - {gpu.visible}

    played(scene())
    assert "failed a member (CUDA error: an illegal memory access" in fleet.said()[0]


def test_only_work_that_came_to_its_end_forgives_a_gpu_what_it_failed(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)
    fleet.scenes[1] = [fails(RuntimeError("CUDA error: unspecified launch failure"), after=1)]

    async def scene() -> list[int]:
        await fleet.ensure(member(1), member(2))
        (held,) = fleet.scheduler.placing.holding.gpus.held.values()
        held.strikes, seen = 2, []
        for done in (False, True):
            loan, _ = await fleet.scheduler.lend()
            await fleet.scheduler.take_back(loan, "", done)
            seen.append(held.strikes)
        return seen

    assert played(scene()) == [2, 0]


def test_a_loan_of_a_fleet_that_died_is_not_one_of_those_after_it(tmp_path: Path) -> None:
    fleet, before = fleet_of(tmp_path / "one", 1), fleet_of(tmp_path / "two", 1)

    async def scene() -> None:
        former, _ = await before.scheduler.lend()
        await fleet.scheduler.lend()
        await fleet.scheduler.take_back(former, "CUDA error: unspecified launch failure")
        (held,) = fleet.scheduler.placing.holding.gpus.held.values()
        assert held.usable
        assert held.members

    played(scene())
