"""Blocks of Quarto Markdown: tables, figures, callouts. What they are given is Markdown, already escaped."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.reporting.text import attribute


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its heading, Markdown.
        align: ``left``, ``right`` or ``center``.
        weight: Its share of the width against the others'; 0 to take it from the longest cell.
    """

    head: str
    align: str = "left"
    weight: float = 0.0


_RULES = {"left": ":--", "right": "--:", "center": ":-:"}


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, label: str, caption: str, classes: str = ""
) -> str:
    """A pipe table with a caption and a label, so that ``@tbl-…`` finds it.

    Args:
        columns: Headings, alignments and widths.
        rows: Cells as Markdown, one line each; an empty list gives a table that says so.
        label: Without its ``tbl-``.
        caption: Markdown.
        classes: Further classes of the block, e.g. ``.landscape``.

    Raises:
        ValueError: A row has not as many cells as there are columns.
    """
    body = [list(row) for row in rows] or [["–"] * len(columns)]
    for row in body:
        if len(row) != len(columns):
            raise ValueError(f"table {label}: {len(row)} cells for {len(columns)} columns: {row}")
    widths = _widths(columns, body)
    lines = [
        _line(column.head for column in columns),
        _line(_RULES[column.align] for column in columns),
        *(_line(row) for row in body),
        "",
        f': {caption} {{#tbl-{label} tbl-colwidths="[{",".join(map(str, widths))}]"}}',
    ]
    return fenced("\n".join(lines), classes) if classes else "\n".join(lines) + "\n"


def figure(file: str, *, label: str, caption: str, alt: str) -> str:
    """A figure with caption, label and alternative text."""
    return f'![{caption}]({file}){{#fig-{label} fig-alt="{attribute(alt)}"}}\n'


def callout(kind: str, title: str, body: str) -> str:
    """A callout: note, tip, important, warning or caution."""
    return fenced(f"## {title}\n\n{body.strip()}", f".callout-{kind}")


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


def visible_length(cell: str) -> int:
    """Roughly how many characters a cell of Markdown shows."""
    shown = re.sub(r"\]\{[^}]*\}", "", cell)
    shown = re.sub(r"\]\([^)]*\)", "", shown)
    return len(re.sub(r"[\\*`\[]|&#?\w+;", "", shown))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Percentages in proportion to the longest cell, damped so that one long cell does not starve the others."""
    weights = []
    for at, column in enumerate(columns):
        longest = max(visible_length(row[at]) for row in rows)
        words = max((visible_length(word) for word in column.head.split()), default=1)
        weights.append(column.weight or 2 + min(max(longest, words), 24 + max(longest - 24, 0) ** 0.6))
    total = sum(weights)
    shares = [max(1, round(100 * weight / total)) for weight in weights]
    shares[shares.index(max(shares))] += 100 - sum(shares)
    return shares
