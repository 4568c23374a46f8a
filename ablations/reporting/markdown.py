"""Blocks of Quarto Markdown: tables, figures, callouts. What they are given is Markdown, already escaped."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.reporting.text import attribute, tied_figures


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its heading, Markdown.
        align: ``left``, ``right`` or ``center``.
    """

    head: str
    align: str = "left"


_BREAKS = re.compile(r" |(?<=\w-)(?=[A-Za-z])")  # where a line may end; a minus sign is no hyphen
_RULES = {"left": ":--", "right": "--:", "center": ":-:"}


PORTRAIT, LANDSCAPE = 120.0, 178.0  # characters of a table's text across an A4 page
PADDING = 2.5  # characters between two columns


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, label: str, caption: str) -> str:
    """A pipe table with a caption and a label, so that ``@tbl-…`` finds it.

    Widths follow from the cells. A table whose longest words do not fit side by side on an upright page of the PDF
    gets a landscape one.

    Args:
        columns: Headings and alignments.
        rows: Cells as Markdown, one line each; an empty list gives a table that says so.
        label: Without its ``tbl-``.
        caption: Markdown.

    Raises:
        ValueError: A row has not as many cells as there are columns.
    """
    body = [list(row) for row in rows] or [["–"] * len(columns)]
    for row in body:
        if len(row) != len(columns):
            raise ValueError(f"table {label}: {len(row)} cells for {len(columns)} columns: {row}")
    widths, upright = _widths(columns, body)
    lines = [
        _line(column.head for column in columns),
        _line(_RULES[column.align] for column in columns),
        *(_line(row) for row in body),
        "",
        f': {tied_figures(caption)} {{#tbl-{label} tbl-colwidths="[{",".join(map(str, widths))}]"}}',
    ]
    return "\n".join(lines) + "\n" if upright else fenced("\n".join(lines), ".landscape")


def figure(file: str, *, label: str, caption: str, alt: str) -> str:
    """A figure with caption, label and alternative text."""
    return f'![{tied_figures(caption)}]({file}){{#fig-{label} fig-alt="{attribute(alt)}"}}\n'


def callout(kind: str, title: str, body: str) -> str:
    """A callout: note, tip, important, warning or caution."""
    return fenced(f"## {title}\n\n{tied_figures(body.strip())}", f".callout-{kind}")


def kept_with_next(body: str) -> str:
    """A block that a PDF sets on the page of what follows it."""
    return fenced(body, 'typst:sticky="true"')


def fenced(body: str, attributes: str) -> str:
    """A block with classes, e.g. ``.landscape``; long enough a fence to hold other such blocks."""
    longest = max((len(found) for found in re.findall(r"^:{3,}", body, flags=re.M)), default=2)
    fence = ":" * (longest + 1)
    return f"{fence} {{{attributes}}}\n{body.strip()}\n{fence}\n"


def code_block(text: str, language: str = "") -> str:
    """A block of code; the fence is longer than any inside it."""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def bullets(items: Iterable[str]) -> str:
    """A list, one Markdown paragraph an item."""
    return "".join(f"- {textwrap.indent(item, '  ').lstrip()}\n" for item in items)


def join(*blocks: str) -> str:
    """Blocks with an empty line between them; empty ones are left out."""
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def section(title: str, label: str, *blocks: str, level: int = 1) -> str:
    """Blocks under a heading of their own; nothing at all where there are none.

    Args:
        title: Of the heading, Markdown.
        label: Without its ``sec-``.
        *blocks: What the section holds; empty ones are left out.
        level: Of the heading.
    """
    body = join(*blocks).strip()
    return join(f"{'#' * level} {title} {{#sec-{label}}}", body) if body else ""


def shown(cell: str) -> str:
    """About what a cell of Markdown shows."""
    text = re.sub(r"\]\{[^}]*\}", "", cell)
    text = re.sub(r"\]\([^)]*\)", "", text)
    text = re.sub(r"&#?\w+;", "x", text)
    return re.sub(r"[\\*`\[]", "", text)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[list[int], bool]:
    """Percentages of the width, and whether the table fits an upright page.

    Every column gets room for its longest word, then what is left in proportion to what its longest cell lacks.
    """
    least, wish = [], []
    for at, column in enumerate(columns):
        cells = [shown(row[at]) for row in rows if any(row[1:])]
        words = [len(word) for cell in cells for word in _BREAKS.split(cell)]
        heads = [1.1 * len(word) for word in shown(column.head).split(" ")]
        least.append(max([1, *words, *heads]) + PADDING)
        wish.append(max([least[-1], *(min(len(cell), 60) + PADDING for cell in cells)]))
    page = PORTRAIT if sum(least) <= PORTRAIT else LANDSCAPE
    room = max(page - sum(least), 0.0)
    lacking = sum(wish) - sum(least)
    part = min(1.0, room / lacking) if lacking else 0.0
    taken = [low + part * (high - low) for low, high in zip(least, wish, strict=True)]
    shares = [max(1, round(100 * each / sum(taken))) for each in taken]
    shares[shares.index(max(shares))] += 100 - sum(shares)
    return shares, page == PORTRAIT
