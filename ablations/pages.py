"""A rendered report as its reader meets it: sections of words and numbers, pictures, and the runs behind them.

Made by the built-in renderer or by Quarto, a page reads the same here: what a renderer adds (contents, the numbers of
sections, tables and figures) is passed over. The stdlib alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_INLINE = {"a", "abbr", "b", "code", "del", "em", "i", "mark", "q", "s", "small", "span", "strong", "sub", "sup", "u"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_SKIPPED_TAGS = {"head", "script", "style", "nav", "header", "footer", "annotation", "button"}
_SKIPPED_CLASSES = {
    "section-number", "header-section-number", "number", "cross-reference", "quarto-xref", "screen-reader-only", "skip",
    "title",
}  # fmt: skip
_CAPTION = re.compile(r"^\s*(Figure|Table)\s+\d+:")
_WORD = re.compile(r"(?:[^\s]|\u202f)+")  # a thin blank stands between thousands, not between words
_EDGES = "()[]{},;:.!?\"'“”‘’…"
RUNS = "ablations-runs"


@dataclass(frozen=True)
class Token:
    """A word or number of a page, without the punctuation around it, and where it stands."""

    text: str
    place: str


@dataclass(frozen=True)
class Picture:
    """A picture of a page: its alternative text, and the SHA-256 of what is drawn (empty where it lies elsewhere)."""

    alt: str
    digest: str


@dataclass
class Page:
    """What a page says.

    Attributes:
        sections: Heading to the tokens below it, in order; what comes before the first heading has an empty one.
        pictures: In order.
        runs: What the page knows of the runs behind its numbers; empty where it knows nothing.
    """

    sections: dict[str, list[Token]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)


def read_page(text: str) -> Page:
    """Reads a rendered page.

    Args:
        text: HTML.
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_block()
    return reader.page


def tokens(text: str, place: str) -> list[Token]:
    """The words and numbers of a text.

    >>> [token.text for token in tokens("(p = 0.03, −1 204.5).", "")]
    ['p', '=', '0.03', '−1', '204.5']
    """
    found = (word.strip(_EDGES) for word in _WORD.findall(text))
    return [Token(word, place) for word in found if word]


class _Reader(HTMLParser):
    """Collects the text of each block (paragraph, cell, heading) and files it under its section."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page({"": []})
        self._open: list[tuple[str, bool]] = []  # tags that are open, and whether each is passed over
        self._text: list[str] = []
        self._section = ""
        self._heads: list[str] = []
        self._row: list[str] = []
        self._in_head = False
        self._runs: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "img":
            self._picture(given)
        if tag in _VOID:
            return
        if tag not in _INLINE:
            self.end_block()
        if tag == "script" and given.get("id") == RUNS:
            self._runs = []
        classes = set(given.get("class", "").split())
        self._open.append((tag, self._skipping() or tag in _SKIPPED_TAGS or bool(classes & _SKIPPED_CLASSES)))
        if tag == "table":
            self._heads = []
        elif tag == "tr":
            self._row = []
        elif tag in ("thead", "tbody"):
            self._in_head = tag == "thead"

    def handle_endtag(self, tag: str) -> None:
        if tag not in {each for each, _ in self._open}:
            return
        if tag == "script" and self._runs is not None:
            self._take_runs()
        if tag not in _INLINE:
            self.end_block(tag)
        while self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._runs is not None:
            self._runs.append(data)
        elif not self._skipping():
            self._text.append(data)

    def end_block(self, tag: str = "") -> None:
        """Files the text that has come together since the last block."""
        text = _CAPTION.sub("", "".join(self._text)) if tag in ("caption", "figcaption", "p") else "".join(self._text)
        self._text = []
        cell = tag in ("td", "th") or any(each in ("td", "th") for each, _ in self._open[-3:])
        line = " ".join(text.split())
        if tag in _HEADINGS and not self._skipping():
            self._section = line
            self.page.sections.setdefault(line, [])
            return
        place = self._cell(line, tag) if cell else ""
        if line:
            self.page.sections[self._section] += tokens(text, place or line[:60])

    def _cell(self, line: str, tag: str) -> str:
        """The row and column of a table's cell, in words."""
        if tag not in ("td", "th"):
            return self._row[0] if self._row else ""
        column = len(self._row)
        self._row.append(line)
        if self._in_head:
            self._heads.append(line)
            return ""
        head = self._heads[column] if column < len(self._heads) else ""
        return f"{self._row[0]}, {head}" if column and head else self._row[0]

    def _skipping(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def _picture(self, given: dict[str, str]) -> None:
        kind, _, content = given.get("src", "").partition(";base64,")
        digest = ""
        if kind.startswith("data:"):
            digest = hashlib.sha256(base64.b64decode(content)).hexdigest()
        self.page.pictures.append(Picture(given.get("alt", ""), digest))
        self.page.sections[self._section] += tokens(given.get("alt", ""), "alternative text of a figure")

    def _take_runs(self) -> None:
        try:
            found = json.loads("".join(self._runs or ()))
        except ValueError:
            found = {"damaged": "".join(self._runs or ())}
        self.page.runs = found if isinstance(found, dict) else {"damaged": found}
        self._runs = None
