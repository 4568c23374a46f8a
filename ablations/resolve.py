"""From the parts of a study file to the levels of each ablation: references, combinations, grids and their checks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablations.drafts import (
    Draft,
    Say,
    Setting,
    Settings,
    checked,
    merged,
    name_text,
    named_settings,
    settings_of,
    value_text,
)
from ablations.errors import one_of
from ablations.parts import one_by_one, parts_of, without_each
from ablations.schema import Schema, described
from ablations.space import read_search
from ablations.study_file import CHANGES, AblationFile, Change, StudyFile
from ablations.yamlfile import KeyPath, plain_value

MAX_VARIANTS = 2000
MAX_CHAIN = 50
STARTS = ("extends", "combine", "leave_one_out", "path")
DERIVED = ("leave_one_out", "path")
SPREADS = ("sweep", "grid", "search")


@dataclass(frozen=True)
class Declared:
    """An ablation as a profile sees it: each key of the change with where it stands."""

    name: str
    file: AblationFile
    change: Mapping[str, Any]
    paths: Mapping[str, KeyPath]
    path: KeyPath
    broken: bool


def declared(
    file: StudyFile, profile: str | None, left_out: frozenset[KeyPath], say: Say
) -> dict[str, Declared | None]:
    """The ablations as a profile sees them, by name; None for those it skips."""
    overrides = file.profiles[profile].ablations if profile else {}
    for name in overrides:
        if name not in file.ablations and ("ablations", name) not in left_out:
            say(("profiles", str(profile), "ablations", name), one_of("ablation", name, file.ablations))
    found: dict[str, Declared | None] = {}
    for name, ablation in file.ablations.items():
        override = overrides.get(name)
        found[name] = None if override and override.skip else _declared(name, ablation, profile, override, left_out)
    return found


def _declared(
    name: str, ablation: AblationFile, profile: str | None, override: Change | None, left_out: frozenset[KeyPath]
) -> Declared:
    path: KeyPath = ("ablations", name)
    change, paths = _given(ablation, path)
    roots = [path]
    if override:
        root: KeyPath = ("profiles", str(profile), "ablations", name)
        roots.append(root)
        given, given_paths = _given(override, root)
        for rivals in (STARTS, SPREADS):
            if any(key in given for key in rivals):
                change = {key: value for key, value in change.items() if key not in rivals}
        change, paths = {**change, **given}, {**paths, **given_paths}
    broken = any(out[: len(root)] == root for root in roots for out in left_out if len(out) > len(root))
    return Declared(name, ablation, change, paths, path, broken or path in left_out)


def _given(change: Change, path: KeyPath) -> tuple[dict[str, Any], dict[str, KeyPath]]:
    given = {key: getattr(change, key) for key in Change.model_fields if getattr(change, key) is not None}
    return given, {key: (*path, key) for key in given}


class Resolver:
    """Works out the variants of every ablation of one profile.

    Args:
        ablations: From :func:`declared`.
        schema: What may be set.
        say: Takes a path and what is wrong there.
        left_out: Paths whose problems are known.
        profile: Name of the profile, for messages.
        baseline: All parameters of the baseline, flat.
        given: Those of them that the file sets.

    Attributes:
        axes: The swept parameters of an ablation and their levels.
        pieces: Of a leave_one_out or path: the whole variant, and the part that each variant is about.
    """

    def __init__(
        self,
        ablations: Mapping[str, Declared | None],
        schema: Schema,
        say: Say,
        left_out: frozenset[KeyPath],
        profile: str | None,
        baseline: Mapping[str, Any],
        given: Settings,
    ):
        self.ablations = ablations
        self.schema = schema
        self.say = say
        self.left_out = left_out
        self.profile = profile
        self.baseline = baseline
        self.given = given
        self.done: dict[str, tuple[Draft, ...]] = {}
        self.stack: list[str] = []
        self.spread = 0
        self.axes: dict[str, dict[str, list[Any]]] = {}
        self.pieces: dict[str, tuple[Draft, tuple[str, ...]]] = {}

    def drafts(self, name: str) -> tuple[Draft, ...]:
        """The variants of an ablation; empty where it cannot be worked out (the reason is said once)."""
        if name not in self.done:
            ablation = self.ablations[name]
            self.stack.append(name)
            self.done[name] = tuple(self._work_out(ablation)) if ablation else ()
            self.stack.pop()
        return self.done[name]

    def _work_out(self, ablation: Declared) -> list[Draft]:
        if not self._fits_together(ablation):
            for key in ("set", "sweep", "grid"):  # what is wrong inside is said all the same
                if ablation.change.get(key):
                    self._settings(ablation, key, levels=key != "set")
            return []
        for key in DERIVED:
            if key in ablation.change:
                whole = self._refer(ablation.change[key], ablation.paths[key])
                pairs = self._derived(ablation, key, whole) if whole and whole.sound else []
                if whole and pairs:
                    self.pieces[ablation.name] = whole, tuple(part for part, _ in pairs)
                return [draft for _, draft in pairs]
        start = self._start(ablation)
        if start is None:
            return []
        own, sound = dict(start.own), start.sound and not ablation.broken
        if "named" in ablation.change:
            by_name, complete = self._named(ablation, start)
            own, sound = merged(own, by_name), sound and complete
        if "set" in ablation.change:
            given = self._settings(ablation, "set")
            own.update(given or {})
            sound = sound and given is not None and bool(ablation.change["set"])
        start = Draft(ablation.name, ablation.path, start.parts, own, sound)
        return self._spread(ablation, start)

    def _fits_together(self, ablation: Declared) -> bool:
        """Whether the keys of a change can stand together."""
        for rivals in (STARTS, SPREADS):
            given = [key for key in rivals if key in ablation.change]
            if len(given) > 1:
                self.say(ablation.paths[given[1]], f"expected one of {', '.join(given)}, found both: keep one")
                return False
        beside = [key for key in ("named", "set", *SPREADS) if key in ablation.change]
        alone = next((key for key in DERIVED if key in ablation.change), None)
        if alone and beside:
            self.say(ablation.paths[beside[0]], f"{alone} stands alone: move {beside[0]} to what it refers to")
            return False
        if "order" in ablation.change and "path" not in ablation.change:
            self.say(ablation.paths["order"], "expected path beside order, found none: it orders the parts of a path")
            return False
        if not ablation.change and not ablation.broken:
            self.say(ablation.path, f"expected a change ({', '.join(CHANGES)}), found none")
        return bool(ablation.change)

    def _settings(self, ablation: Declared, key: str, levels: bool = False) -> Settings | None:
        """The settings under a key, or None (said) where any is wrong."""
        count = 0

        def say(path: KeyPath, message: str) -> None:
            nonlocal count
            count += 1
            self.say(path, message)

        section, path = ablation.change[key], ablation.paths[key]
        if not section:
            self.say(path, f"expected parameters under {key}, found none")
            return None
        found = settings_of(section, path, self.schema, say, levels)
        return None if count and not found else {**found} if not count else self._damaged(found)

    def _named(self, ablation: Declared, start: Draft) -> tuple[Settings, bool]:
        """What the named configs of a change set, and whether nothing is wrong with them."""
        names, path = ablation.change["named"], ablation.paths["named"]
        wrong: list[KeyPath] = []

        def say(here: KeyPath, message: str) -> None:
            wrong.append(here)
            self.say(here, message)

        if not names:
            say(path, "expected names of the experiment's named configs, found an empty list")
        held = dict.fromkeys(each.named for each in merged(self.given, start.settings).values() if each.named)
        kept = [name for place, name in enumerate(names) if (*path, place) not in self.left_out]
        return named_settings(kept, path, self.schema, say, list(held)), not wrong and kept == names

    @staticmethod
    def _damaged(found: Settings) -> Settings:
        """Marks settings beside which something was left out."""
        return {key: Setting(key, each.value, each.path, valid=False) for key, each in found.items()}

    def _start(self, ablation: Declared) -> Draft | None:
        """What the change starts from: nothing, another variant, or several."""
        if "extends" in ablation.change:
            return self._refer(ablation.change["extends"], ablation.paths["extends"])
        if "combine" in ablation.change:
            return self._combination(ablation)
        return Draft(ablation.name, ablation.path)

    def _combination(self, ablation: Declared) -> Draft | None:
        names, path = ablation.change["combine"], ablation.paths["combine"]
        if not names:
            self.say(path, "expected the names of ablations to combine, found an empty list")
            return None
        drafts = [self._refer(name, (*path, place)) for place, name in enumerate(names)]
        parts: list[Draft] = []
        for place, draft in enumerate(drafts):
            if draft and draft.name in {part.name for part in parts}:
                self.say((*path, place), f"{draft.name} is combined twice: keep one")
            elif draft:
                parts.append(draft)
        above = settings_of(ablation.change.get("set", {}), (), self.schema, lambda path, message: None)
        self._conflicts(parts, set(above), path)
        sound = len(parts) == len(names) and all(part.sound for part in parts)
        return Draft(ablation.name, path, tuple((part.name, part.settings) for part in parts), {}, sound)

    def _conflicts(self, parts: list[Draft], settled: set[str], path: KeyPath) -> None:
        first: dict[str, tuple[str, Any]] = {}
        for place, part in enumerate(parts):
            for key, setting in part.settings.items():
                other, value = first.setdefault(key, (part.name, setting.value))
                if value != setting.value and key not in settled:
                    values = f"{value_text(value)} and {value_text(setting.value)}"
                    self.say(
                        (*path, place),
                        f"{other} and {part.name} both set {key} ({values}): drop one, or settle it under set",
                    )

    def _derived(self, ablation: Declared, key: str, whole: Draft) -> list[tuple[str, Draft]]:
        """The variants that have only some parts of another, each with the part it is about."""
        path, parts = ablation.paths[key], parts_of(whole, self.baseline)
        if key == "path":
            if len(parts) < 2:
                self.say(path, f"expected a variant with two changes or more, found {whole.name}")
                return []
            first = self._ordered(ablation, whole, parts)
            order = [*first, *(part for part in parts if part not in first)]
            return list(one_by_one(whole, order, ablation.name, self.baseline))
        if whole.parts:
            parts = [part for part in parts if part not in whole.own]  # what is set on top always stays
        if len(parts) < 2 or (whole.parts and len(parts) + bool(whole.own) < 3):
            self.say(
                path,
                "expected a combination of three parts or more, one of two and a set, or a set of two parameters or "
                f"more, found {whole.name}, which has {len(parts) or 'none'}",
            )
            return []
        return list(without_each(whole, parts, ablation.name))

    def _ordered(self, ablation: Declared, whole: Draft, parts: list[str]) -> list[str]:
        """The parts that an order names; what equals the baseline in this profile may be named to no effect."""
        ordered: list[str] = []
        valid = list(dict.fromkeys([*(name for name, _ in whole.parts), *whole.own]))
        for place, name in enumerate(ablation.change.get("order", ())):
            here = (*ablation.paths["order"], place)
            if here in self.left_out:
                continue
            found = next((part for part in valid if part in _spellings(name)), None)
            if found is None:
                below = [part for part in valid if part.startswith(f"{name}=")]
                found = below[0] if len(below) == 1 else None
            if found is None:
                self.say(here, one_of(f"part of {whole.name}", name, valid))
            elif found in ordered:
                self.say(here, f"{found} is ordered twice: keep one")
            else:
                ordered.append(found)
        return [part for part in ordered if part in parts]

    def _spread(self, ablation: Declared, start: Draft) -> list[Draft]:
        """One draft for each level, or combination of levels, of a sweep or grid."""
        key = next((key for key in SPREADS if key in ablation.change), None)
        if key is None:
            return [start]
        if key == "search":
            return self._search(ablation, start)
        axes = self._axes(ablation, key)
        self.axes[ablation.name] = {axis[0].key: [setting.value for setting in axis] for axis in axes if axis}
        drafts = []
        for cell in itertools.product(*axes):
            name = f"{ablation.name}={'/'.join(name_text(setting.value) for setting in cell)}"
            own = {**start.own, **{setting.key: setting for setting in cell}}
            drafts.append(Draft(name, cell[-1].path, start.parts, own, start.sound))
        return drafts

    def _search(self, ablation: Declared, start: Draft) -> list[Draft]:
        """The one variant whose further settings a search chooses."""
        file, path = ablation.change["search"], ablation.paths["search"]
        given = settings_of(file.space, (*path, "space"), self.schema, self.say, levels=True)
        search = read_search(file, given, path, self.schema, self.say)
        if search is None:
            return []
        return [Draft(ablation.name, path, start.parts, start.own, start.sound, search)]

    def _axes(self, ablation: Declared, key: str) -> list[list[Setting]]:
        """The checked levels of each swept parameter; empty lists where there is nothing to spread."""
        spread, path = self._settings(ablation, key, levels=True), ablation.paths[key]
        if spread is None:
            return [[]]
        if key == "sweep" and len(spread) > 1:
            self.say(path, f"expected one parameter to sweep, found {', '.join(spread)}: use grid to cross them")
            return [[]]
        axes = [self._levels(setting) for setting in spread.values()]
        count = 1
        for axis in axes:
            count *= len(axis)
        if count > MAX_VARIANTS:
            self.say(path, f"expected at most {MAX_VARIANTS} variants, found a grid of {count}")
            return [[]]
        self.spread += count
        if self.spread > MAX_VARIANTS:
            self.say(path, f"expected at most {MAX_VARIANTS} variants of all sweeps and grids together, found more")
            return [[]]
        return axes

    def _levels(self, setting: Setting) -> list[Setting]:
        values = setting.value
        if not isinstance(values, list):
            self.say(
                setting.path, f"expected a list of levels, found {described(values)} (write [{value_text(values)}])"
            )
            return []
        if not values:
            self.say(setting.path, "expected a list of levels, found an empty list")
        return [
            checked(Setting(setting.key, value, (*setting.path, place), setting.valid), self.schema, self.say)
            for place, value in enumerate(values)
        ]

    def _refer(self, name: str, path: KeyPath) -> Draft | None:
        """The variant that a name means, or None (said)."""
        if path in self.left_out:
            return None
        owner = name.partition("=")[0]
        if owner not in self.ablations:
            if ("ablations", owner) not in self.left_out:
                self.say(path, self._unknown(name))
            return None
        if self.ablations[owner] is None:
            self.say(path, f"{owner} is skipped in profile {self.profile}: skip or change this one there, too")
            return None
        if not self._may_enter(owner, path):
            return None
        found = self._among(self.drafts(owner), name, path)
        if found and found.search:
            self.say(
                path, f"expected a variant that is known, found {owner}, which a search chooses: set what it found"
            )
            return None
        return found

    def _may_enter(self, owner: str, path: KeyPath) -> bool:
        """Whether an ablation can be worked out from here: no circle, no endless chain."""
        if owner in self.stack:
            cycle = " → ".join([*self.stack[self.stack.index(owner) :], owner])
            self.say(path, f"expected an ablation that does not build on this one, found the circle {cycle}")
            return False
        if len(self.stack) >= MAX_CHAIN:
            self.say(path, f"expected at most {MAX_CHAIN} ablations that build on each other, found more")
            return False
        return True

    def _among(self, drafts: tuple[Draft, ...], name: str, path: KeyPath) -> Draft | None:
        level = name.partition("=")[2]
        for draft in drafts:
            if draft.name in _spellings(name):
                return draft
        if not drafts:  # why is said where it is declared
            return None
        names = list(dict.fromkeys(draft.name for draft in drafts))
        if level:
            self.say(path, one_of("variant", name, names))
        elif len(drafts) == 1:
            return drafts[0]
        else:
            self.say(
                path, f"expected one variant, found {name}, which has {len(names)}: name one of {', '.join(names)}"
            )
        return None

    def _unknown(self, name: str) -> str:
        if name == "baseline":
            return "expected an ablation, found baseline: every ablation starts from it anyway"
        return one_of("ablation", name, [each for each, ablation in self.ablations.items() if ablation])


def _spellings(name: str) -> set[str]:
    """A variant's name as written, and as it is made: ``lr=3e-4`` is ``lr=0.0003``."""
    owner, equals, level = name.partition("=")
    return {name, f"{owner}{equals}{'/'.join(name_text(plain_value(part)[0]) for part in level.split('/'))}"}
