"""The commands as functions: what ``ablations run`` and ``ablations report`` do, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.standing import standing
from ablations.store import Store
from ablations.study import Study

if TYPE_CHECKING:
    import pandas as pd


def run(
    study: Study,
    results: Path | str = "results",
    *,
    only: Sequence[str] | None = None,
    workers: int | None = None,
    executor: str = "local",
    options: Mapping[str, object] | None = None,
    retry: bool = False,
    quiet: bool = False,
) -> pd.DataFrame:
    """Runs what is not done yet, as ``ablations run`` does; a failed run stops none of the others.

    It may be stopped and called again: what has ended is kept. In a script the call belongs under
    ``if __name__ == "__main__":``, for the runs' processes import the script, too.

    Args:
        study: What to run.
        results: The folder where runs are kept.
        only: Names of ablations or variants to run; None for all. The baseline always runs along.
        workers: Runs at a time; None for one a GPU, or one a core.
        executor: What starts the runs: ``local``, ``inprocess``, ``slurm``, …
        options: Of the executor; they win over those under ``executors:`` in the study.
        retry: Whether runs that failed or diverged are run again.
        quiet: Whether nothing is printed.

    Returns:
        One row a planned run, with its ``status`` and, where it has none to show, its ``error``.

    Raises:
        UnknownName: There is no such ablation, variant, executor or option of it.
        KeyboardInterrupt: It was stopped by hand.
    """
    from rich.console import Console

    from ablations import commands
    from ablations.chosen import choose_executor

    store = Store(results)
    given = {**study.executors, executor: {**study.executors.get(executor, {}), **(options or {})}}
    chosen = choose_executor(replace(study, executors=given), executor, (), workers)
    commands.run_study(standing(study, store), store, Console(quiet=quiet), only, chosen, retry)
    return store.read_runs(standing(study, store))


def read_scores(study: Study, results: Path | str = "results") -> pd.DataFrame:
    """Every score of every planned run.

    Args:
        study: Whose runs.
        results: The folder where they are kept.

    Returns:
        Long table: variant, seed, run_id, status, metric, value. A run without a result has one row: the primary
        metric, NaN and its status. It is never dropped and never zero.
    """
    store = Store(results)
    return store.read_scores(standing(study, store))


def render(study: Study, results: Path | str = "results", *, paper: str = "a4") -> list[Path]:
    """Renders the report of whatever has run so far.

    Args:
        study: As loaded; its file and profile are read again.
        results: The folder of its runs; the report goes to ``report/`` in it.
        paper: Size of the PDF's pages: ``a4`` or ``letter``.

    Returns:
        The HTML file and the PDF. Beside them, ``tables/`` has their numbers as CSV, LaTeX and Markdown.

    Raises:
        RenderError: The report's text holds a number typed by hand, or a program that renders it failed.
    """
    from ablations.reporting.render import render_report

    return render_report(study.path, results, study.profile, paper=paper)
