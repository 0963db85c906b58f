"""GPUs that a cluster does not have yet: an autoscaler adds nodes for processes that wait. GPUs are played, as in
stubs.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.fleet.places.test_gpus import all_scenes, bad, fleet_of
from tests.orchestrator.fleet.stubs import member, played


def waiting(fleet: Any) -> int:
    return sum(not one.ended.is_set() and not one.gpu and not one.node for one in fleet.holders)


@pytest.mark.parametrize(("share", "lacking"), [(1.0, 6), (0.5, 2)])
def test_members_at_once_that_were_asked_for_are_waited_for(
    tmp_path: Path, share: float, lacking: int
) -> None:
    fleet = fleet_of(tmp_path, 2, share=share, parallel=8)
    all_scenes(fleet, bad("none"), 20)

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 21))))
        await asyncio.sleep(3)
        assert waiting(fleet) == lacking
        fleet.alive["b"] = {"CPU": 64, "GPU": 4}  # an autoscaler's work
        await asyncio.sleep(8)
        assert waiting(fleet) == max(0, lacking - 4)
        assert sum(one.gpu.startswith("b") for one in fleet.attempts) >= 4
        assert {outcome.state for outcome in await asked} == {"done"}
        await asyncio.sleep(1)
        assert all(one.ended.is_set() for one in fleet.holders)

    played(scene())


def test_as_many_as_fit_are_those_that_are_there(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.train(*(member(index) for index in range(1, 9)))
    assert {one.node for one in fleet.holders} == {"a"}


def test_fewer_are_waited_for_as_fewer_are_left(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, parallel=4)

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 4))))
        seen = []
        for _ in range(3):
            await asyncio.sleep(9)
            seen.append(waiting(fleet))
        assert seen[0] == 2
        assert seen == sorted(seen, reverse=True)
        await asked
        assert waiting(fleet) == 0

    played(scene())
