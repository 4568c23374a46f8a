"""What Slurm says of this user's jobs: one call for all, seldom; kept while its controller does not answer."""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ablations.executors.base import State, Unreachable

SOONEST_S, LATEST_S = 1.0, 15.0  # between two looks: soon after something has changed, ever later while nothing does
ANSWER_S = 60.0  # that a command of Slurm's may take
QUEUED = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "CONFIGURING"}
RUNNING = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
NO_ANSWER = re.compile("contact|connect|timed out|zero bytes|socket|unexpected message", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """A job as Slurm shows it.

    Attributes:
        word: Slurm's word for its state, e.g. ``PENDING``.
        reason: Why it waits, or how it ended; empty for none.
    """

    word: str
    reason: str

    @property
    def state(self) -> State:
        """Whether it waits, runs or has ended."""
        return "queued" if self.word in QUEUED else "running" if self.word in RUNNING else "ended"


@dataclass
class Queue:
    """Slurm's queue as it was last seen."""

    jobs: Mapping[str, Seen] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    began: float = -1e9
    pause_s: float = SOONEST_S
    silent: bool = False

    def look(self, since: float = -math.inf) -> None:
        """Asks again, if it is time; where the controller does not answer, what was seen stays.

        Args:
            since: It is time in any case where it was last asked before this, on this process's clock.

        Raises:
            Unreachable: It has never answered.
        """
        now = time.monotonic()
        if since < self.began and now - self.began < self.pause_s:
            return
        never, self.began = self.began < 0, now
        try:
            lines = ask(
                "squeue", "--me", "--states=all", "--array", "--noheader", "--format=%i|%F|%j|%T|%r"
            ).splitlines()
        except Unreachable:
            self.silent, self.pause_s = True, min(LATEST_S, self.pause_s * 1.5)
            if never:
                self.began = -1e9
                raise
            return
        rows = [line.split("|", 4) for line in lines if line.count("|") >= 4]
        jobs = {job: Seen(word, "" if reason == "None" else reason) for job, _, _, word, reason in rows}
        self.pause_s = SOONEST_S if jobs != self.jobs else min(LATEST_S, self.pause_s * 1.5)
        self.jobs, self.ids, self.silent = jobs, {name: array for _, array, name, _, _ in rows}, False

    def seen(self, job: str, since: float) -> Seen | None:
        """A job, or None where it is not in the queue any more.

        Args:
            job: Its id.
            since: When it was known to be submitted, on this process's clock; until the queue was seen later, it waits.
        """
        self.look()
        found = self.jobs.get(job)
        if found is None and (self.silent or self.began <= since):
            return Seen("PENDING", "Slurm's controller does not answer" if self.silent else "")
        return found

    def id_of(self, name: str) -> str | None:
        """The id of the array of a name, or None where there is none."""
        self.began = min(self.began, time.monotonic() - self.pause_s)
        self.look()
        if self.silent:
            raise Unreachable("Slurm's controller does not answer")
        return self.ids.get(name)


@functools.cache
def queue() -> Queue:
    """The queue, one for this process."""
    return Queue()


def ask(command: str, *arguments: str) -> str:
    """What a command of Slurm's says.

    Raises:
        Unreachable: It is not on this machine, or it failed; the text has its own words.
    """
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except FileNotFoundError as error:
        raise Unreachable(f"{command} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{command}: no answer within {ANSWER_S:.0f} s") from error
    if done.returncode:
        raise Unreachable(f"{command}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def accounted(job: str) -> Seen | None:
    """How a job stands in Slurm's accounts; None where there are none, or they do not know it."""
    try:
        lines = ask("sacct", "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode", f"--jobs={job}")
    except Unreachable:
        return None
    if not lines.strip():
        return None
    word, _, code = lines.splitlines()[-1].partition("|")
    return Seen(word.split()[0], code)


def without_accounts() -> str | None:
    """Why Slurm's accounts cannot be asked; None where they can."""
    if not shutil.which("sacct"):
        return "sacct is not on this machine"
    try:
        ask("sacct", "--allocations", "--noheader", "--jobs=1")
    except Unreachable as error:
        return str(error)
    return None


def configured(name: str) -> str:
    """A line of Slurm's configuration; raises Unreachable as :func:`ask`."""
    found = re.search(rf"^{name}\s*=\s*(\S+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return found[1] if found else ""
