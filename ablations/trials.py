"""What searches have tried, as kept in ``results/searches/``, and the variants that follow from it.

Reading needs no Optuna: a plan, a status or a report knows a search's choice from its ledger alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ablations.files import read_versioned, write_atomic
from ablations.plan import config_hash
from ablations.schema import ABSENT, Resolved
from ablations.store import Store
from ablations.study import Ablation, Level, Study
from ablations.view import change_label

if TYPE_CHECKING:
    import pandas as pd

    from ablations.space import Search

FORMAT = 1
State = Literal["completed", "pruned", "diverged", "failed", "impossible"]


@dataclass(frozen=True)
class Trial:
    """One trial of a search, ended.

    Attributes:
        number: From 0, in the order in which they were proposed.
        run_id: The run that it was.
        values: The value of each searched parameter.
        state: ``completed``; ``pruned`` (stopped because it did not promise much); ``diverged``; ``failed`` (also
            where its process died); ``impossible`` (values that do not fit together: it never ran).
        value: The objective at the selected checkpoint; None unless completed.
        curve: The objective by step, as far as it was looked at.
        cause: Why it is failed or impossible, else None.
    """

    number: int
    run_id: str
    values: Mapping[str, Any]
    state: State
    value: float | None
    curve: tuple[tuple[int, float], ...] = ()
    cause: str | None = None


def search_of(ablation: Ablation) -> Search:
    """The search of an ablation that has one.

    Raises:
        ValueError: It has none.
    """
    if ablation.search is None:
        raise ValueError(f"{ablation.name} has no search")
    return ablation.search


def start_of(study: Study, ablation: Ablation) -> dict[str, Any]:
    """All parameters of the variant that a search starts from."""
    return {**study.baseline, **search_of(ablation).fixed}


def ledger_path(study: Study, ablation: Ablation, store: Store) -> Path:
    """Where a search's trials are kept: by what decides its proposals, whatever its name or number of trials."""
    start = study.schema.identifying(start_of(study, ablation))
    identity = search_of(ablation).identity(study.experiment, start)
    return store.root / "searches" / f"{identity[:12]}.json"


def read_trials(path: Path) -> tuple[Trial, ...]:
    """The trials in a ledger, in order; none where there is no such file.

    Raises:
        AblationsError: It is damaged, or was written by a newer version of this package.
    """
    ledger = read_versioned(path, "ledger", FORMAT)
    if ledger is None:
        return ()
    return tuple(
        Trial(**{**each, "curve": tuple((step, value) for step, value in each["curve"])}) for each in ledger["trials"]
    )


def write_trials(path: Path, ablation: Ablation, optuna: str, trials: Iterable[Trial]) -> None:
    """Writes a ledger whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = {
        "format": FORMAT,
        "ablation": ablation.name,
        "search": asdict(search_of(ablation)),
        "optuna": optuna,
        "trials": [{**asdict(trial), "values": dict(trial.values)} for trial in trials],
    }
    write_atomic(path, json.dumps(ledger, indent=1, allow_nan=False))


def trials_of(study: Study, ablation: Ablation, store: Store) -> tuple[Trial, ...]:
    """The trials that a search has ended so far, in order, and no more than it may make."""
    return read_trials(ledger_path(study, ablation, store))[: search_of(ablation).trials]


def best(trials: Sequence[Trial], search: Search) -> Trial | None:
    """The completed trial with the best objective, of equals the first; None where none has completed."""
    sign = 1 if search.direction == "max" else -1
    done = [trial for trial in trials if trial.value is not None and trial.state == "completed"]
    return max(done, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None)


def settled(study: Study, store: Store) -> Study:
    """The study with the variants that its searches have found; those of unfinished ones wait, and say for what."""
    if not any(ablation.search for ablation in study.ablations):
        return study
    ablations = tuple(
        replace(each, levels=(_level(study, each, each.search, store),)) if each.search else each
        for each in study.ablations
    )
    return replace(study, ablations=ablations)


def _level(study: Study, ablation: Ablation, search: Search, store: Store) -> Level:
    trials = trials_of(study, ablation, store)
    level = ablation.levels[0]
    if len(trials) < search.trials:
        waits = (
            f"its search has ended {len(trials)} of {search.trials} trials" if trials else "its search has not begun"
        )
        return replace(level, waits_for=waits)
    winner = best(trials, search)
    if winner is None:
        return replace(level, waits_for=f"its search found nothing: none of its {len(trials)} trials completed")
    found = {**search.fixed, **winner.values}
    config = trial_config(study, ablation, winner.values).config
    order = [key for key in study.schema.tunables if key in found and key in config]
    changes = {key: config[key] for key in order if config[key] != study.baseline.get(key, ABSENT)}
    what = change_label(changes, study.baseline) or "no change"
    label = f"{what} (best of {len(trials)} trials by {search.objective})"
    whole = MappingProxyType(dict(config)) if study.schema.resolver else None
    return Level(level.name, MappingProxyType(changes), label, config=whole)


def trial_runs(study: Study, store: Store) -> frozenset[str]:
    """The run ids of all trials of a study's searches: runs of the study, and none of its arms."""
    searches = [ablation for ablation in study.ablations if ablation.search]
    return frozenset(trial.run_id for each in searches for trial in read_trials(ledger_path(study, each, store)))


def trial_table(study: Study, ablation: Ablation, store: Store) -> pd.DataFrame:
    """One row a trial: number, run_id, state, value (NaN unless completed), and a column for each parameter."""
    import pandas as pd

    keys = [dimension.key for dimension in search_of(ablation).space]
    rows = [
        {"number": each.number, "run_id": each.run_id, "state": each.state, "value": each.value, **each.values}
        for each in trials_of(study, ablation, store)
    ]
    return pd.DataFrame(rows, columns=["number", "run_id", "state", "value", *keys]).astype({"value": float})


def trial_config(study: Study, ablation: Ablation, values: Mapping[str, Any]) -> Resolved:
    """All parameters of a trial, as the experiment derives them from the values that are set."""
    return study.schema.resolve({**study.given, **search_of(ablation).fixed, **values})


def trial_hash(study: Study, ablation: Ablation, values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The config of a trial and its hash."""
    config = dict(trial_config(study, ablation, values).config)
    return config, config_hash(study.experiment, study.schema.identifying(config))
