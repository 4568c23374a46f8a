"""Settings as a study file makes them, and the variants under construction that hold them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablations.errors import AblationsError, one_of
from ablations.schema import Schema, described
from ablations.yamlfile import KeyPath

if TYPE_CHECKING:
    from ablations.space import Search

Say = Callable[[KeyPath, str], None]


@dataclass(frozen=True)
class Setting:
    """A parameter's value and where the file says so."""

    key: str
    value: Any
    path: KeyPath
    valid: bool = True
    named: str = ""  # the named config that it comes from, if any


Settings = dict[str, Setting]


def merged(*layers: Settings) -> Settings:
    """Settings of which later ones win, in the order in which they won."""
    found: Settings = {}
    for key, setting in (pair for layer in layers for pair in layer.items()):
        found.pop(key, None)
        found[key] = setting
    return found


def named_settings(names: Sequence[str], path: KeyPath, schema: Schema, say: Say, before: Sequence[str]) -> Settings:
    """What named configs of the experiment set, one after the other.

    Args:
        names: Theirs.
        path: Where the list stands.
        schema: What may be set.
        say: Takes a path and what is wrong there.
        before: Named configs that hold already.
    """
    found: Settings = {}
    used = list(before)
    for place, name in enumerate(names):
        here = (*path, place)
        if name not in schema.named:
            say(here, one_of("named config", name, schema.named))
            continue
        used.append(name)
        try:
            values = schema.expander(tuple(used))
        except AblationsError as error:
            say(here, str(error))
            continue
        given = {key: Setting(key, schema.normal(key, value), here, named=name) for key, value in values.items()}
        found = merged(found, given)
    return found


@dataclass(frozen=True)
class Draft:
    """One variant under construction.

    Attributes:
        name: Its name.
        path: Where the file makes it.
        parts: The combined variants' names and settings.
        own: What is set on top of them.
        sound: Whether nothing of it had to be left out.
        search: What chooses the rest of its settings, or None.
    """

    name: str
    path: KeyPath
    parts: tuple[tuple[str, Settings], ...] = ()
    own: Settings = field(default_factory=dict)
    sound: bool = True
    search: Search | None = None

    @property
    def settings(self) -> Settings:
        """All its settings; those on top win."""
        return merged(*(settings for _, settings in self.parts), self.own)


def settings_of(section: Mapping[str, Any], path: KeyPath, schema: Schema, say: Say, levels: bool = False) -> Settings:
    """Flattens nested sections and dotted keys, which may be mixed.

    Args:
        section: Parameters as written.
        path: Where they stand.
        schema: What may be set.
        say: Takes a path and what is wrong there.
        levels: Whether each value is a list of levels; these are left unchecked.
    """
    found: Settings = {}
    for setting in _walk(section, "", path, schema, say):
        if setting.key in found:
            say(setting.path, f"{setting.key} is set twice in the same place, nested and dotted: keep one")
            continue
        found[setting.key] = setting if levels else checked(setting, schema, say)
    return found


def checked(setting: Setting, schema: Schema, say: Say) -> Setting:
    """A setting with its value checked and brought into its normal form."""
    problem = schema.problem(setting.key, setting.value)
    if problem:
        say(setting.path, problem)
        return Setting(setting.key, setting.value, setting.path, valid=False)
    return Setting(setting.key, schema.tunables[setting.key].normal(setting.value), setting.path, setting.valid)


def _walk(section: Mapping[str, Any], prefix: str, path: KeyPath, schema: Schema, say: Say) -> Iterator[Setting]:
    for name, value in section.items():
        key, here = f"{prefix}{name}", (*path, name)
        if key in schema.tunables:
            yield Setting(key, value, here)
        elif key not in schema.sections:
            say(here, _unknown(key, value, schema))
        elif isinstance(value, Mapping):
            yield from _walk(value, f"{key}.", here, schema, say)
        else:
            inside = ", ".join(each.removeprefix(f"{key}.") for each in schema.tunables if each.startswith(f"{key}."))
            say(here, f"expected entries ({inside}), found {described(value)}")


def _unknown(key: str, value: object, schema: Schema) -> str:
    if key == "seed":
        return "expected no seed among the parameters: each run is given one of the study's seeds (the key seeds)"
    section = key.rpartition(".")[0]
    if isinstance(value, Mapping) and not section:
        return one_of("section", key, schema.sections)
    same = [each for each in schema.tunables if each.rpartition(".")[0] == section]
    near = one_of("parameter", key, same)
    return near if section and "did you mean" in near else one_of("parameter", key, schema.tunables)


def value_text(value: Any) -> str:
    """A value as it reads in names and labels.

    >>> [value_text(value) for value in (5e-05, 0.0003, 10.0, True, None, "linear", ["numpy", "torch"])]
    ['5e-5', '0.0003', '10.0', 'true', 'null', 'linear', 'numpy+torch']
    """
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-").replace("e+", "e")
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {value_text(each)}' for name, each in value.items())}}}"
    return "+".join(map(value_text, value)) or "none" if isinstance(value, list) else str(value)


def name_text(value: Any) -> str:
    """A level's part of a variant's name: no white space, of bounded length."""
    text = "_".join(value_text(value).split()) or "empty"
    return text if len(text) <= 60 else f"{text[:59]}…"
