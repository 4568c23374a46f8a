"""Which words of a name are taken for which: shares of each true word, in colour and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.reporting.figures import style
from ablations.reporting.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL, GAP, TOP_GAP, NAME = 0.2, 0.2, 0.34, 1.3  # inches
SIZE = 6.5
DARK = 55.0  # percent from which figures are light on dark


@dataclass(frozen=True)
class Matrix:
    """The words of one variant.

    Attributes:
        title: Its name.
        shares: Percent of each row's word that was taken for each column ``(rows, columns)``.
    """

    title: str
    shares: tuple[tuple[float, ...], ...]


def draw(matrices: Sequence[Matrix], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draws the matrices side by side.

    Args:
        matrices: One or two.
        rows: The true words.
        columns: What they were taken for; the first: the word itself.
    """
    with style.look():
        names = [style.fitted(word, 7, NAME) for word in rows]
        heads = [style.fitted(word, 7, 0.95) for word in columns]
        left = 0.12 + max(style.text_width(name, 7) for name in names)
        head = 0.12 + max(style.text_width(name, 7) for name in heads)
        body = CELL * len(rows)
        height = TOP_GAP + head + body + 0.08
        figure = style.new_figure(style.WIDTH, height)
        width = (style.WIDTH - left - 0.06 - GAP * (len(matrices) - 1)) / len(matrices)
        width = min(width, 0.42 * len(columns))
        for at, matrix in enumerate(matrices):
            axes = style.axes_at(figure, left + at * (width + GAP), 0.08, width, body)
            _panel(axes, matrix, names if at == 0 else [], heads)
            title = style.fitted(matrix.title, 8.5, 0.85 * width, "bold")
            figure.text((left + at * (width + GAP)) / style.WIDTH, 1 - 0.08 / height, title, fontsize=8.5,
                        weight="bold", va="top")  # fmt: skip
        return figure


def _panel(axes: Axes, matrix: Matrix, names: Sequence[str], heads: Sequence[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    colours = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9cc4e4", "#0072b2", "#00304d"])
    axes.set(xlim=(0, len(heads)), ylim=(len(matrix.shares), 0))
    for y, row in enumerate(matrix.shares):
        for x, percent in enumerate(row):
            own = x == 0
            axes.add_patch(Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, lw=0.7 if own else 0.0,
                                     fc=colours(min(percent / 100, 1.0)), ec=style.INK))  # fmt: skip
            if percent >= 0.5:
                axes.text(x + 0.5, y + 0.53, f"{percent:.0f}", ha="center", va="center", fontsize=SIZE - 0.5,
                          color="white" if percent >= DARK else "black")  # fmt: skip
    axes.set_xticks([at + 0.5 for at in range(len(heads))], heads, rotation=90, fontsize=7)
    axes.set_yticks([at + 0.5 for at in range(len(names))], names, fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3, colors=style.INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def alt_text(matrices: Sequence[Matrix], rows: Sequence[str], columns: Sequence[str]) -> str:
    """How often each word is found and what it is taken for most, in words."""
    parts = []
    for matrix in matrices:
        said = []
        for word, shares in zip(rows, matrix.shares, strict=True):
            most = max(range(1, len(columns)), key=lambda at, shares=shares: shares[at])  # type: ignore[misc]
            said.append(
                f"{plain(word)} found {shares[0]:.0f} %, most often {plain(columns[most])} {shares[most]:.0f} %"
            )
        parts.append(f"{plain(matrix.title)}: " + "; ".join(said))
    return "Words of names and what is predicted in their place. " + ". ".join(parts) + "."
