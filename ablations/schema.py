"""What an experiment lets you set: typed, ranged tunables read off nested dataclasses. The stdlib alone.

An experiment's config is written once, as dataclasses whose fields are made by :func:`tunable`.
Keys, checks, the JSON Schema of ``study.yaml``, help and the report's parameter table derive from it.
Everywhere else a config is *flat*: a dict from dotted key to value (``{"decoder.layers": 4}``);
:func:`nest` and :func:`flatten` convert.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.machinery
import importlib.util
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import one_of


class _Absent:
    """Says that there is no value; null is one."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class Tunable:
    """One value of an experiment's config.

    Attributes:
        key: Dotted key.
        type: ``bool``, ``int``, ``float``, ``str`` or ``list``; of an experiment whose config is Sacred's also ``dict``
            (free entries) or ``object`` (whatever a study file can hold).
        default: Its value where nothing sets it; ``ABSENT`` where there is none then.
        help: One line: what it is.
        unit: Unit of the value, empty for none.
        optional: Whether ``null`` is allowed.
        ge: Smallest allowed value.
        gt: Value it must lie above.
        le: Largest allowed value.
        lt: Value it must lie below.
        choices: The closed list of values, empty for any.
        later: Whether it was added when there were results already, its default being what was done until then: at
            the default it is no part of what identifies a run, so that these results stay those of the same runs.
        items: What a list holds: ``str``, or ``object`` for whatever a study file can hold.
    """

    key: str
    type: type
    default: Any
    help: str
    unit: str = ""
    optional: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[str, ...] = ()
    later: bool = False
    items: typing.Any = str

    def problem(self, value: object) -> str | None:
        """Says what is wrong with a value, or None: its type, its range, or that it is no choice."""
        if value is None and self.type is not object:
            return None if self.optional else f"expected {self.expects}, found null"
        accepted: tuple[type, ...] = (int, float) if self.type is float else (self.type,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.type is not bool):
            return f"expected {self.expects}, found {described(value)}{hint(self.type, value)}"
        if isinstance(value, list) and not all(isinstance(item, self.items) and is_plain(item) for item in value):
            return f"expected {self.expects}, found {described(value)}"
        if self.choices and value not in self.choices:
            return one_of("value", value, self.choices)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._in_range(value):
            return f"expected {self.expects}, found {value}"
        return None

    def _in_range(self, value: float) -> bool:
        return (
            -sys.float_info.max <= value <= sys.float_info.max
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def normal(self, value: Any) -> Any:
        """A valid value in the one form that is hashed: whole numbers of a float become floats, -0.0 becomes 0.0."""
        return float(value) + 0.0 if self.type is float and value is not None else value

    @property
    def expects(self) -> str:
        """The allowed values in words, e.g. ``a number from 0 to below 1``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = _KINDS[self.type]
        if self.type is list and self.items is str:
            words = "a list of texts"
        return words + self._limits() + (" or null" if self.optional else "")

    def _limits(self) -> str:
        low = "" if self.ge is None else f"{self.ge:g}"
        high = "" if self.le is None else f"{self.le:g}"
        above = "" if self.gt is None else f"above {self.gt:g}"
        below = "" if self.lt is None else f"below {self.lt:g}"
        if low and (high or below):
            return f" from {low} to {high or below}"
        if above and (high or below):
            return f" {above} and {f'up to {high}' if high else below}"
        return f" of at least {low}" if low else f" of at most {high}" if high else f" {above or below}".rstrip()


_KINDS: Mapping[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "entries",
    object: "any value",
}  # fmt: skip


def is_plain(value: object) -> bool:
    """Whether a value is one that a study file and a record can hold: JSON, its numbers finite, its keys text."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, float):
        return -sys.float_info.max <= value <= sys.float_info.max
    return value is None or isinstance(value, (bool, int, str))


def described(value: object) -> str:
    """A value as found in a file, in words.

    >>> described("128"), described({"layers": 4}), described(None)
    ("the text '128'", 'entries (layers)', 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"entries ({_shortened(', '.join(map(str, value)))})" if value else "no entries ({})"
    if isinstance(value, list):
        return f"the list {_shortened(str(value))}"
    kind = "" if isinstance(value, bool) else "the text " if isinstance(value, str) else "the number "
    return kind + _shortened(str(value).lower() if isinstance(value, bool) else repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def hint(expected: type, value: object) -> str:
    """What people usually meant when YAML read something else; starts with a space, or is empty."""
    meant = _meant(expected, value)
    return f" ({meant})" if meant else ""


def _meant(expected: type, value: object) -> str:
    if isinstance(value, str):
        return _meant_by_text(expected, value)
    if expected is str and value is None:
        return "null, ~ and an empty value are no text; a word null belongs in quotes"
    if expected is str and isinstance(value, (bool, int, float)):
        return "put it in quotes"
    if expected is int and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    return ""


def _meant_by_text(expected: type, value: str) -> str:
    if expected is bool and value.lower() in {"yes", "no", "on", "off", "y", "n", "true", "false"}:
        return f"write {'true' if value.lower() in {'yes', 'on', 'y', 'true'} else 'false'} without quotes"
    if expected is list:
        return f"write [{value}]"
    if expected in (int, float):
        try:
            number = f"{float(value.replace('_', '')):g}".replace("e-0", "e-")
        except ValueError:
            return ""
        return f"write {number} without quotes"
    return ""


def tunable(default: Any, help: str, *, unit: str = "", **limits: Any) -> Any:
    """A dataclass field that a study may set; ``limits`` are ge, gt, le, lt, choices and later of :class:`Tunable`."""
    metadata = {"help": help, "unit": unit, **limits}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Resolved:
    """The config that settings lead to.

    Attributes:
        config: All parameters, flat.
        problems: (key or empty, message) of each setting that the experiment does not take.
    """

    config: Mapping[str, Any]
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Trunk:
    """What of a config matters to a training that it may have in common with others.

    Attributes:
        decides: What decides each of its steps, however many there are.
        length: How long it is; only ever compared with that of another one that ``decides`` alike.
        scored: What only says how it is looked at on the way and at the end.
    """

    decides: Mapping[str, Any]
    length: float
    scored: Mapping[str, Any]


@dataclass(frozen=True)
class Schema:
    """All tunables of an experiment and the checks that span several of them.

    Attributes:
        tunables: By dotted key, in the order of declaration.
        cross_check: Takes a flat, individually valid config; yields (key, message) for what does not fit together.
        flops: Takes a flat config; floating-point operations of one whole run (training and evaluation), or None
            where nothing is known.
        trunk: Takes a flat config; what of its training other runs can take over, None for nothing.
        footprint: Takes a flat config; the part that decides how much memory a run takes.
        metrics: The scores its runs end with, each with its better direction, ``max`` or ``min``; empty where
            the experiment does not say.
        named: Names of the experiment's named configs.
        required: Keys without a default that the experiment cannot do without.
        likely: Scores that its source seems to give, where ``metrics`` does not say: good for a hint, no more.
        resolver: Of an experiment that derives values from others: takes flat settings and names of named configs,
            returns the config that they lead to. None where a config is the defaults and the settings.
        expander: Takes names of named configs; returns what the last of them sets after the others.
        release: Ends what resolving keeps in store.
    """

    tunables: Mapping[str, Tunable]
    cross_check: Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]] = lambda config: ()
    flops: Callable[[Mapping[str, Any]], float | None] = lambda config: None
    trunk: Callable[[Mapping[str, Any]], Trunk | None] = lambda config: None
    footprint: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config
    metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)
    named: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    likely: tuple[str, ...] = ()
    resolver: Callable[[Mapping[str, Any], tuple[str, ...]], Resolved] | None = None
    expander: Callable[[tuple[str, ...]], Mapping[str, Any]] = lambda names: {}
    release: Callable[[], None] = lambda: None

    def defaults(self) -> dict[str, Any]:
        """The config where nothing is set, flat."""
        return dict(self._defaults)

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        return {key: each.normal(each.default) for key, each in self.tunables.items() if each.default is not ABSENT}

    def resolve(self, settings: Mapping[str, Any], named: tuple[str, ...] = ()) -> Resolved:
        """The config that flat settings lead to, on top of named configs."""
        if self.resolver is None:
            return Resolved({**self.defaults(), **settings})
        found = self.resolver(settings, named)
        return Resolved({key: self.normal(key, value) for key, value in found.config.items()}, found.problems)

    def close(self) -> None:
        """Ends what resolving has started; it starts again where it is needed."""
        self.release()

    @property
    def later(self) -> dict[str, Any]:
        """What was added later, with its defaults: what a record that does not hold it ran with."""
        return {key: each.normal(each.default) for key, each in self.tunables.items() if each.later}

    def silent(self, config: Mapping[str, Any]) -> frozenset[str]:
        """Keys of a flat config that do not identify its runs: what was added later and holds its default."""
        return frozenset(key for key, default in self.later.items() if key in config and config[key] == default)

    def identifying(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A flat config without its silent keys: what its runs are identified by, and what records keep of it."""
        silent = self.silent(config)
        return {key: value for key, value in config.items() if key not in silent}

    @property
    def sections(self) -> tuple[str, ...]:
        """The prefixes of dotted keys, e.g. ``decoder``, in order."""
        parents = (key.split(".")[:-1] for key in self.tunables)
        return tuple(dict.fromkeys(".".join(parts[: n + 1]) for parts in parents for n in range(len(parts))))

    def problem(self, key: str, value: object) -> str | None:
        """What is wrong with setting ``key`` to ``value``, or None."""
        if key not in self.tunables:
            return one_of("parameter", key, self.tunables)
        problem = self.tunables[key].problem(value)
        if problem and self.resolver is not None and self.tunables[key].type is int and isinstance(value, float):
            return f"{problem}: its default is a whole number; types: {{{key}: float}} in the study allows fractions"
        return problem

    def normal(self, key: str, value: Any) -> Any:
        """A value in the one form that is hashed; as it is where it is none that may be set."""
        valid = key in self.tunables and not self.tunables[key].problem(value)
        return self.tunables[key].normal(value) if valid else value


def schema_of(config_class: type) -> Schema:
    """Reads a schema off nested dataclasses whose leaves were made by :func:`tunable`.

    A ``cross_check(config)`` or ``flops(config)`` static method of the class becomes the schema's, as does a class
    attribute ``metrics`` (not a field).
    """
    found: dict[str, Tunable] = {}
    _collect(config_class, "", found)
    return Schema(
        tunables=types.MappingProxyType(found),
        cross_check=getattr(config_class, "cross_check", lambda config: ()),
        flops=getattr(config_class, "flops", lambda config: None),
        footprint=getattr(config_class, "footprint", lambda config: config),
        trunk=getattr(config_class, "trunk", lambda config: None),
        metrics=types.MappingProxyType(dict(getattr(config_class, "metrics", {}))),
    )


def _collect(config_class: type, prefix: str, found: dict[str, Tunable]) -> None:
    hints = typing.get_type_hints(config_class)
    for each in dataclasses.fields(config_class):
        declared, key = hints[each.name], prefix + each.name
        if dataclasses.is_dataclass(declared):
            _collect(typing.cast(type, declared), key + ".", found)
            continue
        parts = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
        kind = next(part for part in parts if part is not type(None))
        default = each.default if each.default is not dataclasses.MISSING else typing.cast(Any, each.default_factory)()
        found[key] = Tunable(
            key=key,
            type=typing.get_origin(kind) or kind,
            default=default,
            optional=type(None) in parts,
            **each.metadata,
        )


def look_beside(experiment: str, folder: Path) -> None:
    """Lets an experiment be imported that lies beside its study, as Python does for a script that is run.

    Args:
        experiment: ``package.module:name``.
        folder: That of the study.
    """
    outermost, place = experiment.partition(":")[0].partition(".")[0], str(folder.resolve())
    if ((folder / f"{outermost}.py").is_file() or (folder / outermost).is_dir()) and place not in sys.path:
        sys.path.insert(0, place)
        importlib.invalidate_caches()


def load_schema(experiment: str) -> Schema | None:
    """The schema of ``package.module:name``, without importing the experiment itself.

    An experiment may publish one as a dataclass ``Config`` in a module ``config`` beside its own module, with fields
    made by :func:`tunable`; that module must import nothing heavy. Returns None where there is no such module: others
    of that name are not imported.
    """
    package = experiment.partition(":")[0].rpartition(".")[0]
    name = f"{package}.config" if package else "config"
    source = source_of(name)
    if source is None or b"tunable" not in source.read_bytes():
        return None
    config_class = getattr(importlib.import_module(name), "Config", None)
    if not isinstance(config_class, type) or not dataclasses.is_dataclass(config_class):
        return None
    return schema_of(config_class)


def source_of(module: str) -> Path | None:
    """The file of a module, found without importing anything; None where there is none."""
    outermost, *parts = module.split(".")
    spec: importlib.machinery.ModuleSpec | None = importlib.util.find_spec(outermost)
    for place in range(len(parts)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = ".".join([outermost, *parts[: place + 1]])
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    path = Path(spec.origin) if spec is not None and spec.origin else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turns dotted keys into nested dicts.

    >>> nest({"decoder.layers": 4, "decoder.heads": 2})
    {'decoder': {'layers': 4, 'heads': 2}}
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = value
    return nested


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of :func:`nest`.

    >>> flatten({"decoder": {"layers": 4}})
    {'decoder.layers': 4}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
