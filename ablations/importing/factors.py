"""Which parameters of imported runs count, which holds the seed, and which runs have the same config."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.drafts import value_text
from ablations.errors import AblationsError, one_of
from ablations.importing.choices import UNPAIRED, Choices
from ablations.importing.foreign import ForeignRun
from ablations.recorded import RecordedTunable
from ablations.study_file import MAX_SEED

SEEDS = ("seed", "random_seed", "random_state", "rng_seed", "manual_seed", "global_seed")
_ANY = RecordedTunable("", str, None, "", optional=True)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Planned:
    """A run, and what it is a run of.

    Attributes:
        run: As it was read.
        config: The parameters that count; those that it lacks are null.
        seed: Its seed; None where it is not known.
        name: Its arm's name, as far as a parameter or column gives one.
    """

    run: ForeignRun
    config: Mapping[str, Any]
    seed: int | None
    name: str


def factored(
    runs: Sequence[ForeignRun], choices: Choices, counting: Collection[str], note: Say
) -> tuple[list[Planned], list[str]]:
    """Every run with the parameters that count, and its seed; and the parameters that were left aside.

    Args:
        runs: As read.
        choices: What the user says.
        counting: Parameters that the study has already.
        note: Takes what was worked out.

    Raises:
        AblationsError: A parameter that the user names is in no run, or one to be ignored is in the study.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    seed = _seed_key(keys, choices, note)
    name = choices.name or ("variant" if _names_arms(runs) else None)
    _check(choices, keys, runs)
    clash = [key for key in counting if any(fnmatch.fnmatchcase(key, each) for each in choices.ignore)]
    if clash:
        raise AblationsError(
            f"--ignore: the study counts {', '.join(clash)}, and so do the runs imported before: import all of them "
            "anew, with another --study and --results"
        )
    ignored = [key for key in keys if any(fnmatch.fnmatchcase(key, each) for each in choices.ignore)]
    counted = [key for key in keys if key not in {*ignored, seed, choices.name}]
    aside = {*_seed_twins(runs, counted, seed), *_own_to_each_run(runs, counted)} - {
        *choices.parameter,
        *counting,
    }
    if aside:
        note(f"left aside, for it tells runs and not arms apart: {', '.join(k for k in counted if k in aside)} "
             "(--parameter NAME counts one)")  # fmt: skip
    counted = [key for key in counted if key not in aside]
    values = {key: _alike([_ANY.normal(run.config.get(key)) for run in runs]) for key in counted}
    found = [
        Planned(run, {key: values[key][place] for key in counted}, _seed(run, seed), _name(run, name))
        for place, run in enumerate(runs)
    ]
    return found, sorted(aside)


def _alike(values: list[Any]) -> list[Any]:
    """The values of one parameter; true is 1 where other runs have numbers, for Python takes them for the same."""
    numbers = any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return [int(value) if numbers and isinstance(value, bool) else value for value in values]


def _names_arms(runs: Sequence[ForeignRun]) -> bool:
    """Whether a plain table has a column of names that several runs share."""
    return all(run.tool == "CSV" and run.name for run in runs) and len({run.name for run in runs}) < len(runs)


def _check(choices: Choices, keys: Collection[str], runs: Sequence[ForeignRun]) -> None:
    wrong = [one_of("parameter", each, keys) for each in choices.parameter if each not in keys]
    if choices.name and choices.name not in keys and choices.name != "name" and not any(run.name for run in runs):
        wrong.append(one_of("parameter", choices.name, keys))
    if wrong:
        raise AblationsError("\n".join(wrong))


def _name(run: ForeignRun, key: str | None) -> str:
    if key is None:
        return ""
    return value_text(run.config[key]) if key in run.config else run.name


def _seed_key(keys: Sequence[str], choices: Choices, note: Say) -> str | None:
    """The parameter that holds the seed."""
    if choices.seed == UNPAIRED:
        return None
    if choices.seed:
        if choices.seed not in keys:
            raise AblationsError(f"--seed: {one_of('parameter', choices.seed, keys)}")
        return choices.seed
    if "seed" in keys:
        return "seed"
    like = [key for key in keys if key.replace("/", ".").rpartition(".")[2].lower() in SEEDS]
    if len(like) == 1:
        note(f"seeds are taken from {like[0]} (--seed names another)")
        return like[0]
    if like:
        note(f"no seed: {', '.join(like)} could be it, --seed says which")
    return None


def _seed(run: ForeignRun, key: str | None) -> int | None:
    """A seed as a study may have it; one that is no such number gets one from its text, always the same."""
    value = _ANY.normal(run.config.get(key)) if key else None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED:
        return value
    return int.from_bytes(hashlib.sha256(value_text(value).encode()).digest()[:4], "big") >> 1


def _seed_twins(runs: Sequence[ForeignRun], keys: Iterable[str], seed: str | None) -> list[str]:
    """Parameters that follow the seed: other seeds, and names made from it alone."""
    if seed is None:
        return []
    values = [_text(run, seed) for run in runs]
    found = []
    for key in keys:
        own = [_text(run, key) for run in runs]
        one_to_one = len(set(zip(values, own, strict=True))) == len(set(own)) == len(set(values))
        if one_to_one and len(set(values)) > 1 and len(set(values)) < len(runs):
            found.append(key)
    return found


def _own_to_each_run(runs: Sequence[ForeignRun], keys: Sequence[str]) -> list[str]:
    """Parameters that differ in every run, such as paths and names, where without them runs are repetitions."""
    unique = [key for key in keys if len({_text(run, key) for run in runs}) == len(runs)]
    texts = [key for key in unique if all(isinstance(run.config.get(key), str) for run in runs)]
    if len(runs) < 2 or not unique:
        return []
    for aside in (texts, unique):
        left = [key for key in keys if key not in aside]
        configs = {json.dumps([_text(run, key) for key in left]) for run in runs}
        if aside and left and len(configs) < len(runs):
            return aside
    return []


def _text(run: ForeignRun, key: str) -> str:
    return json.dumps(run.config.get(key), sort_keys=True)


def fingerprint(config: Mapping[str, Any]) -> str:
    """A config as text, the same for configs that are equal."""
    return json.dumps({key: value for key, value in config.items() if value is not None}, sort_keys=True)
