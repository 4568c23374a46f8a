"""What a search may choose from, and how it chooses: read from the file, before anything is drawn."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.drafts import Say, Setting, Settings, value_text
from ablations.errors import one_of
from ablations.schema import Schema, described

if TYPE_CHECKING:
    from ablations.study_file import SearchFile
    from ablations.yamlfile import KeyPath

RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Dimension:
    """One parameter that is searched: a range, or a list of choices.

    Attributes:
        key: Dotted key.
        low: Smallest value of a range; None for choices.
        high: Largest value of a range.
        log: Whether a range is drawn from on a logarithmic scale.
        step: Distance of the values of a range; None for none (whole numbers: 1).
        whole: Whether a range has whole numbers only.
        choices: The values to choose from; empty for a range.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def label(self) -> str:
        """In words, e.g. ``training.learning_rate 1e-5 … 0.001 (log)``."""
        if self.choices:
            return f"{self.key} {', '.join(map(value_text, self.choices))}"
        scale = " (log)" if self.log else f" by {value_text(self.step)}" if self.step else ""
        return f"{self.key} {value_text(self.low)} … {value_text(self.high)}{scale}"


@dataclass(frozen=True)
class Search:
    """A search as declared.

    Attributes:
        space: What is searched, in the order of the file.
        trials: Runs that it may make.
        sampler: ``tpe``, ``random`` or ``cmaes``.
        pruner: ``none``, ``median`` or ``hyperband``.
        objective: The metric that is searched by.
        direction: ``max`` or ``min``: which values of it are better.
        seed: Seed of the sampler and of every trial.
        at_once: Trials of a round.
        fixed: What differs from the baseline in every trial.
    """

    space: tuple[Dimension, ...]
    trials: int
    sampler: str
    pruner: str
    objective: str
    direction: str
    seed: int
    at_once: int
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def round_size(self) -> int:
        """Trials that are proposed before the results of any of them are used; what uses none needs no rounds."""
        return self.trials if self.sampler == "random" and self.pruner == "none" else self.at_once

    @property
    def label(self) -> str:
        """What it searches, in words."""
        return "; ".join(dimension.label for dimension in self.space)

    def identity(self, experiment: str, config: Mapping[str, Any]) -> str:
        """SHA-256 (hex) of all that decides which values are proposed; a search may be given more trials later.

        Args:
            experiment: ``package.module:name``.
            config: All parameters of the variant that the search starts from.
        """
        searched = {dimension.key for dimension in self.space}
        fixed = {key: value for key, value in config.items() if key not in searched}
        rules = {key: value for key, value in dataclasses.asdict(self).items() if key not in {"trials", "fixed"}}
        canonical = json.dumps({"experiment": experiment, "config": fixed, "search": rules}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def read_search(file: SearchFile, given: Settings, path: KeyPath, schema: Schema, say: Say) -> Search | None:
    """A search without its direction, or None (said) where its space is wrong.

    Args:
        file: As written.
        given: The parameters of its space, each with its range or choices as written.
        path: Where it stands.
        schema: What may be set.
        say: Takes a path and what is wrong there.
    """
    space = [_dimension(setting, schema, say) for setting in given.values() if setting.valid]
    if not given and not file.space:
        say((*path, "space"), "expected parameters under space, found none")
    if not given or None in space or len(space) < len(given):
        return None
    return Search(
        space=tuple(dimension for dimension in space if dimension),
        trials=file.trials,
        sampler=file.sampler,
        pruner=file.pruner,
        objective=file.objective or "",
        direction="",
        seed=file.seed,
        at_once=file.at_once,
    )


def _dimension(setting: Setting, schema: Schema, say: Say) -> Dimension | None:
    written, key = setting.value, setting.key
    if not isinstance(written, Mapping) or not ("choices" in written or {"low", "high"} <= set(written)):
        say(setting.path, f"expected {{low: …, high: …}} or {{choices: […]}}, found {described(written)}")
        return None
    allowed = ("choices",) if "choices" in written else RANGE_KEYS
    unknown = [name for name in written if name not in allowed]
    for name in unknown:
        say((*setting.path, name), one_of("key", name, allowed))
    if unknown:
        return None
    return _choices(setting, schema, say) if "choices" in written else _range(key, setting, schema, say)


def _choices(setting: Setting, schema: Schema, say: Say) -> Dimension | None:
    path, values = (*setting.path, "choices"), setting.value["choices"]
    if not isinstance(values, list) or len(values) < 2:
        say(path, f"expected a list of two choices or more, found {described(values)}")
        return None
    problems = {place: schema.problem(setting.key, value) for place, value in enumerate(values)}
    for place, problem in problems.items():
        if problem:
            say((*path, place), problem)
    if any(problems.values()):
        return None
    normal = [schema.tunables[setting.key].normal(value) for value in values]
    twice = [value for place, value in enumerate(normal) if value in normal[:place]]
    if twice:
        say(path, f"expected each choice once, found {value_text(twice[0])} more than once")
        return None
    return Dimension(setting.key, choices=tuple(normal))


def _range(key: str, setting: Setting, schema: Schema, say: Say) -> Dimension | None:
    written, tunable = setting.value, schema.tunables[key]
    if tunable.type not in (int, float):
        say(setting.path, f"expected {{choices: […]}}, found a range: {key} is no number")
        return None
    problems = [
        (
            (*setting.path, end),
            schema.problem(key, written[end]) or ("a range needs a number" if written[end] is None else None),
        )
        for end in ("low", "high")
    ]
    log, step = written.get("log", False), written.get("step")
    if not isinstance(log, bool):
        problems.append(((*setting.path, "log"), f"expected true or false, found {described(log)}"))
    if "step" in written:
        whole = isinstance(step, int) and not isinstance(step, bool)
        if not (whole or (tunable.type is float and isinstance(step, float))) or not 0 < step < float("inf"):
            problems.append(((*setting.path, "step"), f"expected a step above 0, found {described(step)}"))
    if not any(message for _, message in problems):
        if written["low"] >= written["high"]:
            problems.append((setting.path, f"expected low below high, found {written['low']} and {written['high']}"))
        elif log is True and written["low"] <= 0:
            problems.append(
                ((*setting.path, "low"), f"a logarithmic range needs a low above 0, found {written['low']}")
            )
        elif log is True and step is not None:
            problems.append(((*setting.path, "step"), "a logarithmic range has no steps: drop log or step"))
    for path, message in problems:
        if message:
            say(path, message)
    if any(message for _, message in problems):
        return None
    low, high = (tunable.normal(written[end]) for end in ("low", "high"))
    return Dimension(key, low, high, log=log, step=step, whole=tunable.type is int)
