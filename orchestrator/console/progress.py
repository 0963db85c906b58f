"""Live progress in the terminal, drawn from a job's events (see `events.py` for their kinds).

Owns what the events look like to a person: bars that are redrawn in place on a terminal, plain lines at
a limited rate anywhere else. It never asks the cluster or the store for anything and never decides what
happens next: the events are all it knows. What it prints goes to the console that it was given.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from muster.orchestrator.console.screen import shown
from muster.orchestrator.console.trials import OPEN, Trials, score, trial_name
from muster.orchestrator.records.events import Event
from muster.orchestrator.records.scores import Row, curve_table, duration, thinned

RUNNING = ("starting", "training", "embedding")
STYLES = {"warning": "yellow", "retrying": "yellow", "stopped": "yellow", "error": "red", "failed": "red"}
# Where there is no terminal: seconds between two lines of state, and the same after a dozen of them.
QUIET, QUIET_LATER = 10.0, 60.0
FIGURE, RATE, TIME, GAP = 11, 14, 8, 2  # cells of the columns right of the bars
BAR_MIN, BAR_MAX = 6, 60
TRIALS_SHOWN = 8  # of a search; beside them the running members must find room


class Progress:
    """Shows the events that `handle` is given, until its `with` block ends. The answer is not its business."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self._clock = console, clock
        self._live: Live | None = None
        # Live's own thread reads these while `handle` writes: a dict is replaced, never changed.
        self._members: dict[str, Event] = {}
        self._stages: dict[str, float] = {}  # the open ones, and when they began
        self._ensemble: Event = {}
        self._pack: Event = {}
        self._trials = Trials()
        self._label_cells = 0
        self._states_told, self._told_at, self._untold = 0, -math.inf, False
        self._shows: dict[str, Callable[[Event], None]] = {
            "message": self._on_message,
            "stage": self._on_stage,
            "pack": self._on_pack,
            "plan": self._on_plan,
            "member": self._on_member,
            "ensemble": self._on_ensemble,
            "trial": self._on_trial,
        }

    def __enter__(self) -> Progress:
        if self.console.is_interactive:
            # Standard output is left alone: it belongs to the answer.
            self._live = Live(self, console=self.console, transient=True, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._members, self._ensemble, self._pack, self._stages = {}, {}, {}, {}
        self._trials = Trials()
        if self._live:
            self._live.stop()

    def handle(self, event: Event) -> None:
        """Show one event. Kinds and fields that are not known are passed over."""
        event = shown(event)
        show = self._shows.get(str(event.get("event")))
        if show:
            show(event)
        self._tell_state()

    def _on_message(self, event: Event) -> None:
        level = str(event.get("level", "info"))
        text = str(event.get("text", ""))
        _tell(self.console, text if level == "info" else f"{level}: {text}", STYLES.get(level, ""))

    def _on_stage(self, event: Event) -> None:
        name, seconds = str(event.get("name", "")), event.get("seconds")
        others = {stage: began for stage, began in self._stages.items() if stage != name}
        if event.get("state") == "start":
            self._stages = {**others, name: self._clock()}
            if not self._live:
                _tell(self.console, f"{name:<9} started")
            return
        self._tell_state(now=True)
        self._stages = others
        if name == "pack":
            self._pack = {}
        elif name == "train":
            self._members, self._ensemble, self._trials = {}, {}, Trials()
        _tell(self.console, f"{name:<9} done" + (f" in {duration(seconds)}" if seconds is not None else ""))

    def _on_plan(self, event: Event) -> None:
        _tell(self.console, f"{'plan':<9} {event.get('text', '')}", "bold")

    def _on_pack(self, event: Event) -> None:
        self._pack, self._untold = {**event, "seen": self._clock()}, True
        if event.get("done") == event.get("total"):
            self._tell_state(now=True)

    def _on_ensemble(self, event: Event) -> None:
        self._ensemble, self._untold = {**event, "seen": self._clock()}, True

    def _on_member(self, event: Event) -> None:
        name, state = str(event.get("key") or event.get("index")), str(event.get("state"))
        members = dict(self._members)
        old = members.pop(name, {})
        if state in RUNNING:
            # An event tells only what is new, but a new attempt begins with nothing.
            same = event.get("attempt") in (None, old.get("attempt"))
            news = {field: value for field, value in event.items() if value is not None}
            members[name] = {**(old if same else {}), **news, "seen": self._clock()}
            self._untold = True
        self._members = members
        # Of a search a line for each prefix is enough.
        told = state == "done" and not self._live and not self._trials.known
        if state in ("failed", "retrying") or told:
            line = member_line(event, with_D=bool(self._trials.known))
            _tell(self.console, line, STYLES.get(state, ""))

    def _on_trial(self, event: Event) -> None:
        line = self._trials.follow(event)
        if line and (event["state"] not in OPEN or not self._live):
            _tell(self.console, line, STYLES.get(event["state"], ""))

    def _tell_state(self, now: bool = False) -> None:
        """The lines that stand for the bars where there is no terminal, not too often."""
        quiet = QUIET if self._states_told < 12 else QUIET_LATER
        if self._live or not self._untold or not (now or self._clock() - self._told_at >= quiet):
            return
        self._states_told, self._told_at, self._untold = self._states_told + 1, self._clock(), False
        # One running member (BIER is always one) is told in full, several only by their number.
        for bar in self._bars(most=1 if len(self._members) == 1 else 0):
            parts = [bar.label, bar.figure, bar.rate, f"{bar.left} left" if bar.left != "-:--" else ""]
            _tell(self.console, ", ".join(re.sub(" +", " ", part) for part in parts if part))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = list(self._bars())
        room = max(2, options.size.height - 2)  # what scrolls away can't be redrawn in place
        shown = bars if len(bars) <= room else bars[: room - 1]
        # Never narrower than before: the bars would jump when a long label goes.
        self._label_cells = max([self._label_cells, *(len(bar.label) for bar in bars)])
        for bar in shown:
            yield _drawn(bar, self._label_cells, options.max_width, options.ascii_only)
        if len(shown) < len(bars):
            yield Text(f"and {len(bars) - len(shown)} more running", style="dim")

    def _bars(self, most: int | None = None) -> Iterator[Bar]:
        """What is going on now: the packing, the ensemble, its running members (`most` of them), other stages."""
        now = self._clock()
        if self._pack:
            yield pack_bar(self._pack, now)
        if self._ensemble:
            yield ensemble_bar(self._ensemble, len(self._members), now)
        if most is None:
            yield from self._trial_bars()
        running = sorted(self._members.values(), key=lambda member: int(member.get("index") or 0))
        digits = max([2, *(len(str(member.get("index"))) for member in running)])
        yield from (member_bar(member, digits, now) for member in running[:most])
        with_bars = {"pack" if self._pack else "", "train" if self._ensemble or self._members else ""}
        for stage, began in self._stages.items():
            if stage not in with_bars and self._live:
                yield Bar(f"{stage:<9} {duration(now - began)}")

    def _trial_bars(self) -> Iterator[Bar]:
        trials = self._trials.in_order()
        digits = len(str(max(self._trials.known, default=1)))
        cells = max((len(trial_name(trial, digits)) for trial in trials), default=0)
        for trial in trials[:TRIALS_SHOWN]:
            yield trial_bar(trial, trial_name(trial, digits).ljust(cells))
        if len(trials) > TRIALS_SHOWN:
            yield Bar(f"and {len(trials) - TRIALS_SHOWN} more trials")


class Bar(NamedTuple):
    """One line of the display. `share` is what is done of it, in 0..1; without it no bar is drawn."""

    label: str
    share: float | None = None
    figure: str = ""
    rate: str = ""
    left: str = ""
    style: str = ""


def pack_bar(event: Event, now: float) -> Bar:
    """The bar of a `pack` event that was seen at `event["seen"]`."""
    done, total, rate = event.get("done") or 0, event.get("total") or 0, event.get("images_per_s")
    left = (total - done) / rate if rate else None
    share = done / total if total else 0.0
    label = f"pack {event.get('split', '')}  {done:,} of {total:,}"
    return Bar(label, share, f"{100 * share:.0f} %", _rate(rate), _left({**event, "seconds_left": left}, now))


def ensemble_bar(event: Event, running: int, now: float) -> Bar:
    """The bar of an `ensemble` event; `running` counts the members where the event does not."""
    done, asked, failed = event.get("done") or 0, event.get("asked") or 0, event.get("failed")
    busy = f"{event.get('running', running)} running"
    label = f"ensemble  {done} of {asked} done"
    return Bar(
        label, done / max(1, asked), busy, f"{failed} failed" if failed else "", _left(event, now), "bold"
    )


def trial_bar(event: Event, name: str) -> Bar:
    """The bar of a search's trial: how many members its ensemble has of those it may have, and its score."""
    ended = "" if event["state"] in OPEN else f" {event['state']}"
    label = f"{name}  {event['L']} of {event.get('of', '?')}{ended}"
    return Bar(label, event["L"] / max(1, event.get("of", 1)), score(event))


def member_bar(event: Event, digits: int, now: float) -> Bar:
    """The bar of a running member, from its newest `member` events put together."""
    epoch, epochs = event.get("epoch") or 0, event.get("epochs") or 0
    part = (event.get("step") or 0) / event["steps"] if event.get("steps") else 0.0
    share = min(1.0, (epoch + part) / epochs) if epochs else 0.0
    phase = str(event["state"])
    if phase == "training" and epochs:  # `epoch` counts the finished ones
        phase = f"epoch {min(epoch + 1, epochs):>{len(str(epochs))}}/{epochs}"
    d = f"D={event['D']}  " if "D" in event else ""
    return Bar(
        f"member {event.get('index', '?'):>{digits}}  {d}{phase:<9}",
        1.0 if phase == "embedding" else share,
        _loss(event.get("loss")),
        _rate(event.get("images_per_s")),
        _left(event, now),
    )


def member_line(event: Event, with_D: bool = False) -> str:
    """A finished, failed or retried member in one line; the rest of its message comes at the end."""
    known = [
        _loss(event.get("loss")),
        f"on {event['node']}" if event.get("node") else "",
    ]
    D = [f"D={event.get('D')}"] if with_D else []
    whose = [f"of {event['of']}"] if "of" in event else []
    name = f"member {event.get('index', '?')}"
    line = " ".join([name, *D, *whose, str(event["state"])])
    line = ", ".join([line, *(part for part in known if part)])
    message = str(event.get("message") or "").removeprefix(f"{name}: ")
    return f"{line}: {message.splitlines()[0]}" if message else line


def print_curve(
    console: Console,
    rows: Sequence[Row],
    ks: Sequence[int],
    interval: Row | None = None,
    floors: Sequence[Row] = (),
) -> None:
    """The table of recall, MAP@R and NMI against L, in percent; a long one is thinned, and says so."""
    shown = thinned(rows)
    head, cells = curve_table(shown, ks, interval, floors)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0 if console.width < 60 else 1))
    for name in head:
        table.add_column(name, justify="right", no_wrap=True, style="bold" if name == "recall@1" else "")
    for line in cells[: len(shown)]:
        table.add_row(*line)
    for line in cells[len(shown) :]:
        table.add_row(*line, style="dim")
    console.print(table)
    some = f"; L = 1, 2, 4, ... and the last of {len(rows)} rows" if len(shown) < len(rows) else ""
    _tell(console, f"  in percent{some}")


def _left(event: Event, now: float) -> str:
    """The time left, which goes on falling between two events."""
    left = event.get("seconds_left")
    return duration(None if left is None else left - (now - event.get("seen", now)))


def _rate(images_per_s: float | None) -> str:
    return f"{images_per_s:.0f} images/s" if images_per_s else ""


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"loss {loss:.3f}" if abs(loss) < 100 else f"loss {loss:.3g}"


def _drawn(bar: Bar, label_cells: int, width: int, ascii_only: bool) -> Text:
    """The bar in at most `width` cells. Which columns it has depends on widths alone, so nothing jumps."""
    room = width - label_cells - 2 * GAP - TIME
    columns = []
    for text, cells in ((bar.figure, FIGURE), (bar.rate, RATE)):
        if room - GAP - cells >= BAR_MIN:
            room -= GAP + cells
            columns.append(f"{text:>{cells + GAP}}")
    line = Text(bar.label.ljust(label_cells), style=bar.style, no_wrap=True, overflow="ellipsis")
    if bar.share is not None:
        cells = max(0, min(room, BAR_MAX))
        full = round(cells * min(1.0, max(0.0, bar.share)))
        done, rest = ("#", ".") if ascii_only else ("━", "─")  # told apart without colour too
        line.append(" " * GAP).append(done * full, style="cyan").append(rest * (cells - full), style="dim")
        line.append("".join([*columns, f"{bar.left:>{TIME + GAP}}"]))
    line.truncate(width, overflow="ellipsis")
    return line


def _tell(console: Console, text: str, style: str = "") -> None:
    """One permanent line; the further lines of a text are indented."""
    first, *more = text.expandtabs().rstrip().split("\n")
    if not console.is_interactive:  # kept whole, whatever its length: somebody will grep for it
        console.print(Text("\n    ".join([first, *more])), soft_wrap=True)
        return
    console.print(Text(first, style=style))
    if more:
        console.print(Padding(Text("\n".join(more), style="dim"), (0, 0, 0, 4)))
