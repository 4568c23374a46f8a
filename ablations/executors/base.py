"""What every executor offers. The unit of work is a run's folder; its outcome is read there, never asked of a Job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

State = Literal["queued", "running", "ended"]


class Job(ABC):
    """Handle of one submitted folder."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    @abstractmethod
    def state(self) -> State:
        """Whether it waits, runs or has ended, however it ended."""

    @abstractmethod
    def cancel(self) -> None:
        """Stops it: a queued job never starts, a running one is asked to end (SIGTERM)."""

    @abstractmethod
    def ending(self) -> str | None:
        """How its process ended, in words, where it was not by itself with code 0 or 1 (``killed by SIGKILL``)."""


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
