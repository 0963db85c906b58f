"""What a person sees of a search while it runs: its trials among the members, at 80 columns and in a log."""

from __future__ import annotations

from typing import Any

import pytest

from muster.orchestrator.console.progress import Progress
from muster.orchestrator.records.events import Event, event
from tests.orchestrator.console.test_progress import Clock, a_console, drawn, printed, training, widest


def trial(
    number: int, D: int, L: int, value: float | None = None, state: str = "reached", **more: Any
) -> Event:
    found = {} if value is None else {"recall_at_1": value}
    settings = {"D": D, **more.pop("settings", {})}
    return event(
        "trial",
        number=number,
        settings=settings,
        state=state,
        L=L,
        of=8,
        metric="recall_at_1",
        **found,
        **more,
    )


def searching(progress: Progress, Ds: tuple[int, ...] = (12, 25, 50, 100)) -> None:
    """Four trials, each heard of and one prefix further than the one before; two members run."""
    for number, D in enumerate(Ds, 1):
        progress.handle(trial(number, D, 0, state="waiting"))
    progress.handle(event("ensemble", done=6, failed=0, asked=20, running=2, seconds_left=65))
    for number, D in enumerate(Ds[1:4], 2):
        progress.handle(trial(number, D, number - 1, 0.8 + number / 100))
    for index, D in ((3, 12), (3, 100)):
        progress.handle({**training(index, D=D), "key": f"{D}-{index}"})


def test_each_trial_has_its_settings_its_members_and_its_newest_score() -> None:
    with Progress(a_console(), clock=Clock()) as progress:
        searching(progress)
        ensemble, *lines = drawn(progress)
    assert "6 of 20 done" in ensemble
    assert "1:05" in ensemble
    assert len(lines) == 4 + 2
    assert "D=12 " in lines[0]
    assert "0 of 8" in lines[0]
    for part in ("trial 3", "D=50 ", "2 of 8", "R@1 83.0"):
        assert part in lines[2]
    assert all("D=" in line for line in lines)


def test_a_trial_that_is_over_says_how_and_comes_last() -> None:
    console = a_console()
    with Progress(console, clock=Clock()) as progress:
        searching(progress)
        progress.handle(trial(1, 12, 3, state="cut"))
        lines = drawn(progress)
    assert ["trial 2" in lines[1], "trial 1" in lines[4], "cut" in lines[4]] == [True] * 3
    assert "trial 1 D=12: L=3 of 8, cut" in printed(console)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_many_trials_leave_room_for_the_members(width: int) -> None:
    console = a_console(width)
    with Progress(console, clock=Clock()) as progress:
        searching(progress, tuple(range(12, 62)))
        for number in range(1, 51):
            news = trial(number, number, 3, 0.5, settings={"lr": 0.0123456789012345, "backbone": "resnet18"})
            progress.handle(news)
        lines = drawn(progress, width)
        progress.handle(trial(50, 61, 3, state="failed", message="member 4 (key abc): " + "words " * 40))
    assert "and 42 more trials" in lines[9]
    assert width < 80 or "lr=0.01235 " in lines[1]
    assert sum("member" in line for line in lines) == 2
    assert widest("\n".join(lines)) <= width
    assert widest(printed(console)) <= width


def test_in_a_log_each_prefix_is_a_line_and_members_are_only_counted() -> None:
    console = a_console(terminal=False)
    with Progress(console, clock=Clock()) as progress:
        searching(progress)
        progress.handle(event("member", index=4, key="x", state="done", D=25))
        progress.handle(event("member", index=4, key="y", state="failed", D=50, message="diverged"))
    said = printed(console).splitlines()
    assert "trial 2 D=25: L=1 of 8, R@1 82.0" in said
    assert "member 4 D=50 failed: diverged" in said
    assert not any("done" in line and "member" in line for line in said)
    assert any("6 of 20 done" in line for line in said)


def test_after_the_training_the_trials_are_gone() -> None:
    with Progress(a_console(), clock=Clock()) as progress:
        progress.handle(event("stage", name="train", state="start"))
        searching(progress)
        progress.handle(event("stage", name="train", state="end", seconds=3))
        assert drawn(progress) == []
