"""What a person sees of a job's events, on terminals of three widths and on none."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from muster.orchestrator.console.progress import Progress, print_curve
from muster.orchestrator.records.events import event
from muster.orchestrator.records.scores import duration

ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
LONG = "words " * 40 + "/a/path/without/any/blank" * 8


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_console(width: int = 80, terminal: bool = True, height: int = 25) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=terminal,
        force_interactive=terminal,
        color_system="truecolor" if terminal else None,
        _environ={},
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(progress: Progress, width: int = 80, height: int = 25) -> list[str]:
    """The bars as they are now, one string a line, without colours."""
    console = a_console(width, height=height)
    console.print(progress)
    return ESCAPES.sub("", printed(console)).splitlines()


def widest(text: str) -> int:
    return max(cell_len(line) for line in ESCAPES.sub("", text).splitlines())


def training(index: int, **fields: Any) -> dict[str, Any]:
    known = {"epoch": 1, "epochs": 4, "step": 5, "steps": 10, "loss": 1.2341, "images_per_s": 412.4}
    known |= {"seconds_left": 23, "D": 50, "attempt": 1, "state": "training"}
    return event("member", index=index, key=f"key-{index}", **(known | fields))


def curve_rows(count: int) -> list[dict[str, Any]]:
    recalls = {"recall_at_1": 0.5126, "recall_at_2": 0.6, "recall_at_4": 0.7, "recall_at_8": 0.8}
    return [
        {"L": L, **recalls, "map_at_r": 0.2, "nmi": None if L == 3 else 0.61} for L in range(1, count + 1)
    ]


def feed_everything(progress: Progress, clock: Clock, members: int = 6, steps: int = 30) -> None:
    def say(kind: str, **fields: Any) -> None:
        clock.now += 0.2
        progress.handle(event(kind, **fields))

    say("message", level="warning", text=LONG)
    say("stage", name="pack", state="start")
    for done in range(0, 60_502, 500):
        say("pack", split="train", done=done, total=60_502, images_per_s=12_345.6)
    say("stage", name="pack", state="end", seconds=12.3)
    say("plan", asked=48, reused=42, to_train=members, text="48 members: 42 in store, 6 to train. " + LONG)
    say("stage", name="train", state="start")
    for step in range(steps):
        for index in range(members):
            progress.handle(training(100 + index, D=192, epoch=11, epochs=12, step=step, steps=steps))
        say("ensemble", done=42, failed=1, running=members, asked=48, seconds_left=360_000)
    say("member", index=100, key="key-100", state="retrying", attempt=2, node="n" * 70, message=LONG)
    say("member", index=101, key="key-101", state="failed", message=f"\x1b[31mred\x1b[0m {LONG}\n{LONG}")
    say("member", index=102, key="key-102", state="done", loss=0.5)
    say("stage", name="train", state="end", seconds=4000)
    say("stage", name="evaluate", state="start")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    console, clock = a_console(width), Clock()
    with Progress(console, clock=clock) as progress:
        feed_everything(progress, clock)
        for index in range(4):
            progress.handle(training(index, D=192, images_per_s=99_999, loss=1e9, seconds_left=1e6))
        assert widest("\n".join(drawn(progress, width))) <= width
    assert widest(printed(console)) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_a_running_member_shows_its_numbers(width: int) -> None:
    with Progress(a_console(width), clock=Clock()) as progress:
        progress.handle(training(3))
        (line,) = drawn(progress, width)
    for part in ("member  3", "D=50", "epoch 2/4", "━", "loss 1.234", "412 images/s", "0:23"):
        assert part in line


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    with Progress(a_console(60), clock=Clock()) as progress:
        progress.handle(training(3))
        (line,) = drawn(progress, 60)
    assert "epoch 2/4" in line
    assert "loss 1.234" in line
    assert "0:23" in line
    assert "images/s" not in line


def test_the_bar_is_as_long_as_what_is_done() -> None:
    with Progress(a_console(200), clock=Clock()) as progress:
        progress.handle(training(3, epoch=2, step=0))
        (half,) = drawn(progress, 200)
        progress.handle(training(3, state="embedding"))
        (full,) = drawn(progress, 200)
    assert half.count("━") == half.count("─") > 20
    assert full.count("─") == 0
    assert "embedding" in full


def test_columns_keep_their_place_while_numbers_change() -> None:
    with Progress(a_console(), clock=Clock()) as progress:
        progress.handle(event("ensemble", done=1, asked=48, running=2, seconds_left=9))
        progress.handle(training(9, loss=0.1, images_per_s=7, seconds_left=5))
        progress.handle(training(10, epochs=12, loss=12.5, images_per_s=1400, seconds_left=50_000))
        both = drawn(progress)
        assert len({re.search("[━─]", line).start() for line in both}) == 1  # type: ignore[union-attr]
        assert {len(line) for line in both} == {80}
        progress.handle(training(10, state="done"))  # the longest label goes: the others stay
        assert drawn(progress) == [both[0], both[1]]


def test_the_time_left_falls_between_events() -> None:
    clock = Clock()
    with Progress(a_console(), clock=clock) as progress:
        progress.handle(training(3, seconds_left=65))
        clock.now += 7
        assert drawn(progress)[0].endswith("0:58")


def test_finished_members_vanish_and_failures_stay() -> None:
    console = a_console()
    with Progress(console, clock=Clock()) as progress:
        for index in range(3):
            progress.handle(training(index))
        progress.handle(training(0, state="done"))
        progress.handle(training(1, state="failed", node="gpu-7", message="CUDA out of memory"))
        assert [line[:9] for line in drawn(progress)] == ["member  2"]
    seen = ESCAPES.sub("", printed(console))
    assert "member 1 failed, loss 1.234, on gpu-7: CUDA out of memory" in " ".join(seen.split())
    assert "member 0 done" not in seen


def test_a_new_attempt_starts_with_an_empty_bar() -> None:
    with Progress(a_console(), clock=Clock()) as progress:
        progress.handle(training(1, epoch=3))
        progress.handle(event("member", index=1, key="key-1", state="starting", attempt=2))
        (line,) = drawn(progress)
    assert "━" not in line
    assert "loss" not in line
    assert "starting" in line


def test_more_members_than_the_terminal_has_lines() -> None:
    with Progress(a_console(height=10), clock=Clock()) as progress:
        for index in range(48):
            progress.handle(training(index))
        lines = drawn(progress, height=10)
    assert len(lines) <= 9
    assert lines[-1] == "and 41 more running"


def test_without_a_terminal_lines_are_plain_whole_and_few() -> None:
    console, clock = a_console(terminal=False), Clock()
    with Progress(console, clock=clock) as progress:
        feed_everything(progress, clock, steps=3000)  # 18,000 events of members in ten minutes
    text = printed(console)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert "\r" not in text
    assert "━" not in text
    assert f"warning: {LONG}" in text  # not broken at 80 columns: somebody will grep for it
    assert len([line for line in lines if line.startswith("ensemble")]) <= 12 + 600 / 60
    assert len([line for line in lines if line.startswith("pack train")]) <= 5
    assert [line for line in lines if re.match("(pack|train|evaluate) +(started|done)", line)] == [
        "pack      started",
        "pack      done in 0:12",
        "train     started",
        "train     done in 1:06:40",
        "evaluate  started",
    ]
    for start in (
        "member 100 retrying, on n",
        "member 101 failed: \\x1b[31mred",
        "member 102 done, loss 0.500",
    ):
        assert [line.startswith(start) for line in lines].count(True) == 1


def test_states_are_ten_seconds_apart_and_never_told_twice() -> None:
    console, clock = a_console(terminal=False), Clock()
    with Progress(console, clock=clock) as progress:
        for done in range(21):
            progress.handle(event("ensemble", done=done, asked=48, running=4))
            clock.now += 1
        clock.now += 100
        progress.handle(event("message", text="nothing new about the ensemble"))
        progress.handle(event("message", text="nor here"))
    told = [line for line in printed(console).splitlines() if line.startswith("ensemble")]
    assert told == [f"ensemble {done} of 48 done, 4 running" for done in (0, 10, 20)]


def test_unknown_events_and_empty_ones_are_passed_over() -> None:
    console = a_console(terminal=False)
    with Progress(console) as progress:
        for item in (
            {},
            {"event": "new kind"},
            event("member"),
            event("ensemble"),
            event("pack"),
            event("plan"),
            event("curve", rows=curve_rows(2)),
            event("end", state="done"),
        ):
            progress.handle(item)
        drawn(progress)
    assert "recall" not in printed(console)  # the answer is drawn by who asked for it


@pytest.mark.parametrize("terminal", [True, False])
def test_marks_and_codes_in_a_text_are_only_text(terminal: bool) -> None:
    console = a_console(terminal=terminal)
    with Progress(console, clock=Clock()) as progress:
        progress.handle(event("message", text="[red]no[/red] :smile: \x1b]0;title\x07\x1b[2Jgone\x00"))
    assert "[red]no[/red] :smile: \\x1b]0;title\\x07\\x1b[2Jgone\\x00" in ESCAPES.sub("", printed(console))
    assert "\x1b[2J" not in printed(console)
    assert "\x1b]" not in printed(console)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_of_the_curve_fits(width: int) -> None:
    console = a_console(width, terminal=False)
    print_curve(console, curve_rows(48), ks=[1, 2, 4, 8])
    text = printed(console)
    assert widest(text) <= width
    assert re.findall(r"^ +(\d+) ", text, re.M) == ["1", "2", "4", "8", "16", "32", "48"]
    assert "51.3" in text
    assert "L = 1, 2, 4, ... and the last of 48" in " ".join(text.split())


def test_a_short_table_is_whole_and_marks_what_was_not_measured() -> None:
    console = a_console(terminal=False)
    print_curve(console, curve_rows(16), ks=[1, 2, 4, 8])
    text = printed(console)
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d", line)]
    assert [row[0] for row in rows] == [str(L) for L in range(1, 17)]
    assert rows[2] == ["3", "51.3", "60.0", "70.0", "80.0", "20.0", "-"]
    assert "the last of" not in text


def test_the_plan_is_told_in_its_own_words() -> None:
    console = a_console(terminal=False)
    with Progress(console) as progress:
        progress.handle(event("plan", asked=2, reused=1, to_train=1, text="2 members: 1 to train"))
    assert printed(console) == "plan      2 members: 1 to train\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-:--"), (0.4, "0:00"), (-3, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (3e5, "3d 11h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
