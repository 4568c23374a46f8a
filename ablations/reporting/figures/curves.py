"""Learning curves: a group of arms against the baseline, means with t bands, every seed faintly behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.reporting.figures import style
from ablations.reporting.series import Seed, Series
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS_PER_FIGURE = len(style.COLOURS)
HEIGHT, MARGIN, BOTTOM, TOP = 2.5, 0.52, 0.42, 0.3  # inches
LABEL_SIZE = 7.0
FEWEST_FOR_A_BAND = 3  # two seeds' t band (12.7 standard errors) hides everything else


Panel = tuple[str, list[Series]]
"""Title and series; the baseline's first where it has any."""


def draw(panels: Sequence[Panel], arms: Sequence[str], xlabels: Sequence[str] = ("optimizer steps",)) -> Figure:
    """Draws one panel a metric, or a scale of time, side by side.

    Args:
        panels: What to draw.
        arms: The arms in the order that gives them their colours, without the baseline.
        xlabels: Of each panel; one serves all.
    """
    with style.look():
        figure = style.new_figure(style.WIDTH, HEIGHT)
        place(figure, panels, arms, left=0.0, xlabels=xlabels)
        return figure


def place(
    figure: Figure,
    panels: Sequence[Panel],
    arms: Sequence[str],
    *,
    left: float,
    xlabels: Sequence[str] = ("optimizer steps",),
) -> None:
    """Draws the panels into a figure of :data:`HEIGHT`, from ``left`` inches to its right edge."""
    longest = 22 if len(panels) < 3 and not left else 15
    names = {each.variant: style.shorten(each.variant, longest) for _, part in panels for each in part}
    label = 0.22 + max((style.text_width(name, LABEL_SIZE) for name in names.values()), default=0.5)
    width = (style.WIDTH - left - (MARGIN + label) * len(panels)) / len(panels)
    for at, (title, part) in enumerate(panels):
        start = left + at * (MARGIN + width + label) + MARGIN
        axes = style.axes_at(figure, start, BOTTOM, width, HEIGHT - BOTTOM - TOP)
        axes.set_title(style.fitted(title, 8.5, width + label, "bold"))
        axes.set_xlabel(xlabels[at % len(xlabels)])
        style.quiet_grid(axes)
        axes.locator_params(axis="x", nbins=max(3, int(width / 0.45)))
        _panel(axes, part, arms, names)


def looks(variant: str, arms: Sequence[str]) -> dict[str, Any]:
    """Colour and dashes of a variant's line: the baseline's where it is none of the arms."""
    if variant not in arms:
        return {"color": style.INK, "ls": (0, (2, 1)), "zorder": 4}
    at = arms.index(variant) % len(style.COLOURS)
    return {"color": style.COLOURS[at], "ls": style.DASHES[at], "zorder": 3}


def _panel(axes: Axes, part: Sequence[Series], arms: Sequence[str], names: dict[str, str]) -> None:
    lines(axes, part, arms)
    ends = []
    for each in part:
        last = each.mean[-1] if each.grid.size else each.seeds[-1].values[-1]
        ends.append((float(last), names[each.variant], looks(each.variant, arms)["color"]))
    _labels(axes, ends)


def lines(axes: Axes, part: Sequence[Series], arms: Sequence[str]) -> None:
    """Draws the means, their bands and the single seeds into axes, and sets its limits."""
    shade = max(0.05, 0.18 / len(part) ** 0.7)  # many bands upon one another hide the lines
    for each in part:
        own = looks(each.variant, arms)
        faint(axes, each.seeds, own["color"])
        for seed in each.seeds:
            if not seed.completed:
                axes.plot(seed.steps[-1:], seed.values[-1:], "x", color=own["color"], ms=4, mew=1.1, zorder=5)
        if each.grid.size:
            if each.n >= FEWEST_FOR_A_BAND and np.isfinite(each.low).any():
                axes.fill_between(each.grid, each.low, each.high, color=own["color"], alpha=shade, lw=0, zorder=1)
            axes.plot(each.grid, each.mean, marker="o" if each.grid.size <= 2 else "", ms=3, **own)
    _limits(axes, part)


def faint(axes: Axes, seeds: Sequence[Seed], colour: str) -> None:
    """Draws single seeds thinly, as one object."""
    from matplotlib.collections import LineCollection

    paths = [np.column_stack([seed.steps, seed.values]) for seed in seeds]
    axes.add_collection(LineCollection(paths, colors=colour, lw=0.6, alpha=0.3, zorder=2), autolim=False)


def _limits(axes: Axes, part: Sequence[Series]) -> None:
    """Room for means, seeds and bands, but not for a band that two seeds make endless, nor for one run's spike."""
    values = np.concatenate([seed.values for each in part for seed in each.seeds]) if part else np.array([])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    axes.set_ylim(*style.roomy(values))
    steps = max(float(seed.steps[-1]) for each in part for seed in each.seeds)
    start = min(float(seed.steps[0]) for each in part for seed in each.seeds)
    axes.set_xlim(start if steps > start else start - 1, steps if steps > start else steps + 1)


def _labels(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Each line's name at its end, moved apart where they would touch."""
    from matplotlib.transforms import blended_transform_factory

    if not ends:
        return
    low, high = axes.get_ylim()
    _, _, width, height = axes.get_position().bounds
    reach = min(0.06, 0.2 / (style.WIDTH * width))  # a wide panel leaves no more room than a narrow one
    gap = (high - low) * (LABEL_SIZE * 1.25 / 72) / (HEIGHT * height)
    wished = [min(max(value, low), high) for value, _, _ in ends]
    places = style.spaced(wished, gap, low, high)
    across = blended_transform_factory(axes.transAxes, axes.transData)
    for (_, name, colour), wish, place in zip(ends, wished, places, strict=True):
        axes.plot(
            [1.005, 0.985 + reach], [wish, place], color=colour, lw=1.2, transform=across, clip_on=False, zorder=6
        )
        axes.text(
            1 + reach, place, name, transform=across, ha="left", va="center", fontsize=LABEL_SIZE, color=style.INK
        )


def alt_text(panels: Sequence[Panel], decimals: int = 3, at: str = " at step {:g}") -> str:
    """The last mean of every line, in words; ``at`` says where the longest ends."""
    parts = []
    for title, part in panels:
        ends = [
            f"{plain(each.variant)} {number(float(each.mean[-1]), decimals)} (n = {each.n})"
            if each.grid.size
            else f"{plain(each.variant)} no completed run"
            for each in part
        ]
        steps = max((float(each.grid[-1]) for each in part if each.grid.size), default=None)
        where = at.format(steps) if steps is not None else ""
        parts.append(f"{plain(title)}{where}: " + ", ".join(ends))
    return "Learning curves, mean over seeds. " + "; ".join(parts) + "."
