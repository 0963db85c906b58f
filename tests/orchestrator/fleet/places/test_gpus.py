"""GPUs that a fleet holds: which members go where, and what a bad one costs. GPUs are played, as in stubs.py."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from muster.orchestrator.fleet.places.gpus import Gpu, Gpus, Held
from muster.orchestrator.fleet.places.nodes import QUARANTINE_SECONDS
from muster.workers.errors import DeviceError
from tests.orchestrator.fleet.stubs import TRAINING, Attempt, PlayedFleet, bier, fails, member, played, well

LOST = RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be ...")
FULL = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB")


def fleet_of(root: Path, *nodes: int, share: float = 1.0, **more: Any) -> PlayedFleet:
    """Nodes a, b, ... with so many GPUs each, and CPUs enough."""
    fleet = PlayedFleet(root, gpus=share, **more)
    fleet.alive = {name: {"CPU": 64, "GPU": count} for name, count in zip("abcdef", nodes, strict=False)}
    return fleet


def on(fleet: PlayedFleet, gpu: str) -> list[Attempt]:
    return [one for one in fleet.attempts if one.gpu == gpu]


def all_scenes(fleet: PlayedFleet, scene: Any, members: int) -> None:
    for index in range(1, members + 1):
        fleet.scenes[index] = [scene] * 20


def bad(gpu: str, error: BaseException = LOST, *, after: float = 0.5, good: int = 0) -> Any:
    """What members do where one GPU fails all of them, once so many were trained on it."""
    ended = Counter[str]()

    async def scene(attempt: Attempt) -> None:
        await attempt.arrive()
        if attempt.gpu == gpu and ended[gpu] >= good:
            await asyncio.sleep(after)
            raise error
        for step in range(1, 11):
            await attempt.step(step, last=step == 10)
        attempt.finish()
        ended[attempt.gpu] += 1

    return scene


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_members_fill_the_gpus_and_each_gpu_has_its_share_of_them(tmp_path: Path, share: float) -> None:
    fleet = fleet_of(tmp_path, 2, 1, share=share)
    all_scenes(fleet, bad("none"), 30)
    assert fleet.train(*(member(index) for index in range(1, 31))) == ["done"] * 30
    most = {gpu: max_at_once(on(fleet, gpu)) for gpu in ("a0", "a1", "b0")}
    assert most == dict.fromkeys(("a0", "a1", "b0"), int(1 / share))
    assert fleet.started == sorted(fleet.started)


def max_at_once(attempts: list[Attempt]) -> int:
    """Scenes of 10 s: how many begin within one another."""
    return max(sum(one.began <= other.began < one.began + 10 for other in attempts) for one in attempts)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_gpu_that_fails_every_start_costs_three_attempts(tmp_path: Path, share: float) -> None:
    fleet = fleet_of(tmp_path, 4, 4, share=share)
    all_scenes(fleet, bad("a2"), 48)
    assert fleet.train(*(member(index) for index in range(1, 49))) == ["done"] * 48
    assert len(on(fleet, "a2")) == 3
    text = fleet.said()[-1]
    assert (
        "GPU a2 (T1000) of node host-a failed a member (CUDA error: uncorrectable ECC error encountered), 3 times"
        in text
    )
    assert "it gets none for 10 minutes" in text
    assert "dmesg" in text
    assert fleet.said("member")[-1]["state"] == "done"


def test_a_gpu_that_fails_in_mid_run_loses_no_member(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2, 2)
    all_scenes(fleet, bad("b1", DeviceError("torch can use none there"), after=5.0, good=2), 24)
    assert fleet.train(*(member(index) for index in range(1, 25))) == ["done"] * 24
    assert len(on(fleet, "b1")) == 5


def test_a_failure_that_does_not_last_costs_one_look(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)
    fleet.scenes[1] = [fails(LOST, after=0.5)]
    assert fleet.train(member(1), member(2)) == ["done", "done"]
    assert len(fleet.probed) == 1
    assert "it is looked at before it gets another" in fleet.said()[0]


def test_a_gpu_that_no_process_can_use_gets_nothing_until_one_can(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.sick["a1"] = "the driver does not know it any more"

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 21))))
        await asyncio.sleep(40)
        assert on(fleet, "a1") == []
        del fleet.sick["a1"]
        await asked

    played(scene())
    assert on(fleet, "a1")[0].began == pytest.approx(75, abs=6)  # looked at after 15 s and 60 more
    assert "the driver does not know it any more" in fleet.said()[0]


def test_after_its_time_a_bad_gpu_is_tried_once_more(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    all_scenes(fleet, bad("a1"), 100)
    fleet.train(*(member(index) for index in range(1, 101)))
    began = [one.began for one in on(fleet, "a1")]
    assert len(began) == 4
    assert began[3] - began[2] == pytest.approx(QUARANTINE_SECONDS, abs=15)


def test_a_member_that_fails_on_every_gpu_is_given_up(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 4)
    fleet.scenes[1] = [fails(LOST, after=0.5)] * 9
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert len({one.gpu for one in fleet.attempts if one.index == 1}) >= 3
    assert "uncorrectable ECC error" in outcomes[0].message


def test_where_the_only_gpu_is_bad_there_is_an_end(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1)
    all_scenes(fleet, bad("a0"), 3)
    fleet.sick["a0"] = "CUDA error: unspecified launch failure"
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 4))))
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3
    assert "no GPU" in outcomes[2].message


def test_no_more_gpus_are_held_than_there_are_members_for(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 4)

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(1)
        assert sum(not one.ended.is_set() for one in fleet.holders) == 2
        await asked
        await asyncio.sleep(1)
        assert all(one.ended.is_set() for one in fleet.holders)

    played(scene())


def test_a_gpu_that_another_job_gives_back_is_taken(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.others = {"a0"}

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(*(member(index) for index in range(1, 9))))
        await asyncio.sleep(12)
        assert {one.gpu for one in fleet.attempts} == {"a1"}
        fleet.others.clear()
        await asked

    played(scene())
    assert {one.gpu for one in fleet.attempts} == {"a0", "a1"}


def test_ranks_find_their_gpus_free(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)

    async def scene() -> None:
        first = asyncio.ensure_future(fleet.ensure(member(2), member(3)))
        await asyncio.sleep(1)
        await asyncio.gather(first, fleet.ensure(bier(2)))

    async def ranks(attempt: Attempt) -> None:
        assert all(one.ended.is_set() for one in fleet.holders)
        await well(attempt)

    fleet.scenes[1] = [ranks]
    played(scene())
    assert [(one.ranked, one.began) for one in fleet.attempts] == [(False, 0), (False, 0), (True, TRAINING)]


def test_a_member_that_waits_on_a_node_that_is_gone_goes_elsewhere(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1)

    async def waits(attempt: Attempt) -> None:
        await asyncio.Event().wait()

    fleet.scenes[1] = [waits]

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1)))
        await asyncio.sleep(2)
        node = fleet.attempts[0].node
        del fleet.alive[node]
        for one in fleet.holders:
            if one.node == node:
                one.ended.set()
        assert [outcome.state for outcome in await asked] == ["done"]
        assert fleet.attempts[1].node != node

    played(scene())


def test_nodes_that_are_lost_while_a_process_starts_there_cost_its_member_nothing(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, 1, 1, 1)

    async def dies_with_its_node(attempt: Attempt) -> None:
        await asyncio.sleep(2)
        del fleet.alive[attempt.node]
        for one in fleet.holders:
            if one.node == attempt.node:
                one.ended.set()
        raise ActorDiedError

    fleet.scenes[1] = [dies_with_its_node] * 3
    assert fleet.train(member(1)) == ["done"]
    retries = [item["message"] for item in fleet.said("member") if item["state"] == "retrying"]
    assert retries == ["its node was lost"] * 3


def test_without_gpus_nothing_is_held(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.train(member(1))
    assert fleet.holders == []


def test_a_healthy_gpu_waits_for_nobody_else(tmp_path: Path) -> None:
    """48 members on 2 x 8 GPUs, one of which fails each start and one later: the drill of `drills/test_gpus.py`."""
    fleet = fleet_of(tmp_path, 8, 8)
    all_scenes(fleet, bad("a3"), 48)
    assert fleet.train(*(member(index) for index in range(1, 49))) == ["done"] * 48
    last = max(one.began for one in fleet.attempts)
    for gpu in (f"{node}{number}" for node in "ab" for number in range(8)):
        if gpu != "a3":
            starts = [one.began for one in on(fleet, gpu)]
            idle = sum(max(0.0, later - (earlier + 10)) for earlier, later in itertools.pairwise(starts))
            assert idle <= 0.05 * last


def test_the_emptiest_and_most_reliable_gpu_is_first() -> None:
    gpus = Gpus()
    for name in "wxyz":
        gpus.held[name] = Held(Gpu("a" if name < "z" else "b", "host", name), slots=2, proven=True)
    held = {name: gpus.held[name] for name in "wxyz"}
    held["w"].members["one"] = 9
    held["x"].strikes = 1
    assert gpus.place((), (), 9) is held["y"]
    held["y"].out = True
    assert gpus.place((), (), 9) is held["z"]
    assert gpus.place(("b",), (), 9) is held["x"]
    assert gpus.place(("b",), ("a/x",), 9) is held["w"]
    assert gpus.place(("b",), ("a/x",), 0) is None


def test_where_a_holder_dies_its_members_go_on_and_nobody_joins_them_before_it_is_held_again(
    tmp_path: Path,
) -> None:
    fleet = fleet_of(tmp_path, 1)

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2), member(3)))
        await asyncio.sleep(3)
        fleet.holders[0].ended.set()
        assert [outcome.attempts for outcome in await asked] == [1, 1, 1]

    played(scene())
    assert [(one.index, one.gpu, one.began) for one in fleet.attempts] == [
        (1, "a0", 0),
        (2, "a0", 10),
        (3, "a0", 20),
    ]
    assert len(fleet.holders) == 2


def test_a_gpu_that_is_lost_while_a_process_is_hired_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_of(tmp_path, 1, 1)
    hire = fleet.hire

    def node_goes(task: Any, **how: Any) -> Any:
        """As its process is hired, the node goes with its holder."""
        found = hire(task, **how)
        if len(fleet.hired) == 1:
            del fleet.alive[how["node"]]
            for one in fleet.holders:
                if one.node == how["node"]:
                    one.ended.set()
        return found

    monkeypatch.setattr(fleet, "hire", node_goes)
    outcomes = played(fleet.ensure(member(1)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("done", 1)]
    assert len(fleet.attempts) <= 2


def test_a_gpu_is_kept_for_a_moment_for_members_that_fail(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2)
    fleet.scenes[1] = [fails(after=14)]

    async def scene() -> None:
        asked = asyncio.ensure_future(fleet.ensure(member(1), member(2)))
        await asyncio.sleep(13)  # the second has ended
        assert sum(not one.ended.is_set() for one in fleet.holders) == 2
        await asked

    played(scene())
    assert len(fleet.holders) == 2


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_gpu_that_fails_members_after_some_steps_is_left_out_too(tmp_path: Path, share: float) -> None:
    fleet = fleet_of(tmp_path, 2, 2, share=share)

    async def scene(attempt: Attempt) -> None:
        await attempt.arrive()
        for step in range(1, 11):
            await attempt.step(step, last=step == 10)
            if attempt.gpu == "b1" and step == 4:
                raise LOST
        attempt.finish()

    all_scenes(fleet, scene, 40)
    assert fleet.train(*(member(index) for index in range(1, 41))) == ["done"] * 40
    # Whole, it is tried three times; with quarters as many as were on it when it first failed, and what is left.
    assert len(on(fleet, "b1")) <= (3 if share == 1 else 6)


def test_once_nothing_is_left_bad_gpus_are_given_back_too_and_remembered(tmp_path: Path) -> None:
    """Evaluation may need all CPUs of a node, of which each holder has some."""
    fleet = fleet_of(tmp_path, 2)
    all_scenes(fleet, bad("a1"), 20)

    async def scene() -> None:
        await fleet.ensure(*(member(index) for index in range(1, 9)))
        await asyncio.sleep(1)
        assert all(one.ended.is_set() for one in fleet.holders)
        await fleet.ensure(*(member(index) for index in range(9, 17)))

    played(scene())
    assert len(on(fleet, "a1")) == 3
