"""What follows from an attempt that fails: another one, elsewhere, or the end of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

from muster.orchestrator.fleet.work import FUTILE_ATTEMPTS, MOST_UNSAVED
from muster.workers.errors import CorruptFileError, DivergedError, ToldToEndError, UsageError
from tests.orchestrator.fleet.stubs import TRAINING, Attempt, PlayedFleet, bier, fails, member, played, well

MEMORY = OutOfMemoryError("the node had no memory left")


def nodes_of(fleet: PlayedFleet, index: int) -> list[str]:
    return [one.node for one in fleet.attempts if one.index == index]


def test_a_member_is_tried_again_and_given_up_after_three_futile_attempts_in_a_row(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails(), fails()]
    fleet.scenes[2] = [fails(), fails(), fails()]
    assert FUTILE_ATTEMPTS == 3
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("done", 3), ("failed", 3)]
    assert fleet.states(1) == [
        "queued",
        *["starting", "starting", "retrying"] * 2,
        "starting",
        "starting",
        "training",
        "done",
    ]
    assert fleet.states(2)[-2:] == ["starting", "failed"]


def test_a_new_checkpoint_begins_the_count_of_futile_attempts_anew(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.alive = {"a": {"CPU": 1}}
    fleet.scenes[1] = [fails(), fails(), fails(saved=1), fails(), fails(), fails(saved=2), fails(), fails()]
    fleet.scenes[2] = [fails(saved=1), fails(saved=1), fails(saved=1), fails(saved=1)]  # nothing new
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("done", 9), ("failed", 4)]


def test_what_is_given_up_tells_where_how_far_and_what_to_do(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def dies(attempt: Attempt) -> None:
        await attempt.arrive()
        await attempt.step(7)
        attempt.log(b"\xff" + b"".join(b"\nline %d" % number for number in range(20)))
        raise CorruptFileError("models/x is damaged.")

    fleet.alive = {"a": {"CPU": 1}}
    fleet.scenes[1] = [dies] * 3
    (outcome,) = played(fleet.ensure(member(1)))
    assert outcome.message.splitlines() == [
        f"member 1 (key {member(1).key}): models/x is damaged.",
        "    given up after 3 attempt(s), the last on host-a, epoch 1, step 7 of 100; the end of its log:",
        *(f"    line {number}" for number in range(12, 20)),
        "    Its finished epochs are kept: `muster resume` tries it again.",
    ]
    assert fleet.said("member")[-1]["message"] == outcome.message
    retries = [item["message"] for item in fleet.said("member") if item["state"] == "retrying"]
    assert retries == ["models/x is damaged."] * 2


def test_a_node_is_known_from_the_text_of_a_kill_for_memory(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def dies(attempt: Attempt) -> None:
        raise OutOfMemoryError(
            f"Memory on the node (IP: 10.0.0.7, ID: {attempt.node}) was 9.9GB used / 10GB limit"
        )

    fleet.scenes[1] = [dies]
    fleet.scenes[2] = [dies]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("done", 2), ("done", 2)]
    for index in (1, 2):
        first, second = nodes_of(fleet, index)
        assert first != second
    assert fleet.scheduler.placing.nodes.strikes == {}  # neither is the node's fault beside others


def test_members_leave_a_node_that_is_taken_away_and_none_comes_there(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def heeds(attempt: Attempt) -> None:
        await attempt.arrive()
        for step in range(30):
            await asyncio.sleep(1)
            if step == 3:
                fleet.taken_away = ["a"]
            if await attempt.tell(stepping=True):
                raise ToldToEndError(f"Member {attempt.index} was told to end.")
        attempt.finish()

    fleet.scenes = defaultdict(list, {index: [heeds] * 2 for index in range(1, 7)})
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 7))))
    assert [outcome.state for outcome in outcomes] == ["done"] * 6
    left = [one.index for one in fleet.attempts if one.node == "a"]
    assert len(left) == 2  # those that began there
    assert [outcome.attempts for outcome in outcomes] == [2 if index in left else 1 for index in range(1, 7)]
    assert fleet.scheduler.placing.nodes.strikes == {}


def test_what_never_came_to_a_node_says_so(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def dies(attempt: Attempt) -> None:
        raise RuntimeError("no such class")

    fleet.scenes[1] = [dies] * 3
    (outcome,) = played(fleet.ensure(member(1)))
    assert outcome.message.splitlines() == [
        f"member 1 (key {member(1).key}): RuntimeError: no such class",
        "    given up after 3 attempt(s), the last on no node",
        "    Its finished epochs are kept: `muster resume` tries it again.",
    ]


@pytest.mark.parametrize("error", [DivergedError("the loss became nan"), UsageError("the lists differ")])
def test_what_would_happen_again_is_not_tried_again_and_is_no_fault_of_the_node(
    tmp_path: Path, error: Exception
) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.alive = {"a": {"CPU": 4}}
    for index in (1, 2, 3):
        fleet.scenes[index] = [fails(error)]
    outcomes = played(fleet.ensure(member(1), member(2), member(3), member(4)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("failed", 1)] * 3 + [("done", 1)]
    assert fleet.said() == []


def test_a_member_that_failed_goes_to_another_node(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.scenes[1] = [fails(), fails()]
    fleet.train(member(1))
    assert nodes_of(fleet, 1) == ["a", "b", "a"]
    assert [one.avoided for one in fleet.attempts] == [[], ["a"], ["b"]]


def test_a_member_stays_where_no_other_node_could_take_it(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.alive = {"a": {"CPU": 4}, "b": {"CPU": 1}}
    fleet.scenes[1] = [fails()]
    fleet.train(member(1, threads=2))
    assert [one.avoided for one in fleet.attempts] == [[], []]


@pytest.mark.parametrize(("ranks", "avoided"), [(2, ["a"]), (3, [])])
def test_ranks_go_to_another_node_where_all_fit_there(tmp_path: Path, ranks: int, avoided: list[str]) -> None:
    fleet = PlayedFleet(tmp_path, parallel=4)
    fleet.scenes[1] = [fails()]
    fleet.train(bier(ranks))
    assert [one.avoided for one in fleet.attempts] == [[], avoided]


def test_a_member_on_a_gpu_stays_where_the_gpus_are(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, gpus=1.0)
    fleet.alive = {"a": {"CPU": 4, "GPU": 1}, "b": {"CPU": 4}}
    fleet.scenes[1] = [fails()]
    fleet.train(member(1))
    assert [one.avoided for one in fleet.attempts] == [[], []]


def test_a_node_on_which_everything_fails_gets_no_more_members_for_a_while(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=2)

    async def fails_on_a(attempt: Attempt) -> None:
        await (fails() if attempt.node == "a" else well)(attempt)

    for index in range(1, 8):
        fleet.scenes[index] = [fails_on_a] * 9
    outcomes = played(fleet.ensure(*(member(index) for index in range(1, 8))))
    assert [outcome.state for outcome in outcomes] == ["done"] * 7
    assert [one.node for one in fleet.attempts].count("a") == 3
    assert fleet.said() == ["warning: node a failed 3 times in a row: it gets no members for 10 minutes"]
    assert all(one.avoided == ["a"] for one in fleet.attempts if one.began > 40)


def test_a_node_gets_members_again_when_its_time_is_over(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.scheduler.placing.nodes.quarantined = {"a": 2.5 * TRAINING}
    fleet.train(*(member(index) for index in range(1, 5)))
    assert [one.node for one in fleet.attempts] == ["b", "b", "b", "a"]


def test_a_member_that_ends_well_forgives_its_node(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.alive = {"a": {"CPU": 1}}
    for index in (1, 3):
        fleet.scenes[index] = [fails(), fails()]
    fleet.train(*(member(index) for index in range(1, 5)))
    assert fleet.said() == []


def test_a_lost_node_counts_neither_against_its_member_nor_against_it(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    gone: dict[str, Any] = {}

    async def loses_its_node(attempt: Attempt) -> None:
        await attempt.arrive()
        await asyncio.sleep(5)
        gone.update({attempt.node: fleet.alive.pop(attempt.node)})
        fleet.alive[f"{attempt.node}'"] = {"CPU": 2}
        await fails(after=0)(attempt)

    async def loses_it_before_the_call_fails(attempt: Attempt) -> None:
        """As Ray has it: the node is out of reach, and only seconds later it is dead."""
        await attempt.arrive()
        loop = asyncio.get_running_loop()
        loop.call_later(13, fleet.alive.pop, attempt.node)
        raise ActorUnavailableError("no answer", None)

    fleet.scenes[1] = [loses_its_node] * 5
    fleet.scenes[2] = [loses_it_before_the_call_fails]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("done", 6), ("done", 2)]
    retries = [item["message"] for item in fleet.said("member") if item["state"] == "retrying"]
    assert retries == ["its node was lost"] * 6
    assert fleet.scheduler.placing.nodes.strikes == {}
    assert [one.began for one in fleet.attempts if one.index == 2] == [0, 13]  # once that is known


def test_a_cluster_that_is_silent_while_a_member_fails_is_asked_again(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def fails_in_silence(attempt: Attempt) -> None:
        await attempt.arrive()
        fleet.silent_until = asyncio.get_running_loop().time() + 10
        raise ActorDiedError

    fleet.scenes[1] = [fails_in_silence]
    assert fleet.train(member(1)) == ["done"]
    assert len(fleet.attempts) == 2


def test_a_process_out_of_reach_on_a_node_that_lives_has_died(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails(ActorUnavailableError("no answer", None))]
    assert fleet.train(member(1)) == ["done"]
    assert [one.began for one in fleet.attempts] == [0, TRAINING + 30]  # Ray had time to make up its mind
    (retry,) = [item["message"] for item in fleet.said("member") if item["state"] == "retrying"]
    assert retry.startswith("its process died (")


def test_a_dead_process_is_judged_at_once(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.scenes[1] = [fails()]
    fleet.train(member(1))
    assert [one.began for one in fleet.attempts] == [0, TRAINING]


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_store_that_can_t_be_read_fails_the_member_and_holds_nobody_up(tmp_path: Path, at: str) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)

    async def breaks_the_store(attempt: Attempt) -> None:
        await well(attempt)
        (tmp_path / attempt.folder.name / "attempts").write_text("no folder")
        raise RuntimeError("it failed")

    def broken_from_the_start() -> None:
        folder = tmp_path / fleet.store.model(member(1).key).name
        folder.mkdir(parents=True)
        (folder / "attempts").write_text("no folder")

    if at == "start":
        broken_from_the_start()
    else:
        fleet.scenes[1] = [breaks_the_store]
    assert fleet.train(member(1), member(2)) == ["failed", "done"]
    assert fleet.at_work() == []
    assert fleet.scheduler.running == {}


def test_a_process_that_can_t_be_hired_fails_its_member_alone(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path, parallel=1)
    hire = fleet.hire

    def refuses(task: Any, **how: Any) -> Any:
        if task.spec.index == 1:
            raise ValueError("num_gpus must be whole")
        return hire(task, **how)

    fleet.hire = refuses  # type: ignore[method-assign]
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].message == "member 1: num_gpus must be whole"


def test_what_a_task_raised_counts_as_what_it_was(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    cause = DivergedError("the loss became nan")
    fleet.scenes[1] = [fails(RayTaskError("run", "traceback", cause))]
    (outcome,) = played(fleet.ensure(member(1)))
    assert (outcome.state, outcome.attempts) == ("failed", 1)
    assert "the loss became nan" in outcome.message


def test_an_epoch_whose_checkpoint_was_still_being_written_counts_as_progress_for_a_while(
    tmp_path: Path,
) -> None:
    """A short member may be ended again and again before its first checkpoint has landed."""
    fleet = PlayedFleet(tmp_path, parallel=1)
    fleet.alive = {"a": {"CPU": 1}}

    async def ended_late(attempt: Attempt) -> None:
        await attempt.arrive()
        await attempt.tell(epoch=1, epochs=3, step=1, steps=9, loss=1.0, step_seconds=1.0, stepping=False)
        await fails()(attempt)

    fleet.scenes[1] = [ended_late] * 5
    fleet.scenes[2] = [ended_late] * 30
    outcomes = played(fleet.ensure(member(1), member(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [
        ("done", 6),
        ("failed", MOST_UNSAVED + 3),
    ]


def test_ranks_whose_gpus_fail_are_not_tried_for_ever(tmp_path: Path) -> None:
    """Their GPUs are Ray Train's to give: who failed is not known but for the node."""
    fleet = PlayedFleet(tmp_path, gpus=1.0)
    fleet.alive = {"a": {"CPU": 4, "GPU": 2}, "b": {"CPU": 4, "GPU": 2}}
    fleet.scenes[1] = [fails(RuntimeError("CUDA error: unspecified launch failure"))] * 9
    outcomes = played(fleet.ensure(bier(2)))
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("failed", 3)]
    assert [one.avoided for one in fleet.attempts] == [[], ["a"], ["b"]]
