"""A study as its results leave it: what its searches have found, and which looks its adaptive seeds have taken.

Everything follows from records and ledgers. A look is also kept in ``results/rounds/``, under a fingerprint of all that
it follows from, so that nothing is compared twice, and so that a study that is done knows it without importing the
analysis; with another fingerprint it is taken anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations import analysis
from ablations.errors import AblationsError
from ablations.files import read_json, write_atomic
from ablations.plan import RunKey, expand, run_keys
from ablations.recorded import IMPORTED
from ablations.store import Store
from ablations.study import Look, Study
from ablations.trials import settled, trials_of

FORMAT = 1
ENDED = ("completed", "diverged", "failed")
RULES = (
    "metric", "direction", "alpha", "smallest_effect", "failure_value", "correction", "equivalence_correction",
    "min_seeds", "standard_seeds", "power", "looks", "rounds",
)  # fmt: skip

Outcome = tuple[str, float | None]


def standing(study: Study, store: Store) -> Study:
    """The study with the runs that were imported, the variants that its searches have found and the looks taken so far.

    The runs it plans are those that these looks lead to. It may be called as often as results may have changed.
    """
    if study.experiment == IMPORTED:
        return as_recorded(study, store)
    study = settled(study, store)
    return replace(study, taken=_looks(study, store)) if study.rounds else study


def as_recorded(study: Study, store: Store) -> Study:
    """A study of imported runs with the seeds of the runs that there are: no others will ever come."""
    seeds_of: dict[str, set[int]] = {}
    for found in store.summaries().values():
        seeds_of.setdefault(found["config_hash"], set()).add(found["seed"])
    recorded = {each.name: tuple(sorted(seeds_of.get(each.config_hash, ()))) for each in expand(study)}
    seeds = tuple(sorted({seed for own in recorded.values() for seed in own}))
    return replace(study, seeds=seeds, recorded=MappingProxyType(recorded))


def _looks(study: Study, store: Store) -> tuple[Look, ...]:
    """The looks that the runs made so far allow, kept or taken anew."""
    outcome = _outcomes(study, store)
    path = _path(study, store)
    kept = _kept(path)
    taken: tuple[Look, ...] = ()
    while len(taken) < len(study.rounds) and (not taken or taken[-1].open):
        keys = run_keys(replace(study, taken=taken))
        if any(outcome(key)[0] not in ENDED for key in keys):
            break
        look = kept.get(_fingerprint(study, keys, outcome))
        if look is None:
            taken = _taken_anew(study, outcome)
            _keep(path, study, taken, outcome)
            break
        taken = (*taken, look)
    return taken


def _outcomes(study: Study, store: Store) -> Callable[[RunKey], Outcome]:
    """A function: a run's status and its value of the primary metric; ``open`` where it has not ended.

    The runs of a variant whose search has ended without finding one never come; they count as failed.
    """
    searches = [each for each in study.ablations if each.search and each.levels[0].waits_for]
    never = {
        each.levels[0].name
        for each in searches
        if each.search and len(trials_of(study, each, store)) >= each.search.trials
    }

    records = store.summaries()

    def outcome(key: RunKey) -> Outcome:
        if key.variant in never:
            return "failed", None
        record = records.get(key.run_id)
        if record is None:
            return "open", None
        return record["status"], record["scores"].get(study.metric) if record["status"] == "completed" else None

    return outcome


def _taken_anew(study: Study, outcome: Callable[[RunKey], Outcome]) -> tuple[Look, ...]:
    import pandas as pd

    from ablations.analysis.rounds import follow

    every = run_keys(replace(study, rounds=()))
    rows = [(key.variant, key.seed, *outcome(key), study.metric) for key in every]
    scores = pd.DataFrame(rows, columns=["variant", "seed", "status", "value", "metric"]).astype({"value": float})
    return follow(scores, study).looks


# -- what is kept ---------------------------------------------------------------------------------------------


def _path(study: Study, store: Store) -> Path:
    """One file a study and profile."""
    identity = hashlib.sha256(json.dumps([study.name, study.profile, study.experiment]).encode()).hexdigest()
    return store.root / "rounds" / f"{identity[:12]}.json"


def _kept(path: Path) -> dict[str, Look]:
    """Looks by fingerprint; none where the file is absent or not what this version writes, for it can be made again."""
    try:
        content = read_json(path) or {}
        looks = content["looks"] if content.get("format") == FORMAT else []
        return {each["follows_from"]: Look(tuple(each["settled"]), tuple(each["open"])) for each in looks}
    except (AblationsError, KeyError, TypeError):
        return {}


def _keep(path: Path, study: Study, taken: tuple[Look, ...], outcome: Callable[[RunKey], Outcome]) -> None:
    prints = [
        _fingerprint(study, run_keys(replace(study, taken=taken[:number])), outcome) for number in range(len(taken))
    ]
    looks = [{"follows_from": print_, **asdict(look)} for print_, look in zip(prints, taken, strict=True)]
    content = {"format": FORMAT, "study": study.name, "profile": study.profile, "looks": looks}
    with contextlib.suppress(OSError):  # a folder that may only be read can still be reported on
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content, indent=1))


def _fingerprint(study: Study, keys: list[RunKey], outcome: Callable[[RunKey], Outcome]) -> str:
    """SHA-256 (hex) of what a look follows from: the rules, the arms, the outcomes of its runs, and the analysis."""
    families = {level.name: each.family for each in study.ablations for level in each.levels}
    follows_from: dict[str, Any] = {
        "rules": {name: getattr(study, name) for name in RULES},
        "families": list(families.items()),
        "runs": [(key.variant, key.seed, key.config_hash, *outcome(key)) for key in keys],
        "analysis": _sources(),
    }
    return hashlib.sha256(json.dumps(follows_from).encode()).hexdigest()


@cache
def _sources() -> str:
    """SHA-256 (hex) of the analysis as it is installed."""
    found = hashlib.sha256()
    for path in sorted(Path(analysis.__path__[0]).glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
