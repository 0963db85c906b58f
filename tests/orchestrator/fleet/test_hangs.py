"""A member that hangs raises nothing. It is known by the time since its last step, and by nothing else."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.fleet.actors import member as member_actor
from muster.orchestrator.fleet.actors.member import Ticker
from muster.orchestrator.fleet.failures import HANG_SECONDS, HANG_STEPS, StepWatch
from muster.workers.train.loop import LOOK_STEPS
from tests.orchestrator.fleet.stubs import Attempt, PlayedFleet, Scene, fails, member, played


def watch(*told: tuple[float, dict[str, Any]]) -> StepWatch:
    found = StepWatch()
    for when, progress in told:
        found.follow(dict(progress), when)
    return found


def step(seconds: float, stepping: bool = True) -> dict[str, Any]:
    return {"step": 3, "step_seconds": seconds, "stepping": stepping}


def test_silence_between_two_steps_counts_from_ten_minutes_on() -> None:
    found = watch((100, step(0.1)))
    assert found.silence(100 + HANG_SECONDS - 0.1) == 0
    assert found.silence(100 + HANG_SECONDS) == 600
    assert found.silence(100 + HANG_SECONDS + 5) == 605


def test_long_steps_get_thirty_times_their_usual_time() -> None:
    found = watch((0, step(1)), (100, step(60)))
    assert found.silence(100 + 30 * 60 - 1) == 0
    assert found.silence(100 + 30 * 60) == 1800
    assert HANG_STEPS > 2 * LOOK_STEPS  # a team tells of every tenth step


def test_a_shorter_limit_may_be_set_and_the_usual_time_still_counts() -> None:
    assert watch((0, step(0.1))).silence(5, 5) == 5
    assert watch((0, step(0.1))).silence(4.9, 5) == 0
    assert watch((0, step(1))).silence(29, 5) == 0
    assert watch((0, step(1))).silence(30, 5) == 30


def test_each_step_begins_the_time_anew() -> None:
    assert watch((0, step(1)), (500, step(1))).silence(700) == 0


@pytest.mark.parametrize(
    "told",
    [
        [],  # a pack is fetched, weights are read, and the first step is taken
        [{"state": "starting", "node": "host"}],
        [step(1), step(1, stepping=False)],  # a checkpoint is written, and the first step after it is taken
        [step(1), {"state": "embedding"}],
        [step(1, stepping=False)],
    ],
)
def test_nothing_but_steps_is_timed(told: list[dict[str, Any]]) -> None:
    assert watch(*((0, progress) for progress in told)).silence(1e9) == 0


def test_fields_about_steps_go_no_further() -> None:
    progress = {**step(1), "loss": 1.0}
    StepWatch().follow(progress, 0)
    assert progress == {"step": 3, "loss": 1.0}


def then(*steps: int, hang: bool = True, saved: int = 0) -> Scene:
    """A member that takes steps of a second, and then none."""

    async def scene(attempt: Attempt) -> None:
        await attempt.arrive()
        for number in steps:
            await attempt.step(number)
        if saved:
            attempt.save(saved)
        if hang:
            await asyncio.Event().wait()
        attempt.finish()

    return scene


def test_a_member_that_hangs_is_ended_and_tried_on_another_node(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.scenes[1] = [then(6, 7)]
    (outcome,) = played(fleet.ensure(member(1)))
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert [one.node for one in fleet.attempts] == ["a", "b"]
    assert 2 + HANG_SECONDS <= fleet.attempts[1].began <= 2 + HANG_SECONDS + 5
    (retry,) = [item["message"] for item in fleet.said("member") if item["state"] == "retrying"]
    assert retry == (
        "it hung: no step for 603 s after epoch 1, step 7 of 100 on host-a, where a step takes 1 s; its process was "
        "ended"
    )


def test_a_member_that_hangs_again_and_again_is_given_up_unless_it_makes_progress(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)
    fleet.scenes[1] = [then(1)] * 3
    fleet.scenes[2] = [then(1), then(1), then(1, saved=1), then(1), then(1)]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("failed", 3), ("done", 6)]
    first, second, *_ = outcomes[0].message.splitlines()
    assert first.startswith(f"member 1 (key {member(1).key}): it hung: no step for 60")
    assert second.startswith("    given up after 3 attempt(s), the last on host-")


def test_a_slow_start_a_slow_checkpoint_and_a_slow_embedding_are_no_hangs(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def patient(attempt: Attempt) -> None:
        await asyncio.sleep(1000)
        await attempt.arrive()
        await asyncio.sleep(1000)
        await attempt.step(1)
        await attempt.step(2, last=True)
        await asyncio.sleep(1000)
        await attempt.step(3)
        await attempt.tell(state="embedding")
        await asyncio.sleep(1000)
        attempt.finish()

    fleet.scenes[1] = [patient]
    (outcome,) = played(fleet.ensure(member(1)))
    assert (outcome.state, outcome.attempts) == ("done", 1)


def test_an_attempt_is_timed_by_its_own_steps(tmp_path: Path) -> None:
    """The one before had taken steps; this one is still being started."""
    fleet = PlayedFleet(tmp_path)

    async def starts_slowly(attempt: Attempt) -> None:
        await asyncio.sleep(2000)
        attempt.finish()

    async def dies(attempt: Attempt) -> None:
        await attempt.step(1)
        await fails(after=0)(attempt)

    async def dies_after_a_step(attempt: Attempt) -> None:
        await attempt.arrive()
        await attempt.step(1)
        raise RuntimeError("no luck")

    fleet.scenes[1] = [dies, dies_after_a_step, starts_slowly]
    (outcome,) = played(fleet.ensure(member(1)))
    assert (outcome.state, outcome.attempts) == ("done", 3)


def test_the_limit_is_the_fleet_s(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, hang_seconds=40.0)
    fleet.scenes[1] = [then(1)]
    fleet.train(member(1))
    assert fleet.attempts[1].began == 45  # it looks each five seconds


def test_a_process_that_can_t_be_ended_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [then(1)]
    kill = fleet.kill
    fleet.kill = lambda process: None  # type: ignore[method-assign]

    async def scene() -> list[Any]:
        asyncio.get_running_loop().call_later(620, setattr, fleet, "kill", kill)
        return await fleet.ensure(member(1))

    (outcome,) = played(scene())
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert fleet.attempts[1].began == 605 + 30
    gc.collect()  # what nobody asked for is told then
    assert "never retrieved" not in caplog.text


def test_ticks_are_rare_but_each_change_from_steps_or_to_them_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str, Any]] = []
    fleet = SimpleNamespace(report=SimpleNamespace(remote=lambda *what: told.append(what)))
    clock = iter([10.0, 10.5, 10.9, 11.0, 11.1, 11.2, 11.3])
    monkeypatch.setattr(member_actor.time, "monotonic", lambda: next(clock))
    ticker = Ticker(fleet, "key", "attempt")
    for progress in (
        {"step": 1, "stepping": True},
        {"step": 2, "stepping": True},
        {"step": 3, "stepping": False},
        {"step": 4, "stepping": True},
        {"step": 5, "stepping": False},
        {"state": "embedding"},
        {"step": 9, "stepping": True},
    ):
        ticker(progress)
    assert [(key, attempt) for key, attempt, _ in told] == [("key", "attempt")] * 6
    assert [progress.get("step") for *_, progress in told] == [1, 3, 4, 5, None, 9]
