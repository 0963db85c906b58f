"""What the fleet tells of its members: events, and polls for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.fleet import news as module
from tests.orchestrator.fleet.stubs import Attempt, PlayedFleet, fails, member, played


def test_events_say_which_member_which_attempt_and_what_it_told(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def steps(attempt: Attempt) -> None:
        await attempt.arrive()
        await attempt.step(5)
        await attempt.tell(state="embedding")
        attempt.finish()

    fleet.scenes[1] = [steps]
    fleet.train(member(1))
    known = {"event": "member", "index": 1, "key": member(1).key, "D": 3, "epochs": 3}
    attempt = {"attempt": fleet.attempts[0].name}
    found = [{name: value for name, value in item.items() if name != "t"} for item in fleet.said("member")]
    assert found == [
        {**known, "state": "queued"},
        {**known, **attempt, "state": "starting"},
        {**known, **attempt, "state": "starting", "node": "host-a", "node_id": "a"},
        {**known, **attempt, "state": "training", "epoch": 0, "step": 5, "steps": 100, "loss": 1.0},
        {**known, **attempt, "state": "embedding"},
        {**known, **attempt, "state": "done", "epoch": 3},
    ]


def test_a_late_word_of_an_older_attempt_is_ignored(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def late(attempt: Attempt) -> None:
        await attempt.arrive()
        attempt.name = fleet.attempts[0].name
        await attempt.tell(state="training", node_id="elsewhere")
        attempt.name = fleet.attempts[1].name
        await asyncio.sleep(1)
        attempt.finish()

    fleet.scenes[1] = [fails(), late]
    fleet.train(member(1))
    assert "training" not in fleet.states(1)
    assert fleet.scheduler.works[member(1).key].node == "b"
    played(fleet.scheduler.report(member(1).key, fleet.attempts[1].name, {}))  # it has ended
    played(fleet.scheduler.report("never heard of", "x", {}))
    assert fleet.states(1)[-1] == "done"


async def timed(call: Awaitable[Any]) -> tuple[float, Any]:
    found = await call
    return asyncio.get_running_loop().time(), found


def test_a_poll_gives_what_is_new_and_all_of_another_generation(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)
    fleet.train(member(1))
    poll, events = fleet.scheduler.poll, fleet.scheduler.news.events
    mine, last, found = played(poll("", 0))
    assert (mine, last, found) == (fleet.scheduler.news.generation, len(events), events)
    assert played(timed(poll(mine, 2))) == (0, (mine, len(events), events[2:]))
    assert played(poll("a fleet that died", 3))[1:] == (len(events), events)
    assert fleet.scheduler.news.generation != PlayedFleet(tmp_path).scheduler.news.generation


def test_a_poll_waits_a_moment_for_news(tmp_path: Path) -> None:
    fleet = PlayedFleet(tmp_path)

    async def scene() -> None:
        loop, poll = asyncio.get_running_loop(), fleet.scheduler.poll
        mine, last, _ = await poll("", 0)
        assert loop.time() == 0
        assert (await poll(mine, last, False))[2] == []
        assert loop.time() == 0
        assert (await poll(mine, last))[2] == []
        assert loop.time() == 0.5
        news = asyncio.ensure_future(poll(mine, last))
        await asyncio.sleep(0.2)
        await fleet.scheduler.stop()
        assert [item["event"] for item in (await news)[2]] == ["message"]
        assert loop.time() == 0.7

    played(scene())


def test_of_very_many_events_the_oldest_go_and_no_poll_is_confused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_EVENTS", 9)
    fleet = PlayedFleet(tmp_path)
    for number in range(24):
        fleet.scheduler.news.say({"event": "message", "text": number})
    mine, last, found = played(fleet.scheduler.poll("", 0))
    assert last == 24
    assert [item["text"] for item in found] == list(range(15, 24))
    assert [item["text"] for item in played(fleet.scheduler.poll(mine, 22))[2]] == [22, 23]
    assert played(fleet.scheduler.poll(mine, 3))[2] == found
