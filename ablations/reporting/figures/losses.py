"""Training against validation: one small panel an arm, a loss or metric measured alike on both, on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ablations.analysis.paired import Floats
from ablations.reporting.figures import style
from ablations.reporting.figures.curves import FEWEST_FOR_A_BAND, faint
from ablations.reporting.series import Series
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_ROW, ROW_HEIGHT = 3, 1.75  # inches
PER_FIGURE = 12
LABEL_SIZE = 6.5
LEFT, RIGHT, BOTTOM, TOP = 0.4, 0.66, 0.4, 0.27  # inches around a panel
KINDS = {"validation": (style.BAD, "-"), "training": (style.SAME, (0, (4, 1.5)))}


@dataclass(frozen=True)
class Panel:
    """An arm.

    Attributes:
        title: Its name.
        validation: Loss or metric on the validation split.
        training: The same on training samples, measured like the former.
        direction: ``max`` or ``min``: which values are better.
        unit: What the values are; panels of one unit have one scale.
    """

    title: str
    validation: Series
    training: Series
    direction: str = "min"
    unit: str = ""

    @property
    def pair(self) -> tuple[tuple[str, Series], ...]:
        """Both with their names."""
        return ("validation", self.validation), ("training", self.training)

    @property
    def best(self) -> tuple[float, float] | None:
        """Step and value at which the mean on validation samples is best; None without a completed run."""
        if not self.validation.grid.size:
            return None
        at = int((np.argmin if self.direction == "min" else np.argmax)(self.validation.mean))
        return float(self.validation.grid[at]), float(self.validation.mean[at])


def draw(panels: Sequence[Panel], *, label: str) -> Figure:
    """Draws the panels.

    Args:
        panels: At most :data:`PER_FIGURE`.
        label: Of the y axes.
    """
    rows = -(-len(panels) // PER_ROW)
    height = rows * ROW_HEIGHT
    with style.look():
        figure = style.new_figure(style.WIDTH, height)
        limits = {
            unit: style.roomy(np.concatenate([_values(each) for each in panels if each.unit == unit]))
            for unit in {each.unit for each in panels}
        }
        for at, panel in enumerate(panels):
            row, column = divmod(at, PER_ROW)
            box = (
                column / PER_ROW + LEFT / style.WIDTH,
                (rows - 1 - row) / rows + BOTTOM / height,
                1 / PER_ROW - (LEFT + RIGHT) / style.WIDTH,
                1 / rows - (BOTTOM + TOP) / height,
            )
            axes = figure.add_axes(box)
            axes.set_title(style.fitted(panel.title, 7.5, style.WIDTH / PER_ROW - LEFT - 0.1, "bold"), fontsize=7.5)
            axes.set_ylim(*limits[panel.unit])
            axes.locator_params(axis="x", nbins=3)
            axes.locator_params(axis="y", nbins=4)
            if at + PER_ROW >= len(panels):
                axes.set_xlabel("optimizer steps")
            if column == 0:
                axes.set_ylabel(style.fitted(label, 8, ROW_HEIGHT - BOTTOM))
            _panel(axes, panel)
        return figure


def _values(panel: Panel) -> Floats:
    return np.concatenate([seed.values for _, each in panel.pair for seed in each.seeds])


def _panel(axes: Axes, panel: Panel) -> None:
    style.quiet_grid(axes)
    ends_at = [float(seed.steps[end]) for _, each in panel.pair for seed in each.seeds for end in (0, -1)]
    pad = 0.04 * (max(ends_at) - min(ends_at)) or 1.0
    axes.set_xlim(min(ends_at) - pad, max(ends_at) + pad)
    ends = []
    for name, each in panel.pair:
        colour, dash = KINDS[name]
        faint(axes, each.seeds, colour)
        if each.n >= FEWEST_FOR_A_BAND:
            axes.fill_between(each.grid, each.low, each.high, color=colour, alpha=0.13, lw=0, zorder=1)
        if each.grid.size:
            axes.plot(each.grid, each.mean, color=colour, ls=dash, zorder=3)
        ends.append((name, float(each.mean[-1] if each.grid.size else each.seeds[-1].values[-1])))
    if panel.best:
        marker = "v" if panel.direction == "min" else "^"
        axes.plot(*panel.best, marker, color=KINDS["validation"][0], ms=4.5, mew=0, zorder=4)
    low, high = axes.get_ylim()
    gap = (high - low) * (LABEL_SIZE * 1.25 / 72) / (ROW_HEIGHT - BOTTOM - TOP)
    places = style.spaced([min(max(value, low), high) for _, value in ends], gap, low, high)
    for (name, _), place in zip(ends, places, strict=True):
        axes.annotate(name, (1, place), xycoords=axes.get_yaxis_transform(), xytext=(4, 0), va="center",
                      textcoords="offset points", fontsize=LABEL_SIZE, color=KINDS[name][0],
                      annotation_clip=False)  # fmt: skip


def alt_text(panels: Sequence[Panel], label: str, decimals: int = 3) -> str:
    """Where each arm's lines end and where validation was best, in words."""
    parts = []
    for panel in panels:
        ends = " and ".join(
            f"{name} {number(float(each.mean[-1]), decimals)}" if each.grid.size else f"{name} no completed run"
            for name, each in panel.pair
        )
        best = f", validation best at step {panel.best[0]:g}" if panel.best else ""
        parts.append(f"{plain(panel.title)} ends at {ends}{best}")
    said = f"{plain(label)} on training samples against that on validation samples, mean over seeds. "
    return said[:1].upper() + said[1:] + "; ".join(parts) + "."
