"""What a run may spend, what it has spent, and when no further member may start."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.orchestrator.fleet.budget import Budget, Spending, seconds_of, trained_seconds
from muster.workers.store.layout import Store
from muster.workers.store.records import Done


@pytest.mark.parametrize(
    ("budget", "unlimited"),
    [
        (Budget(), True),
        (Budget(members=0), False),
        (Budget(device_seconds=0.0), False),
        (Budget(share=0.5), True),
    ],
)
def test_a_budget_limits_members_or_time(budget: Budget, unlimited: bool) -> None:
    assert budget.unlimited is unlimited


@pytest.mark.parametrize(
    ("budget", "spent", "running", "refused"),
    [
        (Budget(members=3), {"a": 1.0}, 1, ""),
        (Budget(members=3), {"a": 1.0}, 2, "budget: 1 of 3 members are trained, 2 are running"),
        (Budget(members=1), {"a": 1.0, "b": 1.0}, 0, "budget: 2 of 1 members are trained, 0 are running"),
        (Budget(members=1), None, 0, ""),
        (Budget(device_seconds=100.0), {"a": 40.0, "b": 50.0}, 0, ""),
        (
            Budget(device_seconds=3600.0),
            {"a": 1000.0, "b": 2000.0},
            1,
            "budget: 1.25 of 1 device-hours are spent, with 1 running members at the mean of 1500 s",
        ),
        (
            Budget(device_seconds=360.0, share=0.5),
            {"a": 720.0},
            0,
            "budget: 0.1 of 0.1 device-hours are spent, with 0 running members at the mean of 720 s",
        ),
        (Budget(device_seconds=360.0, share=0.5), {"a": 719.0}, 0, ""),
        # Nothing is measured: what was expected counts, or nothing.
        (Budget(device_seconds=100.0, expected=40.0), {}, 2, ""),
        (
            Budget(device_seconds=360.0, expected=180.0),
            {},
            2,
            "budget: 0.1 of 0.1 device-hours are spent, with 2 running members at the mean of 180 s",
        ),
        (Budget(device_seconds=100.0), {}, 9, ""),
        (Budget(device_seconds=100.0, expected=1000.0), {"a": 10.0}, 2, ""),
        (Budget(members=9, device_seconds=0.0), {}, 0, "budget: 0 of 0 device-hours are spent, with 0 running "
         "members at the mean of 0 s"),
    ],
)  # fmt: skip
def test_who_may_start(budget: Budget, spent: dict[str, float] | None, running: int, refused: str) -> None:
    assert Spending(budget, spent).refusal(running) == refused


@pytest.mark.parametrize(
    ("budget", "over"),
    [
        (Budget(), ""),
        (Budget(members=2), ""),
        (Budget(members=1), "1 members"),
        (Budget(device_seconds=7200.0), ""),
        (Budget(device_seconds=3600.0), "1 device-hours"),
        (Budget(device_seconds=3600.0, share=0.5), ""),
        (Budget(device_seconds=1800.0, share=0.5), "0.5 device-hours"),
        (Budget(members=0, device_seconds=3500.0), "2 members and 1.03 device-hours"),
    ],
)
def test_what_was_spent_beyond_it(budget: Budget, over: str) -> None:
    assert budget.overshoot({"a": 3000.0, "b": 4200.0}) == over


def test_hours_beyond_a_budget_are_those_of_the_clock() -> None:
    assert Budget(device_seconds=0.0).overshoot({"a": 0.5}) == "0.000139 device-hours"
    assert Budget(device_seconds=0.0).overshoot({"a": 4446.72}) == "1.24 device-hours"
    refused = Spending(Budget(device_seconds=4446.72), {"a": 4446.72}).refusal(0)
    assert refused.startswith("budget: 1.24 of 1.24 device-hours are spent")


def test_a_run_s_own_members_are_those_whose_attempt_has_its_log(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    run = store.run("mine")
    for key, attempt in (("a", "1-x"), ("a", "2-x"), ("b", "1-x"), ("c", "1-x"), ("d", "1-x")):
        store.files.put(run.log(key, attempt), b"")
    store.files.put(store.run("other").log("e", "1-x"), b"")
    store.model("a").commit(Done({}, {"attempt": "2-x", "seconds": 12}))
    store.model("b").commit(Done({}, {"attempt": "of another run", "seconds": 5.0}))
    store.files.put(store.model("c") / "DONE.json", b"damaged")
    store.model("e").commit(Done({}, {"attempt": "1-x", "seconds": 7.0}))
    assert trained_seconds(store, "mine") == {"a": 12.0}
    assert trained_seconds(store, "other") == {"e": 7.0}
    assert trained_seconds(store, "none") == {}
    assert seconds_of(store.model("a"), "1-x") is None
    assert seconds_of(store.model("a"), "2-x") == 12.0
