"""What every executor offers. The unit of work is a run's folder; its outcome is read there, never asked of a Job."""

from __future__ import annotations

import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from ablations import machine, stopping
from ablations.errors import AblationsError

State = Literal["queued", "running", "ended"]


@dataclass(frozen=True)
class Ending:
    """How a run's process ended where no record of its own can say it.

    Attributes:
        kind: ``held`` (another process runs it already), ``lost`` (something outside of the run ended it: it may go
            well another time), ``stopped`` (it was asked to end), ``unfinished`` (its time was up; it has a checkpoint
            to go on from), ``stuck`` (its time was up, and it has come no further than the last time), ``crashed`` (its
            own native code ended it), ``memory`` (it took more than it was granted), ``unrecorded`` (its outcome could
            not be written), ``crowded`` (it found no memory beside others, and goes well alone).
        text: The same in words, with what is known of the cause.
    """

    kind: Literal["held", "lost", "stopped", "unfinished", "stuck", "crashed", "memory", "unrecorded", "crowded"]
    text: str

    @property
    def as_recorded(self) -> tuple[str, str] | None:
        """Status and error type of the record that it makes where the run has left none; None for no record."""
        return DEATHS.get(self.kind)


DEATHS = {
    "crashed": ("failed", "Crashed"),
    "memory": ("failed", "OutOfMemory"),
    "lost": ("interrupted", "Lost"),
    "stopped": ("interrupted", "Stopped"),
}
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}


def killed_by(sent: signal.Signals, oom: bool) -> Ending:
    """How a process ended that a signal has killed.

    Args:
        sent: The signal.
        oom: Whether the system has killed a process for lack of memory since it began.
    """
    if sent in CRASHES:
        return Ending("crashed", f"crash in native code: killed by {sent.name}")
    if sent in stopping.STOP_SIGNALS:
        return Ending("stopped", f"killed by {sent.name}")
    why = ", and the system has killed a process for lack of memory meanwhile" if oom else ""
    return Ending("lost", f"killed by {sent.name}{why}")


class Job(ABC):
    """Handle of one submitted folder."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    @property
    def name(self) -> str:
        """What it is called where it runs, empty for nothing."""
        return ""

    @property
    def waits_for(self) -> str:
        """What it waits for, empty where that is not known."""
        return ""

    @abstractmethod
    def state(self) -> State:
        """Whether it waits, runs or has ended, however it ended."""

    @abstractmethod
    def cancel(self) -> None:
        """Stops it: a queued job never starts, a running one is asked to end (SIGTERM), asked twice to end at once."""

    @abstractmethod
    def ending(self) -> Ending | None:
        """How its process ended; None where it was by itself, with a record."""


class Unreachable(AblationsError):
    """What has a job cannot be asked from here; the text says why."""


@dataclass(frozen=True)
class Work:
    """What an executor is started for.

    Attributes:
        study: Name of the study.
        experiment: What all runs share, as ``package.module:name``.
        root: The results folder.
        at_once: Runs at a time.
        threads: Computing threads of each.
        say: Takes a line for whoever waits.
    """

    study: str
    experiment: str
    root: Path
    at_once: int
    threads: int
    say: Callable[[str], None]


class Executor(ABC):
    """Starts runs. Use it as a context manager: leaving it cancels what has not ended, unless that outlasts it.

    A module of this package holds one, and beside it a dataclass ``Options`` of what may be set, each field made by
    :func:`ablations.schema.tunable`; it is found by the module's name.

    Attributes:
        outlasts: Whether its jobs go on when whoever submitted them has gone. They leave a handle in their folders
            (:mod:`ablations.handles`), by which :meth:`attach` finds them again.
    """

    outlasts: ClassVar[bool] = False

    @classmethod
    def start(cls, options: Any, work: Work) -> Self:
        """An executor with its module's ``Options``; every module's own has it."""
        raise NotImplementedError

    @classmethod
    def shares(cls, options: Any, workers: int | None, runs: int) -> tuple[int, int]:
        """Runs at a time, and threads of each, which do not depend on how many runs are left: numbers depend on them.

        Args:
            options: The module's ``Options``.
            workers: Runs at a time as asked for; None for one a GPU, or one a core.
            runs: Runs there are.
        """
        workers = workers or machine.gpus() or machine.cores()
        return max(1, min(workers, runs)), max(1, machine.cores() // workers)

    @classmethod
    def jobs_outlast(cls, options: Any) -> bool:
        """Whether jobs of an executor with these ``Options`` do."""
        return cls.outlasts

    @classmethod
    def attach(cls, run_dir: Path, handle: Mapping[str, Any]) -> Job | None:
        """The job of a handle that this executor recorded, by whoever submitted it; None where it never began.

        Raises:
            Unreachable: That cannot be known here.
        """
        return None

    @abstractmethod
    def submit(self, run_dir: Path) -> Job:
        """Accepts a folder that holds a ``job.json``."""

    def room(self) -> int:
        """How many more folders are worth submitting now; those beyond would only wait. By default any number."""
        return sys.maxsize

    def wait(self, seconds: float) -> None:
        """Returns after so long, or sooner where it knows that a job has ended."""
        time.sleep(seconds)

    def leave(self) -> int:
        """Returns when what was submitted goes on without this process; how many folders do not, and are not begun.

        Only of an executor whose jobs outlast it.
        """
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Cancels every job that has not ended, unless they outlast it, and frees what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
