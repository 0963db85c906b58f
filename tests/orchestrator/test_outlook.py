"""The time that an ensemble still takes."""

from __future__ import annotations

import pytest

from muster.orchestrator.records.forecast import Outlook


def member(key: str, state: str, t: float, **fields: float) -> dict[str, object]:
    return {"event": "member", "key": key, "state": state, "t": t, **fields}


def test_nothing_is_promised_before_anything_is_known() -> None:
    outlook = Outlook(4, None)
    outlook.follow(member("a", "starting", 0))
    assert outlook.event()["seconds_left"] is None


def test_running_members_tell_until_one_has_finished() -> None:
    outlook = Outlook(4, None)
    for key in "ab":
        outlook.follow(member(key, "starting", 0))
        outlook.follow(member(key, "training", 10, seconds_left=30))
    assert outlook.event()["seconds_left"] == pytest.approx((30 + 30 + 2 * 40) / 2)


def test_finished_members_tell_what_the_others_will_take() -> None:
    outlook = Outlook(3, 1000)
    outlook.follow(member("a", "starting", 0))
    outlook.follow(member("a", "done", 20))
    outlook.follow(member("b", "starting", 20))
    outlook.follow(member("b", "training", 25, seconds_left=15))
    found = outlook.event()
    assert (found["done"], found["running"], found["asked"]) == (1, 1, 3)
    assert found["seconds_left"] == pytest.approx(15 + 20)


def test_a_member_that_is_tried_again_starts_its_clock_anew() -> None:
    outlook = Outlook(1, None)
    assert outlook.follow(member("a", "starting", 0))
    assert outlook.follow(member("a", "retrying", 50))
    assert outlook.follow(member("a", "starting", 60))
    outlook.follow(member("a", "done", 70))
    assert outlook.took == [10]
