"""How long the inputs are, and where they are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ablations.reporting.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 2.1  # inches


def draw(edges: Sequence[float], counts: Sequence[float], cuts: Sequence[tuple[float, str]], unit: str) -> Figure:
    """Draws a histogram of lengths with a line at each cut.

    The bins are drawn equally wide, whatever lengths they span: the scale is that of the edges.

    Args:
        edges: Ends of the bins (bins + 1,).
        counts: Samples in each (bins,).
        cuts: Length and name of each cut.
        unit: What is counted, e.g. tokens.
    """
    total = sum(counts) or 1
    used = max((at + 1 for at, count in enumerate(counts) if count > 0), default=1)
    shown, heights = list(edges[: used + 1]), np.asarray(counts[:used], float) / total
    with style.look():
        figure = style.new_figure(style.WIDTH, HEIGHT)
        axes = figure.add_axes((0.08, 0.21, 0.9, 0.62))
        axes.bar(np.arange(used), heights, width=1.0, align="edge", color=style.FAINT, ec="white", lw=0.8)
        axes.set(xlabel=f"length of the input before it is cut, {unit}", ylabel="share of inputs", xlim=(0, used))
        axes.set_xticks(np.arange(used + 1), [f"{edge:g}" for edge in shown])
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.grid(True, axis="y")
        axes.set_ylim(0, 1.08 * float(heights.max()) if total else 1)
        lines = [float(np.interp(cut, shown, np.arange(used + 1))) for cut, _ in cuts]
        names = [style.shorten(name, 26) for _, name in cuts]
        widest = max((style.text_width(name, 7) for name in names), default=0) / (0.9 * style.WIDTH) * used
        places = style.spaced(lines, widest * 1.15, widest / 2, used - widest / 2)
        for line, name, place in zip(lines, names, places, strict=True):
            axes.axvline(line, color=style.BAD, lw=1.2, ls=(0, (4, 1.5)))
            axes.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), fontsize=7,
                          textcoords="offset points", ha="center", color=style.BAD, annotation_clip=False)  # fmt: skip
        return figure


def alt_text(edges: Sequence[float], counts: Sequence[float], cuts: Sequence[tuple[float, str]], unit: str) -> str:
    """The histogram in words: its median bin and the share at and beyond each cut."""
    heights, total = np.asarray(counts, float), float(np.sum(counts))
    if not total:
        return "Histogram of input lengths; no samples."
    at = int(np.searchsorted(np.cumsum(heights), total / 2))
    words = [
        f"Histogram of the lengths of {total:.0f} inputs in {unit}; the median lies between {edges[at]:g} and "
        f"{edges[at + 1]:g}"
    ]
    words += [f"cut at {cut:g} for {name}" for cut, name in cuts]
    return "; ".join(words) + "."
