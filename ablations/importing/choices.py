"""What the user says of runs that are imported, kept beside them so that a later import goes on alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ablations.errors import AblationsError, one_of
from ablations.files import read_versioned, write_atomic

FORMAT = 1
NAME = "import.json"
DIRECTIONS = ("max", "min")
UNPAIRED = "none"


@dataclass(frozen=True)
class Choices:
    """What an import goes by; what is empty or None is worked out.

    Attributes:
        baseline: ``key=value`` each, or one name of a run or arm.
        metric: The primary metric, then further columns of a table that are scores.
        direction: ``max`` or ``min``.
        smallest_effect: Smallest difference that would matter.
        seed: The parameter that holds the seed; ``none`` where seeds make no pairs.
        name: The parameter or column that names arms.
        ignore: Parameters (patterns) that make no difference.
        parameter: Parameters that count although they differ in every run.
        select: The metric whose best step stands for a run.
        select_direction: Of that metric.
    """

    baseline: Sequence[str] = ()
    metric: Sequence[str] = ()
    direction: str | None = None
    smallest_effect: float | None = None
    seed: str | None = None
    name: str | None = None
    ignore: Sequence[str] = ()
    parameter: Sequence[str] = ()
    select: str | None = None
    select_direction: str | None = None

    def checked(self) -> Choices:
        """The same; raises AblationsError where a choice is none."""
        for given in (self.direction, self.select_direction):
            if given is not None and given not in DIRECTIONS:
                raise AblationsError(one_of("direction", given, DIRECTIONS))
        if self.smallest_effect is not None and not 0 < self.smallest_effect < float("inf"):
            raise AblationsError(f"expected a smallest effect above 0, found {self.smallest_effect}")
        return self

    def after(self, earlier: Mapping[str, Any]) -> Choices:
        """These, and where they say nothing those of an earlier import."""
        later: dict[str, Any] = {each.name: getattr(self, each.name) or earlier.get(each.name) for each in fields(self)}
        later["ignore"] = [*dict.fromkeys((*self.ignore, *(earlier.get("ignore") or ())))]
        later["baseline"] = self.baseline  # the study has it
        return Choices(**{name: value for name, value in later.items() if value})


def earlier_choices(results: Path) -> dict[str, Any]:
    """The choices of the last import into a results folder; empty where there was none."""
    found = read_versioned(results / NAME, "list of imports", FORMAT) or {}
    kept = found.get("choices")
    return dict(kept) if isinstance(kept, dict) else {}


def keep_choices(results: Path, choices: Choices, sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes choices, and what each source brought, to the results folder.

    Args:
        results: The folder.
        choices: What the import went by.
        sources: By path relative to the study's file.
    """
    kept = read_versioned(results / NAME, "list of imports", FORMAT) or {}
    known = kept.get("sources") if isinstance(kept.get("sources"), dict) else {}
    content = {"format": FORMAT, "choices": asdict(choices), "sources": {**(known or {}), **sources}}
    if content != kept:
        write_atomic(results / NAME, json.dumps(content, indent=1))
