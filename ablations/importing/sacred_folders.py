"""Folders of Sacred's FileStorageObserver: ``<id>/run.json``, ``config.json``, ``metrics.json``."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.importing.foreign import (
    Damaged,
    ForeignRun,
    Point,
    digest_of,
    flat,
    last_values,
    read_object,
    score,
)
from ablations.schema import flatten

FILES = ("run.json", "config.json", "metrics.json")
STALE_S = 3600.0
"""Sacred writes a heartbeat every 10 s; a run that has been silent for so long is dead."""
FAILURES = {
    "FAILED": "it raised an error",
    "INTERRUPTED": "it was stopped by hand or by a signal",
    "TIMEOUT": "it ran out of time",
    "QUEUED": "it was queued and never started",
}
Say = Any


def is_root(folder: Path) -> bool:
    """Whether a folder holds Sacred's folders of runs, or is one."""
    return bool(_run_folders(folder))


def _run_folders(folder: Path) -> list[Path]:
    if (folder / "run.json").is_file():
        return [folder]
    found = [path.parent for path in folder.glob("*/run.json") if path.parent.name != "_sources"]
    return sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    """Text and numbers in turns, so that 10 comes after 9."""
    return re.split(r"([0-9]+)", name)


def read(folder: Path, now: datetime.datetime, say: Say, note: Say) -> Iterator[ForeignRun]:
    """Every run below a folder.

    Args:
        folder: As the observer was given it, or of one run.
        now: Naive UTC, as Sacred writes times; tells which runs may still be running.
        say: Takes a file and what is wrong with it.
        note: Takes what is worth knowing.
    """
    for run_folder in _run_folders(folder):
        run = config = None
        for name in ("run.json", "config.json"):
            try:
                found = read_object(run_folder / name)
            except Damaged as error:
                say(run_folder / name, f"{error}; mend it, or move {run_folder.name} out of {folder.name}")
                continue
            run, config = (found, config) if name == "run.json" else (run, found)
        if run is not None and config is not None:
            yield _read_run(folder, run_folder, run, config, now, note)


def _read_run(
    root: Path, folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], now: datetime.datetime, note: Say
) -> ForeignRun:
    started, ended = _time(run.get("start_time")), _time(run.get("stop_time"))
    points = tuple(_points(folder / "metrics.json", started, note))
    status, error = _outcome(run, now)
    last = ended or _time(run.get("heartbeat"))
    return ForeignRun(
        tool="Sacred",
        source=(root.resolve().parent if root == folder else root.resolve()).name,
        run=folder.name,
        config=flat({key: value for key, value in config.items() if not str(key).startswith("__")}),
        scores={**last_values(points), **_result(run.get("result"))},
        status=status,
        error=error,
        points=points,
        started=_iso(started),
        ended=_iso(last),
        seconds=(last - started).total_seconds() if started and last else None,
        environment=_environment(run),
        code=_code(run),
        sha256=digest_of(folder, [folder / name for name in FILES]),
    )


def _outcome(run: Mapping[str, Any], now: datetime.datetime) -> tuple[str, tuple[str, str] | None]:
    status = str(run.get("status"))
    if status == "COMPLETED":
        return "completed", None
    if status == "RUNNING":
        beat = _time(run.get("heartbeat")) or _time(run.get("start_time"))
        if beat and abs((now - beat).total_seconds()) < STALE_S:
            return "running", None
        when = f"its last heartbeat was {_iso(beat)}" if beat else "it has no heartbeat"
        return "failed", ("Killed", f"Sacred says RUNNING, {when}: its process ended without a word")
    trace = run.get("fail_trace")
    last = str(trace[-1]).strip() if isinstance(trace, list) and trace else ""
    kind, colon, message = last.partition(": ")
    if status == "FAILED" and last:
        return "failed", (kind if colon else "Error", message or last)
    return "failed", (status.capitalize(), FAILURES.get(status, f"Sacred says {status}"))


def _result(result: object) -> dict[str, float]:
    """What the experiment returned, as named numbers."""
    if isinstance(result, Mapping):
        numbers = {name: score(value) for name, value in flatten(result).items()}
    else:
        numbers = {"result": score(result)}
    return {name: value for name, value in numbers.items() if value is not None}


def _points(path: Path, started: datetime.datetime | None, note: Say) -> Iterator[Point]:
    """What was logged; a damaged file (Sacred rewrites it whole at each beat) costs the curves, not the run."""
    if not path.exists():
        return
    try:
        found = read_object(path)
        for metric, series in found.items():
            columns = [series[name] for name in ("steps", "values", "timestamps")]
            for step, value, time in zip(*columns, strict=True):
                number, at = score(value), _time(time)
                if number is not None:
                    seconds = (at - started).total_seconds() if at and started else None
                    yield metric, int(step), number, seconds
    except (Damaged, KeyError, TypeError, ValueError) as error:
        note(f"{path.parent.name}/{path.name}: its curves are left out: {error or type(error).__name__}")


def _environment(run: Mapping[str, Any]) -> dict[str, Any]:
    host = _mapping(run.get("host"))
    system = host.get("os")
    packages = [str(each).partition("==") for each in _mapping(run.get("experiment")).get("dependencies") or ()]
    gpus = _mapping(host.get("gpus")).get("gpus")
    names = [str(_mapping(each).get("model")) for each in gpus] if isinstance(gpus, list) else []
    return {
        "python": host.get("python_version"),
        "platform": str(system[-1]) if isinstance(system, list) and system else None,
        "cpu": host.get("cpu"),
        "device": names[0] if names else None,
        "host": host.get("hostname"),
        "packages": {name: version for name, _, version in packages if version},
    }


def _code(run: Mapping[str, Any]) -> dict[str, Any]:
    """The commit, and a hash over the names and hashes of the sources that Sacred has kept."""
    experiment = _mapping(run.get("experiment"))
    repositories = [_mapping(each) for each in experiment.get("repositories") or ()]
    sources = experiment.get("sources") or []
    text = json.dumps(sources, sort_keys=True)
    return {
        "package_hash": hashlib.sha256(text.encode()).hexdigest() if sources else None,
        "git_commit": repositories[0].get("commit") if repositories else None,
        "git_dirty": repositories[0].get("dirty") if repositories else None,
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _time(text: object) -> datetime.datetime | None:
    """A naive UTC time, as Sacred writes it."""
    try:
        found = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.astimezone(datetime.UTC).replace(tzinfo=None) if found and found.tzinfo else found


def _iso(time: datetime.datetime | None) -> str | None:
    return time.isoformat(timespec="milliseconds") + "+00:00" if time else None
