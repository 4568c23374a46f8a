"""Where a launch has its runs run, and whether it stays to watch them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ablations import executor_options
from ablations.errors import UnknownName
from ablations.executors import executor_class
from ablations.executors.base import Executor
from ablations.study import Study


@dataclass(frozen=True)
class Chosen:
    """The executor of a launch.

    Attributes:
        kind: Its class.
        options: Its options.
        workers: Runs at a time where the command line says.
        detach: Whether the launch leaves its runs as soon as they are submitted.
    """

    kind: type[Executor]
    options: Any
    workers: int | None = None
    detach: bool = False

    @property
    def outlasts(self) -> bool:
        """Whether what it runs goes on when the launch is stopped."""
        return self.kind.jobs_outlast(self.options)

    def shares(self, runs: int) -> tuple[int, int]:
        """Runs at a time, and threads of each."""
        return self.kind.shares(self.options, self.workers, runs)


def choose_executor(
    study: Study, name: str, typed: Sequence[str], workers: int | None, *, detach: bool = False
) -> Chosen:
    """The executor of a name with the study's options and those typed, ``key=value`` each.

    Raises:
        UnknownName: There is no such executor or option, a value is none for it, or it cannot be detached from.
    """
    given = study.executors.get(name, {})
    chosen = Chosen(executor_class(name), executor_options.options(name, given, typed), workers, detach)
    if detach and not chosen.outlasts:
        known = " and ".join(each for each in executor_options.names() if executor_class(each).outlasts)
        message = f"runs of executor {name} would end with whoever leaves them"
        if chosen.kind.outlasts:
            raise UnknownName(f"--detach: with these options, {message}; docs/clusters.md says with which they go on")
        raise UnknownName(f"--detach: {message}; {known} know it, on a cluster that is there")
    return chosen
