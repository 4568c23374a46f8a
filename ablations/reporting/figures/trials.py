"""A search: its trials in order with the best so far, what any number of trials would find, and each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.reporting.figures import style
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, LEFT, RIGHT, BOTTOM, TOP, GAP = 2.3, 0.55, 0.15, 0.42, 0.3, 0.62  # inches
SLICES, SLICE_HEIGHT = 4, 1.75
MOST_CHOICES = 12  # beyond, names of choices cannot be read
STATES: dict[str, tuple[str, str]] = {
    "completed": ("o", style.SAME),
    "pruned": ("v", style.QUIET),
    "diverged": ("x", style.BAD),
    "failed": ("+", style.BAD),
    "impossible": ("|", style.QUIET),
}


@dataclass(frozen=True)
class Point:
    """A trial.

    Attributes:
        number: Its place.
        state: One of :data:`STATES`.
        value: The objective; of a pruned trial the last value seen; None without any.
        values: The value of each parameter.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]


def best_so_far(points: Sequence[Point], direction: str) -> list[tuple[int, float]]:
    """Number and objective of each trial that was better than all before it."""
    sign = 1 if direction == "max" else -1
    out: list[tuple[int, float]] = []
    for point in points:
        better = point.value is not None and (not out or sign * point.value > sign * out[-1][1])
        if point.state == "completed" and better:
            out.append((point.number, float(point.value or 0.0)))
    return out


def draw(points: Sequence[Point], expected: Sequence[float], *, objective: str, direction: str) -> Figure:
    """Draws the trials in order, and beside them the expected best of n where it is known.

    Args:
        points: In order, one of them completed.
        expected: Expected best of 1, 2, … trials; empty where the trials cannot tell.
        objective: Label of the y axis.
        direction: ``max`` or ``min``: which values are better.
    """
    with style.look():
        figure = style.new_figure(style.WIDTH, HEIGHT)
        room = style.WIDTH - LEFT - RIGHT
        share = 0.62 if expected else 1.0
        width = share * (room - GAP * bool(expected))
        axes = style.axes_at(figure, LEFT, BOTTOM, width, HEIGHT - BOTTOM - TOP)
        axes.set_title("trials in order")
        axes.set(xlabel="trial", ylabel=style.fitted(objective, 8, HEIGHT - BOTTOM))
        style.quiet_grid(axes)
        _limits(axes, points)
        _history(axes, points, direction)
        if expected:
            beside = style.axes_at(figure, LEFT + width + GAP, BOTTOM, room - width - GAP, HEIGHT - BOTTOM - TOP)
            beside.set_title("expected best of n")
            beside.set_xlabel("n trials")
            style.quiet_grid(beside)
            beside.plot(range(1, len(expected) + 1), expected, "-", color=style.SAME)
            beside.set_xlim(1, max(2, len(expected)))
        return figure


def _limits(axes: Axes, points: Sequence[Point]) -> None:
    import numpy as np

    axes.set_ylim(*style.roomy(np.array([point.value for point in points if point.value is not None], dtype=float)))
    axes.set_xlim(-0.5, max(point.number for point in points) + 0.5)


def _history(axes: Axes, points: Sequence[Point], direction: str) -> None:
    from matplotlib.transforms import blended_transform_factory

    low, high = axes.get_ylim()
    lower = blended_transform_factory(axes.transData, axes.transAxes)
    for state, (marker, colour) in STATES.items():
        part = [point for point in points if point.state == state]
        known = [point for point in part if point.value is not None]
        inside = [min(max(float(point.value or 0.0), low), high) for point in known]
        axes.plot([point.number for point in known], inside, marker, color=colour, ms=4, mew=1.1, clip_on=False,
                  mfc="white" if state == "pruned" else colour, zorder=3)  # fmt: skip
        lost = [point.number for point in part if point.value is None]
        axes.plot(lost, [0.03] * len(lost), marker, color=colour, ms=5, mew=1.2, transform=lower, zorder=3)
    best = best_so_far(points, direction)
    if best:
        x, y = [number_ for number_, _ in best], [value for _, value in best]
        axes.step([*x, points[-1].number], [*y, y[-1]], where="post", color=style.INK, lw=1.2, zorder=2)


def draw_slices(points: Sequence[Point], parameters: Sequence[tuple[str, bool]], *, objective: str) -> Figure:
    """Draws the objective against each parameter.

    Args:
        points: Those with a value are drawn.
        parameters: Each with whether it was drawn on a logarithmic scale.
        objective: Label of the y axis.
    """
    rows = -(-len(parameters) // SLICES)
    known = [point for point in points if point.value is not None and point.state == "completed"]
    with style.look():
        figure = style.new_figure(style.WIDTH, rows * SLICE_HEIGHT)
        columns = min(SLICES, len(parameters))
        width = (style.WIDTH - LEFT - RIGHT - 0.25 * (columns - 1)) / columns
        for at, (name, log) in enumerate(parameters):
            row, column = divmod(at, columns)
            left, bottom = LEFT + column * (width + 0.25), (rows - 1 - row) * SLICE_HEIGHT + BOTTOM
            axes = style.axes_at(figure, left, bottom, width, SLICE_HEIGHT - BOTTOM - 0.25)
            axes.set_title(style.fitted(name, 7.5, width, "bold"), fontsize=7.5)
            style.quiet_grid(axes)
            _slice(axes, known, name, log, width)
            _limits_of_values(axes, known)
            if column:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel(style.fitted(objective, 8, SLICE_HEIGHT - BOTTOM))
        return figure


def _limits_of_values(axes: Axes, points: Sequence[Point]) -> None:
    import numpy as np

    axes.set_ylim(*style.roomy(np.array([point.value for point in points], dtype=float)))


def _slice(axes: Axes, points: Sequence[Point], name: str, log: bool, inches: float) -> None:
    values = [point.values[name] for point in points]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    y = [float(point.value or 0.0) for point in points]
    if numeric:
        axes.plot([float(value) for value in values], y, "o", color=style.SAME, ms=3.5, alpha=0.75, mew=0)
        if log:
            _decades(axes, [float(value) for value in values])
        else:
            axes.locator_params(axis="x", nbins=max(2, int(inches / 0.5)))
        return
    choices = list(dict.fromkeys(map(str, values)))[:MOST_CHOICES]
    kept = [
        (choices.index(str(value)), height) for value, height in zip(values, y, strict=True) if str(value) in choices
    ]
    axes.plot([x for x, _ in kept], [height for _, height in kept], "o", color=style.SAME, ms=3.5, alpha=0.75, mew=0)
    axes.set_xlim(-0.5, len(choices) - 0.5)
    shown = [style.fitted(each, 7.5, inches / len(choices) - 0.03) for each in choices]
    axes.set_xticks(range(len(choices)), shown)


def _decades(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    wide = max(values) / min(values) > 100
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def alt_text(points: Sequence[Point], expected: Sequence[float], *, objective: str, direction: str) -> str:
    """How often the best changed, and what the best is, in words."""
    best = best_so_far(points, direction)
    counts = {state: sum(point.state == state for point in points) for state in STATES}
    states = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    steps = "; ".join(f"trial {at} {number(value, 4)}" for at, value in best)
    text = f"{plain(objective)} of {len(points)} trials in order ({states}). Best so far: {steps}."
    if expected:
        at = sorted({1, math.ceil(len(expected) / 4), len(expected)})
        text += " Expected best of n trials: " + ", ".join(f"{n}: {number(expected[n - 1], 4)}" for n in at) + "."
    return text


def slices_alt(points: Sequence[Point], parameters: Sequence[tuple[str, bool]], *, objective: str) -> str:
    """The best quarter of the trials in each parameter, in words."""
    names = ", ".join(plain(name) for name, _ in parameters)
    known = sum(point.value is not None and point.state == "completed" for point in points)
    return f"{plain(objective)} of {known} completed trials against each searched parameter: {names}."
