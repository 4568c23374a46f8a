"""A combination and its parts: what each brings alone, what is missed without it, and whether the sum is the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.reporting.figures import style
from ablations.reporting.text import interval, number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, TOP, BOTTOM = 0.3, 0.36, 0.5  # inches
LOOKS: dict[str, dict[str, Any]] = {
    "alone": {"color": style.SAME, "marker": "o", "mfc": style.SAME},
    "missed": {"color": style.BAD, "marker": "s", "mfc": "white"},
    "sum": {"color": style.SAME, "marker": "D", "mfc": "white"},
    "whole": {"color": style.INK, "marker": "D", "mfc": style.INK},
}
WORDS = {
    "alone": "added to the baseline alone",
    "missed": "missed where it is left out of the whole",
    "sum": "sum of the parts",
    "whole": "the whole",
}


@dataclass(frozen=True)
class Effect:
    """A mean difference with its 95 % interval; None at the ends where there is no test."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """A line of the figure.

    Attributes:
        label: The part, or what the line is.
        effects: What is known of it, by kind: one of :data:`LOOKS`.
    """

    label: str
    effects: dict[str, Effect]


def draw(rows: Sequence[Row], *, metric: str, smallest: float | None) -> Figure:
    """Draws the parts above their sum and the whole.

    Args:
        rows: At least one.
        metric: What the differences are of.
        smallest: Smallest effect of interest; its band is shaded.
    """
    kinds = [kind for kind in LOOKS if any(kind in row.effects for row in rows)]
    body = ROW * len(rows)
    height = TOP + body + BOTTOM
    with style.look():
        figure = style.new_figure(style.WIDTH, height)
        names = [style.shorten(row.label, 40) for row in rows]
        left = 0.2 + max(style.text_width(name, 8) for name in names)
        axes = style.axes_at(figure, left, BOTTOM, style.WIDTH - left - 0.2, body)
        axes.set(xlim=_limits(rows, smallest), ylim=(len(rows), 0))
        axes.set_xlabel(f"difference, {style.shorten(metric)}")
        style.difference_axis(axes, smallest)
        axes.tick_params(length=2.5)
        for at, (row, name) in enumerate(zip(rows, names, strict=True)):
            axes.annotate(name, (0, at + 0.5), xycoords=axes.get_yaxis_transform(), xytext=(-8, 0), ha="right",
                          textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip
            for place, (kind, effect) in enumerate(row.effects.items()):
                spread = 0.24 * (place - (len(row.effects) - 1) / 2)
                _effect(axes, effect, at + 0.5 + spread, LOOKS[kind])
        _legend(axes, kinds, style.WIDTH - left - 0.2, body)
        return figure


def _effect(axes: Axes, effect: Effect, y: float, look: dict[str, Any]) -> None:
    low, high = axes.get_xlim()
    if effect.low is not None and effect.high is not None:
        axes.plot([max(effect.low, low), min(effect.high, high)], [y, y], "-", color=look["color"], lw=1.4, zorder=2)
    axes.plot([effect.value], [y], look["marker"], mec=look["color"], mfc=look["mfc"], ms=5, mew=1.2, zorder=3)


def _legend(axes: Axes, kinds: Sequence[str], width: float, body: float) -> None:
    """Which mark is what, above the first row."""
    x = 0.0
    for kind in kinds:
        look = LOOKS[kind]
        place: Any = {"transform": axes.transAxes, "clip_on": False}
        up = 1 + 0.17 / body
        axes.plot(
            [(x + 0.05) / width], [up], look["marker"], mec=look["color"], mfc=look["mfc"], ms=5, mew=1.2, **place
        )
        axes.text((x + 0.14) / width, up, WORDS[kind], fontsize=7, va="center", color=style.QUIET, **place)
        x += 0.14 + style.text_width(WORDS[kind], 7) + 0.22


def _limits(rows: Sequence[Row], smallest: float | None) -> tuple[float, float]:
    """Room for all means, and for intervals of ordinary width."""
    effects = [effect for row in rows for effect in row.effects.values()]
    halves = sorted((each.high - each.low) / 2 for each in effects if each.low is not None and each.high is not None)
    most = 4 * halves[len(halves) // 2] if halves else 0.0
    ends = [0.0, *((-smallest, smallest) if smallest else ())]
    for each in effects:
        ends.append(each.value)
        if each.low is not None and each.high is not None:
            ends += [max(each.low, each.value - most), min(each.high, each.value + most)]
    pad = 0.05 * (max(ends) - min(ends)) or 0.01
    return min(ends) - pad, max(ends) + pad


def alt_text(rows: Sequence[Row], *, whole: str, metric: str, decimals: int) -> str:
    """Every effect in words."""
    parts = []
    for row in rows:
        said = [
            f"{'' if kind == 'sum' else WORDS[kind] + ' '}{number(effect.value, decimals, signed=True)} "
            f"{interval(effect.low, effect.high, decimals)}"
            for kind, effect in row.effects.items()
        ]
        parts.append(f"{plain(row.label)}: " + (", ".join(said) or "no result"))
    return f"Parts of {plain(whole)}, differences in {plain(metric)} with 95 % intervals. " + "; ".join(parts) + "."
