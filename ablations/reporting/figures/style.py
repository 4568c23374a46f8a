"""The one look of all figures: sizes, colours, fonts, and files that are the same to the byte."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.reporting.text import plain

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

WIDTH = 7.4  # inches; a page's text is 6.5 wide, so that 8 points print as 7
INK, QUIET, FAINT, SHADE = "#1c2126", "#59636e", "#b4bcc4", "#eceff2"

# Okabe and Ito's palette without its yellow (too light on white) and black (the baseline's), ordered so that
# neighbours differ in lightness too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)))

GOOD, BAD, SAME, OPEN = "#00725a", "#b8410a", "#0072b2", "#59636e"

RC: Any = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # given, it is not worked out from the sizes of all labels of the ticks
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": SHADE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "butt",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "ablations",
}


@contextmanager
def look() -> Iterator[None]:
    """Sets the look for the figures drawn inside the block."""
    from matplotlib import rc_context

    with rc_context(RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, without pyplot's global state."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes whose frame lies there, in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def save(figure: Figure, path: Path) -> Path:
    """Writes an SVG without a date or random ids, and without what nobody sees: comments, blanks, far decimals."""
    drawn = io.StringIO()
    with look():
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(slim(drawn.getvalue()), encoding="utf-8")
    return path


_SLIMMER = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"<!--.*?-->|<metadata>.*?</metadata>", ""),
        (r">\s+<", "><"),
        (r'<g id="[^"]*"', "<g"),  # ids that nothing refers to: those of paths and clips stay
        (r"xlink:href", "href"),
        (r"DejaVuSans-Bold-", "b"),
        (r"DejaVuSans-", "d"),
        (r' transform="translate\((\d+)(?:\.\d+)? 0\)"/>', r' x="\1"/>'),  # a glyph's place, in 64ths of its size
    )
)
_PATH = re.compile(r' d="([^"]*)"')
_COMMAND = re.compile(r"\s*([A-Za-z])\s*")
_FAR, _NEAR = re.compile(r"(\d\.\d\d)\d+"), r"\1"
_PLACE = re.compile(r' (?:x|y)="-?\d+\.\d{3,}"')


def slim(svg: str) -> str:
    """An SVG that looks the same and is half as large: places to a hundredth of a point, no names but those in use.

    >>> slim('<g id="a">\\n <!-- a --> <path id="b" d="M 1.23456 2 \\nL 3 4.5 \\n"/></g>')
    '<g><path id="b" d="M1.23 2L3 4.5"/></g>'
    """
    for pattern, replacement in _SLIMMER:
        svg = pattern.sub(replacement, svg)
    svg = _PATH.sub(lambda found: f' d="{_FAR.sub(_NEAR, _COMMAND.sub(_NEAR, found[1].strip()))}"', svg)
    return _PLACE.sub(lambda found: _FAR.sub(_NEAR, found[0]), svg)


@functools.cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def drawable(text: object) -> str:
    """One line that the figures' font has every character of; of others the code points are written.

    Boxes in the place of characters would make different names look alike. The alternative text has the characters.

    >>> drawable("size 日")
    'size U+65E5'
    """
    line = plain(text)
    if line.isascii():
        return line
    known = _glyphs()
    return "".join(each if ord(each) in known else f"U+{ord(each):04X}" for each in line)


def shorten(text: object, longest: int = 34) -> str:
    """A name that fits; the middle is left out, since names of arms differ at their ends.

    >>> shorten("decoder.layers=32 and heads=8", 15)
    'decoder…heads=8'
    """
    line = drawable(text)
    if len(line) <= longest:
        return line
    head = (longest - 1) // 2
    return line[:head] + "…" + line[-(longest - 1 - head) :]


@functools.cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", weight=weight, size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def fitted(text: object, size: float, inches: float, weight: str = "normal") -> str:
    """As much of a text as fits, its middle left out.

    Args:
        text: Any.
        size: Of the font, points.
        inches: Room.
        weight: Of the font, ``normal`` or ``bold``.
    """
    line = drawable(text)
    longest = len(line)
    while longest > 3 and (width := text_width(shorten(line, longest), size, weight)) > inches:
        longest -= max(1, (longest - int(longest * inches / width)) // 2)
    return shorten(line, longest)


def spaced(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves positions apart to at least ``gap``, as little as is needed, inside [low, high], keeping their order.

    Where they cannot all fit they are spread evenly.

    >>> spaced([1.0, 1.1], 0.5, 0.0, 3.0)
    [0.8, 1.3]
    """
    order = sorted(range(len(positions)), key=lambda at: positions[at])
    if len(order) * gap >= high - low and len(order) > 1:
        step = (high - low) / (len(order) - 1)
        placed = [low + step * rank for rank in range(len(order))]
    else:
        clusters: list[list[float]] = []  # [sum of wished starts, members]
        for at in order:
            clusters.append([positions[at], 1.0])
            while len(clusters) > 1 and _end(clusters[-2], gap) > _start(clusters[-1], gap):
                wished, members = clusters.pop()
                clusters[-1][0] += wished
                clusters[-1][1] += members
        placed = []
        for cluster in clusters:
            start = _start(cluster, gap) + gap / 2
            placed += [start + gap * rank for rank in range(int(cluster[1]))]
        placed = _inside(placed, gap, low, high)
    out = [0.0] * len(order)
    for rank, at in enumerate(order):
        out[at] = round(placed[rank], 9)
    return out


def _start(cluster: Sequence[float], gap: float) -> float:
    return cluster[0] / cluster[1] - gap * cluster[1] / 2


def _end(cluster: Sequence[float], gap: float) -> float:
    return cluster[0] / cluster[1] + gap * cluster[1] / 2


def _inside(placed: list[float], gap: float, low: float, high: float) -> list[float]:
    for rank, value in enumerate(placed):
        floor = low if rank == 0 else placed[rank - 1] + gap
        placed[rank] = max(value, floor)
    for rank in range(len(placed) - 1, -1, -1):
        ceiling = high if rank == len(placed) - 1 else placed[rank + 1] - gap
        placed[rank] = min(placed[rank], ceiling)
    return placed


def roomy(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of an axis with all finite values and a little room, but without room for the spike of a single run.

    Args:
        values: At least one of them finite.
    """
    import numpy as np

    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if known.size > 40:
        robust = float(np.quantile(known, 0.98))
        if high - robust > 2 * (robust - low) > 0:
            high = robust
    pad = 0.06 * (high - low or abs(high) or 1.0)
    return low - pad, high + pad


def difference_axis(axes: Axes, smallest: float | None, zero: float = 0.8) -> None:
    """Makes the horizontal axis one of differences: no line at the side, zero marked, what is too small shaded.

    Args:
        axes: Rows of it are named beside it.
        smallest: Smallest effect of interest.
        zero: Width of the line at zero, points.
    """
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.grid(True, axis="x")
    if smallest:
        axes.axvspan(-smallest, smallest, color=SHADE, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=zero, zorder=1)


def quiet_grid(axes: Axes) -> None:
    """A faint grid behind the data."""
    axes.grid(True)
    axes.tick_params(length=2.5)
