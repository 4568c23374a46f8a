"""Levels of a parameter: the metric at each, and every seed as a line, so that its own level hides no trend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablations.reporting.figures import style
from ablations.reporting.text import defined, number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Dose:
    """One swept parameter.

    Attributes:
        title: The parameter.
        levels: Its values, ascending (levels,).
        values: The metric (levels, seeds); NaN where a run has no result.
        halves: Half the 95 % t interval of each level's mean (levels,); NaN below 3 runs.
        baseline: Index of the baseline's level, or None where it is not one of them.
        log: Whether levels lie on a log scale.
    """

    title: str
    levels: tuple[float, ...]
    values: NDArray[np.float64]
    halves: tuple[float, ...]
    baseline: int | None
    log: bool

    @property
    def means(self) -> list[float]:
        """Mean of the completed runs of each level; NaN without one."""
        return [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else np.nan for row in self.values]


def place(axes: Axes, dose: Dose, *, smallest: float | None, inches: float) -> None:
    """Draws a parameter into axes, on a scale of its own.

    Args:
        axes: Where.
        dose: The parameter.
        smallest: Smallest effect of interest; its band around the baseline is shaded.
        inches: Width of the axes.
    """
    axes.set_title(style.fitted(dose.title, 7.5, inches, "bold"), fontsize=7.5, loc="center")
    style.quiet_grid(axes)
    axes.set_ylim(*_limits(dose, smallest))
    if smallest and dose.baseline is not None and defined(dose.means[dose.baseline]):
        middle = dose.means[dose.baseline]
        axes.axhspan(middle - smallest, middle + smallest, color=style.SHADE, lw=0, zorder=0)
    x = np.log2(dose.levels) if dose.log else np.array(dose.levels)
    pad = 0.08 * (x[-1] - x[0])
    axes.set_xlim(x[0] - pad, x[-1] + pad)
    shown = _legible(x, [f"{level:g}" for level in dose.levels], axes, inches)
    axes.set_xticks([x[at] for at in shown], [f"{dose.levels[at]:g}" for at in shown])
    for seed in dose.values.T:
        there = np.isfinite(seed)
        axes.plot(x[there], seed[there], "-", color=style.FAINT, lw=0.8, zorder=2)
    means = np.array(dose.means)
    there = np.isfinite(means)
    axes.plot(x[there], means[there], "-", color=style.SAME, lw=1.4, zorder=3)
    for at in np.flatnonzero(there):
        base = at == dose.baseline
        half = dose.halves[at]
        if defined(half):
            axes.plot([x[at]] * 2, [means[at] - half, means[at] + half], "-", color=style.SAME, lw=1.0, zorder=3)
        axes.plot([x[at]], [means[at]], "D" if base else "o", color=style.INK if base else style.SAME, ms=5, zorder=4)


def _legible(x: NDArray[np.float64], labels: Sequence[str], axes: Axes, inches: float) -> list[int]:
    """Indices of the ticks whose labels do not touch, the first and the last among them."""
    low, high = axes.get_xlim()
    places = (x - low) / (high - low) * inches
    halves = [style.text_width(label, 7.5) / 2 + 0.04 for label in labels]
    kept, last = [0], len(labels) - 1
    for at in range(1, len(labels)):
        clear = places[at] - halves[at] >= places[kept[-1]] + halves[kept[-1]]
        before_last = at == last or places[at] + halves[at] <= places[last] - halves[last]
        if clear and before_last:
            kept.append(at)
    return kept


def _limits(dose: Dose, smallest: float | None) -> tuple[float, float]:
    """All seeds, and the whole band of no interest: without it a scale of one's own magnifies trifles."""
    values = dose.values[np.isfinite(dose.values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if smallest and dose.baseline is not None and defined(dose.means[dose.baseline]):
        middle = dose.means[dose.baseline]
        low, high = min(low, middle - smallest), max(high, middle + smallest)
    pad = 0.08 * (high - low or abs(high) or 1.0)
    return low - pad, high + pad


def alt_text(doses: Sequence[Dose], *, metric: str, decimals: int) -> str:
    """Every level's mean, in words."""
    parts = [
        f"{plain(dose.title)}: "
        + ", ".join(f"{level:g} {number(mean, decimals)}" for level, mean in zip(dose.levels, dose.means, strict=True))
        for dose in doses
    ]
    return f"Mean {plain(metric)} at each level. " + "; ".join(parts) + "."
