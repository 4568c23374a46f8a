"""Studies of runs that were made elsewhere, ``experiment: imported``: there is nothing to run.

No experiment says what such a study may set: the baseline in its file does. The stdlib alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.schema import Schema, Tunable, described

IMPORTED = "imported"
"""What stands for the experiment in such a study, and in the records of its runs."""

NOTHING_TO_RUN = (
    "its runs were made elsewhere and imported, so there is nothing to run; `ablations report` shows what they say. "
    "To run more, name the experiment that made them, as package.module:name"
)


class RecordedTunable(Tunable):
    """A parameter of which nothing is known but the values that runs had; null stands for one that a run lacked."""

    def problem(self, value: object) -> str | None:
        """Says what no record could hold."""
        if isinstance(value, list):
            inner = next((each for each in value if isinstance(each, (list, Mapping))), None)
            return None if inner is None else f"expected a list of plain values, found {described(inner)} in it"
        if isinstance(value, Mapping):
            return f"expected a value, found {described(value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f'expected a finite number, found {value}: write text, "{value}"'
        return None

    def normal(self, value: Any) -> Any:
        """The one form of numbers that are equal, so that 1 and 1.0 in two sources are one config."""
        if isinstance(value, list):
            return [self.normal(each) for each in value]
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value


def recorded_schema(baseline: object) -> Schema:
    """What a study of imported runs may set: the parameters of its baseline.

    Args:
        baseline: As the file has it, nested or dotted.
    """
    found = dict(_leaves(baseline, "")) if isinstance(baseline, Mapping) else {}
    return Schema({key: _tunable(key, value) for key, value in found.items()})


def _leaves(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tunable(key: str, value: Any) -> RecordedTunable:
    kind: type = str
    if isinstance(value, bool):
        kind = bool
    elif isinstance(value, (int, float)):
        kind = float
    elif isinstance(value, list):
        kind = list
    return RecordedTunable(key, kind, value, "", optional=True)


def identity(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a config its hash covers: a parameter that is null is as one that is absent."""
    return {key: value for key, value in config.items() if value is not None}


def is_imported(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a run that was made elsewhere."""
    return record.get("experiment") == IMPORTED


def origin(record: Mapping[str, Any]) -> str:
    """Where an imported record comes from, in words: ``run 3 of sacred_runs (Sacred)``."""
    found = (record.get("info") or {}).get("imported") or {}
    run = str(found.get("run", "?"))
    which = run.replace("-", " ", 1) if run.startswith("row-") else f"run {run}"
    return f"{which} of {found.get('source', '?')} ({found.get('tool', 'unknown')})"
