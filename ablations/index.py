"""What each record of a results folder says in short, kept in one file: ten thousand runs load like one.

The index is derived and never believed against a record: an entry holds for as long as its record's file is the one
that it was made from, by inode, size, and times of change, of which the system keeps one by itself. A record that is
new, changed or only seconds old is read anew. An index that is missing, damaged, or of another layout is made again; it
may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.errors import AblationsError
from ablations.files import read_whole, write_atomic

FORMAT = 1
NAME = "index.json"
YOUNG_NS = 2_000_000_000  # a file system's clock is coarse: a change within its step could go unseen

RUN_COLUMNS = (
    "variant", "seed", "run_id", "status", "error", "config_hash", "started", "ended", "seconds", "attempt", "host",
    "device", "threads", "parameters", "flops", "peak_memory_mb", "samples_per_s", "steps", "seconds_training",
    "seconds_evaluation", "selected_step", "code_hash", "git_commit", "git_dirty", "data_fingerprint",
    "taken_from", "taken_steps", "taken_seconds",
)  # fmt: skip

Record = Mapping[str, Any]
Summary = dict[str, Any]


def summary(record: Record) -> Summary:
    """A record in short: :data:`RUN_COLUMNS`, what is unknown None, and its ``scores``."""
    info, environment, code = record.get("info") or {}, record["environment"], record["code"]
    cost, data, error = info.get("cost") or {}, info.get("data") or {}, record.get("error")
    taken = info.get("taken_over") or {}
    found = {
        **record,
        **{name: environment.get(name) for name in ("host", "device", "threads")},
        **cost,
        "error": f"{error['type']}: {error['message']}" if error else None,
        "code_hash": code["package_hash"],
        "git_commit": code["git_commit"],
        "git_dirty": code["git_dirty"],
        "selected_step": info.get("selected_step"),
        "data_fingerprint": data.get("fingerprint"),
        "taken_from": taken.get("run_id"),
        "taken_steps": taken.get("steps"),
        "taken_seconds": taken.get("seconds"),
    }
    return {name: found.get(name) for name in RUN_COLUMNS} | {"scores": record.get("scores") or {}}


def summaries(root: Path, read_record: Callable[[str], Record]) -> dict[str, Summary]:
    """The summary of every ended run, by run id, in its order.

    Args:
        root: The results folder.
        read_record: Gives a run's record; called for those that the index does not know as they are now.
    """
    kept = _kept(root / NAME)
    entries: dict[str, tuple[list[int], Summary]] = {}
    for run_id, mark in sorted(_marks(root / "runs")):
        known = kept.get(run_id)
        entries[run_id] = known if known and known[0] == mark else (mark, summary(read_record(run_id)))
    settled = {run_id: entry for run_id, entry in entries.items() if not _young(entry[0])}
    if settled != kept:
        _keep(root / NAME, settled)
    return {run_id: found for run_id, (_, found) in entries.items()}


def differing(root: Path, read_record: Callable[[str], Record]) -> list[str] | None:
    """Ids of runs of which an index says something else than their records; None where it is damaged or not ours.

    An entry that no longer holds is no difference: its record is read anew.

    Args:
        root: The results folder; one without an index differs in nothing.
        read_record: Gives a run's record.
    """
    path = root / NAME
    if not path.exists():
        return []
    kept, marks = _kept(path), dict(_marks(root / "runs"))
    if not kept:
        return None
    holding = [run_id for run_id, (mark, _) in kept.items() if marks.get(run_id) == mark]
    return [run_id for run_id in holding if kept[run_id][1] != summary(read_record(run_id))]


def _marks(runs: Path) -> Iterator[tuple[str, list[int]]]:
    """What tells each run's record from any other file, by run id."""
    try:
        folders = os.scandir(runs)
    except (FileNotFoundError, NotADirectoryError):
        return
    with folders:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = os.stat(os.path.join(folder.path, "record.json"))
                yield folder.name, [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _young(mark: list[int]) -> bool:
    """Whether a file changed so lately, or by its clock in the future, that another change might look the same."""
    return time.time_ns() - max(mark[2:]) < YOUNG_NS


def _kept(path: Path) -> dict[str, tuple[list[int], Summary]]:
    """The entries of an index; none where it is missing, damaged, or of another layout."""
    try:
        head, _, body = read_whole(path).partition(b"\n")
        if json.loads(head) != _head(body):
            return {}
        return {run_id: (mark, found) for run_id, (mark, found) in json.loads(body).items()}
    except (AblationsError, OSError, ValueError):
        return {}


def _keep(path: Path, entries: Mapping[str, tuple[list[int], Summary]]) -> None:
    body = json.dumps(entries, separators=(",", ":"))
    head = json.dumps(_head(body.encode()))
    with contextlib.suppress(OSError):  # results that may only be read are read as they are
        write_atomic(path, f"{head}\n{body}")


def _head(body: bytes) -> dict[str, Any]:
    return {"format": FORMAT, "columns": list(RUN_COLUMNS), "sha256": hashlib.sha256(body).hexdigest()}
