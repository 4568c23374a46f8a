"""Quality against cost: every arm with intervals on both axes; the arms that nothing beats on both are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.reporting.figures import style
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.6  # inches
NAMED = 22  # up to so many points all are named; beyond, only those on the front


@dataclass(frozen=True)
class Point:
    """An arm.

    Attributes:
        name: Its name.
        cost: Mean cost.
        cost_half: Half its 95 % t interval over runs; None below 3 runs.
        value: Mean of the metric.
        half: Half its 95 % t interval over runs; None below 3 runs.
    """

    name: str
    cost: float
    cost_half: float | None
    value: float
    half: float | None


def front(points: Sequence[Point], direction: str) -> list[Point]:
    """The points that no other beats in value at the same cost or less, from cheap to dear."""
    sign = 1 if direction == "max" else -1
    out: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -sign * each.value)):
        if not out or sign * point.value > sign * out[-1].value:
            out.append(point)
    return out


def draw(points: Sequence[Point], *, metric: str, cost: str, direction: str, baseline: str) -> Figure:
    """Draws the points.

    Args:
        points: The baseline and the arms that have a result.
        metric: Label of the y axis.
        cost: Label of the x axis, with its unit.
        direction: ``max`` or ``min``: which values are better.
        baseline: Name of the baseline's point.
    """
    best = front(points, direction)
    with style.look():
        figure = style.new_figure(style.WIDTH, HEIGHT)
        axes = figure.add_axes((0.085, 0.125, 0.695, 0.84))
        axes.set(xlabel=style.shorten(cost), ylabel=style.shorten(metric))
        style.quiet_grid(axes)
        costs = [point.cost for point in points]
        if min(costs) > 0 and max(costs) / min(costs) > 6:
            _log_axis(axes, max(costs) / min(costs))
        axes.plot([each.cost for each in best], [each.value for each in best], "-", color=style.FAINT, lw=1.2, zorder=1)
        for point in points:
            _point(axes, point, point in best, point.name == baseline)
        _reach(axes, points)
        named = [point for point in points if point in best or point.name == baseline]
        _names(axes, named if len(points) > NAMED else list(points))
        return figure


def _log_axis(axes: Axes, ratio: float) -> None:
    """A log scale with plain numbers at 1, 2 and 5 of each decade, at 1 alone where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 1000 else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _point(axes: Axes, point: Point, on_front: bool, baseline: bool) -> None:
    colour = style.INK if baseline else style.SAME if on_front else style.QUIET
    if point.cost_half:
        axes.plot([max(point.cost - point.cost_half, 0.3 * point.cost), point.cost + point.cost_half],
                  [point.value] * 2, "-", color=colour, lw=0.8, alpha=0.6, zorder=2)  # fmt: skip
    if point.half:
        axes.plot([point.cost] * 2, [point.value - point.half, point.value + point.half], "-", color=colour, lw=0.8,
                  alpha=0.6, zorder=2)  # fmt: skip
    axes.plot([point.cost], [point.value], "D" if baseline else "o", ms=5.5, color=colour, mew=1.1, zorder=3,
              mfc=colour if on_front or baseline else "white")  # fmt: skip


def _reach(axes: Axes, points: Sequence[Point]) -> None:
    """Room for the means and intervals of ordinary width; one endless interval squeezes nothing."""
    halves = sorted(point.half or 0.0 for point in points)
    most = 3 * halves[len(halves) // 2] or max(halves)
    low = min(point.value - min(point.half or 0.0, most) for point in points)
    high = max(point.value + min(point.half or 0.0, most) for point in points)
    pad = 0.05 * (high - low or abs(high) or 1.0)
    axes.set_ylim(low - pad, high + pad)


def _names(axes: Axes, points: Sequence[Point]) -> None:
    """Names in a column at the right, each with a thin line to its point: they never overlap."""
    low, high = axes.get_ylim()
    size = 7.0
    gap = (high - low) * (1.35 * size / 72) / (HEIGHT * 0.84)
    places = style.spaced([min(max(point.value, low), high) for point in points], gap, low, high)
    left, right = axes.get_xlim()
    for point, place in zip(points, places, strict=True):
        axes.annotate(
            style.shorten(point.name, 26),
            xy=(point.cost, point.value),
            xytext=(1.025, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=size,
            color=style.INK,
            arrowprops={"arrowstyle": "-", "color": style.FAINT, "lw": 0.5, "shrinkA": 1, "shrinkB": 4,
                        "relpos": (0, 0.5)},
            annotation_clip=False,
            zorder=0.8,
        )  # fmt: skip
    axes.set_xlim(left, right)


def alt_text(points: Sequence[Point], *, metric: str, cost: str, direction: str, decimals: int) -> str:
    """The front in words, and how many arms lie behind it."""
    best = front(points, direction)
    names = "; ".join(f"{plain(each.name)} {number(each.value, decimals)} at {number(each.cost, 1)}" for each in best)
    return (
        f"{plain(metric)} against {plain(cost)}, {len(points)} points with intervals. "
        f"Not beaten on both, from cheap to dear: {names}."
    )
