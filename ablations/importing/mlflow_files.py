"""MLflow's FileStore: ``mlruns/<experiment>/<run>/`` with ``meta.yaml``, ``params/``, ``metrics/`` and ``tags/``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.importing.foreign import (
    Damaged,
    ForeignRun,
    Point,
    digest_of,
    last_values,
    read_text,
    score,
    typed,
)
from ablations.yamlfile import plain_value

STALE_S = 24 * 3600.0
"""MLflow has no heartbeat: a run that has logged nothing for so long is dead."""
STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
FAILURES = {"FAILED": "it raised an error", "KILLED": "it was stopped", "SCHEDULED": "it never started"}
Say = Any


def is_root(folder: Path) -> bool:
    """Whether a folder is a FileStore, one of its experiments, or a run."""
    return bool(_run_folders(folder))


def _run_folders(folder: Path) -> list[Path]:
    found = [folder] if _is_run(folder) else [
        path.parent for pattern in ("*/meta.yaml", "*/*/meta.yaml") for path in folder.glob(pattern)
        if _is_run(path.parent) and ".trash" not in path.parts
    ]  # fmt: skip
    return sorted(found)


def _is_run(folder: Path) -> bool:
    return (folder / "meta.yaml").is_file() and any((folder / name).is_dir() for name in ("params", "metrics"))


def read(folder: Path, now: datetime.datetime, say: Say, note: Say) -> Iterator[ForeignRun]:
    """Every run below a folder that has not been deleted in MLflow.

    Args:
        folder: ``mlruns``, or a folder in it.
        now: Naive UTC; tells which runs may still be running.
        say: Takes a file and what is wrong with it.
        note: Takes what is worth knowing.
    """
    deleted = 0
    for run_folder in _run_folders(folder):
        try:
            meta = _meta(run_folder / "meta.yaml")
            if meta.get("lifecycle_stage") == "deleted":
                deleted += 1
                continue
            yield _read_run(folder, run_folder, meta, now, say)
        except Damaged as error:
            say(run_folder / "meta.yaml", f"{error}; mend it, or move {run_folder.name} away")
    if deleted:
        note(f"{folder.name}: {deleted} runs that are deleted in MLflow were left out")


def _meta(path: Path) -> dict[str, Any]:
    """The scalars at the top of a file: MLflow writes no others that count.

    Raises:
        Damaged: There is no status.
    """
    found: dict[str, Any] = {}
    for line in read_text(path).splitlines():
        key, colon, value = line.partition(":")
        if colon and key and not key[0].isspace():
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[key] = value[1:-1] if quoted else plain_value(value)[0]
    if "status" not in found:
        raise Damaged("expected a run's status, found none")
    return found


def _read_run(root: Path, folder: Path, meta: Mapping[str, Any], now: datetime.datetime, say: Say) -> ForeignRun:
    started, ended = _time(meta.get("start_time")), _time(meta.get("end_time"))
    points = tuple(_points(folder / "metrics", started, say))
    tags = dict(_entries(folder / "tags", say))
    status, error = _outcome(meta, folder, now)
    files = [path for name in ("params", "metrics") for path in (folder / name).rglob("*")]
    return ForeignRun(
        tool="MLflow",
        source=root.resolve().name,
        run=folder.name,
        name=str(meta.get("run_name") or tags.get("mlflow.runName", "")),
        config={key: typed(text) for key, text in _entries(folder / "params", say)},
        scores=last_values(points),
        status=status,
        error=error,
        points=points,
        started=_iso(started),
        ended=_iso(ended),
        seconds=(ended - started).total_seconds() if started and ended else None,
        code={"git_commit": tags.get("mlflow.source.git.commit")},
        sha256=digest_of(folder, [folder / "meta.yaml", *files]),
    )


def _outcome(meta: Mapping[str, Any], folder: Path, now: datetime.datetime) -> tuple[str, tuple[str, str] | None]:
    found = meta["status"]
    status = STATUSES.get(found, str(found)) if isinstance(found, int) else str(found)
    if status == "FINISHED":
        return "completed", None
    if status == "RUNNING":
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.exists())
        if now.replace(tzinfo=datetime.UTC).timestamp() - newest < STALE_S:
            return "running", None
        return "failed", ("Killed", "MLflow says RUNNING, and nothing was logged for a day: it ended without a word")
    return "failed", (status.capitalize(), FAILURES.get(status, f"MLflow says {status}"))


def _entries(folder: Path, say: Say) -> Iterator[tuple[str, str]]:
    """Name and text of every parameter or tag; a name may have slashes, which MLflow makes folders of."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                yield path.relative_to(folder).as_posix(), read_text(path)
            except Damaged as error:
                say(path, str(error))


def _points(folder: Path, started: datetime.datetime | None, say: Say) -> Iterator[Point]:
    """Every ``<milliseconds since 1970> <value> <step>``."""
    start = started.replace(tzinfo=datetime.UTC).timestamp() if started else None
    for metric, text in _entries(folder, say):
        for number, line in enumerate(text.splitlines(), start=1):
            parts = line.split()
            value = score(parts[1]) if len(parts) >= 2 else None
            try:
                at, step = int(parts[0]) / 1000, int(parts[2]) if len(parts) > 2 else 0
            except (ValueError, IndexError):
                value = None
            if value is None:
                say(folder / metric, f"line {number}: expected time, value and step, found {line[:60]!r}")
                continue
            yield metric, step, value, round(at - start, 3) if start is not None else None


def _time(milliseconds: object) -> datetime.datetime | None:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int) or not 0 < milliseconds < 10**14:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).replace(tzinfo=None)


def _iso(time: datetime.datetime | None) -> str | None:
    return time.isoformat(timespec="milliseconds") + "+00:00" if time else None
