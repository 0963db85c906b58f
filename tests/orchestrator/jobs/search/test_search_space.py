"""What can be searched, and how it is written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from muster.orchestrator.jobs.search.space import Axis, draws, grid, parse_axes, searchable


def axes(method: str = "dreml", **specs: str) -> tuple[Axis, ...]:
    problems: list[str] = []
    found = parse_axes(specs, method, problems)
    assert problems == []
    return found


def test_lists_and_ranges() -> None:
    (D,) = axes(D="12,25, 50,12")
    assert D.grid() == (12, 25, 50)
    (D,) = axes(D="12..96:log")
    assert D.grid() == (12, 24, 48, 96)
    (lr,) = axes(lr="0.01..0.03:3")
    assert lr.grid() == (0.01, 0.02, 0.03)
    (schedule,) = axes(schedule="step,one-cycle")
    assert schedule.grid() == ("step", "one-cycle")
    (flip,) = axes(flip="true,false")
    assert flip.grid() == (True, False)


def test_each_method_has_its_own_settings_bare_or_dotted() -> None:
    (steps,) = axes("bier", **{"bier.steps": "10,20"})
    assert (steps.key, steps.setting, steps.grid()) == ("steps", "bier.steps", (10, 20))
    (combine,) = axes("bier", combine="share,concat")
    assert (combine.key, combine.setting) == ("combine", "combine")
    (loss,) = axes("baseline", loss="triplet,npairs")
    assert loss.setting == "baseline.loss"
    (crop,) = axes("distill", **{"recipe.crop": "24,28"})
    assert (crop.key, crop.setting) == ("crop", "recipe.crop")
    assert "D" in searchable("dreml")
    for method in ("bier", "baseline", "distill"):
        assert not {"D", "L", "teacher"} & set(searchable(method))


def test_a_grid_is_every_combination() -> None:
    assert grid(axes(D="2,3", lr="0.1,0.2")) == [
        {"D": 2, "lr": 0.1}, {"D": 2, "lr": 0.2}, {"D": 3, "lr": 0.1}, {"D": 3, "lr": 0.2},
    ]  # fmt: skip


def test_draws_follow_from_the_seed_and_none_is_repeated() -> None:
    space = axes(D="12..100:log", schedule="step,constant")
    found = draws(space, 20, seed=3)
    assert found == draws(space, 20, seed=3) != draws(space, 20, seed=4)
    assert all(12 <= row["D"] <= 100 for row in found)  # type: ignore[operator]
    assert len(draws(axes(D="2,3"), 20, seed=0)) == 2


@pytest.mark.parametrize(
    ("key", "spec", "said"),
    [
        ("D", "", "is empty"),
        ("D", "12,,25", "empty value"),
        ("D", "12,x", "'x' is not a whole number"),
        ("D", "12.5", "not a whole number"),
        ("D", "100..12", "range is empty"),
        ("D", "12..100:cubic", "neither linear, log"),
        ("lr", "0..1:log", "above 0"),
        ("lr", "nan", "not finite"),
        ("D", "nan", "not finite"),
        ("D", "1e400,12", "'1e400' is not finite"),
        ("D", "12..1e400", "'1e400' is not finite"),
        ("D", "1" + "0" * 400, "is not finite"),
        ("epochs", "1e400", "'1e400' is not finite"),
        ("flip", "yes", "not true or false"),
        ("lrr", "1", "Did you mean lr?"),
        ("milestones", "0.5", "no such key to search"),
    ],
)
def test_mistakes_are_named(key: str, spec: str, said: str) -> None:
    problems: list[str] = []
    parse_axes({key: spec}, "dreml", problems)
    assert len(problems) == 1
    assert said in problems[0]


def test_a_trial_imports_no_torch() -> None:
    code = "import sys, muster.orchestrator.jobs.search.tune.trial; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
