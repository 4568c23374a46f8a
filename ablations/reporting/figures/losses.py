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

LABEL_SIZE = 6.5
KINDS = {"validation": (style.BAD, "-"), "training": (style.SAME, (0, (4, 1.5)))}


@dataclass(frozen=True)
class Grid:
    """How panels lie on a figure, in inches.

    Attributes:
        columns: Panels in a row.
        most: Panels that fit a page.
        height: Of a row.
        left, right, bottom, top: Margins around a panel; ``right`` has the names of the lines.
        named: Whether every panel has them; else the last of a row, in a margin of the whole figure.
        size: Of the letters of titles, in points.
    """

    columns: int
    most: int
    height: float
    left: float
    right: float
    bottom: float
    top: float
    named: bool
    size: float

    @property
    def across(self) -> float:
        """The width of a panel with its margins."""
        return (style.WIDTH - (0 if self.named else NAMES_WIDTH)) / self.columns


NAMES_WIDTH = 0.62
WIDE = Grid(3, 12, 1.75, 0.4, 0.66, 0.4, 0.27, named=True, size=7.5)
DENSE = Grid(5, 40, 1.06, 0.32, 0.07, 0.2, 0.2, named=False, size=6.5)


def parted(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    """Panels figure by figure, about as many on each."""
    if len(panels) <= WIDE.most:
        return [panels] if panels else []
    size = -(-len(panels) // -(-len(panels) // DENSE.most))
    return [panels[start : start + size] for start in range(0, len(panels), size)]


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
        panels: As :func:`parted` gives them.
        label: Of the y axes.
    """
    grid = WIDE if len(panels) <= WIDE.most else DENSE
    rows = -(-len(panels) // grid.columns)
    with style.look():
        figure = style.new_figure(style.WIDTH, rows * grid.height + EDGE)
        limits = {
            unit: style.roomy(np.concatenate([_values(each) for each in panels if each.unit == unit]))
            for unit in {each.unit for each in panels}
        }
        for at, panel in enumerate(panels):
            row, column = divmod(at, grid.columns)
            width, height = grid.across - grid.left - grid.right, grid.height - grid.bottom - grid.top
            bottom = EDGE + (rows - 1 - row) * grid.height + grid.bottom
            axes = style.axes_at(figure, column * grid.across + grid.left, bottom, width, height)
            title = style.fitted(panel.title, grid.size, grid.across - grid.left, "bold")
            axes.set_title(title, fontsize=grid.size)
            axes.set_ylim(*limits[panel.unit])
            axes.tick_params(labelsize=grid.size - 0.5)
            axes.locator_params(axis="x", nbins=3)
            axes.locator_params(axis="y", nbins=4 if grid.named else 3)
            if at + grid.columns >= len(panels):
                axes.set_xlabel("optimizer steps", fontsize=grid.size)
            if column == 0:
                axes.set_ylabel(style.fitted(label, grid.size, height), fontsize=grid.size)
            _panel(axes, panel)
            if grid.named or column == grid.columns - 1 or panel is panels[-1]:
                _names(axes, panel, height)
        return figure


EDGE = 0.15  # inches below the last row, for the label of its axis


def _values(panel: Panel) -> Floats:
    return np.concatenate([seed.values for _, each in panel.pair for seed in each.seeds])


def _panel(axes: Axes, panel: Panel) -> None:
    style.quiet_grid(axes)
    ends_at = [float(seed.steps[end]) for _, each in panel.pair for seed in each.seeds for end in (0, -1)]
    pad = 0.04 * (max(ends_at) - min(ends_at)) or 1.0
    axes.set_xlim(min(ends_at) - pad, max(ends_at) + pad)
    for name, each in panel.pair:
        colour, dash = KINDS[name]
        faint(axes, each.seeds, colour)
        if each.n >= FEWEST_FOR_A_BAND:
            axes.fill_between(each.grid, each.low, each.high, color=colour, alpha=0.13, lw=0, zorder=1)
        if each.grid.size:
            axes.plot(each.grid, each.mean, color=colour, ls=dash, zorder=3)
    if panel.best:
        marker = "v" if panel.direction == "min" else "^"
        axes.plot(*panel.best, marker, color=KINDS["validation"][0], ms=4.5, mew=0, zorder=4)


def _names(axes: Axes, panel: Panel, height: float) -> None:
    """What each line is, at its end; ``height`` of the panel in inches."""
    low, high = axes.get_ylim()
    ends = [float(each.mean[-1] if each.grid.size else each.seeds[-1].values[-1]) for _, each in panel.pair]
    gap = (high - low) * (LABEL_SIZE * 1.25 / 72) / height
    places = style.spaced([min(max(value, low), high) for value in ends], gap, low, high)
    for (name, _), place in zip(panel.pair, places, strict=True):
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
