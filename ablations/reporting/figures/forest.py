"""The forest plot: every arm's difference from the baseline, its interval, and its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.analysis.results import Comparison
from ablations.reporting.figures import style
from ablations.reporting.prose import VERDICT_WORDS
from ablations.reporting.text import defined, interval, number, plain, plural
from ablations.reporting.verdicts import look_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = {"good": style.GOOD, "bad": style.BAD, "same": style.SAME, "open": style.OPEN}
ROWS_PER_FIGURE = 46
ROW, HEADING, TOP, BOTTOM = 0.235, 0.27, 0.34, 0.52  # inches
HEAD = "difference [95 % interval]"
TALLEST = 9.6  # inches of a figure that with its caption fits a page


@dataclass(frozen=True)
class Row:
    """A line of the plot: a heading of a group (no comparison), or an arm."""

    label: str
    comparison: Comparison | None = None


def rows_of(groups: Sequence[tuple[str, Sequence[Comparison]]]) -> list[Row]:
    """Headings and arms in order; arms without a group have an empty title and no heading."""
    rows = []
    for title, comparisons in groups:
        if title:
            rows.append(Row(title))
        rows += [Row(each.arm, each) for each in comparisons]
    return rows


def pages(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in parts that fit a page, about as long as one another; a heading never stands last."""
    parts = -(-len(rows) // ROWS_PER_FIGURE)
    each = min(ROWS_PER_FIGURE, -(-len(rows) // max(1, parts)) + 3 * (parts > 1))
    out: list[list[Row]] = [[]]
    for at, row in enumerate(rows):
        full = len(out[-1]) >= each
        ends = row.comparison is None and len(out[-1]) >= each - 6 * (parts > 1) and at + 3 < len(rows)
        if full or ends:
            out.append([])
        out[-1].append(row)
    return out


def draw(
    rows: Sequence[Row], *, metric: str, smallest: float | None, decimals: int, limits: tuple[float, float]
) -> Figure:
    """Draws one part of the plot.

    Args:
        rows: From :func:`pages`.
        metric: What the differences are of, for the axis.
        smallest: Smallest effect of interest; its band is shaded.
        decimals: Of the printed figures.
        limits: Ends of the axis, in the metric's unit; what lies beyond is an arrow at the edge.
    """
    heights = [HEADING if row.comparison is None else ROW for row in rows]
    squeezed = min(1.0, (TALLEST - TOP - BOTTOM) / sum(heights))
    heights = [each * squeezed for each in heights]
    body = sum(heights)
    with style.look():
        figure = style.new_figure(style.WIDTH, TOP + body + BOTTOM)
        names = [style.shorten(row.label) for row in rows]
        left = 0.15 + max(style.text_width(name, 8, "bold" if not row.comparison else "normal")
                          + (0.12 if row.comparison else 0) for name, row in zip(names, rows, strict=True))  # fmt: skip
        texts = [_figures(row.comparison, decimals) if row.comparison else "" for row in rows]
        right = 0.42 + max(style.text_width(HEAD, 7), *(style.text_width(each, 7.5) for each in texts))
        height = TOP + body + BOTTOM
        box = (left / style.WIDTH, BOTTOM / height, 1 - (left + right) / style.WIDTH, body / height)
        axes = figure.add_axes(box)
        axes.set(xlim=limits, ylim=(body, 0), xlabel=f"difference from the baseline, {style.shorten(metric)}")
        axes.locator_params(axis="x", nbins=max(3, int((style.WIDTH - left - right) / 0.6)))
        style.difference_axis(axes, smallest, zero=0.9)
        _rows(axes, rows, names, texts, heights)
        _head(axes, limits, smallest, right)
        return figure


def _rows(
    axes: Axes, rows: Sequence[Row], names: Sequence[str], texts: Sequence[str], heights: Sequence[float]
) -> None:
    from matplotlib.transforms import blended_transform_factory

    across = blended_transform_factory(axes.transAxes, axes.transData)
    top = 0.0
    for row, name, text, height in zip(rows, names, texts, heights, strict=True):
        y = top + height / 2
        top += height
        heading = row.comparison is None
        axes.annotate(name, (0, y + (0.03 if heading else 0)), xycoords=across, xytext=(-8, 0),
                      textcoords="offset points", ha="right", va="center",
                      weight="bold" if heading else "normal", color=style.INK, annotation_clip=False)  # fmt: skip
        if row.comparison is None:
            axes.axhline(top - height + 0.02, color=style.FAINT, lw=0.5, zorder=0.5)
            continue
        look = look_of(row.comparison)
        axes.annotate(f"{look.sign}", (1, y), xycoords=across, xytext=(12, 0), textcoords="offset points",
                      ha="center", va="center", color=PALETTE[look.colour], weight="bold",
                      annotation_clip=False)  # fmt: skip
        axes.annotate(text, (1, y), xycoords=across, xytext=(23, 0), textcoords="offset points", ha="left",
                      va="center", fontsize=7.5, color=style.INK, annotation_clip=False)  # fmt: skip
        _arm(axes, row.comparison, y)


def _arm(axes: Axes, comparison: Comparison, y: float) -> None:
    look, (low, high) = look_of(comparison), axes.get_xlim()
    colour = PALETTE[look.colour]
    seeds = [each for each in comparison.differences if low <= each <= high]
    axes.plot(seeds, [y + 0.065] * len(seeds), ".", color=style.QUIET, ms=3.8, mew=0, alpha=0.75, zorder=2)
    if defined(comparison.ci_low) and defined(comparison.ci_high):
        start, end = max(comparison.ci_low or 0, low), min(comparison.ci_high or 0, high)
        if start < end:
            axes.plot([start, end], [y - 0.015] * 2, "-", color=colour, lw=1.8, zorder=3)
        reach = high - low
        if comparison.ci_low is not None and comparison.ci_low < low < (comparison.ci_high or 0):
            axes.plot(
                [low + 0.006 * reach], [y - 0.015], marker="<", ms=4.5, color=colour, mew=0, clip_on=False, zorder=4
            )
        if comparison.ci_high is not None and comparison.ci_high > high > (comparison.ci_low or 0):
            axes.plot(
                [high - 0.006 * reach], [y - 0.015], marker=">", ms=4.5, color=colour, mew=0, clip_on=False, zorder=4
            )
    if not defined(comparison.difference):
        return
    mean = comparison.difference or 0.0
    if not low <= mean <= high:
        edge = low if mean < low else high
        axes.plot(
            [edge], [y - 0.015], marker="<" if mean < low else ">", ms=6.5, color=colour, mew=0, clip_on=False, zorder=5
        )
        return
    axes.plot([mean], [y - 0.015], marker=look.marker, ms=6, mec=colour, mfc=colour if look.filled else "white",
              mew=1.2, zorder=5)  # fmt: skip


def _head(axes: Axes, limits: tuple[float, float], smallest: float | None, right: float) -> None:
    """What the columns and the band are, above the first row."""
    offset: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "fontsize": 7,
              "color": style.QUIET, "annotation_clip": False}  # fmt: skip
    axes.annotate(HEAD, (1, 1), xytext=(23, 4), ha="left", **offset)
    if smallest and smallest < max(-limits[0], limits[1]):
        from matplotlib.transforms import blended_transform_factory

        above = blended_transform_factory(axes.transData, axes.transAxes)
        axes.annotate(
            f"of no interest (±{smallest:g})", (0, 1), **{**offset, "xycoords": above}, xytext=(0, 4), ha="center"
        )


def _figures(comparison: Comparison, decimals: int) -> str:
    if not defined(comparison.difference):
        return "no pair of runs"
    shown = number(comparison.difference, decimals, signed=True)
    if comparison.n < 2:
        return f"{shown}  (one seed)"
    return f"{shown}  {interval(comparison.ci_low, comparison.ci_high, decimals)}"


def limits_of(comparisons: Sequence[Comparison], smallest: float | None) -> tuple[float, float]:
    """Ends of the axis: all means and seeds, but neither far outliers nor the ends of very wide intervals.

    A mean is far out where it is more than five times the median size of mean and half interval; two such arms would
    squeeze all the others into one stroke.
    """
    means = [each.difference for each in comparisons if each.difference is not None and math.isfinite(each.difference)]
    if not means:
        reach = smallest or 1.0
        return (-1.5 * reach, 1.5 * reach)
    sizes = sorted(abs(each.difference or 0) + _half(each) for each in comparisons if defined(each.difference))
    typical = max(sizes[len(sizes) // 2], smallest or 0.0)
    far = 5 * typical if typical else math.inf
    near = [each for each in comparisons if defined(each.difference) and abs(each.difference or 0) <= far]
    ends = [0.0, *(means if not near else [])]
    for each in near:
        ends += [each.difference or 0.0, *each.differences]
        reach = 2.5 * max(abs(each.difference or 0), typical)
        if defined(each.ci_low) and defined(each.ci_high):
            ends += [max(each.ci_low or 0, -reach), min(each.ci_high or 0, reach)]
    if smallest and smallest < 4 * max(abs(end) for end in ends):
        ends += [-1.25 * smallest, 1.25 * smallest]
    low, high = min(ends), max(ends)
    pad = 0.04 * (high - low or 1.0)
    return (low - pad, high + pad)


def _half(comparison: Comparison) -> float:
    if comparison.n < 3 or not (defined(comparison.ci_low) and defined(comparison.ci_high)):
        return 0.0
    return ((comparison.ci_high or 0) - (comparison.ci_low or 0)) / 2


def alt_text(rows: Sequence[Row], *, metric: str, decimals: int) -> str:
    """The plot in words: every arm's difference, interval and verdict."""
    arms = [row.comparison for row in rows if row.comparison]
    parts = []
    for each in arms:
        span = f" {interval(each.ci_low, each.ci_high, decimals)}" if each.n > 1 else ""
        parts.append(
            f"{plain(each.arm)} {number(each.difference, decimals, signed=True)}{span} {VERDICT_WORDS[each.verdict]}"
        )
    return (
        f"Forest plot of the difference from the baseline in {plain(metric)}, with 95 % intervals, "
        f"{plural(len(arms), 'arm')}: " + "; ".join(parts) + "."
    )
