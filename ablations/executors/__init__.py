"""Ways to run a run's folder: one module each; an executor knows a folder, not a model."""

from __future__ import annotations

from pathlib import Path

from ablations import handles
from ablations.errors import UnknownName
from ablations.executor_options import module_of
from ablations.executors.base import Executor, Job, Unreachable


def executor_class(name: str) -> type[Executor]:
    """The executor of a name: the one that its module defines.

    Raises:
        UnknownName: There is none.
    """
    module = module_of(name)
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    (found,) = (each for each in own if issubclass(each, Executor))
    return found


def attached(run_dir: Path) -> Job | None:
    """The job that a run's folder has the handle of, by whoever it was submitted; None where there is none.

    Raises:
        Unreachable: There is one, and how it stands cannot be asked from here.
    """
    found = handles.submitted(run_dir)
    if found is None:
        return None
    try:
        return executor_class(found.executor).attach(run_dir, found.handle)
    except UnknownName as error:  # submitted with an executor that this version has not
        raise Unreachable(str(error)) from error


__all__ = ["attached", "executor_class"]
