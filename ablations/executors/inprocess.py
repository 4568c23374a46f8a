"""Runs each folder in this very process, when it is waited for: for debugging and for experiments of seconds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ablations import runner
from ablations.claims import ClaimHeld
from ablations.executors.base import Ending, Executor, Job, State, Work


@dataclass(frozen=True)
class Options:
    """Nothing to set."""


class InProcessJob(Job):
    """A folder that is run when somebody first asks how it stands."""

    _ended = False

    def state(self) -> State:
        """Runs it, unless it has been; always ended.

        Raises:
            KeyboardInterrupt: The run was stopped by a signal, which was meant for this process.
        """
        if not self._ended:
            self._ended = True
            with contextlib.suppress(ClaimHeld):
                if runner.run(self.run_dir) == "interrupted":
                    raise KeyboardInterrupt
        return "ended"

    def cancel(self) -> None:
        """Keeps it from running."""
        self._ended = True

    def ending(self) -> Ending | None:
        """Nothing but what the record says."""
        return None


class InProcessExecutor(Executor):
    """One run at a time, in the order in which they are waited for."""

    @classmethod
    def start(cls, options: Options, work: Work) -> Self:
        """An executor of this process."""
        return cls()

    def submit(self, run_dir: Path) -> Job:
        """Accepts a folder; nothing runs yet."""
        return InProcessJob(run_dir)

    def close(self) -> None:
        """Holds nothing."""
