"""GPUs without the arithmetic that members need: they get none of them, and are left to other jobs. GPUs are played, as
in stubs.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.orchestrator.fleet.places.test_gpus import all_scenes, bad, fleet_of, on
from tests.orchestrator.fleet.stubs import TRAINING, PlayedFleet, member, played

SAID = "info: node host-b gets no members: its GPUs (T1000) have neither bf16 nor TF32"


def modern(count: int) -> list[Any]:
    return [member(index, precision="bf16") for index in range(1, count + 1)]


def holding(fleet: PlayedFleet, node: str) -> int:
    return sum(one.node == node and not one.ended.is_set() for one in fleet.holders)


def test_a_node_of_old_gpus_is_left_to_others_and_told_once(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2, 2)
    fleet.old |= {"b0", "b1"}

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*modern(6)))
        await asyncio.sleep(3)
        assert (holding(fleet, "a"), holding(fleet, "b")) == (2, 0)
        await asked

    played(scene())
    assert {one.node for one in fleet.attempts} == {"a"}
    assert fleet.said() == [SAID]
    assert sum(one.node == "b" for one in fleet.holders) == 2  # they were not asked again and again


def test_one_that_joins_later_is_told_of_too(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)
    fleet.old.add("b0")

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*modern(4)))
        await asyncio.sleep(3)
        fleet.alive["b"] = {"CPU": 8, "GPU": 1}
        await asyncio.sleep(6)
        assert fleet.said() == [SAID]
        await asked

    played(scene())
    assert {one.node for one in fleet.attempts} == {"a"}


def test_who_needs_no_bf16_gets_them(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)
    fleet.old.add("b0")

    async def scene() -> None:
        await fleet.ensure(*modern(2))
        await fleet.ensure(member(7), member(8))

    played(scene())
    assert [(one.index, one.node) for one in fleet.attempts] == [(1, "a"), (2, "a"), (7, "a"), (8, "b")]
    assert fleet.attempts[-1].began == 2 * TRAINING


def test_of_a_node_with_both_the_new_one_is_used(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.old.add("a0")
    assert fleet.train(*modern(3)) == ["done"] * 3
    assert {one.gpu for one in fleet.attempts} == {"a1"}
    assert fleet.said() == []


def test_old_gpus_are_no_hope_where_all_others_are_bad(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)
    fleet.old.add("b0")
    all_scenes(fleet, bad("a0"), 3)
    fleet.sick["a0"] = "CUDA error: unspecified launch failure"
    outcomes = played(fleet.ensure(*modern(3)))
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3
    assert on(fleet, "b0") == []
    assert "no GPU of the cluster can be used" in outcomes[2].message


def test_more_gpus_are_waited_for_elsewhere_than_on_old_nodes(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1, parallel=3)
    fleet.old.add("b0")

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*modern(3)))
        await asyncio.sleep(9)
        waiting = [one for one in fleet.holders if not one.node and not one.ended.is_set()]
        assert {one.gpu for one in waiting} == {""}  # a demand that stays, so that an autoscaler sees it
        assert len(waiting) == 2
        assert len(fleet.holders) <= 6
        await asked

    played(scene())


def test_where_all_that_there_is_lacks_it_nobody_waits_for_ever(tmp_path: Path) -> None:
    """A node may have a GPU with bf16 that Ray was not given."""
    fleet = fleet_of(tmp_path, 2)
    fleet.old |= {"a0"}
    fleet.alive["a"]["GPU"] = 2
    fleet.others.add("a1")
    outcomes = None

    async def scene() -> Any:
        asked = asyncio.ensure_future(fleet.ensure(*modern(2)))
        await asyncio.sleep(3)
        fleet.alive["a"]["GPU"] = 1
        return await asked

    outcomes = played(scene())
    assert [outcome.state for outcome in outcomes] == ["failed"] * 2
    assert "no GPU of the cluster can be used" in outcomes[0].message
