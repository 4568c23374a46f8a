"""From a study's results to ``report.html`` and ``report.pdf``: fragments, then Quarto or the built-in renderer."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import subprocess
from pathlib import Path

from ablations.errors import RenderError, UnknownName, one_of
from ablations.machine import find_quarto
from ablations.reporting import builtin, copies, fragments
from ablations.reporting.context import Context, load_context
from ablations.reporting.typed import refuse_typed_numbers

QUARTO_SECONDS = 300
IGNORED = ("_output", ".quarto", "__pycache__", "*_files", "*.typ", ".gitignore")

_logger = logging.getLogger(__name__)


PAPERS = {"a4": "a4", "letter": "us-letter"}
"""Sizes of the PDF's pages, and what Quarto and Typst call them."""


def render_report(
    study: Path | str, results: Path | str, profile: str | None = None, *, paper: str = "a4"
) -> list[Path]:
    """Renders the report of whatever has run so far.

    Args:
        study: The study file.
        results: The results folder; the report goes to ``report/`` in it.
        profile: Name of a profile, or None for the one that fits the machine.
        paper: One of :data:`PAPERS`.

    Returns:
        The HTML file and the PDF. Beside them, ``tables/`` has their numbers as CSV, LaTeX and Markdown.

    Raises:
        StudyError: The study file is wrong.
        UnknownName: There is no such paper.
        RenderError: The report's text holds a number typed by hand, or Quarto, pandoc or Typst could not render.
    """
    if paper not in PAPERS:
        raise UnknownName(one_of("paper", paper, sorted(PAPERS)))
    ctx = load_context(study, results, profile)
    output = Path(results) / "report"
    scratch = output / ".project"
    project = project_of(Path(study))
    refuse_typed_numbers(project)
    copy_project(project, scratch)
    fragments.write(ctx, scratch / "_generated")
    copies.write(ctx, output / "tables")
    return render_project(scratch, output, ctx, paper)


def render_project(project: Path, output: Path, ctx: Context, paper: str = "a4") -> list[Path]:
    """Renders a project whose fragments are written, with Quarto where it is installed and able to.

    Where Quarto fails, its words are logged as a warning and the built-in renderer takes over, unless
    ``ABLATIONS_RENDERER=quarto`` insists.
    """
    quarto = find_quarto()
    if quarto is not None:
        try:
            return _render_with_quarto(quarto, project, output, ctx, PAPERS[paper])
        except RenderError as error:
            if os.environ.get("ABLATIONS_RENDERER") == "quarto":
                raise
            _logger.warning("%s\nThe built-in renderer takes over.", error)
    metadata = {"title": ctx.study.name, "epoch": ctx.epoch, "paper": PAPERS[paper]}
    return builtin.render(project, output, metadata=metadata)


def _render_with_quarto(quarto: str, project: Path, output: Path, ctx: Context, paper: str) -> list[Path]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": ctx.epoch, "ABLATIONS_FRAGMENTS": "written"}
    command = [
        quarto,
        "render",
        str(project),
        "--metadata",
        f"title:{ctx.study.name}",
        "--metadata",
        f"papersize:{paper}",
    ]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=QUARTO_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RenderError(f"quarto render could not be run: {error}") from error
    written = {kind: sorted((project / "_output").glob(f"*.{kind}")) for kind in ("html", "pdf")}
    if done.returncode or not all(written.values()):
        raise RenderError(f"quarto render failed ({done.returncode}):\n{done.stderr[-4000:]}")
    output.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(paths[0], output / f"report.{kind}")) for kind, paths in written.items()]


def project_of(study: Path) -> Path:
    """The report project to use: ``report/`` beside the study file, else the one that comes with this package.

    Raises:
        RenderError: There is neither.
    """
    own = study.resolve().parent / "report"
    checkout = Path(__file__).resolve().parents[2] / "report"
    for folder in (own, checkout, *_installed()):
        if (folder / "index.qmd").is_file():
            return folder
    raise RenderError(f"no report project: expected {own / 'index.qmd'}, and the package came without one")


def _installed() -> list[Path]:
    """Where an installed wheel put the project."""
    try:
        files = importlib.metadata.files("ablations") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve().parent for file in files if file.match("*/ablations/report/index.qmd")]


def copy_project(source: Path, target: Path) -> None:
    """A fresh copy of a report project to write fragments into."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*IGNORED, "_generated"))
    fragments.write_stubs(target / "_generated")
