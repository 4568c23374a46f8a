"""A study as one profile sees it: its baseline, the variants of its ablations, and what does not fit together."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ablations import executor_options
from ablations.drafts import Draft, Settings, merged, named_settings, settings_of, value_text
from ablations.errors import one_of
from ablations.resolve import DERIVED, Resolver, declared
from ablations.schema import ABSENT, Resolved, Schema
from ablations.space import Search
from ablations.study_file import Parsed, StudyFile
from ablations.yamlfile import Document, KeyPath


@dataclass(frozen=True)
class Level:
    """One variant of an ablation.

    Attributes:
        name: The variant's name: the ablation's, or e.g. ``layers=32``.
        changes: Dotted key to value, where it is set and differs from the baseline.
        label: The changes in words, e.g. ``decoder.layers 4 → 32``.
        waits_for: What has to be done before the variant is known, in words; empty where it is. Until then its changes
            are those that its search starts from.
        config: All parameters; None where they are the baseline's and the changes.
    """

    name: str
    changes: Mapping[str, Any]
    label: str
    waits_for: str = ""
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Step:
    """One step of an attribution path, or one part left out.

    Attributes:
        variant: The variant whose runs serve: the ablation's own, or one that has the same config.
        part: The part that is added, or left out; empty for the baseline, where a path starts.
        label: The part's change in words, e.g. ``decoder.layers 4 → 32``; empty for the baseline.
    """

    variant: str
    part: str
    label: str


class _Unknown(Exception):
    """A check asked for a value that is wrong itself."""


class _Known(dict[str, Any]):
    """A config in which the values of some keys are not known."""

    def __init__(self, config: Mapping[str, Any], unknown: set[str]):
        super().__init__(config)
        self.unknown = unknown

    def __getitem__(self, key: str) -> Any:
        if key in self.unknown:
            raise _Unknown(key)
        return super().__getitem__(key)


class View:
    """The study as one profile sees it.

    Attributes:
        found: What is wrong in this view: path and message.
        seeds: The seeds that an arm may take.
        rounds: Of adaptive seeds: how many an undecided arm has taken after each round; else empty.
        baseline: Settings of the baseline that the file makes.
        config: All parameters of the baseline, flat.
        declared: The ablations as written; None for those the profile skips.
        drafts: The variants of the others, as worked out.
        axes: The swept parameters of an ablation and their levels.
        kept: The drafts that make variants of their own.
        same: The variant whose runs serve, for drafts that make none of their own.
        executors: Options of executors, by executor and key.
    """

    def __init__(self, parsed: Parsed, document: Document, schema: Schema, profile: str | None):
        self.document = document
        self.schema = schema
        self.profile = profile
        self.found: dict[tuple[KeyPath, str], None] = {}
        self.left_out = parsed.left_out
        file = parsed.file
        self.metric = file.metric
        part = file.profiles[profile] if profile else None
        plan = (part.seeds if part else None) or file.seeds
        self.seeds: tuple[int, ...] = plan.seeds
        self.rounds: tuple[int, ...] = plan.rounds
        if self.rounds:
            self._check_rounds(file, part is not None and part.seeds is not None)
        self.baseline = self._baseline(file)
        self.config = dict(self._resolved({}).config)
        self._check_required(file)
        self.executors = self._executors(file)
        self.declared = declared(file, profile, parsed.left_out, self.say)
        resolver = Resolver(self.declared, schema, self.say, parsed.left_out, profile, self.config, self.baseline)
        self.drafts = {
            name: tuple(map(self._with_objective, resolver.drafts(name)))
            for name, each in self.declared.items()
            if each
        }
        self.axes = resolver.axes
        self.pieces = resolver.pieces
        self.same: dict[str, str] = {}
        self.kept = self._checked_drafts()

    def say(self, path: KeyPath, message: str) -> None:
        """Notes a problem, unless the same value is known to be wrong."""
        if path not in self.document.refused:
            self.found[path, message] = None

    def _check_rounds(self, file: StudyFile, of_profile: bool) -> None:
        path: KeyPath = ("profiles", str(self.profile), "seeds") if of_profile else ("seeds",)
        if self.rounds[0] < file.min_seeds:
            reason = "a look at fewer gives no verdict"
            self.say(path, f"min: expected at least min_seeds ({file.min_seeds}), found {self.rounds[0]}: {reason}")
        if "looks" in file.model_fields_set:
            reason = f"adaptive seeds have a look after each of {len(self.rounds)} rounds"
            self.say(("looks",), f"expected none beside adaptive seeds, found {file.looks}: {reason}")

    def _executors(self, file: StudyFile) -> dict[str, dict[str, Any]]:
        """Options by executor: the study's, with the profile's in their place."""
        own = file.profiles[self.profile].executors if self.profile else {}
        root: KeyPath = ("profiles", str(self.profile))
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys((*file.executors, *own)):
            options = {**file.executors.get(name, {}), **own.get(name, {})}
            for key, message in executor_options.problems(name, options):
                of_profile = key in own.get(name, {}) or name not in file.executors
                path: KeyPath = (*(root if of_profile else ()), "executors", name)
                self.say(
                    (*path, key) if key in options else path,
                    message if key in options or not key else f"{key}: {message}",
                )
            found[name] = options
        return found

    def _baseline(self, file: StudyFile) -> Settings:
        named = named_settings(file.named, ("named",), self.schema, self.say, ())
        settings = merged(named, settings_of(file.baseline, ("baseline",), self.schema, self.say))
        if self.profile:
            profile, path = file.profiles[self.profile], ("profiles", self.profile)
            named = named_settings(profile.named, (*path, "named"), self.schema, self.say, file.named)
            own = settings_of(profile.baseline, (*path, "baseline"), self.schema, self.say)
            settings = merged(settings, named, own)
        return settings

    def _check_required(self, file: StudyFile) -> None:
        for key in self.schema.required:
            if key not in self.config and key not in self.baseline:
                needed = f"{file.experiment} needs it and its config does not give it: set it in the baseline"
                self.say(("baseline",), f"expected a value for {key}, found none: {needed}")

    def _resolved(self, settings: Settings) -> Resolved:
        """The config that the baseline's settings and further ones lead to."""
        both = merged(self.baseline, settings)
        named = dict.fromkeys(each.named for each in both.values() if each.named)
        given = {key: each.value for key, each in both.items() if each.valid and not each.named}
        return self.schema.resolve(given, tuple(named))

    def config_of(self, draft: Draft) -> Mapping[str, Any]:
        """All parameters of a variant, flat."""
        return self._resolved(draft.settings).config

    def _cross(self, settings: Settings) -> dict[tuple[str, str], None]:
        """What the experiment says against a config: key and message."""
        both = merged(self.baseline, settings)
        unknown = {key for key, each in both.items() if not each.valid}
        known = _Known({**self.config, **{key: each.value for key, each in settings.items()}}, unknown)
        said: dict[tuple[str, str], None] = {} if unknown else dict.fromkeys(self._resolved(settings).problems)
        try:
            for key, message in self.schema.cross_check(known):
                said[key, message] = None
        except _Unknown:
            pass
        except Exception as error:  # a stranger's check, or a pretrained model's config.json that is none
            said["", f"the experiment's own check of the config failed: {type(error).__name__}: {error}"] = None
        return said

    def _checked_drafts(self) -> dict[str, tuple[Draft, ...]]:
        """The drafts that become variants; notes what does not fit together, clashes and repetitions."""
        against_baseline = self._cross({})
        for key, message in against_baseline:
            place = self.baseline.get(key)
            self.say(place.path if place else ("baseline",), message)
        names: dict[str, Draft] = {}
        configs: dict[str, tuple[str, KeyPath]] = {}
        kept: dict[str, tuple[Draft, ...]] = {}
        for ablation in sorted(self.drafts, key=self._rank):
            drafts = self.drafts[ablation]
            kept[ablation] = tuple(each for each in drafts if self._is_new(each, ablation, configs))
            for draft in drafts:
                self._check_name(draft, names)
                if draft.name not in self.same:
                    self._check_fit(draft, against_baseline)
                if draft.search:
                    self._check_search(draft, draft.search)
            if drafts and not kept[ablation] and not self._rank(ablation):
                self.say(drafts[0].path, f"{ablation} changes nothing: its only variant is the baseline")
        return kept

    def _check_search(self, draft: Draft, search: Search) -> None:
        here: KeyPath = (*draft.path, "objective")
        metrics = self.schema.metrics
        if not search.objective:
            self.say(draft.path, f"expected objective, the metric to search by: {self.metric} has no validation twin")
        elif metrics and search.objective not in metrics:
            self.say(here, one_of("metric", search.objective, [name for name in metrics if name != self.metric]))
        elif search.objective == self.metric or search.objective.startswith("test"):
            reason = "what is chosen by a score cannot be compared by it"
            self.say(here, f"expected a metric of the validation split, found {search.objective}: {reason}")
        if search.seed in self.seeds:
            reason = "what the search finds is compared on fresh ones"
            self.say((*draft.path, "seed"), f"expected none of the study's seeds, found {search.seed}: {reason}")

    def _with_objective(self, draft: Draft) -> Draft:
        """Fills in the objective of a draft's search: the primary metric's twin on the validation split."""
        search = draft.search
        if search is None:
            return draft
        twin = f"validation_{self.metric.removeprefix('test_')}" if self.metric.startswith("test_") else ""
        objective = search.objective or (twin if twin in self.schema.metrics else "")
        direction = self.schema.metrics.get(objective, "max")
        return replace(
            draft, search=replace(search, objective=objective, direction=direction, fixed=self.changes(draft))
        )

    def _rank(self, ablation: str) -> int:
        """What uses other variants' runs is worked out after them: first leave_one_out, then paths."""
        written = self.declared[ablation]
        return next((rank for rank, key in enumerate(DERIVED, 1) if written and key in written.change), 0)

    def _check_fit(self, draft: Draft, against_baseline: Collection[tuple[str, str]]) -> None:
        for key, message in self._cross(draft.settings):
            if (key, message) not in against_baseline:
                place = draft.settings.get(key)
                named = message if place or not key else f"{key}: {message}"
                self.say(place.path if place else draft.path, f"variant {draft.name}: {named}")

    def _check_name(self, draft: Draft, names: dict[str, Draft]) -> None:
        other = names.setdefault(draft.name.lower(), draft)
        if other is draft or (other.name != draft.name and "=" not in draft.name):
            return  # names of ablations are compared where they are declared
        line = self.document.line(other.path)
        how = "is there twice" if other.name == draft.name else f"differs from {other.name} in case only"
        self.say(draft.path, f"variant {draft.name} {how}, first in line {line}: keep one")

    def _is_new(self, draft: Draft, ablation: str, configs: dict[str, tuple[str, KeyPath]]) -> bool:
        """Whether no earlier variant has the same config; a grid's cell that is the baseline makes no variant."""
        settings = draft.settings
        if draft.search or not draft.sound or not all(each.valid for each in settings.values()):
            return True
        config = self.config_of(draft)
        if config == self.config:
            written = self.declared[ablation]
            if written and "grid" in written.change:
                return False
            same = ", ".join(f"{key} is {value_text(each.value)} there, too" for key, each in settings.items())
            self.say(draft.path, f"{draft.name} changes nothing: it resolves to the baseline's config ({same})")
            return True
        fingerprint = json.dumps(dict(config), sort_keys=True)
        other, path = configs.setdefault(fingerprint, (draft.name, draft.path))
        if other != draft.name and self._rank(ablation):
            self.same[draft.name] = other
            return False
        if other != draft.name:
            line = self.document.line(path)
            self.say(draft.path, f"{draft.name} resolves to the same config as {other} (line {line}): keep one")
        return True

    def changes(self, draft: Draft) -> dict[str, Any]:
        """What is set and differs from the baseline, in the order of the schema.

        What the experiment derives from that is in :meth:`config_of`, and stands here only where it is all there is.
        """
        settings, config = draft.settings, self.config_of(draft)
        order = dict.fromkeys((*self.schema.tunables, *config))
        differing = [key for key in order if key in config and config[key] != self.config.get(key, ABSENT)]
        own = [key for key in differing if key in settings]
        return {key: config[key] for key in own or differing}

    def levels(self, name: str) -> tuple[Level, ...]:
        """An ablation's variants."""
        return tuple(
            Level(
                draft.name,
                MappingProxyType(changes),
                f"best of a search: {draft.search.label}" if draft.search else change_label(changes, self.config),
                "its search has not begun" if draft.search else "",
                MappingProxyType(dict(self.config_of(draft))) if self.schema.resolver else None,
            )
            for draft in self.kept[name]
            for changes in [self.changes(draft)]
        )

    def steps(self, name: str) -> tuple[Step, ...]:
        """The steps of a path, the baseline first, or the parts left out one at a time; empty for other ablations."""
        written, rank = self.declared[name], self._rank(name)
        if not written or not rank:
            return ()
        whole, parts = self.pieces[name]
        configs = [self.config_of(draft) for draft in self.drafts[name]]
        is_path = DERIVED[rank - 1] == "path"
        befores = [self.config, *configs] if is_path else configs
        afters = configs if is_path else [self.config_of(whole)] * len(configs)
        steps = tuple(
            Step(self.same.get(draft.name, draft.name), part, _difference(before, after))
            for draft, part, before, after in zip(self.drafts[name], parts, befores, afters, strict=False)
        )
        return (Step("baseline", "", ""), *steps) if is_path else steps


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return change_label({key: value for key, value in after.items() if value != before.get(key, ABSENT)}, before)


def change_label(changes: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Changes in words.

    >>> change_label({"decoder.layers": 32}, {"decoder.layers": 4})
    'decoder.layers 4 → 32'
    """
    before = {key: f"{value_text(baseline[key])} → " if key in baseline else "→ " for key in changes}
    return ", ".join(f"{key} {before[key]}{value_text(value)}" for key, value in changes.items())
