"""The look of the figures: panels side by side under a title, in the style of `plots`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from muster.orchestrator.report.plots import GRID, MUTED, our_style, saved

if TYPE_CHECKING:  # matplotlib takes half a second to import: only who draws pays for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 8.0  # inches
#: For ordered things, from dark to light; each looks different to all kinds of eyes, and in grey.
ORDERED = ("#08306b", "#1d6996", "#0f8554", "#b8860b", "#e17c05", "#cc503e", "#94346e", "#6f4070")
MARKERS = "osD^vPX*"
#: For four unordered things.
FOUR = ("#08457e", "#e17c05", "#0f8554", "#b5263c")
SEEN, UNSEEN = "#c4500b", "#08457e"
NOTE = "#a63603"


def rendered(draw: Callable[[], Figure]) -> tuple[bytes, bytes]:
    """(SVG, PNG) of what `draw` draws in our style."""
    with our_style():
        figure = draw()
        return saved(figure, "svg"), saved(figure, "png")


def panels(
    title: str, note: str, count: int, height: float, legend: float = 0.0, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """`count` axes of `height` inches side by side below a title and a note, each with room for its own heading;
    `legend` inches are left free below them. `shared`: they have the same scales."""
    below, heading, left, right, gap = 0.56 + legend, 0.3, 0.72, 0.18, 0.2 if shared else 0.62
    figure = titled(title, note, below + height + heading)
    total = figure.get_size_inches()[1]
    width = (WIDTH - left - right - gap * (count - 1)) / count
    found: list[Axes] = []
    for n in range(count):
        x = left + n * (width + gap)
        place = (x / WIDTH, below / total, width / WIDTH, height / total)
        first = found[0] if shared and found else None
        axes = figure.add_axes(place, sharex=first, sharey=first)
        axes.tick_params(labelleft=first is None)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, pad=5)
        axes.grid(axis="y", color=GRID, linewidth=0.9)
        axes.set_axisbelow(True)
        found.append(axes)
    return figure, found


def titled(title: str, note: str, height: float) -> Figure:
    """A figure with a title and a note in its head, and `height` inches below the head."""
    from matplotlib.figure import Figure

    lines = textwrap.wrap(note, 105)
    top = 0.46 + 0.17 * len(lines)
    total = height + top
    figure = Figure(figsize=(WIDTH, total))
    size = min(12.0, 106 * WIDTH / max(1, len(title)))
    # Not parsed as mathematics: a data set may have a $ in its name.
    figure.text(0.24 / WIDTH, 1 - 0.31 / total, title, fontsize=size, fontweight="bold", parse_math=False)
    for n, line in enumerate(lines):
        y = 1 - (0.52 + 0.17 * n) / total
        figure.text(0.24 / WIDTH, y, line, fontsize=8.5, color=NOTE, parse_math=False)
    return figure


def label(axes: Axes, text: str) -> None:
    """A panel's own heading."""
    axes.set_title(text, fontsize=9.5, color=MUTED, loc="left", pad=8)
