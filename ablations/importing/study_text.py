"""The study's file of imported runs: written once, and later only added to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.authoring import yaml_text
from ablations.errors import AblationsError
from ablations.importing.arms import Entry
from ablations.recorded import IMPORTED


def new_study(
    name: str,
    origin: str,
    metric: str,
    direction: tuple[str, bool],
    smallest_effect: float | None,
    baseline: Mapping[str, Any],
    entries: Sequence[Entry],
) -> str:
    """The text of a new study.

    Args:
        name: Of the study.
        origin: Where the runs come from, in words.
        metric: The primary metric.
        direction: ``max`` or ``min``, and whether it was guessed.
        smallest_effect: As declared, or None.
        baseline: All parameters that count.
        entries: The ablations.
    """
    better, guessed = direction
    effect = f"smallest_effect: {yaml_text(smallest_effect)}"
    lines = [
        f"# Imported: {origin}.",
        "# These runs were made elsewhere: there is nothing to run. `ablations report` shows what they say; importing",
        "# again adds what is new. Names, questions, groups and rules may be changed here, and ablations taken out.",
        f"study: {name}",
        'question: ""  # what the study asks; the report begins with it',
        f"experiment: {IMPORTED}",
        f"metric: {yaml_text(metric)}",
        f"direction: {better}" + ("  # guessed from its name: is more of it worse?" if guessed else ""),
        effect if smallest_effect is not None else "# smallest_effect: 0.01  # smallest difference that would matter",
        "# failure_value: 0.0  # what a run counts as that diverged",
        "",
        "# What every arm is compared with. A parameter that a run lacks is null.",
        "baseline:" if baseline else "baseline: {}",
        *(f"  {line}" for line in _parameters(baseline)),
        "",
        "ablations:" if entries else "ablations: {}",
        *(f"  {line}" for entry in entries for line in rendered(entry)),
    ]
    return "\n".join(lines) + "\n"


def _parameters(baseline: Mapping[str, Any]) -> Iterator[str]:
    for key, value in baseline.items():
        yield f"{yaml_text(key)}: {yaml_text(value)}"


def rendered(entry: Entry) -> list[str]:
    """An ablation's lines, its name not indented."""
    content = ""
    if entry.kind == "sweep":
        key, levels = entry.content
        content = f"{{{yaml_text(key)}: {yaml_text(levels)}}}"
    elif entry.kind == "combine":
        content = yaml_text(entry.content)
    elif entry.kind == "set":
        content = f"{{{', '.join(_parameters(entry.content))}}}"
    if entry.kind == "extends":
        start, further = entry.content
        return [f"{entry.name}:", f"  extends: {yaml_text(start)}", *rendered(Entry("", "set", further))[1:]]
    if len(content) <= 100 or entry.kind != "set":
        return [f"{entry.name}:", f"  {entry.kind}: {content}"]
    return [f"{entry.name}:", "  set:", *(f"    {line}" for line in _parameters(entry.content))]


def extended(text: str, path: Path, keys: Iterable[str], entries: Sequence[Entry]) -> str:
    """A study's text with further parameters of the baseline, all null, and further ablations; all else stays.

    Args:
        text: The file.
        path: Its name, for messages.
        keys: Parameters that no run had before.
        entries: New ablations.

    Raises:
        AblationsError: It is not laid out as an import writes it.
    """
    lines = text.removesuffix("\n").split("\n")
    new = [f"  {yaml_text(key)}: null  # none of the runs imported before had it" for key in keys]
    for section, added in (("baseline", new), ("ablations", [f"  {line}" for e in entries for line in rendered(e)])):
        if added:
            lines = _with(lines, path, section, added)
    return "\n".join(lines) + "\n"


def _with(lines: list[str], path: Path, section: str, added: Sequence[str]) -> list[str]:
    """The lines with some more at the end of a section."""
    at = next((n for n, line in enumerate(lines) if re.match(rf"{section}:\s*(\{{\s*\}}\s*)?(#.*)?$", line)), None)
    if at is None:
        wanted = "\n".join(added)
        raise AblationsError(
            f"{path}: expected a line `{section}:` with entries below it, found none; write there by hand:\n{wanted}"
        )
    lines = [*lines[:at], re.sub(r":\s*\{\s*\}", ":", lines[at], count=1), *lines[at + 1 :]]
    end = at + 1
    for number in range(at + 1, len(lines)):
        if lines[number].strip() and not lines[number][0].isspace() and not lines[number].startswith("#"):
            break
        if lines[number].strip() and lines[number][0].isspace():
            end = number + 1
    indent = next((len(line) - len(line.lstrip()) for line in lines[at + 1 : end] if line.strip()), 2)
    return [*lines[:end], *(" " * (indent - 2) + line for line in added), *lines[end:]]
