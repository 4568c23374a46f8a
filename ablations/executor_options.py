"""What each executor lets one set: found by its file in ``executors/``, typed and ranged as an experiment's config is.

An executor's module declares a dataclass ``Options``, whose fields are made by :func:`~ablations.schema.tunable`. It is
imported by its name, and only where that is needed: to check options, and to run.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ablations.errors import UnknownName, one_of
from ablations.schema import Schema, Tunable, schema_of
from ablations.yamlfile import plain_value

FOLDER = Path(__file__).parent / "executors"


@functools.cache
def names() -> tuple[str, ...]:
    """The executors there are: one module each; ``base`` and what begins with an underscore are none."""
    found = (each.name for each in pkgutil.iter_modules([str(FOLDER)]))
    return tuple(name for name in found if name != "base" and not name.startswith("_"))


def module_of(name: str) -> ModuleType:
    """The module of an executor.

    Raises:
        UnknownName: There is no such executor.
    """
    if name not in names():
        raise UnknownName(one_of("executor", name, names()))
    return importlib.import_module(f"ablations.executors.{name}")


@functools.cache
def schema(name: str) -> Schema:
    """What an executor lets one set; raises UnknownName as :func:`module_of`."""
    return schema_of(module_of(name).Options)


def problems(name: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with options of an executor as a study gives them: key (empty for the executor) and message."""
    if name not in names():
        yield "", one_of("executor", name, names())
        return
    tunables = schema(name).tunables
    found = {
        key: tunables[key].problem(value) if key in tunables else _unknown(name, key) for key, value in given.items()
    }
    yield from ((key, message) for key, message in found.items() if message)
    if not any(found.values()):
        yield from schema(name).cross_check({**schema(name).defaults(), **given})


def options(name: str, given: Mapping[str, Any], typed: Sequence[str] = ()) -> Any:
    """The options of an executor: its ``Options``, from the study's and those typed on the command line, which win.

    Args:
        name: The executor.
        given: Options that are valid, by key.
        typed: ``key=value`` each; of a list's key, each adds an item to a list that takes the place of the study's.

    Raises:
        UnknownName: There is no such executor or option, or the value is none for it.
    """
    tunables, merged = schema(name).tunables, dict(given)
    for key, values in _typed(name, typed).items():
        merged[key] = values if tunables[key].type is list else _value(tunables[key], values[-1])
    wrong = [f"{key}: {message}" for key, message in problems(name, merged)]
    if wrong:
        raise UnknownName("\n".join(f"--executor-option {each}" for each in wrong))
    return module_of(name).Options(**{key: tunables[key].normal(value) for key, value in merged.items()})


def _typed(name: str, texts: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UnknownName(f"--executor-option: expected key=value, found {text!r}")
        if key not in schema(name).tunables:
            raise UnknownName(f"--executor-option {key}: {_unknown(name, key)}")
        found.setdefault(key, []).append(value)
    return found


def _value(tunable: Tunable, text: str) -> Any:
    """What a text means for a tunable; a text stays what was typed."""
    if tunable.type is str and not (tunable.optional and text in ("null", "")):
        return text
    return plain_value(text)[0]


def _unknown(name: str, key: str) -> str:
    return one_of(f"option of {name}", key, schema(name).tunables)
