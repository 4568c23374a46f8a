"""``study.yaml`` as a validated, immutable :class:`Study`; everything wrong with the file is said at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations import machine
from ablations.errors import AblationsError, Problem, StudyError, one_of
from ablations.experiments import schema_for, with_types
from ablations.recorded import IMPORTED, recorded_schema
from ablations.resolve import DERIVED, SPREADS, STARTS
from ablations.schema import Schema
from ablations.space import Search
from ablations.study_file import NAME, NAME_RULE, REFERENCE_EXPERIMENT, Parsed, StudyFile, parse
from ablations.view import Level, Step, View
from ablations.yamlfile import MAX_BYTES, Document, KeyPath, read_yaml

__all__ = ["Ablation", "Level", "Look", "Step", "Study", "load_study"]


@dataclass(frozen=True)
class Ablation:
    """One named change of the baseline.

    Attributes:
        name: Its name.
        group: Heading under which the report shows it; empty for none.
        question: The question it answers; may be empty.
        expect: What was expected before the runs: ``better``, ``worse``, ``same``, or None.
        family: Ablations of a family are corrected together.
        kind: ``set``, ``named``, ``sweep``, ``grid``, ``search``, ``extends``, ``combine``, ``leave_one_out`` or
            ``path``; of a sweep, grid or search on top of another start, ``sweep``, ``grid`` or ``search``.
        levels: The variants that are its own, in order. A path or leave_one_out has none for a config that another
            variant has: that one's runs serve.
        parts: Of a combination that is nothing but its parts: the names of the combined variants. Of leave_one_out
            and path: what is left out or added, combined variants or parameters. Else empty.
        line: Line of its name in the file.
        start: The variant it extends, whose parts it leaves out, or to which its path leads; else None.
        axes: The swept parameters with their levels, the baseline's own among them where the file has it.
        steps: Of a path: the baseline, then each variant up to the whole, in order, whoever they belong to. Of
            leave_one_out: the variants that lack one part, in the order of the parts. Else empty.
        search: What chooses its one variant, or None.
    """

    name: str
    group: str
    question: str
    expect: str | None
    family: str
    kind: str
    levels: tuple[Level, ...]
    parts: tuple[str, ...]
    line: int
    start: str | None = None
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    search: Search | None = None


@dataclass(frozen=True)
class Look:
    """One look at the results of a study with adaptive seeds, taken after a round.

    Attributes:
        settled: Arms that it settled: they take no further seeds, and their verdict is final.
        open: Arms that it left undecided: they take the seeds of the next round, if there is one.
    """

    settled: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study, resolved for one profile.

    Attributes:
        path: The file.
        name: Name of the study.
        question: What it asks; may be empty.
        experiment: ``package.module:name`` of the Sacred experiment, or ``imported``.
        metric: The primary metric.
        direction: ``max`` or ``min``: which values of it are better.
        unit: Its unit; empty for none.
        smallest_effect: Smallest difference that would matter, in the metric's unit; None where not declared.
        alpha: Rate of false claims accepted over a family.
        seeds: The seeds of every arm; of adaptive seeds all that an arm may take; of imported runs those of any arm,
            by ``standing``, and none as loaded.
        failure_value: The metric's value that a diverged run counts as; None where not declared.
        correction: Correction for multiple testing.
        equivalence_correction: That of the equivalence tests.
        min_seeds: Fewer pairs get no verdict.
        standard_seeds: Fewer pairs get a tentative one.
        power: Power for which further seeds are counted.
        looks: How often results are looked at, the last time included; declared before the first: of adaptive seeds
            once a round. Each look tests at ``alpha / looks``, so that the rate of false claims over all looks stays
            below ``alpha``.
        profile: The profile in force, or None.
        schema: What the experiment lets one set.
        baseline: All parameters of the baseline, flat.
        given: Those of them that the file sets, also by named configs.
        ablations: In the order of the file, without those the profile skips.
        skipped: Names of those.
        text: The file as read.
        notes: What is allowed, and limits what the study can say.
        rounds: Of adaptive seeds: how many seeds an undecided arm has taken after each round, ascending, the last all
            of them; empty where every arm takes all. ``plan.seeds_of`` says which a variant takes.
        taken: Of adaptive seeds: the looks taken so far, by ``standing``; none as loaded.
        executors: Options of executors that the file sets, by executor and key; they change no result.
        recorded: Of imported runs: the seeds of each variant that there are, by ``standing``; none as loaded.
    """

    path: Path
    name: str
    question: str
    experiment: str
    metric: str
    direction: str
    unit: str
    smallest_effect: float | None
    alpha: float
    seeds: tuple[int, ...]
    failure_value: float | None
    correction: str
    equivalence_correction: str
    min_seeds: int
    standard_seeds: int
    power: float
    looks: int
    profile: str | None
    schema: Schema
    baseline: Mapping[str, Any]
    ablations: tuple[Ablation, ...]
    skipped: tuple[str, ...]
    text: str
    notes: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    taken: tuple[Look, ...] = ()
    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recorded: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the file lies, and its experiment may."""
        return self.path.resolve().parent


def load_study(path: str | Path, profile: str | None = None, beside: Path | None = None) -> Study:
    """Reads, checks and resolves a study file.

    Args:
        path: The file.
        profile: Name of a profile of the file; None takes ``gpu`` where a GPU is visible, else ``cpu``, if the
            file has them.
        beside: Folder in which the experiment may lie; by default the file's.

    Raises:
        StudyError: The file cannot be read, or anything is wrong with it, in any profile; carries all problems.
    """
    path = Path(path)
    document, text = _read(path)
    schema, problems = _schema(document, beside or path.parent)
    parsed = parse(document, schema.sections if schema else ())
    problems = [*document.problems, *problems, *parsed.problems]
    chosen = _chosen_profile(parsed.file, profile, problems)
    if not schema:
        raise StudyError(str(path), dict.fromkeys(problems))
    with contextlib.closing(schema):
        schema = with_types(
            schema,
            parsed.file.types,
            lambda key, message: problems.append(document.problem(("types", key), message)),
        )
        problems += _about_keys(parsed, document, schema)
        views = {name: View(parsed, document, schema, name) for name in _profiles(parsed.file, chosen)}
        problems += _merged(views)
        if problems:
            raise StudyError(str(path), dict.fromkeys(problems))
        left_aside = profile is None and chosen != "gpu" and "gpu" in parsed.file.profiles and bool(machine.gpus())
        return _study(path, text, parsed.file, schema, views[chosen], left_aside)


def _read(path: Path) -> tuple[Document, str]:
    """The document and its text; raises StudyError where there is no readable YAML."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise StudyError(str(path), [Problem(0, "", reason)]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise StudyError(str(path), [Problem(line, "", "expected UTF-8 text, found other bytes")]) from error
    document = read_yaml(text)
    if not document.readable:
        raise StudyError(str(path), document.problems)
    return document, text


def _schema(document: Document, folder: Path) -> tuple[Schema | None, list[Problem]]:
    """What the experiment lets one set; the reference experiment's where the file's is malformed."""
    given = document.data.get("experiment") if isinstance(document.data, dict) else None
    if given == IMPORTED:
        return recorded_schema(document.data.get("baseline")), []
    well_formed = isinstance(given, str) and all(part.isidentifier() for part in given.replace(":", ".").split("."))
    experiment = given if isinstance(given, str) and well_formed and given.count(":") == 1 else REFERENCE_EXPERIMENT
    try:
        return schema_for(experiment, folder), []
    except AblationsError as error:
        problem = str(error).removeprefix(f"experiment {experiment}: ")
    except Exception as error:  # whatever a stranger's module config does while it is imported
        problem = f"expected an experiment that can be imported, found {experiment}: {type(error).__name__}: {error}"
    return None, [document.problem(("experiment",), problem)]


def _chosen_profile(file: StudyFile, profile: str | None, problems: list[Problem]) -> str | None:
    if profile is not None:
        if profile in file.profiles:
            return profile
        problems.append(Problem(0, "profiles", one_of("profile", profile, file.profiles)))
        return None
    fitting = "gpu" if machine.gpus() else "cpu"
    return next((name for name in (fitting, "cpu") if name in file.profiles and not _absent(file, name)), None)


def _absent(file: StudyFile, profile: str) -> list[str]:
    """What a profile needs and is not there."""
    return [needed for needed in file.profiles[profile].needs if not Path(needed).exists()]


def _profiles(file: StudyFile, chosen: str | None) -> list[str | None]:
    """The profiles to check: all, and none where the study runs without one."""
    return [chosen, *(name for name in file.profiles if name != chosen)]


def _about_keys(parsed: Parsed, document: Document, schema: Schema) -> Iterator[Problem]:
    """Names of ablations, profiles and the metric; keys that must fit together."""
    file = parsed.file
    for section in ("ablations", "profiles"):
        seen: dict[str, str] = {}
        for name in getattr(file, section):
            path: KeyPath = (section, name)
            if not NAME.fullmatch(name) and path not in document.refused:
                yield document.problem(path, f"expected a name ({NAME_RULE}), found {name!r}")
            elif section == "ablations" and name.lower() == "baseline":
                yield document.problem(path, f"{name} is the name of the baseline: choose another")
            other = seen.setdefault(name.lower(), name)
            if other != name:
                where = document.line((section, other))
                yield document.problem(path, f"{name} differs from {other} (line {where}) in case only: choose another")
    if not schema.metrics and "metric" not in file.model_fields_set and ("metric",) not in parsed.left_out:
        likely = f" (it seems to give {', '.join(schema.likely)})" if schema.likely else ""
        yield document.problem((), f"expected metric, a score that {file.experiment} gives, found none{likely}")
    if schema.metrics and file.metric not in schema.metrics and ("metric",) not in parsed.left_out:
        yield document.problem(("metric",), one_of("metric", file.metric, schema.metrics))
    if file.experiment == IMPORTED:
        yield from _about_imported(file, document)
    if file.standard_seeds < file.min_seeds:
        message = f"expected at least min_seeds ({file.min_seeds}), found {file.standard_seeds}"
        yield document.problem(("standard_seeds",), message)


def _about_imported(file: StudyFile, document: Document) -> Iterator[Problem]:
    """What a study of runs that are there already cannot ask for."""
    given: list[KeyPath] = [("seeds",)] if "seeds" in file.model_fields_set else []
    given += [("profiles", name, "seeds") for name, each in file.profiles.items() if each.seeds]
    for path in given:
        yield document.problem(path, "expected none where runs were imported: they bring their own")
    for name, ablation in file.ablations.items():
        if ablation.search:
            yield document.problem(("ablations", name, "search"), "expected no search where nothing can be run")


def _merged(views: Mapping[str | None, View]) -> Iterator[Problem]:
    """The problems of all profiles, each once; says which profile where it is not in all of them."""
    seen: dict[tuple[KeyPath, str], list[str | None]] = {}
    for profile, view in views.items():
        for path, message in view.found:
            seen.setdefault((path, message), []).append(profile)
    document = next(iter(views.values())).document
    for (path, message), profiles in seen.items():
        elsewhere = path[:1] != ("profiles",) and len(profiles) < len(views)
        named = f" (profile {', '.join(map(str, profiles))})" if elsewhere else ""
        yield document.problem(path, message + named)


def _study(path: Path, text: str, file: StudyFile, schema: Schema, view: View, gpu_left_aside: bool) -> Study:
    return Study(
        path=path,
        name=file.study,
        question=file.question,
        experiment=file.experiment,
        metric=file.metric,
        direction=file.direction or schema.metrics.get(file.metric, "max"),
        unit=file.unit,
        smallest_effect=file.smallest_effect,
        alpha=file.alpha,
        seeds=() if file.experiment == IMPORTED else view.seeds,
        failure_value=file.failure_value,
        correction=file.correction,
        equivalence_correction=file.equivalence_correction,
        min_seeds=file.min_seeds,
        standard_seeds=file.standard_seeds,
        power=file.power,
        looks=len(view.rounds) or file.looks,
        profile=view.profile,
        schema=schema,
        baseline=MappingProxyType(view.config),
        ablations=tuple(_ablation(name, view) for name in view.drafts),
        skipped=tuple(name for name, each in view.declared.items() if each is None),
        text=text,
        notes=tuple(_notes(file, schema, view, gpu_left_aside)),
        rounds=view.rounds,
        executors=MappingProxyType(view.executors),
        given=MappingProxyType({key: each.value for key, each in view.baseline.items()}),
    )


def _notes(file: StudyFile, schema: Schema, view: View, gpu_left_aside: bool) -> Iterator[str]:
    if gpu_left_aside:
        absent = ", ".join(_absent(file, "gpu"))
        yield f"there is a GPU, but profile gpu needs {absent}, which is not there (--profile gpu insists)"
    pairs = len(view.seeds)
    if pairs < file.min_seeds and file.experiment != IMPORTED:
        counted = f"{pairs} seed{'' if pairs == 1 else 's'}"
        yield f"{counted}: differences are shown, verdicts need {file.min_seeds} (min_seeds)"
    if file.direction is None and not schema.metrics:
        yield f"no direction: a larger {file.metric} counts as better (direction: min if a smaller one is)"
    if file.smallest_effect is None:
        yield "no smallest_effect: an arm can be shown to differ, not to be equivalent"


def _ablation(name: str, view: View) -> Ablation:
    declared = view.declared[name]
    drafts = view.drafts[name]
    if declared is None or not drafts:
        raise ValueError(f"{name} has no variants")  # load_study has said why, or this is a bug
    file, change = declared.file, declared.change
    kind = next(key for key in (*DERIVED, *SPREADS, "combine", "extends", "set", "named") if key in change)
    steps = view.steps(name)
    parts = [step.part for step in steps if step.part]
    if kind == "combine" and not drafts[0].own:
        parts = [view.same.get(part, part) for part, _ in drafts[0].parts]
    return Ablation(
        name=name,
        group=file.group,
        question=file.question,
        expect=file.expect,
        family=file.family,
        kind=kind,
        levels=view.levels(name),
        parts=tuple(parts),
        line=view.document.line(declared.path),
        start=next((change[key] for key in STARTS if key in change and key != "combine"), None),
        axes=MappingProxyType({key: tuple(values) for key, values in view.axes.get(name, {}).items()}),
        steps=steps,
        search=drafts[0].search,
    )
