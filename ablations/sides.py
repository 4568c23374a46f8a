"""One side of a difference: a study with its results, a results folder, or a rendered report, as plain values."""

from __future__ import annotations

import ast
import csv
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import AblationsError, StudyError

if TYPE_CHECKING:
    from ablations.study import Study

RULES = (
    "metric", "direction", "smallest_effect", "failure_value", "alpha", "correction", "equivalence_correction",
    "min_seeds", "standard_seeds", "power", "looks",
)  # fmt: skip
REPORT_RULES = ("metric", "direction", "smallest_effect", "failure_value", "alpha", "correction", "power")


@dataclass(frozen=True)
class Run:
    """One planned run.

    Attributes:
        seed: Its seed.
        status: How it stands.
        score: Its value of the primary metric, None where it has none.
        made: What made it: code, commit, data, device, threads, host, versions of packages; unknown ones left out.
    """

    seed: str
    status: str
    score: float | None
    made: Mapping[str, str]


@dataclass(frozen=True)
class Arm:
    """One variant.

    Attributes:
        name: Its name.
        config_hash: Of its config; empty where nothing of it is known.
        config: Its parameters, flat; None where only their hash is known.
        runs: Its planned runs, by seed.
        verdict: The verdict, empty for the baseline.
        difference: Mean paired difference from the baseline, None where there is none.
        seeds: Seeds that were paired.
        family_size: Arms it is corrected with; 0 for the baseline.
    """

    name: str
    config_hash: str
    config: Mapping[str, Any] | None
    runs: Mapping[str, Run]
    verdict: str = ""
    difference: float | None = None
    seeds: tuple[str, ...] = ()
    family_size: int = 0

    @property
    def mean(self) -> float | None:
        """Mean score of the completed runs."""
        known = [run.score for run in self.runs.values() if run.score is not None]
        return sum(known) / len(known) if known else None

    @property
    def statuses(self) -> Mapping[str, int]:
        """How many runs have which status."""
        return Counter(run.status for run in self.runs.values())

    def made(self, name: str) -> tuple[str, ...]:
        """The different values of one part of what made its runs with a score."""
        found = {run.made[name] for run in self.runs.values() if run.score is not None and name in run.made}
        return tuple(sorted(found))


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: As the user named it, with what was taken for it.
        rules: What a verdict depends on beside the scores.
        arms: By name, the baseline first.
    """

    name: str
    rules: Mapping[str, Any]
    arms: Mapping[str, Arm] = field(default_factory=dict)


def read_side(name: str, results: Path | None = None, profile: str | None = None) -> Side:
    """Reads what a name on the command line means.

    Args:
        name: A study's file, also as of a commit (``study.yaml@COMMIT``); a results folder with a ``study.yaml`` in
            it or beside it; or the folder of a rendered report.
        results: The results of a study's file; by default the folder ``results`` beside it.
        profile: Name of a profile, or None for the one that fits the machine.

    Raises:
        AblationsError: It means nothing, or cannot be read.
        StudyError: The study's file is wrong.
    """
    path = Path(name)
    if path.is_dir() and (path / "tables" / "comparisons.csv").is_file():
        return _report(name, path / "tables")
    if path.is_dir():
        path = path if (path / "runs").is_dir() or not (path / "results").is_dir() else path / "results"
        places = (path / "study.yaml", path.resolve().parent / "study.yaml")
        study = next((each for each in places if each.is_file()), None)
        if study is None:
            looked = " and ".join(map(str, places))
            raise AblationsError(f"{name}: expected a study's file for these results, found none at {looked}")
        return _study(name, study, path, profile)
    file, at, commit = name.rpartition("@")
    if path.exists() or not at:
        return _study(name, path, results or path.parent / "results", profile)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(file).name
        copy.write_text(_as_of(Path(file), commit), encoding="utf-8")
        return _study(name, copy, results or Path(file).parent / "results", profile, beside=Path(file).parent)


def _as_of(file: Path, commit: str) -> str:
    """A file's text as of a commit."""
    command = ["git", "-C", str(file.parent), "show", f"{commit}:./{file.name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise AblationsError(f"{file}@{commit}: git could not be run: {error}") from error
    if done.returncode:
        raise AblationsError(f"{file}@{commit}: {done.stderr.strip().splitlines()[0].removeprefix('fatal: ')}")
    return done.stdout


def _study(name: str, path: Path, results: Path, profile: str | None, beside: Path | None = None) -> Side:
    from ablations.standing import standing
    from ablations.store import Store
    from ablations.study import load_study

    store = Store(results)
    try:
        study = standing(load_study(path, profile, beside), store)
    except StudyError as error:
        raise StudyError(name, error.problems) from error
    comparisons = _comparisons(study, store)
    rules = {rule: getattr(study, rule) for rule in RULES}
    rules["alpha"] = next((each.alpha for each in comparisons.values()), study.alpha)  # of one look
    with_profile = f", profile {study.profile}" if study.profile else ""
    return Side(f"{name} ({study.name}{with_profile}; {results})", rules, _arms(study, store, comparisons))


def _comparisons(study: Study, store: Any) -> Mapping[str, Any]:
    from ablations.analysis.compare import compare_study

    scores = store.read_scores(study)
    return {each.arm: each for each in compare_study(scores, study)} if study.ablations else {}


def _arms(study: Study, store: Any, comparisons: Mapping[str, Any]) -> dict[str, Arm]:
    from ablations.plan import expand, run_keys

    runs: dict[str, dict[str, Run]] = {}
    for key in run_keys(study):
        runs.setdefault(key.variant, {})[str(key.seed)] = _run(str(key.seed), store, key.run_id, study.metric)
    arms = {}
    for variant in expand(study):
        found = comparisons.get(variant.name)
        arms[variant.name] = Arm(
            variant.name,
            variant.config_hash,
            variant.config,
            runs.get(variant.name, {}),
            found.verdict if found else "",
            found.difference if found else None,
            tuple(map(str, found.seeds)) if found else (),
            found.family_size if found else 0,
        )
    return arms


def _run(seed: str, store: Any, run_id: str, metric: str) -> Run:
    try:
        record = store.read_record(run_id)
    except FileNotFoundError:
        return Run(seed, store.status(run_id), None, {})
    score = record["scores"].get(metric) if record["status"] == "completed" else None
    return Run(seed, record["status"], score, _made(record))


def _made(record: Mapping[str, Any]) -> dict[str, str]:
    code, environment = record.get("code") or {}, record.get("environment") or {}
    data = (record.get("info") or {}).get("data") or {}
    found = {"code": code.get("package_hash"), "commit": code.get("git_commit"), "data": data.get("fingerprint")}
    found |= {name: environment.get(name) for name in ("python", "device", "cpu", "threads")}
    found |= environment.get("packages") or {}
    return {name: str(value) for name, value in found.items() if value is not None}


# -- rendered reports -----------------------------------------------------------------------------------------

_COLUMNS = {
    "code_hash": "code", "git_commit": "commit", "data_fingerprint": "data", "device": "device", "threads": "threads",
    "host": "host",
}  # fmt: skip


def _report(name: str, tables: Path) -> Side:
    """What the copies of a report's tables hold; configs are known by their hashes alone."""
    comparisons = {row["arm"]: row for row in _rows(tables / "comparisons.csv")}
    first: Mapping[str, str] = next(iter(comparisons.values()), {})
    metric = first.get("metric", "")
    rules = {rule: _value(first.get(rule, "")) for rule in REPORT_RULES}
    failures = {row.get("failure_value", "") for row in comparisons.values()} - {""}
    if failures:  # which stands only where runs diverged
        rules["failure_value"] = _value(failures.pop())
    else:
        del rules["failure_value"]
    runs: dict[str, dict[str, Run]] = {}
    hashes: dict[str, str] = {}
    for row in _rows(tables / "runs.csv"):
        made = {made: row[column] for column, made in _COLUMNS.items() if row.get(column)}
        score = _value(row.get(metric, "")) if row["status"] == "completed" else None
        runs.setdefault(row["variant"], {})[row["seed"]] = Run(row["seed"], row["status"], score, made)
        hashes[row["variant"]] = row["config_hash"]
    arms = {}
    for arm, own in runs.items():
        row = comparisons.get(arm, {})
        arms[arm] = Arm(
            arm, hashes[arm], None, own, row.get("verdict", ""), _value(row.get("difference", "")),
            tuple(row.get("seeds", "").split()), int(row.get("family_size") or 0),
        )  # fmt: skip
    return Side(f"{name} (a report's tables)", rules, arms)


def _rows(path: Path) -> Sequence[Mapping[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise AblationsError(f"{path}: expected the copy of a report's table, found: {error}") from error


def _value(text: str) -> Any:
    """A cell as a number where it is one; None where it is empty."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return text
