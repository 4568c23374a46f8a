"""``ablations import``: of runs or of notebooks, as the files that are given have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ablations.importing.choices import Choices
from ablations.importing.importer import import_runs
from ablations.importing.notebooks import propose
from ablations.importing.reading import tools_of

__all__ = ["Choices", "take"]


def take(paths: Sequence[Path], tool: str | None, choices: Choices, study: Path, results: Path, out: Console) -> str:
    """Imports what lies at some paths, and says what to do next; the last line is a command without its options.

    Args:
        paths: Folders and tables of runs, or notebooks and scripts.
        tool: Whose they are; None to tell by what is there.
        choices: What the user says of them.
        study: The study's file.
        results: Where runs are kept.
        out: The terminal.

    Raises:
        AblationsError: Something is wrong with the sources or choices; nothing was written.
        StudyError: The study's file is in the way, or would be wrong.
    """
    sources = tools_of(paths, tool)
    if set(sources.values()) == {"notebooks"}:
        propose(list(sources), choices, study, out)
        return f"Next: write the experiment that {study} names, then\nablations validate"
    import_runs(sources, choices, study, results, out)
    return f"Next: look at {study}, then\nablations report"
