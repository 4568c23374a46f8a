"""What a run's folder says of its job: who has it queued, and whether it was asked to stop.

``submitted.json`` is the handle of a job that outlasts whoever submitted it: with it anybody who sees the folder can
ask how the job stands, wait for it, or cancel it. ``cancel.json`` asks a run to stop, or not to begin; whoever submits
the run anew takes that back.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.files import read_versioned, write_atomic

FORMAT = 1
SUBMITTED, CANCEL = "submitted.json", "cancel.json"


@dataclass(frozen=True)
class Submitted:
    """The handle of a job.

    Attributes:
        executor: Name of the executor that knows it.
        handle: What that executor needs to find it again.
        at: When it was submitted, in ISO format.
    """

    executor: str
    handle: Mapping[str, Any]
    at: str


def record(run_dir: Path, executor: str, handle: Mapping[str, Any]) -> None:
    """Records who is to run a run, before it is submitted or just after."""
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"format": FORMAT, "executor": executor, "handle": dict(handle), "at": at}
    write_atomic(run_dir / SUBMITTED, json.dumps(content, indent=1))


def submitted(run_dir: Path) -> Submitted | None:
    """The handle of a run's job, or None where nothing was submitted that has not ended since, as far as is known."""
    found = read_versioned(run_dir / SUBMITTED, "handle", FORMAT)
    return Submitted(found["executor"], found["handle"], found["at"]) if found else None


def forget(run_dir: Path) -> None:
    """Says that a run's job has ended."""
    (run_dir / SUBMITTED).unlink(missing_ok=True)


def ask_to_stop(run_dir: Path) -> None:
    """Asks whoever runs a run, or will begin to, to stop."""
    write_atomic(run_dir / CANCEL, json.dumps({"format": FORMAT}))


def asked_to_stop(run_dir: Path) -> bool:
    """Whether that was asked since the run was last submitted."""
    return (run_dir / CANCEL).exists()


def take_back(run_dir: Path) -> None:
    """Takes back what :func:`ask_to_stop` has asked."""
    (run_dir / CANCEL).unlink(missing_ok=True)
