"""Minds one run on a node of Slurm; the jobs of an array execute ``python -m ablations.executors._slurm_task BATCH``.

The run is a child, so that its end is seen and recorded here, whoever waits for it or not. What Slurm tells this
process comes to the child as one wish to stop (SIGINT; other signals it ignores), however often and on whatever ways
Slurm says it: the child finishes its step and keeps a checkpoint. Then, if its time is up, the job is put back into the
queue; if it was preempted, Slurm does so itself; if it was cancelled, it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ablations import claims, handles, machine, runner
from ablations.errors import AblationsError
from ablations.executors._slurm_queue import NO_ANSWER, ask
from ablations.executors.base import Ending, Unreachable, killed_by
from ablations.executors.slurm import BEGINS, stop_of, words_of
from ablations.files import read_json, write_atomic

LOOK_EVERY_S = 0.2
SETTLES_S = 1.0  # within which a second signal tells what a first one was about
CONTROLLER_BACK_S = 300.0  # that a controller which is away is asked again; meanwhile nobody ends a job for its time
HEARD = re.compile("pending|already", re.IGNORECASE)  # the answer to whoever asks again whose first answer was lost
TAKEN_FROM_S = 120.0  # within which Slurm takes a job that was put back off its node
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
HELD = 75  # exit code: somebody else runs it (EX_TEMPFAIL)
INTERRUPTED = runner.EXIT_CODES["interrupted"]


@dataclass
class Wishes:
    """What Slurm has asked of this job."""

    time_is_up: bool = False
    end: bool = False
    child: subprocess.Popen[bytes] | None = field(default=None)
    passed_on: bool = False

    def listen(self) -> None:
        """Takes signals from now on."""
        for each in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._hear)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _hear(self, signum: int, frame: object) -> None:
        if signum == signal.SIGUSR1:
            self.time_is_up = True
        else:
            self.end = True

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.time_is_up or self.end

    def pass_on(self) -> None:
        """Tells the child, once."""
        if self.any and self.child is not None and not self.passed_on:
            self.passed_on = True
            self.child.send_signal(signal.SIGINT)


def main(arguments: list[str]) -> int:
    """Minds the run that is this task's; returns an exit code."""
    (folder,) = map(Path, arguments)
    task = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    wishes = Wishes()
    wishes.listen()
    batch = read_json(folder / "batch.json") or {}
    run_dir = folder.parent.parent / "runs" / batch["runs"][task]
    node, again = os.environ.get("SLURMD_NODENAME", socket.gethostname()), os.environ.get("SLURM_RESTART_COUNT", "0")
    print(f"{BEGINS} {run_dir.name} on {node}, Slurm job {_job_id()}, begun again {again} times")
    (folder / words_of(task)).unlink(missing_ok=True)
    if not batch["may_see_gpus"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a node may show them all to everyone
    if batch["gpus"] and not any(name in os.environ for name in VISIBLE):
        code, ending, last = _put_back(wishes, "lost", "Slurm granted GPUs and did not say which")
    else:
        code, ending, last = _mind(run_dir, folder / stop_of(task), wishes)
    if last:
        words = {"format": 1, "kind": ending.kind if ending else None, "text": ending.text if ending else ""}
        write_atomic(folder / words_of(task), json.dumps(words))
    print(f"ends with {code}" + (f": {ending.text}" if ending else ""))
    return code


def _mind(run_dir: Path, stop: Path, wishes: Wishes) -> tuple[int, Ending | None, bool]:
    """Runs a run; returns the exit code, how it ended where its record does not say, and whether that is the end."""
    before, began = _kept(run_dir), time.monotonic()
    oom_kills = machine.oom_kills()
    while True:
        if not _free(run_dir, wishes):
            return (INTERRUPTED, None, False) if wishes.any else (HELD, Ending("held", "another process runs it"), True)
        code = _run(run_dir, wishes)
        if code != 2 or not _held(run_dir):  # somebody was quicker
            break
    if code == INTERRUPTED or (wishes.passed_on and code == -signal.SIGINT):  # told before it could heed a signal
        return _interrupted(run_dir, stop, wishes, before)
    if code < 0:
        ending = killed_by(signal.Signals(-code), oom := machine.oom_kills() > oom_kills)
        if oom and ending.kind == "lost":
            ending = Ending("memory", "killed by the system for lack of memory")
        if ending.as_recorded:
            runner.record_death(run_dir, *ending.as_recorded, ending.text, time.monotonic() - began)
        return 128 - code, ending, True
    if code == runner.UNRECORDED:
        return code, Ending("unrecorded", _last_line(run_dir)), True
    return code, Ending("crashed", f"could not begin: {_last_line(run_dir)}") if code == 2 else None, True


def _run(run_dir: Path, wishes: Wishes) -> int:
    """Runs a run in a child to its end; returns its exit code."""

    def hear_one_signal_alone() -> None:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(each, signal.SIG_IGN)

    with (run_dir / "log.txt").open("ab") as log:
        wishes.child = subprocess.Popen(
            [sys.executable, "-u", "-m", "ablations.runner", str(run_dir)],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=hear_one_signal_alone,  # noqa: PLW1509 – this process has one thread
        )
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return wishes.child.wait(LOOK_EVERY_S)
        wishes.pass_on()


def _free(run_dir: Path, wishes: Wishes) -> bool:
    """Whether nobody runs a run, or does any more; whoever was on a node that is lost cannot say so."""
    until = time.monotonic() + claims.LEASE_S + 2 * claims.RENEW_EVERY_S
    while _held(run_dir):
        if wishes.any or time.monotonic() > until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _held(run_dir: Path) -> bool:
    claim = read_json(run_dir / claims.NAME)
    return claim is not None and claims.is_alive(run_dir, claim)


def _interrupted(
    run_dir: Path, stop: Path, wishes: Wishes, before: dict[str, object]
) -> tuple[int, Ending | None, bool]:
    """What becomes of a run that was asked to stop, and has kept what it keeps."""
    if stop.exists() or handles.asked_to_stop(run_dir):
        return INTERRUPTED, Ending("stopped", "cancelled"), True
    time.sleep(SETTLES_S)
    if wishes.end:  # preempted, and Slurm puts it back; or cancelled, and Slurm knows
        return INTERRUPTED, None, False
    if not wishes.time_is_up:
        return INTERRUPTED, Ending("stopped", "asked to stop from outside of Slurm"), True
    if not _further(before, _kept(run_dir)):
        return INTERRUPTED, Ending("stuck", "it came no further within its time limit than before: raise time"), True
    return _put_back(wishes, "unfinished", "its time was up")


def _put_back(wishes: Wishes, kind: Literal["lost", "unfinished"], why: str) -> tuple[int, Ending | None, bool]:
    """Puts this job back into the queue, and waits until Slurm takes it off its node; or says why it could not."""
    print(f"{why}: back into the queue")
    refusal = _requeue(wishes)
    if refusal:
        return INTERRUPTED, Ending(kind, f"{why}, and its job could not be put back into the queue: {refusal}"), True
    until = time.monotonic() + TAKEN_FROM_S
    while not wishes.end and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
    return INTERRUPTED, None, False


def _requeue(wishes: Wishes) -> str | None:
    """Asks Slurm to put this job back, again while its controller is away; why it does not, or None where it does."""
    until = time.monotonic() + CONTROLLER_BACK_S
    while True:
        try:
            ask("scontrol", "requeue", _job_id())
            return None
        except Unreachable as error:
            time.sleep(SETTLES_S)
            if wishes.end or HEARD.search(str(error)):  # it may end whoever told it together with the rest of the job
                return None
            if not NO_ANSWER.search(str(error)) or time.monotonic() > until:
                return str(error)
            print(f"Slurm's controller does not answer and is asked again ({error})")


def _kept(run_dir: Path) -> dict[str, object]:
    """How far a run is: the files of its checkpoint, and its step."""
    files = sorted(path for path in (run_dir / "checkpoint").rglob("*") if path.is_file())
    progress = None
    with contextlib.suppress(AblationsError):
        progress = read_json(run_dir / "progress.json")
    states = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return {"files": states, "step": progress["step"] if progress else None}


def _further(before: dict[str, object], after: dict[str, object]) -> bool:
    """Whether a run has a newer checkpoint than before, and is at a later step where it says."""
    steps = before["step"], after["step"]
    later = not all(isinstance(step, int) for step in steps) or steps[1] > steps[0]  # type: ignore[operator]
    return bool(after["files"]) and after["files"] != before["files"] and later


def _job_id() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "?")


def _last_line(run_dir: Path) -> str:
    with contextlib.suppress(OSError):
        lines = (run_dir / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
