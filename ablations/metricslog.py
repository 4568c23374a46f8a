"""The values of a run as they are measured: our own log, which is believed where Sacred's is not."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.errors import RunFailed
from ablations.files import write_atomic
from ablations.store import read_metrics

PROGRESS_EVERY_S = 1.0


class MetricsLog:
    """Appends each value to ``metrics.jsonl`` as ``[metric, step, value, seconds]`` and keeps ``progress.json``.

    Three metrics are announcements: ``steps`` says how many steps the run has; ``elapsed`` that what follows took so
    many seconds elsewhere, in a run from which this one takes it over; ``rewind`` that the values after a step will be
    measured again, so that those in the file are dropped. A run that begins with a ``rewind`` goes on where an
    earlier attempt stopped: the values up to there stay, and seconds count on from the last of them.

    A value that cannot be written ends the log: it is raised then, again for each later value, and by :meth:`verify`,
    so that no experiment can end well without its values.

    Args:
        run_dir: The run's folder.
        announced: Whether the experiment knows of announcements; to one that does not, they are metrics like others.
    """

    def __init__(self, run_dir: Path, announced: bool = True):
        self._run_dir = run_dir
        self._announced = announced
        self._path = run_dir / "metrics.jsonl"
        self._file: int | None = None
        self._error: OSError | None = None
        self._lines = 0
        self.earlier_s = 0.0
        self._start = time.monotonic()
        self._written = -math.inf
        self._steps = self._step = 0
        self._values: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._write_progress()
        if self._file is None and (kind is None or not issubclass(kind, KeyboardInterrupt)):
            with contextlib.suppress(OSError):  # said by verify
                self._begin([])  # it has ended without a value: an earlier attempt's are not its own
        if self._file is not None:
            with contextlib.suppress(OSError):  # said by verify
                os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def add(self, metric: str, value: float, step: int | None) -> None:
        """Takes one value or announcement.

        Raises:
            OSError: It, or an earlier one, could not be written.
        """
        step = None if step is None else int(step)  # numpy's are no JSON
        if self._announced and metric == "steps" and step == 0:
            self._steps = int(value)
            return
        if self._announced and metric == "elapsed":
            self.earlier_s += value
            return
        if self._announced and metric == "rewind":
            self._rewind(int(value))
            return
        if step is None:  # as Sacred counts
            step = self._counts.get(metric, 0)
        self._counts[metric] = step + 1
        seconds = self.earlier_s + time.monotonic() - self._start
        self._append(json.dumps([metric, step, finite(value), round(seconds, 3)]) + "\n")
        self._step, self._values[metric] = max(step, self._step), value
        if seconds - self._written >= PROGRESS_EVERY_S:
            self._written = seconds
            self._write_progress()

    def verify(self) -> None:
        """Compares what is in the file with what was sent.

        Raises:
            OSError: A value could not be written.
            RunFailed: Values are not in the file that were written without an error.
        """
        if self._error is not None:
            raise self._error
        found = len(read_metrics(self._path))
        if found != self._lines:
            raise RunFailed(f"{self._path}: expected the {self._lines} values that were measured, found {found}")

    def _append(self, line: str) -> None:
        """Writes a line in one piece, should the process be killed, and nothing after one that is cut short."""
        if self._error is not None:
            raise self._error
        file = self._begin([]) if self._file is None else self._file  # not before: an earlier attempt's may be taken up
        content = line.encode()
        try:
            while content:  # what is left of a short write makes the system say why
                content = content[os.write(file, content) :]
        except OSError as error:
            self._error = OSError(error.errno, error.strerror, str(self._path))
            raise self._error from error
        self._lines += 1

    def _rewind(self, step: int) -> None:
        kept = [entry for entry in read_metrics(self._path) if entry[1] <= step]
        if self._file is None:
            self.earlier_s = max((seconds for *_, seconds in kept), default=0.0)
        self._begin([json.dumps(entry) + "\n" for entry in kept])
        self._step, self._values = step, {metric: value for metric, _, value, _ in kept}
        self._counts = {metric: last + 1 for metric, last, *_ in kept}

    def _begin(self, lines: list[str]) -> int:
        """Puts a new file in the place of the old one: a process that has lost this run writes into the old one."""
        try:
            write_atomic(self._path, "".join(lines))
            if self._file is not None:
                os.close(self._file)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            self._error = error
            raise
        self._lines = len(lines)
        return self._file

    def _write_progress(self) -> None:
        part = self._run_dir / ".progress.part"
        with contextlib.suppress(OSError):  # for the eye only
            part.write_text(json.dumps({"step": self._step, "steps": self._steps, "values": finite(self._values)}))
            os.replace(part, self._run_dir / "progress.json")


def finite(value: Any) -> Any:
    """The same with plain numbers, and null for those that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(name): finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    return finite(float(value)) if is_number(value) else str(value)


def is_number(value: object) -> bool:
    """Whether it is one number, of whatever library."""
    is_plain = not isinstance(value, (str, bool, bytes)) and getattr(value, "ndim", 0) == 0
    return is_plain and hasattr(value, "__float__")
