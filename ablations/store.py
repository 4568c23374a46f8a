"""The results folder: one folder a run, written atomically, read as long tables.

Layout under the root (``results/`` by default)::

    runs/<run id>/job.json        what to run, written before it is submitted
    runs/<run id>/submitted.json  the handle of its job, where that outlasts its launcher (ablations/handles.py)
    runs/<run id>/claim.json      who runs it now (ablations/claims.py)
    runs/<run id>/metrics.jsonl   every value as it is measured, append-only (``.gz`` in packed results)
    runs/<run id>/progress.json   how far it is, for the eye only
    runs/<run id>/log.txt         what the process printed
    runs/<run id>/record.json     its outcome: the one file whose presence means that the run has ended
    runs/<run id>/record-a<n>.json  the outcome of an earlier attempt
    sacred/<run id>-a<attempt>/   Sacred's own folder of each attempt
    index.json                    all records in short; derived (ablations/index.py)

A run is identified by the hash of its resolved config and its seed, never by its name: a renamed ablation keeps
its runs, a changed one does not inherit them.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import claims, handles
from ablations.errors import AblationsError
from ablations.files import read_json, read_versioned, read_whole, write_atomic
from ablations.index import RUN_COLUMNS, Summary, summaries
from ablations.plan import RunKey, Variant, expand, run_keys

if TYPE_CHECKING:
    import pandas as pd

    from ablations.study import Study

FORMAT = 1
ENDED = ("completed", "diverged", "failed")
RECORDED: dict[str, type] = {  # what every reader of a record relies on
    "run_id": str, "seed": int, "config_hash": str, "experiment": str, "config": dict, "status": str, "scores": dict,
    "info": dict, "environment": dict, "code": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        steps: Optimizer steps in all, 0 where unknown.
        values: Newest value of each metric.
    """

    step: int
    steps: int
    values: Mapping[str, float]


class Store:
    """Reads and writes one results folder."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    def run_dir(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run_id

    # -- before and during a run ------------------------------------------------------------------------------

    def unsettled(self, keys: Iterable[RunKey], *, retry: bool = False) -> list[RunKey]:
        """The keys that have no outcome that stays, also those being run; of several for one run the first.

        Args:
            keys: Planned runs.
            retry: Whether failed and diverged runs count as having none.
        """
        distinct: dict[str, RunKey] = {}
        for key in keys:
            distinct.setdefault(key.run_id, key)
        records = {run_id: outcome_of(self.run_dir(run_id)) for run_id in distinct}
        return [key for run_id, key in distinct.items() if not stays(records[run_id], retry=retry)]

    def pending(self, keys: Iterable[RunKey], *, retry: bool = False) -> list[RunKey]:
        """Of the :meth:`unsettled` keys those that nobody is running or has queued."""
        unsettled = self.unsettled(keys, retry=retry)
        return [key for key in unsettled if self.status(key.run_id) not in ("running", "queued")]

    def prepare(self, key: RunKey, variant: Variant, experiment: str, **settings: Any) -> Path:
        """Writes what a worker needs to know into the run's folder, and returns the folder.

        Args:
            key: The run.
            variant: Its variant.
            experiment: ``package.module:name`` of the Sacred experiment.
            **settings: Of this launch: ``threads``, ``metric`` (the one without which a run has failed), ``retry``
                (whether an outcome that is no result is to be replaced).
        """
        folder = self.run_dir(key.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        handles.take_back(folder)
        earlier = job_of(folder) or {"attempt": 0}
        job = {
            "format": FORMAT,
            "run_id": key.run_id,
            "variant": variant.name,
            "seed": key.seed,
            "config_hash": key.config_hash,
            "experiment": experiment,
            "config": variant.identifying,
            "attempt": earlier["attempt"],
            "settings": settings,
        }
        if {**earlier, **job} != earlier:  # as it is, it may belong to somebody who is running it
            write_atomic(folder / "job.json", json.dumps(job, indent=1))
        return folder

    def status(self, run_id: str) -> str:
        """One of completed, diverged, failed, pruned, interrupted, queued, running, missing.

        ``pruned`` is a search's trial that was stopped because it did not promise much; ``queued`` is what was handed
        to a cluster and has not begun, or waits to go on, as far as its folder tells.
        """
        folder = self.run_dir(run_id)
        claim = read_json(folder / claims.NAME)  # before the record: whoever ends writes that first
        record = outcome_of(folder)
        if record is not None and record["status"] != "interrupted":
            return str(record["status"])
        if claim is not None and claims.is_alive(folder, claim):
            return "running"
        if handles.submitted(folder) is not None:
            return "queued"
        return "missing" if claim is None and record is None else "interrupted"

    def progress(self, run_id: str) -> Progress | None:
        """How far a run is, or None before its first value."""
        found = read_json(self.run_dir(run_id) / "progress.json")
        return Progress(found["step"], found["steps"], found["values"]) if found else None

    # -- afterwards -------------------------------------------------------------------------------------------

    def read_record(self, run_id: str) -> dict[str, Any]:
        """The record of an ended run.

        Raises:
            FileNotFoundError: The run has not ended.
            AblationsError: The record is damaged, or was written by a newer version of this package.
        """
        record = outcome_of(self.run_dir(run_id))
        if record is None:
            raise FileNotFoundError(self.run_dir(run_id) / "record.json")
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """Every ended run's record in the folder, of whatever study, ordered by run id."""
        for path in sorted(self.root.glob("runs/*/record.json")):
            yield self.read_record(path.parent.name)

    def summaries(self) -> dict[str, Summary]:
        """Every ended run's record in short, of whatever study, by run id: columns of ``RUN_COLUMNS``, and scores."""
        return summaries(self.root, self.read_record)

    def history(self) -> list[dict[str, Any]]:
        """Completed runs of this host: config_hash, flops, seconds and those of parts, device; what is unknown None."""
        names = ("config_hash", "flops", "seconds", "seconds_training", "seconds_evaluation", "device")
        return [
            {name: found[name] for name in names}
            for found in self.summaries().values()
            if found["status"] == "completed" and found["host"] == socket.gethostname()
        ]

    def read_runs(self, study: Study) -> pd.DataFrame:
        """One row a planned run, columns ``RUN_COLUMNS``; what is unknown is None."""
        import pandas as pd

        rows, ended = [], self.summaries()
        waits = {variant.name: variant.waits_for or None for variant in expand(study)}
        for key in run_keys(study):
            row = dict.fromkeys(RUN_COLUMNS) | {"error": waits[key.variant]}
            row |= ended.get(key.run_id) or {"status": self.status(key.run_id)}
            row |= {"variant": key.variant, "seed": key.seed, "run_id": key.run_id, "config_hash": key.config_hash}
            rows.append(row)
        return pd.DataFrame(rows, columns=list(RUN_COLUMNS))

    def read_scores(self, study: Study) -> pd.DataFrame:
        """One row a planned run and metric: variant, seed, run_id, status, metric, value.

        A run without a result has one row: the primary metric, value NaN, and its status. It is never dropped and
        never zero.
        """
        import pandas as pd

        rows, ended = [], self.summaries()
        for key in run_keys(study):
            found = ended.get(key.run_id)
            status = found["status"] if found else self.status(key.run_id)
            scores = found["scores"] if found else {}
            if status != "completed" or study.metric not in scores:
                scores = {study.metric: float("nan")} | (scores if status == "completed" else {})
            rows += [(key.variant, key.seed, key.run_id, status, name, value) for name, value in scores.items()]
        return pd.DataFrame(rows, columns=["variant", "seed", "run_id", "status", "metric", "value"])

    def read_curves(self, study: Study) -> pd.DataFrame:
        """Every value as it was measured: variant, seed, run_id, metric, step, value, seconds since the start."""
        import pandas as pd

        frames = []
        for key in run_keys(study):
            points = read_metrics(self.run_dir(key.run_id) / "metrics.jsonl")
            if points:
                frame = pd.DataFrame(points, columns=["metric", "step", "value", "seconds"])
                frames.append(frame.assign(variant=key.variant, seed=key.seed, run_id=key.run_id))
        columns = ["variant", "seed", "run_id", "metric", "step", "value", "seconds"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def outcome_of(run_dir: Path) -> dict[str, Any] | None:
    """The record in a run's folder, or None; raises AblationsError where it is damaged or of a newer version."""
    record = read_versioned(run_dir / "record.json", "record", FORMAT)
    if record is not None and (missed := lacking(record)):
        path = run_dir / "record.json"
        raise AblationsError(f"{path}: expected {', '.join(missed)} in a record; ablations doctor --fix puts it aside")
    return record


def lacking(record: Mapping[str, Any]) -> list[str]:
    """What a record must hold and does not, or not in its type."""
    return [name for name, kind in RECORDED.items() if not isinstance(record.get(name), kind)]


def job_of(run_dir: Path) -> dict[str, Any] | None:
    """The description of a run in its folder, or None; raises AblationsError as :func:`outcome_of`."""
    return read_versioned(run_dir / "job.json", "job", FORMAT)


def stays(record: Mapping[str, Any] | None, *, retry: bool) -> bool:
    """Whether a run's outcome is one that is not replaced by running it again.

    Broken off or pruned runs always are, and those that failed for a reason outside of themselves which may have passed
    since (no room on the disk): ``error.passing``. Other failed and diverged ones are on request.

    Args:
        record: Of the run; None for none.
        retry: Whether that is requested.
    """
    if record is None or record["status"] in ("interrupted", "pruned"):
        return False
    if record["status"] == "completed":
        return True
    return not retry and not (record["error"] or {}).get("passing", False)


def read_metrics(path: Path) -> list[tuple[str, int, float, float]]:
    """(metric, step, value, seconds) of each line; a last line cut short by a crash is left out.

    Args:
        path: The file, or where it would be: packed results keep it compressed beside that.

    Raises:
        AblationsError: Another line is damaged.
    """
    try:
        content = read_whole(path)
    except FileNotFoundError:
        packed = path.with_name(f"{path.name}.gz")
        if not packed.is_file():
            return []
        content = gzip.decompress(read_whole(packed))
    lines = content.splitlines(keepends=True)
    points = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            metric, step, value, seconds = json.loads(line)
        except ValueError as error:
            found, wanted = line[:60].decode(errors="replace").strip(), "[metric, step, value, seconds]"
            raise AblationsError(f"{path}:{number}: expected {wanted}, found {found!r}") from error
        points.append((metric, step, value, seconds))
    return points
