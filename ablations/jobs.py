"""Jobs that outlast whoever submitted them, and how to stop any run: found again by the handle in a run's folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ablations import claims, executors, handles, runner
from ablations.errors import AblationsError
from ablations.executors.base import Ending, Job, State, Unreachable
from ablations.files import read_json
from ablations.plan import RunKey
from ablations.store import Store

ENDED = ("completed", "pruned", "diverged", "failed")


def found(run_dir: Path) -> Job | None:
    """The job that a run's folder has the handle of; None where there is none, or it cannot be asked from here."""
    try:
        return executors.attached(run_dir)
    except Unreachable:
        return None


def settle(store: Store, keys: Iterable[RunKey]) -> None:
    """Records how jobs have ended that nobody was watching, where their runs could not say so themselves."""
    for key in keys:
        run_dir = store.run_dir(key.run_id)
        handle = handles.submitted(run_dir)
        if handle is None:
            continue
        try:
            job = executors.attached(run_dir)
            if job is not None and job.state() != "ended":
                continue
        except Unreachable:
            continue
        if job is not None:
            record_ending(run_dir, job.ending(), 0.0)
        if handles.submitted(run_dir) == handle:  # else somebody has submitted it anew
            handles.forget(run_dir)


def record_ending(run_dir: Path, ending: Ending | None, seconds: float) -> None:
    """Records how a run's process ended, where that process could not.

    Args:
        run_dir: The run's folder.
        ending: What its job says.
        seconds: That it had lived.
    """
    if ending is not None and ending.as_recorded:
        runner.record_death(run_dir, *ending.as_recorded, ending.text, seconds)


@dataclass(frozen=True)
class Standing:
    """How the job of a run stands.

    Attributes:
        state: ``queued``, ``running`` or ``ended``; None where it cannot be asked from here.
        text: Where it is, or why it cannot be asked.
    """

    state: State | None
    text: str


def standing(run_dir: Path) -> Standing | None:
    """How the job stands that a run's folder has the handle of; None where there is none."""
    found = handles.submitted(run_dir)
    if found is None:
        return None
    try:
        job = executors.attached(run_dir)
    except Unreachable as error:
        return Standing(None, f"{found.executor}, submitted {found.at}; how it stands cannot be asked here: {error}")
    if job is None:
        return Standing("ended", f"{found.executor}, never begun")
    state, ending = job.state(), job.ending()
    where = f"{found.executor} {job.name}".strip() + (f", waits for {job.waits_for}" if job.waits_for else "")
    return Standing(state, ending.text if ending else where)


# -- stopping -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cancelled:
    """What became of the wish to stop a run.

    Attributes:
        key: The run.
        how: ``withdrawn`` (it had not begun), ``stopping`` (it was told), ``asked`` (it will see it by itself).
        text: The same in words.
    """

    key: RunKey
    how: Literal["withdrawn", "stopping", "asked"]
    text: str


def cancel(store: Store, keys: Iterable[RunKey]) -> list[Cancelled]:
    """Stops those of some runs that are queued or running, wherever they are; what has ended stays as it is."""
    found = []
    for key in keys:
        run_dir = store.run_dir(key.run_id)
        status = store.status(key.run_id)
        if status in ENDED or not (run_dir / "job.json").exists():
            continue
        if status in ("queued", "running") or not (run_dir / "record.json").exists():
            how = _cancel(key, run_dir, status)
            if how is not None:
                found.append(how)
    return found


def _cancel(key: RunKey, run_dir: Path, status: str) -> Cancelled | None:
    handles.ask_to_stop(run_dir)
    submitted = handles.submitted(run_dir)
    if submitted is not None:
        try:
            job = executors.attached(run_dir)
            if job is not None:
                before = job.state()
                job.cancel()
                if before == "queued":
                    handles.forget(run_dir)
                words = "withdrawn from" if before == "queued" else "asked to stop in"
                return Cancelled(
                    key, "withdrawn" if before == "queued" else "stopping", f"{words} {submitted.executor}"
                )
        except AblationsError as error:
            handles.forget(run_dir)  # the note is enough, and nobody may wait for a cluster that is not there
            return Cancelled(key, "asked", f"it will end itself when it begins or looks; {submitted.executor}: {error}")
    claim = read_json(run_dir / claims.NAME)
    if claim is not None and status == "running":
        if claims.signal_owner(claim):
            return Cancelled(key, "stopping", f"process {claim['pid']} asked to stop")
        where = f"process {claim['pid']} on {claim['host']}"
        return Cancelled(key, "asked", f"{where} looks every {claims.RENEW_EVERY_S:.0f} s")
    return Cancelled(key, "withdrawn", "will not be begun by whoever has it queued")
