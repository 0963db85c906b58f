"""The correlation of all dimensions with each other as a picture: |r| in shades, the learners' borders drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from muster.orchestrator.report.plots import INK, MUTED, our_style, saved
from muster.orchestrator.settings.request import LaunchRequest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BORDER = "#c4500b"


def heat_map(table: np.ndarray, sizes: tuple[int, ...], title: str) -> dict[str, bytes]:
    """The picture as `png` and `svg`. `table`: Pearson r, float64 [d, d]; NaN (no variation) stays white."""
    with our_style():
        return {kind: saved(_figure(table, sizes, title), kind) for kind in ("png", "svg")}


def heat_title(request: LaunchRequest) -> str:
    """What a heat map shows, in a line."""
    return f"Correlation of dimensions, {request.settings.title} on {request.data.dataset}"


def _figure(table: np.ndarray, sizes: tuple[int, ...], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.8))
    axes = figure.add_axes((0.11, 0.13, 0.72, 0.76))
    image = axes.imshow(np.abs(table), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    borders = np.cumsum(sizes)
    for border in borders[:-1] - 0.5:
        axes.axhline(border, color=BORDER, linewidth=1.1)
        axes.axvline(border, color=BORDER, linewidth=1.1)
    middles = borders - np.asarray(sizes) / 2 - 0.5
    names = [f"{number}\n({size})" for number, size in enumerate(sizes, start=1)]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0, pad=5)
    axes.spines[:].set_color("#9aa5b1")
    axes.set_xlabel("learner (dimensions)", labelpad=6)
    bar = figure.colorbar(image, cax=figure.add_axes((0.865, 0.13, 0.028, 0.76)))
    bar.set_label("|r|", color=MUTED, rotation=0, labelpad=10)
    bar.outline.set_visible(False)
    size = min(12.0, 84 * 6.4 / max(1, len(title)))
    figure.text(0.035, 0.94, title, fontsize=size, fontweight="bold", color=INK, parse_math=False)
    return figure
