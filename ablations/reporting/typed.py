"""No number of the report is typed by hand: results come from the runs, through the generated parts alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ablations.errors import RenderError

GENERATED = "_generated"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_UNSEEN = (
    re.compile(r"^(`{3,}|~{3,}).*?^\1", re.DOTALL | re.MULTILINE),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\{\{<.*?>\}\}"),
    re.compile(r"\[[^\[\]]*\]\{[^{}]*\.constant\b[^{}]*\}"),
    re.compile(r"`[^`]*`"),
    re.compile(r"\{[^{}]*\}"),  # attributes
    re.compile(r"\]\([^()]*\)"),  # addresses
    re.compile(r"@[\w-]+"),  # cross-references
    re.compile(r"^\s*\d+[.)](?=\s)", re.MULTILINE),  # a numbered list's markers
)
_NUMBER = re.compile(r"(?<![\w.])[+−-]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?(?!\w)")


def refuse_typed_numbers(project: Path) -> None:
    """Refuses a report project whose hand-written text holds numbers.

    A number that is no result, such as that of a law or a paper, is marked: ``[42]{.constant}``.

    Args:
        project: The folder; its ``_generated`` is not looked at, since whatever stands there is written anew.

    Raises:
        RenderError: Every such number, with file and line.
    """
    files = sorted(path for path in project.rglob("*.qmd") if path.relative_to(project).parts[0] != GENERATED)
    found = [
        f"{path.relative_to(project)}:{line}: {number}"
        for path in files
        for line, number in typed_numbers(path.read_text(encoding="utf-8"))
    ]
    if found:
        raise RenderError(
            f"numbers typed by hand in the report's text, in {project}:\n  "
            + "\n  ".join(found)
            + f"\nA result belongs into a generated part ({GENERATED}/), which takes it from the runs. "
            "What is no result is marked so: [42]{.constant}"
        )


def typed_numbers(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each number that a reader of hand-written Markdown would see, but for marked ones."""
    shown = _blank(text, _FRONT)
    for pattern in _UNSEEN:
        shown = _blank(shown, pattern)
    for found in _NUMBER.finditer(shown):
        yield shown.count("\n", 0, found.start()) + 1, found[0]


def _blank(text: str, pattern: re.Pattern[str]) -> str:
    """The text with all matches blank, lines where they were."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
