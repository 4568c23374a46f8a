"""Seed by seed from the baseline to each arm: one line a pair of runs, so that a mean hides no seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.reporting.figures import style
from ablations.reporting.text import number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLOT, REACH = 1.7, 1.0  # an arm takes so much of the axis, of which its lines span REACH


@dataclass(frozen=True)
class Slope:
    """An arm beside the baseline.

    Attributes:
        name: Of the arm.
        pairs: Values of baseline and arm at each seed that both completed.
        lost: Values of the baseline at seeds at which the arm diverged or has no result.
    """

    name: str
    pairs: tuple[tuple[float, float], ...]
    lost: tuple[float, ...]

    @property
    def values(self) -> list[float]:
        """All that is drawn."""
        return [value for pair in self.pairs for value in pair] + list(self.lost)

    def better(self, direction: str) -> int:
        """Seeds at which the arm is better."""
        sign = 1 if direction == "max" else -1
        return sum(sign * (after - before) > 0 for before, after in self.pairs)


def place(
    axes: Axes,
    slopes: Sequence[Slope],
    *,
    direction: str,
    smallest: float | None,
    limits: tuple[float, float],
    inches: float,
) -> None:
    """Draws arms beside one another into axes, all on one scale.

    Args:
        axes: Where.
        slopes: Each with a pair or a lost run.
        direction: ``max`` or ``min``: which values are better.
        smallest: Smallest effect of interest; its band around the baseline's mean is shaded.
        limits: Ends of the y axis, from :func:`limits_of`.
        inches: Width of an arm's part.
    """
    axes.set(ylim=limits, xlim=((REACH - SLOT) / 2, (REACH - SLOT) / 2 + SLOT * len(slopes)))
    axes.set_xticks([])
    axes.locator_params(axis="y", nbins=5)
    axes.grid(True, axis="y")
    axes.tick_params(length=2.5)
    for at, slope in enumerate(slopes):
        _arm(axes, slope, at * SLOT, direction, smallest, inches)


def limits_of(slopes: Sequence[Slope], smallest: float | None) -> tuple[float, float]:
    """Ends of the axis: everything, but for arms so far out that they would squeeze the others into one stroke."""
    bases = [value for slope in slopes for value in (*slope.lost, *(before for before, _ in slope.pairs))]
    centre = math.fsum(bases) / len(bases)
    reach = sorted(max(abs(value - centre) for value in slope.values) for slope in slopes)
    near = 5 * max(reach[(len(reach) - 1) // 2], *(abs(value - centre) for value in bases), smallest or 0.0)
    shown = [value for slope in slopes for value in slope.values if abs(value - centre) <= near]
    shown += [centre - smallest, centre + smallest] if smallest else []
    pad = 0.08 * (max(shown) - min(shown) or abs(centre) or 1.0)
    return min(shown) - pad, max(shown) + pad


def _arm(axes: Axes, slope: Slope, x: float, direction: str, smallest: float | None, inches: float) -> None:
    from matplotlib.transforms import blended_transform_factory

    low, high = axes.get_ylim()
    sign = 1 if direction == "max" else -1
    across = blended_transform_factory(axes.transData, axes.transAxes)
    bases = [*slope.lost, *(before for before, _ in slope.pairs)]
    middle = math.fsum(bases) / len(bases)
    if smallest:
        ends = [x - 0.12, x + REACH + 0.12]
        axes.fill_between(ends, middle - smallest, middle + smallest, color=style.SHADE, lw=0, zorder=0)
    for before, after in slope.pairs:
        better = sign * (after - before) > 0
        axes.plot([x, x + REACH], [before, after], ls="-" if better else (0, (3, 1.6)), zorder=2, lw=1.0,
                  color=style.GOOD if better else style.BAD, alpha=0.75)  # fmt: skip
        axes.plot([x], [before], ".", color=style.QUIET, ms=4, mew=0, zorder=3)
        inside = low <= after <= high
        mark = "." if inside else "v" if after < low else "^"
        axes.plot([x + REACH], [min(max(after, low), high)], mark, color=style.QUIET if inside else style.BAD,
                  ms=4 if inside else 5, mew=0, clip_on=False, zorder=3)  # fmt: skip
    axes.plot([x] * len(slope.lost), slope.lost, ".", color=style.QUIET, ms=4, mew=0, zorder=3)
    if slope.pairs:
        ends = [math.fsum(pair[side] for pair in slope.pairs) / len(slope.pairs) for side in (0, 1)]
        axes.plot([x, x + REACH], ends, "-", color=style.INK, lw=2.0, zorder=4)
        axes.plot([x], ends[:1], "D", color=style.INK, ms=4.5, mew=0, zorder=5)
        if low <= ends[1] <= high:
            axes.plot([x + REACH], ends[1:], "o", color=style.INK, ms=5, mew=0, zorder=5)
    name = style.fitted(slope.name, 7.5, inches - 0.12, "bold")
    axes.text(x + REACH / 2, 1.03, name, transform=across, ha="center", va="bottom", fontsize=7.5, weight="bold")
    said = f"{slope.better(direction)} of {len(slope.pairs)} better"
    if slope.lost:
        said += f", {len(slope.lost)} lost"
    axes.text(x + REACH / 2, -0.05, said, transform=across, ha="center", va="top", fontsize=7, color=style.QUIET)


def alt_text(slopes: Sequence[Slope], *, metric: str, direction: str, decimals: int) -> str:
    """Each arm's mean beside the baseline's at the same seeds, and how many seeds are better, in words."""
    parts = []
    for slope in slopes:
        n = len(slope.pairs)
        if not n:
            parts.append(f"{plain(slope.name)} no pair of runs")
            continue
        before, after = (math.fsum(pair[side] for pair in slope.pairs) / n for side in (0, 1))
        lost = f", {len(slope.lost)} lost" if slope.lost else ""
        parts.append(
            f"{plain(slope.name)} {number(before, decimals)} to {number(after, decimals)}, "
            f"{slope.better(direction)} of {n} seeds better{lost}"
        )
    return f"{plain(metric)} from the baseline to each arm, a line a seed. " + "; ".join(parts) + "."
