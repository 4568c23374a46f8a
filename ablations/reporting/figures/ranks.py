"""Early rankings against the end: rank correlation at each step, and every variant's way through the ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.reporting.figures import style
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, BOTTOM, TOP, GAP, LEAST, LINE = 0.5, 0.42, 0.3, 0.7, 2.1, 0.135  # inches
WIDTH = 2.3  # inches of the panel of correlations
COLOURED = 4  # variants that are best at the end


@dataclass(frozen=True)
class Stage:
    """The ranking at a step.

    Attributes:
        label: The step, or the end.
        ranks: Rank of each variant, 1 the best.
        correlations: Rank correlation with the end, one a seed; empty for the end itself.
    """

    label: str
    ranks: Mapping[str, int]
    correlations: tuple[float, ...]


def draw(stages: Sequence[Stage], *, baseline: str) -> Figure:
    """Draws correlations at the left and ranks at the right.

    Args:
        stages: The early steps and the end.
        baseline: Its name.
    """
    order = sorted(stages[-1].ranks, key=lambda name: stages[-1].ranks[name])
    body = max(LEAST, LINE * len(order))
    height = body + BOTTOM + TOP
    with style.look():
        figure = style.new_figure(style.WIDTH, height)
        early = style.axes_at(figure, LEFT, height - TOP - LEAST, WIDTH, LEAST)
        early.set_title("rank correlation with the end")
        _correlations(early, [stage for stage in stages if stage.correlations])
        names = [style.shorten(name, 28) for name in order]
        right = 0.12 + max(style.text_width(name, 6.5) for name in names)
        left = LEFT + WIDTH + GAP
        bumps = style.axes_at(figure, left, BOTTOM, style.WIDTH - left - right, body)
        bumps.set_title("rank")
        _ranks(bumps, stages, order, names, baseline, body)
        return figure


def _correlations(axes: Axes, stages: Sequence[Stage]) -> None:
    style.quiet_grid(axes)
    places = range(len(stages))
    means = [math.fsum(stage.correlations) / len(stage.correlations) for stage in stages]
    for at, stage in zip(places, stages, strict=True):
        axes.plot([at] * len(stage.correlations), stage.correlations, ".", color=style.QUIET, ms=4, mew=0, alpha=0.8)
    axes.plot(places, means, "o-", color=style.SAME, ms=4, lw=1.4)
    low = min(0.0, *(value for stage in stages for value in stage.correlations))
    axes.set(ylim=(low - 0.05, 1.05), xlim=(-0.3, max(len(stages) - 0.7, 0.3)), xlabel="optimizer steps")
    _steps(axes, [stage.label for stage in stages], WIDTH)


def _steps(axes: Axes, labels: Sequence[str], inches: float) -> None:
    """Names of the steps, as many as do not touch."""
    every = math.ceil(len(labels) * (max(style.text_width(each, 7.5) for each in labels) + 0.1) / inches)
    shown = [at for at in range(len(labels)) if (len(labels) - 1 - at) % every == 0]
    axes.set_xticks(shown, [labels[at] for at in shown])


def _ranks(
    axes: Axes, stages: Sequence[Stage], order: Sequence[str], names: Sequence[str], baseline: str, inches: float
) -> None:
    places = range(len(stages))
    axes.set(ylim=(len(order) + 0.6, 0.4), xlim=(-0.15, len(stages) - 0.85))
    axes.set_xlabel("optimizer steps")
    _steps(axes, [stage.label for stage in stages], axes.get_position().width * style.WIDTH)
    axes.locator_params(axis="y", integer=True, nbins=8)
    axes.tick_params(length=2.5)
    for at, name in enumerate(order):
        path = [stage.ranks[name] for stage in stages]
        if name == baseline:
            axes.plot(places, path, color=style.INK, ls=(0, (2, 1)), lw=1.6, zorder=4)
        elif at < COLOURED:
            axes.plot(places, path, color=style.COLOURS[at], ls=style.DASHES[at], lw=1.6, zorder=3)
        else:
            axes.plot(places, path, color=style.FAINT, lw=0.9, zorder=2)
        axes.plot(places, path, ".", color=style.INK if name == baseline else style.QUIET, ms=3, mew=0, zorder=5)
    gap = (len(order) + 0.2) * (6.5 * 1.22 / 72) / inches
    spots = style.spaced([float(stages[-1].ranks[name]) for name in order], gap, 0.6, len(order) + 0.4)
    for name, spot, known in zip(names, spots, order, strict=True):
        axes.annotate(name, (1, spot), xycoords=axes.get_yaxis_transform(), xytext=(5, 0), va="center", fontsize=6.5,
                      textcoords="offset points", weight="bold" if known == baseline else "normal",
                      annotation_clip=False)  # fmt: skip


def alt_text(stages: Sequence[Stage]) -> str:
    """The mean correlation at each step and the ranks at the first and at the end, in words."""
    said = ", ".join(
        f"step {stage.label} {number(math.fsum(stage.correlations) / len(stage.correlations), 2)}"
        for stage in stages
        if stage.correlations
    )
    order = sorted(stages[-1].ranks, key=lambda name: stages[-1].ranks[name])
    ways = ", ".join(f"{plain(name)} {stages[0].ranks[name]} to {stages[-1].ranks[name]}" for name in order)
    return f"Rank correlation with the end: {said}. Rank at step {stages[0].label} and at the end: {ways}."
