"""An attribution path: from the baseline to the whole, one change a row, with the interval of where it has led."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.analysis.results import Comparison
from ablations.reporting.figures import style
from ablations.reporting.text import defined, interval, number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, TOP, BOTTOM = 0.29, 0.34, 0.5  # inches
HEAD = "change by the step [95 % interval]"


@dataclass(frozen=True)
class Row:
    """A stop of the path.

    Attributes:
        label: What the step changes; of the first, the baseline's name.
        total: The variant against the baseline; None for the baseline, or without a shared seed.
        step: The variant against the one before it; None likewise.
    """

    label: str
    total: Comparison | None
    step: Comparison | None


def draw(rows: Sequence[Row], *, metric: str, smallest: float | None, decimals: int, direction: str) -> Figure:
    """Draws the path downwards.

    Args:
        rows: The baseline first.
        metric: What the differences are of, for the axis.
        smallest: Smallest effect of interest; its band around the baseline is shaded.
        decimals: Of the printed figures.
        direction: ``max`` or ``min``: which values are better.
    """
    body = ROW * len(rows)
    height = TOP + body + BOTTOM
    with style.look():
        figure = style.new_figure(style.WIDTH, height)
        names = [style.shorten(row.label, 40) for row in rows]
        texts = [_figures(row.step, decimals) for row in rows]
        left = 0.2 + max(style.text_width(name, 8) for name in names)
        right = 0.3 + max(style.text_width(HEAD, 7), *(style.text_width(text, 7.5) for text in texts))
        box = (left / style.WIDTH, BOTTOM / height, 1 - (left + right) / style.WIDTH, body / height)
        axes = figure.add_axes(box)
        axes.set(xlim=_limits(rows, smallest), ylim=(len(rows), 0))
        axes.set_xlabel(f"difference from the baseline, {style.shorten(metric)}")
        axes.locator_params(axis="x", nbins=max(3, int((style.WIDTH - left - right) / 0.6)))
        style.difference_axis(axes, smallest)
        axes.tick_params(length=2.5)
        _path(axes, rows, 1 if direction == "max" else -1)
        across = axes.get_yaxis_transform()
        for at, (name, text) in enumerate(zip(names, texts, strict=True)):
            axes.annotate(name, (0, at + 0.5), xycoords=across, xytext=(-8, 0), textcoords="offset points", ha="right",
                          va="center", annotation_clip=False)  # fmt: skip
            axes.annotate(text, (1, at + 0.5), xycoords=across, xytext=(10, 0), textcoords="offset points",
                          va="center", fontsize=7.5, annotation_clip=False)  # fmt: skip
        axes.annotate(HEAD, (1, 1), xycoords="axes fraction", xytext=(10, 4), textcoords="offset points", va="bottom",
                      fontsize=7, color=style.QUIET, annotation_clip=False)  # fmt: skip
        return figure


def _figures(step: Comparison | None, decimals: int) -> str:
    if step is None or not defined(step.difference):
        return ""
    return f"{number(step.difference, decimals, signed=True)} {interval(step.ci_low, step.ci_high, decimals)}"


def _place(row: Row, first: bool) -> float | None:
    if first:
        return 0.0
    return row.total.difference if row.total is not None and defined(row.total.difference) else None


def _limits(rows: Sequence[Row], smallest: float | None) -> tuple[float, float]:
    """Room for all means, and for intervals unless two seeds make them endless."""
    ends = [0.0, *((-smallest, smallest) if smallest else ())]
    for row in rows:
        if row.total is not None and defined(row.total.difference):
            ends.append(row.total.difference or 0.0)
            if row.total.n > 2:
                ends += [end for end in (row.total.ci_low, row.total.ci_high) if end is not None]
    pad = 0.06 * (max(ends) - min(ends)) or 0.01
    return min(ends) - pad, max(ends) + pad


def _path(axes: Axes, rows: Sequence[Row], sign: int) -> None:
    low, high = axes.get_xlim()
    stops = [(at + 0.5, place) for at, row in enumerate(rows) if (place := _place(row, at == 0)) is not None]
    for (y, x), (lower, reached) in itertools.pairwise(stops):
        colour = style.GOOD if sign * (reached - x) >= 0 else style.BAD
        axes.plot([x, x, reached], [y, lower, lower], "-", color=style.FAINT, lw=0.9, zorder=1.5)
        axes.plot([x, reached], [lower, lower], "-", color=colour, lw=4, alpha=0.35, solid_capstyle="butt", zorder=2)
    for (y, x), row in zip(
        stops, [row for at, row in enumerate(rows) if _place(row, at == 0) is not None], strict=True
    ):
        total = row.total
        if total is not None and total.ci_low is not None and total.ci_high is not None:
            axes.plot(
                [max(total.ci_low, low), min(total.ci_high, high)], [y, y], "-", color=style.INK, lw=1.2, zorder=3
            )
        axes.plot([x], [y], "D" if total is None else "o", color=style.INK, ms=4.5, mew=0, zorder=4)


def alt_text(rows: Sequence[Row], *, metric: str, decimals: int) -> str:
    """Where each step led, in words."""
    parts = [
        f"{plain(row.label)} {number(row.total.difference, decimals, signed=True)}"
        f" {interval(row.total.ci_low, row.total.ci_high, decimals)}"
        if row.total is not None
        else f"{plain(row.label)} no result"
        for row in rows[1:]
    ]
    return (
        f"Path from the baseline in {plain(metric)}, difference from the baseline with 95 % interval after each step: "
        + "; ".join(parts)
        + "."
    )
