"""Local runs of W&B: ``wandb/run-…`` and ``wandb/offline-run-…``, from their logs or their config and summary files."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.importing.foreign import (
    Damaged,
    ForeignRun,
    Point,
    digest_of,
    flat,
    last_values,
    read_bytes,
    read_object,
    read_text,
    score,
)
from ablations.importing.wandb_log import RunLog, read_log
from ablations.yamlfile import read_yaml

STALE_S = 24 * 3600.0
Say = Any


def is_root(folder: Path) -> bool:
    """Whether a folder holds local runs of W&B, or is one."""
    return bool(_run_folders(folder))


def _run_folders(folder: Path) -> list[Path]:
    if _log_of(folder) or (folder / "files" / "config.yaml").is_file():
        return [folder]
    found = [path for path in folder.glob("*run-*") if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in found if _log_of(path) or (path / "files").is_dir())


def _log_of(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("run-*.wandb"))), None)


def read(folder: Path, now: datetime.datetime, say: Say, note: Say) -> Iterator[ForeignRun]:
    """Every run below a folder.

    Args:
        folder: ``wandb``, or a run's folder in it.
        now: Naive UTC; tells which runs may still be running.
        say: Takes a file and what is wrong with it.
        note: Takes what is worth knowing.
    """
    for run_folder in _run_folders(folder):
        path = _log_of(run_folder)
        try:
            log = read_log(read_bytes(path)) if path else RunLog()
        except Damaged as error:
            say(path, f"{error}; move {run_folder.name} away if it cannot be mended")
            continue
        if not log.whole:
            note(f"{run_folder.name}: its log is cut short; what it holds up to there was read")
        wrong = list(_fill_from_files(run_folder, log))
        for file, message in wrong:
            say(file, message)
        if not wrong:
            yield _run_of(folder, run_folder, log, now)


def _fill_from_files(folder: Path, log: RunLog) -> Iterator[tuple[Path, str]]:
    """Takes config and summary from their files where the log has none; yields what is wrong with them."""
    summary, config = folder / "files" / "wandb-summary.json", folder / "files" / "config.yaml"
    try:
        if not log.summary and summary.exists():
            log.summary = read_object(summary)
    except Damaged as error:
        yield summary, str(error)
    try:
        if not set(log.config) - {"_wandb"} and config.exists():
            found = read_yaml(read_text(config))
            if not found.readable or not isinstance(found.data, dict):
                raise Damaged(found.problems[0].message if found.problems else "expected entries")
            log.config = {
                key: each["value"] if isinstance(each, dict) and "value" in each else each
                for key, each in found.data.items()
            }
    except Damaged as error:
        yield config, str(error)
    if not set(log.config) - {"_wandb"}:
        yield folder, "expected a config in its log or in files/config.yaml, found none"


def _run_of(root: Path, folder: Path, log: RunLog, now: datetime.datetime) -> ForeignRun:
    points = tuple(points_of(log.history))
    times = [score(each.get("_timestamp")) for each in (*log.history, log.summary)]
    known = [time for time in times if time is not None and 0 < time < 10**11]
    seconds = score(log.summary.get("_runtime"))
    status, error = _outcome(log, folder, now)
    files = [path for path in (_log_of(folder), folder / "files/config.yaml", folder / "files/wandb-summary.json")
             if path]  # fmt: skip
    return ForeignRun(
        tool="W&B",
        source=root.resolve().name,
        run=log.run_id or folder.name.rpartition("-")[2],
        name=log.name,
        config=flat({key: value for key, value in log.config.items() if not key.startswith("_")}),
        scores={**last_values(points), **scores_of(log.summary)},
        status=status,
        error=error,
        points=points,
        started=_iso(min(known) - (seconds or 0.0) if len(known) == 1 else min(known)) if known else None,
        ended=_iso(max(known)) if known else None,
        seconds=seconds,
        sha256=digest_of(folder, files),
    )


def points_of(history: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """Each logged number; W&B's own entries start with an underscore."""
    for number, row in enumerate(history):
        step = score(row.get("_step"))
        for metric, value in row.items():
            found = score(value)
            if found is not None and not metric.startswith("_"):
                yield metric, int(step) if step is not None else number, found, score(row.get("_runtime"))


def scores_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary."""
    found = {key: score(value) for key, value in flat(summary).items() if not key.startswith("_")}
    return {key: value for key, value in found.items() if value is not None}


def _outcome(log: RunLog, folder: Path, now: datetime.datetime) -> tuple[str, tuple[str, str] | None]:
    if log.exit_code == 0:
        return "completed", None
    if log.exit_code is not None:
        return "failed", ("Failed", f"its process ended with exit code {log.exit_code}")
    path = _log_of(folder)
    if path is None:  # online runs leave no log behind; the summary is written at the end, too
        return ("completed", None) if log.summary else ("failed", ("Crashed", "it left no summary"))
    if now.replace(tzinfo=datetime.UTC).timestamp() - path.stat().st_mtime < STALE_S:
        return "running", None
    return "failed", ("Crashed", "its log ends without an exit code: its process ended without a word")


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
