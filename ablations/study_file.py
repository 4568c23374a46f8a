"""The shape of ``study.yaml``: its keys, their types and ranges. Says nothing about what names refer to."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from ablations.errors import Problem, one_of
from ablations.recorded import IMPORTED
from ablations.schema import described, hint
from ablations.yamlfile import Document, KeyPath

REFERENCE_EXPERIMENT = "ablations.naming.experiment:ex"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,59}")
NAME_RULE = "a letter, then letters, digits, _ . + or -, at most 60 in all"
MAX_SEEDS = 1000
MAX_SEED = 2**31 - 1
MAX_LOOKS = 100
ADAPTIVE = ("min", "max", "step")


@dataclass(frozen=True)
class SeedPlan:
    """What ``seeds:`` means.

    Attributes:
        seeds: All that an arm may take, in the order in which it takes them.
        rounds: Of adaptive seeds: how many of them an undecided arm has taken after each round, ascending, the last all
            of them. Empty where every arm takes all.
    """

    seeds: tuple[int, ...]
    rounds: tuple[int, ...] = ()


def seed_plan(value: object) -> SeedPlan:
    """The seeds that ``seeds:`` means.

    >>> seed_plan(3).seeds, seed_plan([7, 1]).seeds
    ((0, 1, 2), (7, 1))
    >>> seed_plan({"min": 5, "max": 12}).rounds, seed_plan({"min": 5, "max": 12, "step": 3}).rounds
    ((5, 9, 12), (5, 8, 11, 12))

    Raises:
        ValueError: It means none; the text says why.
    """
    if isinstance(value, Mapping):
        return _adaptive(value)
    if isinstance(value, bool) or not isinstance(value, (int, list)):
        raise ValueError(
            f"expected a number of seeds, a list of them or {{min, max}}, found {described(value)}{hint(int, value)}"
        )
    if isinstance(value, int):
        if not 1 <= value <= MAX_SEEDS:
            raise ValueError(f"expected from 1 to {MAX_SEEDS} seeds, found {value}")
        return SeedPlan(tuple(range(value)))
    if not 1 <= len(value) <= MAX_SEEDS:
        raise ValueError(f"expected from 1 to {MAX_SEEDS} seeds, found {len(value)}")
    for seed in value:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"expected whole numbers from 0 to {MAX_SEED}, found {described(seed)}{hint(int, seed)}")
    twice = sorted({seed for seed in value if value.count(seed) > 1})
    if twice:
        raise ValueError(f"expected each seed once, found {', '.join(map(str, twice))} more than once")
    return SeedPlan(tuple(value))


def _adaptive(value: Mapping[Any, Any]) -> SeedPlan:
    """Seeds in rounds; without ``step`` there are three, or two where no third fits.

    Raises:
        ValueError: Something is wrong with it; the text says all that is.
    """
    wrong = [one_of("key", key, ADAPTIVE) for key in value if key not in ADAPTIVE]
    wrong += [f"expected a value for {key}, found none" for key in ("min", "max") if key not in value]
    for key in ADAPTIVE:
        given = value.get(key, 1)
        if isinstance(given, bool) or not isinstance(given, int):
            wrong.append(f"{key}: expected a whole number, found {described(given)}{hint(int, given)}")
        elif not 1 <= given <= MAX_SEEDS:
            wrong.append(f"{key}: expected from 1 to {MAX_SEEDS}, found {given}")
    if wrong:
        raise ValueError("; ".join(wrong))
    least, most = value["min"], value["max"]
    if most <= least:
        raise ValueError(f"expected max above min ({least}), found {most}")
    step = value.get("step", -(-(most - least) // 2))
    rounds = (*range(least, most, step), most)
    if len(rounds) > MAX_LOOKS:
        raise ValueError(f"expected at most {MAX_LOOKS} rounds, found {len(rounds)}: enlarge step")
    return SeedPlan(tuple(range(most)), rounds)


def _safe_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"expected a name ({NAME_RULE}), found {name!r}")
    return name


def _experiment(name: str) -> str:
    if name != IMPORTED and not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"expected package.module:name of a Sacred experiment, found {name!r}")
    return name


def _skip_or_mapping(value: Any) -> Any:
    if value == "skip" or isinstance(value, Mapping):
        return {"skip": True} if value == "skip" else value
    raise ValueError(f"expected skip, or the keys of a change (set, sweep, …), found {described(value)}")


def _filled_in(value: Any) -> Any:
    if value is None:
        raise ValueError("expected a value, found null: fill it in, or remove the key")
    return value


_SEEDS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            "minItems": 1,
            "maxItems": MAX_SEEDS,
            "uniqueItems": True,
        },
        {
            "type": "object",
            "properties": {key: {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS} for key in ADAPTIVE},
            "required": ["min", "max"],
            "additionalProperties": False,
        },
    ]
}
Seeds = Annotated[Any, AfterValidator(seed_plan), WithJsonSchema(_SEEDS_SCHEMA)]
Name = Annotated[str, AfterValidator(_safe_name), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
Settings = dict[str, Any]
FilledIn = BeforeValidator(_filled_in)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class SearchFile(_Part):
    """A search for values; what it finds best becomes the ablation's variant."""

    space: Settings = Field(
        {},
        description="Parameters, each with {low, high}, further log: true or step, or with {choices: [...]}, "
        "e.g. {training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}.",
    )
    trials: int = Field(30, ge=1, le=10_000, description="Runs that the search may make.")
    sampler: Literal["tpe", "random", "cmaes"] = Field("tpe", description="How Optuna proposes values.")
    pruner: Literal["none", "median", "hyperband"] = Field(
        "none", description="How Optuna stops trials that do not promise much; they count as trials."
    )
    objective: str | None = Field(
        None,
        description="The metric that is searched by, never one of the test split; by default the primary metric's "
        "counterpart on the validation split.",
    )
    seed: int = Field(
        1000, ge=0, le=MAX_SEED, description="Seed of the sampler and of every trial; none of the study's seeds."
    )
    at_once: int = Field(
        4, ge=1, le=1000, description="Trials proposed together, from the results of those before: a round."
    )


class Change(_Part):
    """What an ablation does to the baseline."""

    set: Annotated[Settings | None, FilledIn] = Field(
        None, description="Parameters and their values, e.g. {training.schedule: constant}."
    )
    sweep: Annotated[Settings | None, FilledIn] = Field(
        None, description="One parameter and a list of levels; each level is a variant, e.g. {decoder.layers: [6, 8]}."
    )
    grid: Annotated[Settings | None, FilledIn] = Field(
        None, description="Several parameters, each with a list of levels; each combination of levels is a variant."
    )
    search: Annotated[SearchFile | None, FilledIn] = Field(
        None, description="Ranges or choices of parameters; the best values found make one variant."
    )
    combine: Annotated[list[str] | None, FilledIn] = Field(
        None, description="Ablations or variants whose changes are made together, e.g. [constant-lr, layers=8]."
    )
    extends: Annotated[str | None, FilledIn] = Field(
        None, description="The ablation or variant whose changes come first."
    )
    leave_one_out: Annotated[str | None, FilledIn] = Field(
        None,
        description="A combination, or a set of several parameters; each part or parameter is left out in turn, which "
        "makes one variant a part.",
    )
    path: Annotated[str | None, FilledIn] = Field(
        None,
        description="A combination or another variant with several changes; its parts are added to the baseline one "
        "after the other, which makes one variant a part.",
    )
    order: Annotated[list[str] | None, FilledIn] = Field(
        None, description="Parts or parameters that a path adds first, in this order; the others follow."
    )
    named: Annotated[list[str] | None, FilledIn] = Field(
        None, description="Named configs of the Sacred experiment, applied one after the other, before set."
    )


CHANGES = tuple(key for key in Change.model_fields if key != "order")


class AblationFile(Change):
    """One entry of ``ablations:``."""

    group: str = Field("", description="Heading under which the report shows it.")
    question: str = Field("", description="The question it answers.")
    expect: Literal["better", "worse", "same"] | None = Field(
        None, description="What you expect, said before the runs: the report tells confirmed, refuted or undecided."
    )
    family: Name = Field("main", description="Ablations of a family are corrected together for multiple testing.")


class Override(Change):
    """One entry of a profile's ``ablations:``."""

    skip: bool = Field(False, exclude=True)


class ProfileFile(_Part):
    """What differs on a kind of machine."""

    needs: list[str] = Field(
        [], description="Files or folders without which the profile is not taken by itself, only by --profile."
    )
    seeds: Seeds = Field(
        None,
        description="Number of seeds, the list of them, or {min, max, step} for adaptive ones.",
        validate_default=False,
    )
    named: list[str] = Field([], description="Named configs of the experiment, after the study's own baseline.")
    baseline: Settings = Field({}, description="Parameters that differ from the study's baseline.")
    executors: dict[str, Settings] = Field(
        {}, description="Options of executors that differ, by executor; each takes the place of the study's own."
    )
    ablations: dict[str, Annotated[Override, BeforeValidator(_skip_or_mapping)]] = Field(
        {}, description="Changes that differ, by ablation; each key replaces the ablation's own. skip leaves it out."
    )


class StudyFile(_Part):
    """The whole file."""

    study: Name = Field(description="Name of the study.")
    question: str = Field("", description="The question the study answers.")
    experiment: Annotated[str, AfterValidator(_experiment)] = Field(
        REFERENCE_EXPERIMENT,
        description="The Sacred experiment that is run, as package.module:name; imported for runs made elsewhere.",
    )
    metric: str = Field("test_f1", description="The primary metric: verdicts speak about this one.")
    direction: Literal["max", "min"] | None = Field(
        None, description="Whether a larger (max) or smaller (min) metric is better; the metric's own by default."
    )
    unit: str = Field("", description="Unit of the metric; empty for none.")
    smallest_effect: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Smallest difference in the metric that would matter."
    )
    failure_value: float | None = Field(
        None, allow_inf_nan=False, description="The metric's value that a diverged run counts as."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Rate of false claims that is accepted, over a family.")
    correction: Literal["holm", "none"] = Field("holm", description="Correction for multiple testing within a family.")
    equivalence_correction: Literal["holm", "none"] = Field(
        "none", description="Correction of the equivalence tests within a family."
    )
    min_seeds: int = Field(3, ge=2, le=MAX_SEEDS, description="Fewer pairs than this get no verdict.")
    standard_seeds: int = Field(5, ge=2, le=MAX_SEEDS, description="Fewer pairs than this get a tentative verdict.")
    power: float = Field(0.8, gt=0.05, lt=1, description="Power for which the seeds still needed are counted.")
    looks: int = Field(
        1,
        ge=1,
        le=MAX_LOOKS,
        description="How often results will be looked at, the last time included: alpha is divided by it. "
        "Adaptive seeds have a look after each round, and need no such key.",
    )
    seeds: Seeds = Field(
        5,
        description="Number of seeds (5 means 0 to 4), the list of them, or {min, max, step}: all arms take min seeds, "
        "undecided ones step more at a time, up to max.",
        validate_default=True,
    )
    types: dict[str, Literal["bool", "int", "float", "str", "list", "any"]] = Field(
        {},
        description="Types of parameters whose default does not tell: null, or a whole number that may have fractions.",
    )
    named: list[str] = Field(
        [], description="Named configs of the Sacred experiment that the baseline begins with, one after the other."
    )
    baseline: Settings = Field({}, description="Parameters of the baseline; the experiment's defaults hold elsewhere.")
    executors: dict[str, Settings] = Field(
        {},
        description="Options of executors (`ablations run --executor NAME`), e.g. {slurm: {partition: gpu, gpus: 1}}; "
        "they change no result.",
    )
    profiles: dict[str, ProfileFile] = Field(
        {}, max_length=20, description="What differs on a kind of machine, e.g. cpu, gpu."
    )
    ablations: dict[str, AblationFile] = Field({}, description="The changes to try, by name.")


@dataclass(frozen=True)
class Parsed:
    """A study file as far as its shape holds.

    Attributes:
        file: The parts that have the right shape; the others are left out.
        problems: What is wrong with the others.
        left_out: Paths of the others.
    """

    file: StudyFile
    problems: tuple[Problem, ...]
    left_out: frozenset[KeyPath]


def parse(document: Document, sections: tuple[str, ...] = ()) -> Parsed:
    """Checks the shape of a document; leaves out what is wrong, so that the rest can be checked further.

    Args:
        document: A readable document.
        sections: Prefixes of the experiment's parameters, to recognise one in the wrong place.
    """
    data = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        wrong = Problem(1, "", f"expected the keys of a study (study, baseline, ablations, …), found {described(data)}")
        return Parsed(StudyFile(study="unnamed"), (wrong,), frozenset({()}))
    problems: dict[KeyPath, Problem] = {}
    while True:  # each round leaves out at least one part
        try:
            file = StudyFile.model_validate(data)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                path = _path_in_file(each["loc"], data)
                if path not in problems:
                    problems[path] = document.problem(path, _message(each, path, sections))
                _leave_out(data, path)
        else:
            kept = [problem for path, problem in problems.items() if path not in document.refused]
            return Parsed(file, tuple(kept), frozenset(problems))


def _path_in_file(loc: tuple[int | str, ...], data: Any) -> KeyPath:
    """The part of pydantic's location that names keys and items of the file."""
    path: list[int | str] = []
    for part in loc:
        path.append(part)
        if not (part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)):
            break
        data = data[part]
    return tuple(path)


def _leave_out(data: Any, path: KeyPath) -> None:
    for part in path[:-1]:
        data = data[part]
    if path == ("study",):
        data["study"] = "unnamed"  # the one key without which there is no model
    elif isinstance(path[-1], int):
        data[path[-1]] = ""  # items keep their places: other problems name them
    else:
        data.pop(path[-1], None)


_KINDS: dict[str, tuple[type, str]] = {
    "string_type": (str, "text"),
    "int_type": (int, "a whole number"),
    "float_type": (float, "a number"),
    "bool_type": (bool, "true or false"),
    "list_type": (list, "a list"),
    "dict_type": (dict, "entries (name: value)"),
    "model_type": (dict, "entries (name: value)"),
}
_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "of at most"),
}


def _message(error: Mapping[str, Any], path: KeyPath, sections: tuple[str, ...]) -> str:
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    message = f"{error['msg'][0].lower()}{error['msg'][1:]}, found {described(found)}"
    if kind == "missing":
        message = f"expected a value for {path[-1]}, found none"
    elif kind == "value_error":
        message = str(context["error"])
    elif kind == "extra_forbidden":
        message = _unknown_key(path, sections)
    elif kind == "literal_error":
        message = one_of("value", found, re.findall("'([^']*)'", context["expected"]))
    elif kind == "too_long":
        message = f"expected at most {context['max_length']} entries, found {len(found)}"
    elif kind in _KINDS:
        type_, words = _KINDS[kind]
        message = f"expected {words}, found {described(found)}{hint(type_, found)}"
    elif kind in _LIMITS:
        name, words = _LIMITS[kind]
        message = f"expected a number {words} {context[name]:g}, found {found}"
    return message


def _unknown_key(path: KeyPath, sections: tuple[str, ...]) -> str:
    name, where = str(path[-1]), path[:-1]
    if where[-1:] == ("search",):
        model: type[BaseModel] = SearchFile
        home = "space"
    elif where[:1] == ("ablations",) or (where[:1] == ("profiles",) and "ablations" in where):
        model = AblationFile if where[0] == "ablations" else Change
        home = "set, sweep, grid or search.space"
    else:
        model = ProfileFile if where else StudyFile
        home = "baseline"
    if name in sections or name.rpartition(".")[0] in sections:
        return f"a parameter belongs under {home}, found {name!r} outside"
    return one_of("key", name, model.model_fields)
