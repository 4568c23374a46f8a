"""What a factor does seed by seed: single arms as slopes, swept parameters as dose-response, curves beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.reporting.figures import curves, doses, slopes, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = 5  # of width in a row: a slope takes one, a parameter two
WIDEST = 1.6  # inches of a unit where few stand in a row
ROW, LEFT, GAP, TOP, BOTTOM = 2.1, 0.52, 0.5, 0.28, 0.4  # inches
ROWS_PER_FIGURE = 4


@dataclass(frozen=True)
class Part:
    """What stands side by side.

    Attributes:
        slopes: Single arms.
        doses: Swept parameters.
    """

    slopes: tuple[slopes.Slope, ...] = ()
    doses: tuple[doses.Dose, ...] = ()

    @property
    def units(self) -> int:
        """Width that it takes."""
        return len(self.slopes) + 2 * len(self.doses)


def rows_of(single: Sequence[slopes.Slope], swept: Sequence[doses.Dose]) -> list[Part]:
    """The rows that a factor's arms take: as many beside one another as fit."""
    each = -(-len(single) // max(1, -(-len(single) // UNITS)))  # rows as even as can be
    rows = [Part(tuple(single[at : at + each])) for at in range(0, len(single), each or 1)]
    for dose in swept:
        if not rows or rows[-1].units + 2 > UNITS:
            rows.append(Part())
        rows[-1] = Part(rows[-1].slopes, (*rows[-1].doses, dose))
    return rows


def leaves_room(rows: Sequence[Part]) -> bool:
    """Whether learning curves fit beside."""
    return len(rows) == 1 and rows[0].units == 1


def draw(
    rows: Sequence[Part],
    *,
    metric: str,
    direction: str,
    smallest: float | None,
    panels: Sequence[curves.Panel] = (),
    arms: Sequence[str] = (),
) -> Figure:
    """Draws the rows, and the curves beside a row that leaves room.

    Args:
        rows: At most :data:`ROWS_PER_FIGURE`.
        metric: Label of the y axis.
        direction: ``max`` or ``min``: which values are better.
        smallest: Smallest effect of interest; its band around the baseline is shaded.
        panels: Learning curves.
        arms: Their arms in the order that gives them their colours.
    """
    with style.look():
        height = curves.HEIGHT if panels else ROW
        figure = style.new_figure(style.WIDTH, height * len(rows))
        every = [slope for row in rows for slope in row.slopes]
        limits = slopes.limits_of(every, smallest) if every else (0.0, 1.0)
        for at, row in enumerate(rows):
            parts = bool(row.slopes) + len(row.doses)
            room = style.WIDTH - LEFT - 0.1 - GAP * (parts - 1)
            unit = WIDEST if panels else min(room / row.units, WIDEST if not row.doses else room)
            bottom = (len(rows) - 1 - at) * height + BOTTOM
            left = LEFT
            boxes = [len(row.slopes) * unit] * bool(row.slopes) + [2 * unit] * len(row.doses)
            for place, width in enumerate(boxes):
                axes = style.axes_at(figure, left, bottom, width, height - TOP - BOTTOM)
                if place == 0:
                    axes.set_ylabel(style.fitted(metric, 8, ROW - BOTTOM))
                if place == 0 and row.slopes:
                    slopes.place(axes, row.slopes, direction=direction, smallest=smallest, limits=limits, inches=unit)
                else:
                    doses.place(axes, row.doses[place - bool(row.slopes)], smallest=smallest, inches=width)
                left += width + GAP
        if panels:
            curves.place(figure, panels, arms, left=left - GAP + 0.05)
        return figure
