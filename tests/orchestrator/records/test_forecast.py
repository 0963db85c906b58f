"""The time that an ensemble still takes."""

from __future__ import annotations

import pytest

from muster.orchestrator.records.forecast import Forecast


def member(key: str, state: str, t: float, **fields: float) -> dict[str, object]:
    return {"event": "member", "key": key, "state": state, "t": t, **fields}


def test_nothing_is_promised_before_anything_is_known() -> None:
    forecast = Forecast(4, None)
    forecast.follow(member("a", "starting", 0))
    assert forecast.event()["seconds_left"] is None


def test_running_members_tell_until_one_has_finished() -> None:
    forecast = Forecast(4, None)
    for key in "ab":
        forecast.follow(member(key, "starting", 0))
        forecast.follow(member(key, "training", 10, seconds_left=30))
    assert forecast.event()["seconds_left"] == pytest.approx((30 + 30 + 2 * 40) / 2)


def test_finished_members_tell_what_the_others_will_take() -> None:
    forecast = Forecast(3, 1000)
    forecast.follow(member("a", "starting", 0))
    forecast.follow(member("a", "done", 20))
    forecast.follow(member("b", "starting", 20))
    forecast.follow(member("b", "training", 25, seconds_left=15))
    found = forecast.event()
    assert (found["done"], found["running"], found["asked"]) == (1, 1, 3)
    assert found["seconds_left"] == pytest.approx(15 + 20)


def test_a_member_that_is_tried_again_starts_its_clock_anew() -> None:
    forecast = Forecast(1, None)
    assert forecast.follow(member("a", "starting", 0))
    assert forecast.follow(member("a", "retrying", 50))
    assert forecast.follow(member("a", "starting", 60))
    forecast.follow(member("a", "done", 70))
    assert forecast.took == [10]


def test_the_first_steps_tell_what_a_plan_could_not() -> None:
    forecast = Forecast(4, None)
    forecast.follow(member("a", "starting", 0))
    forecast.follow(member("a", "training", 8, epoch=0, step=19, seconds_left=60))
    assert forecast.first_contact() == ""
    forecast.follow(member("a", "training", 10, epoch=0, step=20, seconds_left=50))
    assert forecast.first_contact() == (
        "measured on its first 20 steps or more: a model takes about 1:00, and all of them 3:50 from now"
    )
    assert forecast.first_contact() == ""  # once


def test_short_trainings_are_told_when_they_end_and_known_ones_never() -> None:
    forecast = Forecast(2, None)
    forecast.follow(member("r", "reused", 0))
    forecast.follow(member("a", "starting", 0))
    forecast.follow(member("a", "training", 4, epoch=0, step=3, seconds_left=1))
    assert forecast.first_contact() == ""
    forecast.follow(member("a", "done", 6))
    assert forecast.first_contact().startswith("measured on its whole training: a model takes about 0:06")
    known = Forecast(1, 30.0)
    known.follow(member("a", "starting", 0))
    known.follow(member("a", "training", 10, epoch=2, step=20, seconds_left=50))
    assert known.first_contact() == ""
