"""What a plan says of counts and costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.ensemble import cost as costing
from muster.orchestrator.ensemble.cost import Cost, Expected, Group, cost_of, plan_event, spread
from muster.workers.store.layout import Store

COST = Cost(10, 8, Expected(80.0, 40.0, 160.0), Expected(8.0, 4.0, 16.0), "measured", slots=3)


def test_a_plan_s_event_has_its_counts_and_its_text() -> None:
    found = plan_event(COST, "the plan")
    assert {name: value for name, value in found.items() if name != "t"} == {
        "event": "plan", "asked": 10, "reused": 2, "to_train": 8, "text": "the plan",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "asked", "middle"), [(0, 2, 0.0), (2, 4, 20.0), (7, 9, 70.0), (8, 10, 80.0), (99, 10, 80.0)]
)
def test_a_share_of_the_members_costs_that_share(members: int, asked: int, middle: float) -> None:
    found = COST.of(members)
    assert (found.members, found.to_train, found.in_store) == (asked, asked - 2, 2)
    assert (found.seconds or COST.seconds) == Expected(middle, middle / 2, 2 * middle)
    assert found.device_seconds == pytest.approx(middle / 10)
    unknown: Any = Cost(10, 8, None, None, "").of(members)
    assert (unknown.to_train, unknown.seconds, unknown.device_time) == (asked - 2, None, None)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (Expected(2.0, 1.0, 3.0), "1.0 to 3.0 device-seconds"),
        (Expected(60.0, 30.0, 90.0), "30.0 device-seconds to 1.5 device-minutes"),
        (Expected(7.0, 7.01, 7.02), "7.0 device-seconds"),
        (Expected(7200.0, 3600.0, 10800.0), "1.0 to 3.0 device-hours"),
    ],
)
def test_a_range_is_told_where_it_shows_with_its_unit_once(expected: Expected, said: str) -> None:
    assert spread(expected) == said


def test_the_basis_is_the_most_that_any_member_had_of_each_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    had = {"a": [("cpu", 1)] * 2, "b": [("cpu", 1)] * 3, "c": [("gpu", 1)], "d": [], "e": [("cpu", 1)]}

    class Measured:
        """Stands for the store's records: what each member has that is like it."""

        def __init__(self, store: Store, keys: list[str], place: None) -> None:
            assert keys == ["f"]  # what is there already, and may be measured

        def like(self, spec: Any, ranks: int) -> list[Any]:
            return [
                SimpleNamespace(device=device, seconds=lambda images, embedded: 10.0 * images + embedded)
                for device, _ in had[spec.key]
            ]

    monkeypatch.setattr(costing, "Measurements", Measured)

    def cost(keys: str) -> Cost:
        spec = [SimpleNamespace(key=key, shown=lambda images: 2 * images) for key in keys]
        tasks: Any = [SimpleNamespace(key=one.key, spec=one, ranks=1) for one in spec]
        return cost_of([Group(tasks, 0.5, 3, 4)], set("abcde"), Store(str(tmp_path)))

    found = cost("fbacbe")
    assert found.basis == "measured on 3 like members on cpu; measured on 1 like member on gpu"
    assert (found.members, found.to_train, found.device_seconds) == (5, 4, 4 * 64 / 2)
    assert cost("fad").seconds is None
    assert cost("fda").basis == cost("fad").basis == "measured on 2 like members on cpu"


def test_times_are_per_member_and_on_the_clock() -> None:
    assert (COST.seconds_each, COST.clock_seconds, COST.device_seconds) == (10.0, 30.0, 8.0)
    assert COST.numbers == {"device_seconds": 8.0, "device_seconds_range": [4.0, 16.0], "clock_seconds": 30.0}
    nothing = Cost(10, 0, Expected(0.0, 0.0, 0.0), Expected(0.0, 0.0, 0.0), "")
    assert (nothing.seconds_each, nothing.clock_seconds) == (None, None)
    assert set(nothing.numbers.values()) == {None}
    assert nothing.sentence("10 members", "it") == "10 members: all found in the store, none to train."
    unknown = Cost(10, 8, None, None, "")
    assert unknown.sentence("10 members", "it") == (
        "10 members: 2 in the store, 8 to train, cost unknown: nothing like it in the store."
    )
    assert (unknown.seconds_each, unknown.clock_seconds, unknown.device_seconds) == (None, None, None)
