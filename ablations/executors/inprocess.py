"""Runs each folder in this very process, at once: for debugging and for experiments of seconds."""

from __future__ import annotations

from pathlib import Path

from ablations import runner
from ablations.executors.base import Executor, Job, State


class InProcessJob(Job):
    """A job that has ended before its handle is returned."""

    def state(self) -> State:
        """Always ended."""
        return "ended"

    def cancel(self) -> None:
        """Nothing is left to stop."""

    def ending(self) -> str | None:
        """Nothing but what the record says."""
        return None


class InProcessExecutor(Executor):
    """Runs while it is being submitted to."""

    def submit(self, run_dir: Path) -> Job:
        """Runs the folder and returns when it has ended."""
        runner.run(run_dir)
        return InProcessJob(run_dir)

    def close(self) -> None:
        """Holds nothing."""
