"""Writes imported runs into a results folder: a record and its curves a run, and nothing over what is there."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations.errors import visible
from ablations.files import read_json, write_atomic
from ablations.importing.factors import Planned
from ablations.importing.foreign import ForeignRun, Point, last_values
from ablations.metricslog import finite
from ablations.plan import RunKey
from ablations.recorded import IMPORTED
from ablations.secrets import without_credentials
from ablations.store import FORMAT, Store

Origin = tuple[str, str]


@dataclass
class Written:
    """What an import has done.

    Attributes:
        new: Runs that were not there.
        known: Runs that were there already, as they are now.
        changed: Runs whose files have changed since the last import.
        doubled: Runs that share config and seed with another one, which counts; in words.
        statuses: Status of each run that was written.
    """

    new: int = 0
    known: int = 0
    changed: int = 0
    doubled: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)


def seeds_taken(store: Store) -> dict[Origin, int]:
    """The seed, or number of repetition, that each run imported before has."""
    return {origin_of(record): record["seed"] for record in store.records() if record["experiment"] == IMPORTED} | {
        origin_of(record): record["seed"] for path in store.root.glob("runs/*/record-a*.json")
        if (record := read_json(path)) and record.get("experiment") == IMPORTED
    }  # fmt: skip


def origin(tool: str, source: str, run: str) -> Origin:
    """What a run is known by: the ids of MLflow and W&B are the only ones of their kind, others belong to a source."""
    return ("" if tool in ("MLflow", "W&B") else source), run


def origin_of(record: Mapping[str, Any]) -> Origin:
    """Which run a record is of."""
    found = record["info"]["imported"]
    return origin(found["tool"], found["source"], found["run"])


def record_of(
    planned: Planned, key: RunKey, metric: str, paired: bool, select: tuple[str, str] | None
) -> dict[str, Any]:
    """The record of an imported run.

    Args:
        planned: The run.
        key: Its arm and seed.
        metric: The primary metric.
        paired: Whether its seed makes pairs.
        select: The metric whose best step stands for a run, and its direction.
    """
    run = planned.run
    scores, step = selected(run, select)
    status, error = _outcome(run, scores, metric)
    imported = {"tool": run.tool, "source": run.source, "run": run.run, "name": run.name, "sha256": run.sha256,
                "paired": paired, "ablations": metadata.version("ablations")}  # fmt: skip
    info: dict[str, Any] = {"cost": _cost(run), "imported": imported}
    if step is not None:
        info["selected_step"] = step
    code = dict.fromkeys(("package_hash", "git_commit", "git_dirty")) | dict(run.code)
    environment = {name: value for name, value in run.environment.items() if value is not None}
    return {
        "run_id": key.run_id,
        "variant": key.variant,
        "seed": key.seed,
        "config_hash": key.config_hash,
        "experiment": IMPORTED,
        "config": {name: value for name, value in planned.config.items() if value is not None},
        "format": FORMAT,
        "attempt": 1,
        "sacred": None,
        "status": status,
        "error": error,
        "scores": finite(dict(scores)),
        "info": info,
        "started": run.started,
        "ended": run.ended,
        "seconds": run.seconds,
        "environment": {"packages": {}, **environment},
        "code": code,
    }


def _cost(run: ForeignRun) -> dict[str, Any]:
    steps = max((step for _, step, _, _ in run.points), default=None)
    return {"steps": steps} if steps is not None else {}


def selected(run: ForeignRun, select: tuple[str, str] | None) -> tuple[dict[str, float], int | None]:
    """A run's scores: the last ones, or those of the step at which a metric is best, of equals the earliest."""
    if select is None:
        return dict(run.scores), None
    metric, direction = select
    sign = 1.0 if direction == "max" else -1.0
    found = [(-sign * value, step) for name, step, value, _ in run.points if name == metric and math.isfinite(value)]
    if not found:
        return dict(run.scores), None
    step = min(found)[1]
    return {**run.scores, **last_values(point for point in run.points if point[1] == step)}, step


def _outcome(run: ForeignRun, scores: Mapping[str, float], metric: str) -> tuple[str, dict[str, Any] | None]:
    """How a run ended: one without the metric has failed, one in which it is no finite number has diverged."""
    status, error = run.status, run.error
    if status == "completed" and metric not in scores:
        there = ", ".join(sorted(scores)[:8]) or "nothing"
        status, error = "failed", ("NoScore", f"it ended without {metric}; it has {there}")
    elif status == "completed" and not math.isfinite(scores[metric]):
        status, error = "diverged", ("NotFinite", f"{metric} is {scores[metric]} at the end")
    if error is None:
        return status, None
    kind, message = (visible(without_credentials(text), 500) for text in error)
    return status, {"type": kind, "message": message, "traceback": "", "passing": False}


def write(store: Store, wanted: Iterable[tuple[dict[str, Any], Sequence[Point]]]) -> Written:
    """Writes the records that are not there yet.

    Of several runs of one config and seed the last one that completed counts, as of several attempts at a run; the
    others are kept beside it, and the report lists them.

    Args:
        store: Where to.
        wanted: Each run's record and its points.
    """
    done = Written()
    by_id: dict[str, list[tuple[dict[str, Any], Sequence[Point]]]] = {}
    for record, points in wanted:
        by_id.setdefault(record["run_id"], []).append((record, points))
    for run_id, own in by_id.items():
        _write_run(store.run_dir(run_id), own, done)
    return done


def _write_run(folder: Path, own: list[tuple[dict[str, Any], Sequence[Point]]], done: Written) -> None:
    kept = _kept(folder)
    marks = {(origin_of(record), record["info"]["imported"]["sha256"]): path for path, record in kept.items()}
    origins = {origin for origin, _ in marks}
    fresh = [each for each in own if (origin_of(each[0]), each[0]["info"]["imported"]["sha256"]) not in marks]
    done.known += len(own) - len(fresh)
    if not fresh:
        return
    renewed = {origin_of(record) for record, _ in fresh} & origins
    done.changed += len(renewed)
    done.new += len(fresh) - len(renewed)
    rivals = [record for record in kept.values() if origin_of(record) not in renewed] + [record for record, _ in fresh]
    winner = sorted(rivals, key=lambda record: (record["status"] == "completed", record["started"] or ""))[-1]
    attempt = max((record["attempt"] for record in kept.values()), default=0)
    if len(rivals) > 1:
        _say_doubled(rivals, winner, done)
    folder.mkdir(parents=True, exist_ok=True)
    for record, _ in sorted(fresh, key=lambda each: (each[0] is winner, each[0]["started"] or "")):
        attempt += 1
        record["attempt"] = attempt
        if record is not winner:
            write_atomic(folder / f"record-a{attempt}.json", json.dumps(record, indent=1))
    for record, points in fresh:
        done.statuses.append(record["status"])
        if record is winner:
            _put_first(folder, record, points)


def _kept(folder: Path) -> dict[Path, dict[str, Any]]:
    """The records in a run's folder, whichever counts."""
    found = {path: read_json(path) for path in sorted(folder.glob("record*.json"))}
    return {path: record for path, record in found.items() if record and record.get("experiment") == IMPORTED}


def _put_first(folder: Path, record: Mapping[str, Any], points: Sequence[Point]) -> None:
    """Writes the record that counts; the one that did is put aside."""
    before = read_json(folder / "record.json")
    if before is not None:
        os.replace(folder / "record.json", folder / f"record-a{before['attempt']}.json")
    lines = [json.dumps([metric, step, finite(value), seconds]) + "\n" for metric, step, value, seconds in points]
    if lines or (folder / "metrics.jsonl").exists():
        write_atomic(folder / "metrics.jsonl", "".join(lines))
    write_atomic(folder / "record.json", json.dumps(record, indent=1))


def _say_doubled(rivals: Sequence[Mapping[str, Any]], winner: Mapping[str, Any], done: Written) -> None:
    names = ", ".join(str(record["info"]["imported"]["run"]) for record in rivals)
    which = winner["info"]["imported"]["run"]
    code = {(record["code"]["package_hash"], record["code"]["git_commit"]) for record in rivals}
    differ = ". Their sources differ: is that what was compared?" if len(code) > 1 else ""
    done.doubled.append(
        f"{winner['variant']}, seed {winner['seed']}: runs {names} have one config and seed; {which} counts, the last "
        f"that completed{differ}"
    )
