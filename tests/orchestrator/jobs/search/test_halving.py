"""Successive halving decides from results alone, and a budget is checked before it is spent."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from muster.orchestrator.fleet.budget import Budget, Spending
from muster.orchestrator.jobs.search.halving import (
    Halving,
    Schedule,
    Verdict,
    flat,
    make_schedule,
    rung_for_half,
)


def a_race(trials: Iterable[int], *rungs: int) -> Halving:
    """A race in which half go on at each rung."""
    trials = list(trials)
    keeps = [-(-len(trials) // 2**n) for n in range(1, len(rungs) + 1)]
    return Halving(trials, Schedule(len(trials), 12, rungs, tuple(keeps)))


def race(values: dict[int, dict[int, float]], rungs: tuple[int, ...], order: random.Random) -> list[Verdict]:
    """Runs a race to its end; which trial reports next is drawn. A trial may end early, without its last L."""
    halving = a_race(values, *rungs)
    reached = dict.fromkeys(values, 0)
    ready = set(values)
    while ready:
        trial = order.choice(sorted(ready))
        reached[trial] += 1
        size = reached[trial]
        if size not in values[trial]:
            halving.leave(trial)
            ready.discard(trial)
        elif halving.waits(trial, size, values[trial][size]):
            ready.discard(trial)
        verdict = halving.settle()
        if verdict is not None:
            ready |= set(verdict.goes)
    return halving.verdicts


@pytest.mark.parametrize("seed", range(3))
def test_verdicts_do_not_depend_on_who_came_first(seed: int) -> None:
    draw = random.Random(seed)
    values = {trial: {size: draw.choice([0.5, 0.6, 0.7]) for size in range(1, 13)} for trial in range(1, 10)}
    values[4] = {size: values[4][size] for size in (1, 2)}  # fails before the first rung
    values[7] = {size: values[7][size] for size in range(1, 6)}  # comes to a plateau before the second
    found = [race(values, (3, 6), random.Random(order)) for order in range(40)]
    assert all(verdicts == found[0] for verdicts in found)
    assert [verdict.rung for verdict in found[0]] == [3, 6]
    assert 4 not in found[0][0].values


def test_nobody_is_cut_before_everybody_has_reached_the_rung() -> None:
    halving = a_race((1, 2, 3), 3)
    assert halving.waits(1, 3, 0.9)
    assert halving.waits(3, 3, 0.1)
    assert halving.settle() is None
    assert not halving.waits(2, 2, 0.99)
    assert halving.settle() is None
    assert halving.waits(2, 3, 0.5)
    verdict = halving.settle()
    assert verdict is not None
    assert (verdict.goes, verdict.cut) == ((1, 2), (3,))


def test_of_equal_trials_the_first_goes_on() -> None:
    halving = a_race((1, 2), 3)
    for trial in (2, 1):
        halving.waits(trial, 3, 0.5)
    verdict = halving.settle()
    assert verdict is not None
    assert verdict.goes == (1,)


def test_replayed_results_change_nothing() -> None:
    halving = a_race((1, 2), 2, 4)
    for trial, value in ((1, 0.5), (2, 0.4)):
        halving.waits(trial, 2, value)
    halving.settle()
    assert not halving.waits(1, 1, 0.5)
    assert not halving.waits(1, 2, 0.5)
    assert halving.settle() is None
    assert halving.waits(1, 4, 0.6)


def test_the_schedule_and_what_it_trains() -> None:
    found = make_schedule(4, 3, 48)
    assert (found.rungs, found.keeps) == ((3, 6, 12, 24), (2, 1, 1, 1))
    assert found.members == 4 * 3 + 2 * 3 + 42
    assert make_schedule(4, 3, 3) == Schedule(4, 3)
    assert Schedule(4, 8).members == 32
    found = make_schedule(50, 1, 2, 25)
    assert (found.rungs, found.keeps, found.members) == ((1,), (2,), 52)


def test_by_default_fewer_go_on_where_half_of_the_grid_pays_for_no_more() -> None:
    for trials in range(2, 60):
        for max_L in range(2, 60):
            found = make_schedule(trials, 3, max_L)
            # One trial goes on from the first rung: less than that no schedule trains.
            possible = max_L <= 3 or 2 * (3 * trials + max_L - 3) <= trials * max_L
            assert max_L <= 3 or found.thrifty == possible
            assert len(found.rungs) == len(found.keeps)
            for before, kept in zip((trials, *found.keeps), found.keeps, strict=False):
                assert 1 <= kept <= -(-before // 2)
    assert make_schedule(8, 3, 8).keeps == (2, 1)  # 8 x 3 + 2 x 3 + 2 = 32 of 64
    assert make_schedule(8, 3, 8, 2).keeps == (4, 2)


def test_the_rung_that_would_train_half_is_named_where_there_is_one() -> None:
    better = rung_for_half(4, 8)
    assert better is not None
    assert (better.rungs[0], better.members) == (2, 16)
    assert rung_for_half(2, 48) is None


def test_those_that_left_the_race_make_room_for_nobody() -> None:
    halving = Halving(range(1, 9), Schedule(8, 8, (3, 6), (2, 1)))
    for trial in range(1, 7):
        halving.leave(trial)
    for trial in (7, 8):
        halving.waits(trial, 3, trial / 10)
    verdict = halving.settle()
    assert verdict is not None
    assert verdict.goes == (8,)


def test_a_plateau_is_k_members_that_added_less_than_epsilon() -> None:
    values = {1: 0.5, 2: 0.6, 3: 0.601, 4: 0.6015}
    assert not flat(values, 3, 2, 0.002)
    assert flat(values, 4, 2, 0.002)
    assert not flat(values, 2, 2, 0.9)


def test_a_budget_counts_running_members_at_the_mean() -> None:
    spending = Spending(Budget(members=3), {"a": 10.0})
    assert spending.refusal(running=1) == ""
    assert "1 of 3 members are trained, 2 are running" in spending.refusal(running=2)
    spending = Spending(Budget(device_seconds=60, share=0.5, expected=100.0), {})
    assert spending.refusal(running=1) == ""
    assert "device-hours" in spending.refusal(running=2)
    spending = Spending(Budget(device_seconds=60, share=0.5), {"a": 50.0, "b": 50.0})
    assert spending.refusal(running=0) == ""
    assert "mean of 50 s" in spending.refusal(running=1)
    assert spending.budget.overshoot({"a": 50.0, "b": 106.0}) == "0.005 device-hours"
    assert spending.budget.overshoot({"a": 50.0}) == ""
