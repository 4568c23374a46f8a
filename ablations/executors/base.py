"""What every executor offers. The unit of work is a run's folder; its outcome is read there, never asked of a Job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["queued", "running", "ended"]


@dataclass(frozen=True)
class Ending:
    """How a run's process ended where no record of its own can say it.

    Attributes:
        kind: ``held`` (another process runs it already), ``lost`` (something outside of the run ended it: it may go
            well another time), ``stopped`` (it was asked to end), ``crashed`` (its own native code did), ``unrecorded``
            (its outcome could not be written).
        text: The same in words, with what is known of the cause.
    """

    kind: Literal["held", "lost", "stopped", "crashed", "unrecorded"]
    text: str


class Job(ABC):
    """Handle of one submitted folder."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    @abstractmethod
    def state(self) -> State:
        """Whether it waits, runs or has ended, however it ended."""

    @abstractmethod
    def cancel(self) -> None:
        """Stops it: a queued job never starts, a running one is asked to end (SIGTERM), asked twice to end at once."""

    @abstractmethod
    def ending(self) -> Ending | None:
        """How its process ended; None where it was by itself, with a record."""


class Executor(ABC):
    """Starts runs. Use it as a context manager: leaving it cancels what has not ended."""

    @abstractmethod
    def submit(self, run_dir: Path) -> Job:
        """Accepts a folder that holds a ``job.json``."""

    @abstractmethod
    def close(self) -> None:
        """Cancels every job that has not ended and frees what it holds."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
