"""The same learning curves over steps, time and compute, side by side under one legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.reporting.figures import curves, style
from ablations.reporting.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LEGEND, BOTTOM, LEFT, GAP = 2.25, 0.2, 0.42, 0.5, 0.16  # inches
NAME = 24
FAR = 3.0  # times the baseline's length: from here on the scale is logarithmic


@dataclass(frozen=True)
class Scale:
    """The curves over one scale.

    Attributes:
        label: Of the x axis, with its unit.
        series: The curves, the baseline's first.
    """

    label: str
    series: tuple[Series, ...]


def draw(scales: Sequence[Scale], arms: Sequence[str], *, baseline: str, metric: str) -> Figure:
    """Draws a panel a scale, with one y axis.

    Args:
        scales: At least one.
        arms: Those drawn, in the order that gives them their colours.
        baseline: Name of the baseline.
        metric: Label of the y axis.
    """
    with style.look():
        rows = _legend_rows([baseline, *arms])
        head = 0.12 + LEGEND * len(rows)
        height = PANEL + BOTTOM + head
        figure = style.new_figure(style.WIDTH, height)
        width = (style.WIDTH - LEFT - 0.12 - GAP * (len(scales) - 1)) / len(scales)
        first = None
        for at, scale in enumerate(scales):
            axes = style.axes_at(figure, LEFT + at * (width + GAP), BOTTOM, width, PANEL)
            axes.set_xlabel(scale.label)
            style.quiet_grid(axes)
            curves.lines(axes, scale.series, arms)
            _reach(axes, scale, baseline, width)
            if first is None:
                axes.set_ylabel(style.fitted(metric, 8, PANEL))
                first = axes
            else:
                axes.set_ylim(first.get_ylim())
                axes.tick_params(labelleft=False)
        for row, entries in enumerate(rows):
            y = 1 - (0.1 + LEGEND * row) / height
            for x, name in entries:
                look: Any = curves.looks(name, arms)
                figure.add_artist(_sample(figure, (LEFT + x) / style.WIDTH, y, look))
                figure.text((LEFT + x + 0.36) / style.WIDTH, y, style.shorten(name, NAME), fontsize=7, va="center")
        return figure


def _reach(axes: Axes, scale: Scale, baseline: str, width: float) -> None:
    """A log scale where some arm trains several times as long as the baseline, which would have no room beside it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ends = {each.variant: max(float(seed.steps[-1]) for seed in each.seeds) for each in scale.series}
    starts = min(float(seed.steps[0]) for each in scale.series for seed in each.seeds)
    if starts <= 0 or max(ends.values()) < FAR * ends.get(baseline, max(ends.values())):
        axes.locator_params(axis="x", nbins=max(3, int(width / 0.5)))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _sample(figure: Figure, x: float, y: float, look: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([x, x + 0.3 / style.WIDTH], [y, y], color=look["color"], ls=look["ls"], lw=1.5,
                  transform=figure.transFigure)  # fmt: skip


def _legend_rows(names: Sequence[str]) -> list[list[tuple[float, str]]]:
    """Where each name stands, in inches from the left edge of the panels, row by row."""
    rows: list[list[tuple[float, str]]] = [[]]
    x = 0.0
    for name in names:
        width = 0.36 + style.text_width(style.shorten(name, NAME), 7) + 0.2
        if rows[-1] and x + width > style.WIDTH - LEFT:
            rows.append([])
            x = 0.0
        rows[-1].append((x, name))
        x += width
    return rows


def alt_text(scales: Sequence[Scale], decimals: int = 3) -> str:
    """Where every line ends on every scale, in words."""
    return curves.alt_text([(f"over {scale.label}", list(scale.series)) for scale in scales], decimals, at="")
