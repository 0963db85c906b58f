"""The progress bars of packing: a bar for each split, with images a second and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from muster.orchestrator.console.screen import err


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")


@contextmanager
def packing_bars() -> Iterator[Callable[[str, int, int], None]]:
    """While entered, what it gives shows a split's progress on standard error: (split, done, total)."""
    columns = (
        TextColumn("packing {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=err)
    tasks: dict[str, TaskID] = {}

    def show(split: str, done: int, total: int) -> None:
        if split not in tasks:
            bars.start()
            tasks[split] = bars.add_task(split, total=total)
        bars.update(tasks[split], completed=done)

    try:
        yield show
    finally:
        if tasks:  # without any, stopping would print an empty line
            bars.stop()
