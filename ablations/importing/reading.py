"""Finds out whose files were given, and reads them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablations.errors import AblationsError, one_of, visible
from ablations.importing import csv_files, mlflow_files, sacred_folders, wandb_curves, wandb_files
from ablations.importing.csv_files import Asked
from ablations.importing.foreign import ForeignRun

FOLDERS = {"sacred": sacred_folders, "mlflow": mlflow_files, "wandb": wandb_files}
TABLES = (".csv", ".tsv")
SCRIPTS = (".ipynb", ".py")
TOOLS = (*FOLDERS, "csv", "notebooks")
MOST_SHOWN = 50


@dataclass
class Found:
    """What was read.

    Attributes:
        runs: In the order of the sources.
        notes: What is worth knowing.
        problems: What is wrong, with the file's name; nothing is imported then.
    """

    runs: list[ForeignRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def say(self, path: Path, message: str) -> None:
        """Notes a problem of a file."""
        self.problems.append(f"{visible(str(path), 300)}: {visible(message, 500)}")

    def note(self, message: str) -> None:
        """Notes what is no problem."""
        self.notes.append(visible(message, 500))


def tool_of(path: Path) -> str | None:
    """The tool whose files lie there: one of ``TOOLS``, or None."""
    if path.suffix.lower() in SCRIPTS:
        return "notebooks"
    if path.suffix.lower() in TABLES:
        return "csv"
    return next((name for name, each in FOLDERS.items() if path.is_dir() and each.is_root(path)), None)


def tools_of(paths: Sequence[Path], asked: str | None) -> dict[Path, str]:
    """The tool of each source.

    Raises:
        AblationsError: A source is absent, or no tool's; says all that are.
    """
    if asked is not None and asked not in TOOLS:
        raise AblationsError(one_of("source", asked, TOOLS))
    wrong, found = [], {}
    for path in dict.fromkeys(paths):
        tool = asked or tool_of(path)
        if not path.exists():
            wrong.append(f"{path}: absent")
        elif tool is None or (tool in FOLDERS and not (path.is_dir() and FOLDERS[tool].is_root(path))):
            wrong.append(f"{path}: {_EXPECTED[tool or '']}")
        else:
            found[path] = tool
    if "notebooks" in found.values() and len(set(found.values())) > 1:
        wrong.append("expected runs, or notebooks and scripts, found both: import one after the other")
    if wrong:
        raise AblationsError("\n".join(wrong))
    return found


_EXPECTED = {
    "sacred": "expected folders of Sacred's FileStorageObserver (1/run.json, …), found none",
    "mlflow": "expected MLflow's mlruns (experiment/run/meta.yaml, …), found none",
    "wandb": "expected local runs of W&B (offline-run-…/run-….wandb, or files/config.yaml), found none",
    "": "expected folders of Sacred, mlruns of MLflow, a wandb folder, a table (.csv, .tsv), notebooks or scripts "
    "(.ipynb, .py), found none of these",
}


def root_of(path: Path, tool: str) -> Path:
    """The folder that a run belongs to: of a single run of Sacred the one around it, in which its number counts."""
    path = path.resolve()
    return path.parent if tool == "sacred" and (path / "run.json").is_file() else path


def read_all(sources: dict[Path, str], asked: Asked) -> Found:
    """Every run of all sources, and all that is wrong with them."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    found = Found()
    curves = {path for path, tool in sources.items() if tool == "csv" and wandb_curves.is_curves(path)}
    for path, tool in sources.items():
        if path in curves:
            continue
        before = len(found.runs)
        if tool == "csv":
            found.runs += csv_files.read(path, asked, found.say, found.note)
        else:
            found.runs += FOLDERS[tool].read(path, now, found.say, found.note)
        if len(found.runs) == before and not found.problems:
            found.say(path, "expected runs, found none")
    for path in sorted(curves):
        found.runs = wandb_curves.attached(path, found.runs, found.say, found.note)
    return found
