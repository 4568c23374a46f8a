"""The generated half of the report: one ``.qmd`` a fragment, which the hand-written half includes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ablations.reporting import (
    budgets,
    checks,
    combinations,
    costs,
    designs,
    factors,
    imported,
    models,
    pictures,
    rounds,
    searches,
    sections,
    survival,
    training,
    uncertainty,
    words,
)
from ablations.reporting.context import Context

STUB = "*This part is written when the report is rendered.*\n"

FRAGMENTS: dict[str, Callable[[Context, Path], str]] = {
    "head": sections.head,
    "missing": sections.missing,
    "answer_intro": imported.answer_intro,
    "answer": sections.answer,
    "todo": sections.todo,
    "compared": sections.compared,
    "design": uncertainty.design,
    "main": sections.main,
    "forest": pictures.forest_plot,
    "rounds": rounds.rounds,
    "scores": sections.scores,
    "words": words.words,
    "factors": factors.factors,
    "training": training.training,
    "events": training.events,
    "models": models.models,
    "levels": factors.levels,
    "combinations": combinations.combinations,
    "importance": designs.importance,
    "searches": searches.searches,
    "curves": budgets.learning,
    "cost": costs.cost,
    "uncertainty": uncertainty.uncertainty,
    "survival": survival.survival,
    "warnings": checks.warnings,
    "data": pictures.data,
    "checks": checks.checks,
    "ledger_intro": imported.ledger_intro,
    "ledger": sections.ledger,
    "limits": sections.limits,
    "reproduce_intro": imported.reproduce_intro,
    "reproduce": sections.reproduce,
    "parameters": sections.parameters,
    "runs": sections.runs,
}
"""Name of the file under ``_generated/`` and the function that writes what is in it."""


def write(ctx: Context, folder: Path) -> list[Path]:
    """Writes every fragment and the figures they show.

    Args:
        ctx: What to show.
        folder: ``_generated`` of a report project.

    Returns:
        The ``.qmd`` files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, fragment in FRAGMENTS.items():
        path = folder / f"{name}.qmd"
        path.write_text(fragment(ctx, folder) or "<!-- nothing to say -->\n", encoding="utf-8")
        written.append(path)
    return written


def write_stubs(folder: Path) -> None:
    """Puts the placeholders back that Quarto needs to find before the fragments are written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAGMENTS:
        (folder / f"{name}.qmd").write_text(STUB, encoding="utf-8")
