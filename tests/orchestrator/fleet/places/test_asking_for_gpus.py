"""Which GPUs a fleet asks for: as many as it needs of those that are free, and all where these do not do. GPUs are
played, as in stubs.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.fleet.places.holding import PROMPT_SECONDS
from muster.workers.errors import ToldToEndError
from tests.orchestrator.fleet.places.test_gpus import fleet_of
from tests.orchestrator.fleet.stubs import Attempt, PlayedFleet, bier, fails, member, played


def asked(fleet: PlayedFleet) -> Counter[str]:
    return Counter(one.node for one in fleet.holders)


@pytest.mark.parametrize("members", [1, 3, 9])
def test_a_small_launch_leaves_the_other_gpus_of_a_large_cluster_alone(tmp_path: Path, members: int) -> None:
    fleet = fleet_of(tmp_path, 8, 8, 8)
    assert set(fleet.train(*(member(index) for index in range(1, members + 1)))) == {"done"}
    assert len(fleet.holders) == members
    assert {one.began for one in fleet.attempts} == {0}  # and waits for nothing


def test_those_that_others_have_are_not_waited_for_while_some_are_free(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 4, 4)
    fleet.others |= {"a0", "a1", "a2"}
    fleet.train(member(1), member(2), member(3))
    assert asked(fleet) == {"a": 1, "b": 2} or asked(fleet) == {"b": 3}


def test_where_the_free_ones_are_too_few_all_are_waited_for(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2, 2)
    fleet.others |= {"a0", "b0", "b1"}

    async def scene() -> None:
        done = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(3)
        assert asked(fleet) == {"a": 2, "b": 2}
        fleet.others.discard("b1")
        await asyncio.sleep(3)
        assert sorted(one.gpu for one in fleet.attempts) == ["a1", "b1"]
        await done

    played(scene())


def test_what_somebody_else_was_quicker_to_take_is_not_waited_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_of(tmp_path, 1, 1)
    fleet.others |= {"a0", "b0"}
    stale: Any = {"a": {"CPU": 64, "GPU": 1}, "b": {"CPU": 64, "GPU": 0}}
    monkeypatch.setattr(fleet, "free", lambda: stale)

    async def scene() -> None:
        done = asyncio.ensure_future(fleet.ensure(member(1)))
        await asyncio.sleep(PROMPT_SECONDS / 2)
        assert asked(fleet) == {"a": 1}
        fleet.others.discard("b0")
        stale["a"]["GPU"], stale["b"]["GPU"] = 0, 1
        await asyncio.sleep(PROMPT_SECONDS)
        assert [one.gpu for one in fleet.attempts] == ["b0"]
        await done
        assert all(one.ended.is_set() for one in fleet.holders)

    played(scene())


def test_in_place_of_one_that_fails_members_another_is_asked_for(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.scenes[1] = [fails(RuntimeError("CUDA error: unspecified launch failure"), after=1)]
    assert fleet.train(member(1)) == ["done"]
    assert len({one.gpu for one in fleet.attempts}) == 2


def test_ranks_that_were_started_find_their_gpus_free(tmp_path: Path) -> None:
    """They take them some seconds later, and nobody must be quicker: neither the members behind them nor scores."""
    fleet = fleet_of(tmp_path, 2)

    async def scene() -> None:
        done = asyncio.ensure_future(fleet.ensure(bier(2), member(2), member(3)))
        await asyncio.sleep(1)
        loan = asyncio.ensure_future(fleet.scheduler.lend())
        for _ in range(8):
            await asyncio.sleep(1)
            assert not any(one.gpu for one in fleet.holders if not one.ended.is_set())
        assert fleet.attempts[0].ranked
        await done
        loan.cancel()

    played(scene())


def test_gpus_that_were_struck_and_found_in_order_are_given_back_to_ranks_too(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.scenes[1] = [fails(RuntimeError("CUDA error: unspecified launch failure"), after=1)]

    async def scene() -> None:
        done = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(5)
        ranks = asyncio.ensure_future(fleet.ensure(bier(2)))
        await asyncio.sleep(7)  # the member that failed is on the other GPU, and the ranks are next
        (struck,) = {one.gpu for one in fleet.attempts[:1]}
        assert [one.gpu for one in fleet.holders if not one.ended.is_set() and one.gpu] == [
            gpu for gpu in ("a0", "a1") if gpu != struck
        ]
        await done
        await ranks

    played(scene())


def test_as_many_members_share_a_gpu_that_is_yet_to_come_as_one_that_is_there(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, share=0.25, parallel=6)
    fleet.alive["a"]["CPU"] = 2  # and so two share it

    async def scene() -> None:
        done = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 7))))
        await asyncio.sleep(3)
        assert asked(fleet) == {"a": 1, "": 2}
        await done

    played(scene())


def test_a_member_that_had_better_go_elsewhere_gets_a_gpu_there(tmp_path: Path) -> None:
    """Its process died on the node of the only GPU that is held."""
    fleet = fleet_of(tmp_path, 1, 1)
    fleet.scenes[1] = [fails(after=1)]
    assert fleet.train(member(1)) == ["done"]
    first, second = fleet.attempts
    assert first.node != second.node


def test_the_last_member_goes_elsewhere_though_gpus_there_were_given_back(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 4, 4)
    fleet.scenes[8] = [fails(after=200)]
    assert fleet.train(*(member(index) for index in range(1, 9))) == ["done"] * 8
    first, second = (one for one in fleet.attempts if one.index == 8)
    assert first.node != second.node


def test_a_node_that_is_taken_away_gets_no_members_on_gpus_that_are_held_there(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)

    async def told(attempt: Attempt) -> None:
        await attempt.arrive()
        fleet.taken_away = [attempt.node]
        raise ToldToEndError("told to end")

    fleet.scenes[1] = [told]
    assert fleet.train(member(1)) == ["done"]
    assert [one.node for one in fleet.attempts] == ["a", "b"]


def test_ranks_that_are_next_ask_for_nothing_on_behalf_of_members_at_work(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 3)

    async def scene() -> list[str]:
        first = asyncio.ensure_future(fleet.ensure(member(1)))
        await asyncio.sleep(3)
        (held,) = fleet.scheduler.placing.holding.gpus.held.values()  # type: ignore[union-attr]
        held.strikes = 1  # it failed somebody before
        ranks = asyncio.ensure_future(fleet.ensure(bier(3)))
        return [outcome.state for found in (await first, await ranks) for outcome in found]

    assert played(scene()) == ["done", "done"]
    assert len(fleet.holders) < 10
