"""Everything a report shows, read once: the study, its runs, and what the analysis makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.analysis.compare import compare_study
from ablations.analysis.conclude import conclude_study
from ablations.analysis.results import Comparison, Conclusion
from ablations.plan import Variant, expand
from ablations.standing import standing
from ablations.store import Store
from ablations.study import Study, load_study
from ablations.trials import trial_runs

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "baseline"
LOST = ("failed", "interrupted")


@dataclass(frozen=True)
class Group:
    """The arms that ask about the same thing, in the order of the study.

    Attributes:
        name: As declared; empty where the study declares none.
        variants: Its arms.
    """

    name: str
    variants: tuple[Variant, ...]

    @property
    def title(self) -> str:
        """Name of the group, or of the ablation where there is no group."""
        return self.name or (self.variants[0].ablation or self.variants[0].name)


@dataclass(frozen=True)
class Context:
    """One state of a study.

    Attributes:
        study: The study as loaded, with its profile.
        results: The results folder.
        variants: The baseline first.
        runs: One row a planned run (``Store.read_runs``).
        scores: Long table of scores (``Store.read_scores``).
        curves: Long table of everything measured during training (``Store.read_curves``).
        records: Record of each planned run that ended, by run id.
        superseded: Records of earlier attempts that a later one replaced.
        strangers: Ended runs in the folder that the study does not plan, e.g. of an earlier state of it.
        comparisons: One per arm, primary metric.
        conclusions: One per arm.
    """

    study: Study
    results: Path
    variants: tuple[Variant, ...]
    runs: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    records: Mapping[str, Mapping[str, Any]]
    superseded: tuple[Mapping[str, Any], ...]
    strangers: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Comparison, ...]
    conclusions: tuple[Conclusion, ...]

    @property
    def baseline(self) -> Variant:
        """The variant that all others are compared with."""
        return self.variants[0]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The arms by group. An ablation without a group is one of its own; those come first, where no heading of
        another group stands over them."""
        found: dict[tuple[str, str], list[Variant]] = {}
        for variant in self.variants[1:]:
            key = (variant.group, "" if variant.group else str(variant.ablation))
            found.setdefault(key, []).append(variant)
        ordered = sorted(found.items(), key=lambda item: bool(item[0][0]))
        return tuple(Group(name, tuple(arms)) for (name, _), arms in ordered)

    @cached_property
    def by_arm(self) -> Mapping[str, Comparison]:
        """Comparison on the primary metric by arm."""
        return {each.arm: each for each in self.comparisons}

    @cached_property
    def families(self) -> Mapping[str, int]:
        """Number of planned arms of each family of tests, in the order of the study."""
        return {each.family: each.family_size for each in self.comparisons}

    @cached_property
    def concluded(self) -> Mapping[str, Conclusion]:
        """Conclusion by arm."""
        return {each.arm: each for each in self.conclusions}

    @cached_property
    def ids(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of each variant's completed runs."""
        done = self.runs[self.runs["status"] == "completed"]
        grouped = {name: tuple(part["run_id"]) for name, part in done.groupby("variant", sort=False)}
        return {variant.name: grouped.get(variant.name, ()) for variant in self.variants}

    @cached_property
    def statuses(self) -> Mapping[str, int]:
        """How many planned runs have which status."""
        return {str(name): int(n) for name, n in self.runs["status"].value_counts().items()}

    @cached_property
    def status_of(self) -> Mapping[str, str]:
        """Status of each planned run by its id."""
        return dict(zip(self.runs["run_id"], self.runs["status"], strict=True))

    @cached_property
    def completed_runs(self) -> Mapping[str, list[dict[str, Any]]]:
        """The rows of each variant's completed runs, by seed."""
        found: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in self.variants}
        for run in self.runs.to_dict("records"):
            if run["status"] == "completed":
                found[run["variant"]].append(run)
        return found

    @cached_property
    def values(self) -> Mapping[tuple[str, str], list[float]]:
        """What is a finite number of each variant and metric, by seed."""
        found: dict[tuple[str, str], list[float]] = {}
        columns = (self.scores[name] for name in ("variant", "metric", "value"))
        for variant, metric, value in zip(*columns, strict=True):
            if math.isfinite(value):
                found.setdefault((variant, metric), []).append(float(value))
        return found

    @property
    def planned(self) -> int:
        """How many runs the study plans."""
        return len(self.runs)

    @property
    def completed(self) -> int:
        """How many of them have a result."""
        return self.statuses.get("completed", 0)

    @property
    def finished(self) -> bool:
        """Whether every planned run has an outcome: completed, or diverged."""
        return self.completed + self.statuses.get("diverged", 0) == self.planned

    @cached_property
    def points(self) -> Mapping[tuple[str, str], pd.DataFrame]:
        """The curves' points by variant and metric."""
        if self.curves.empty:
            return {}
        grouped = self.curves.groupby(["variant", "metric"], sort=False)
        return {(str(variant), str(metric)): part for (variant, metric), part in grouped}

    @cached_property
    def curve_metrics(self) -> tuple[str, ...]:
        """What was measured during training, in the order in which it first occurs."""
        return tuple(dict.fromkeys(metric for _, metric in self.points))

    def records_of(self, variant: str) -> list[Mapping[str, Any]]:
        """Records of the completed runs of a variant, by seed."""
        return [self.records[each] for each in self.ids[variant] if each in self.records]

    def pair_ids(self, arm: str) -> tuple[str, ...]:
        """The runs behind a difference: the arm's and the baseline's at the seeds that both completed."""
        shared = {f"s{seed}" for seed in self.by_arm[arm].seeds}
        both = self.ids[arm] + self.ids[self.baseline.name]
        return tuple(run_id for run_id in both if run_id.rpartition("-")[2] in shared)

    @cached_property
    def newest(self) -> str | None:
        """When the last run ended, ISO 8601; None where none has."""
        ends = [str(record["ended"]) for record in self.records.values() if record.get("ended")]
        return max(ends, default=None)

    @property
    def epoch(self) -> str:
        """Seconds since 1970 of the last run's end: the date of a report, which has no clock of its own."""
        return str(int(datetime.fromisoformat(self.newest).timestamp())) if self.newest else "0"


def load_context(study_path: Path | str, results: Path | str, profile: str | None = None) -> Context:
    """Reads a study and its results.

    Args:
        study_path: The study file.
        results: The results folder; it need not exist.
        profile: Name of a profile, or None for the one that fits the machine.

    Raises:
        StudyError: The study file is wrong.
    """
    store = Store(Path(results))
    return context_of(standing(load_study(study_path, profile), store), store)


def context_of(study: Study, store: Store) -> Context:
    """Reads the results of a study that is loaded already."""
    variants = tuple(expand(study))
    runs, scores, curves = store.read_runs(study), store.read_scores(study), store.read_curves(study)
    planned, trials = set(runs["run_id"]), trial_runs(study, store)
    everything = list(store.records())
    comparisons = tuple(compare_study(scores, study)) if len(variants) > 1 else ()
    return Context(
        study=study,
        results=store.root,
        variants=variants,
        runs=runs,
        scores=scores,
        curves=curves,
        records={record["run_id"]: record for record in everything if record["run_id"] in planned},
        superseded=tuple(_superseded(store, planned)),
        strangers=tuple(record for record in everything if record["run_id"] not in planned | trials),
        comparisons=comparisons,
        conclusions=tuple(conclude_study(comparisons, study)),
    )


def _superseded(store: Store, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Records of attempts that were retried, oldest first within a run."""
    found = [
        json.loads(path.read_bytes())
        for run_id in sorted(run_ids)
        for path in store.run_dir(run_id).glob("record-a*.json")
    ]
    return sorted(found, key=lambda record: (record["run_id"], record["attempt"]))
