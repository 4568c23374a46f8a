"""``ablations import`` of runs: what it does, in order, and the words around it."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ablations.authoring import checked, study_name
from ablations.errors import AblationsError, Problem, StudyError, one_of, visible
from ablations.files import write_atomic
from ablations.importing import reading, records, study_text
from ablations.importing.arms import Arm, Entry, arms_of, chosen_baseline, difference, entries_of
from ablations.importing.choices import Choices, earlier_choices, keep_choices
from ablations.importing.csv_files import Asked
from ablations.importing.factors import Planned, factored, fingerprint
from ablations.importing.foreign import ForeignRun
from ablations.importing.reading import MOST_SHOWN, Found, read_all
from ablations.plan import RunKey, expand
from ablations.recorded import IMPORTED
from ablations.store import Store
from ablations.study import Study, load_study

_LESS_IS_BETTER = re.compile(r"loss|error|perplexity|(^|[_./-])(mse|rmse|mae|nll|ppl|wer|cer|fid|err)($|[_./-])", re.I)


@dataclass(frozen=True)
class Plan:
    """What an import would write.

    Attributes:
        study: As it will be.
        text: Of its file; None where that stays as it is.
        entries: Ablations that are new.
        wanted: Each run with its arm and seed.
    """

    study: Study
    text: str | None
    entries: Sequence[Entry]
    wanted: Sequence[tuple[Planned, RunKey]]


def import_runs(sources: dict[Path, str], choices: Choices, path: Path, results: Path, out: Console) -> None:
    """Imports runs, and writes or extends the study that says what they are.

    Args:
        sources: Folders and tables, each with its tool.
        choices: What the user says of them.
        path: The study's file.
        results: Where runs are kept.
        out: The terminal.

    Raises:
        AblationsError: Something is wrong with the sources or choices; nothing was written.
        StudyError: The study's file is another kind of study, or would be none.
    """
    existing = _existing(path)
    choices = choices.checked().after(earlier_choices(results))
    metrics = list(choices.metric) + ([existing.metric] if existing else [])
    found = read_all(sources, Asked(metrics, choices.parameter, choices.seed))
    if found.problems:
        shown = found.problems[:MOST_SHOWN]
        more = [f"… and {len(found.problems) - MOST_SHOWN} more"] if len(found.problems) > MOST_SHOWN else []
        raise AblationsError("nothing was imported:\n" + "\n".join([*shown, *more]))
    runs = _placed(found, sources, path)
    metric = existing.metric if existing else _metric(runs, choices)
    select = _select(runs, choices)
    planned, aside = factored(runs, choices, existing.schema.tunables if existing else (), found.note)
    plan = _planned(planned, metric, choices, existing, path, Store(results), found)
    store = Store(results)
    store.root.mkdir(parents=True, exist_ok=True)
    if plan.text is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path.resolve(), plan.text)
    counts = Counter(run.source for run in runs)
    tools = {run.source: run.tool for run in runs}
    kept = replace(choices, ignore=[*dict.fromkeys((*choices.ignore, *map(glob.escape, aside)))])
    keep_choices(results, kept, {name: {"tool": tools[name], "runs": count} for name, count in counts.items()})
    done = records.write(store, (
        (records.record_of(each, key, metric, each.seed is not None, select), each.run.points)
        for each, key in plan.wanted
    ))  # fmt: skip
    _say(plan, done, found.notes, existing is None, path, results, out)


def _existing(path: Path) -> Study | None:
    """The study that further runs are added to, or None; raises StudyError where it is one of runs of ours."""
    if not path.exists():
        return None
    study = load_study(path)
    if study.experiment != IMPORTED:
        message = (
            f"expected a study of imported runs (experiment: {IMPORTED}), or no file, found one of {study.experiment}: "
            "--study names another, --results another folder"
        )
        raise StudyError(str(path), [Problem(0, "experiment", message)])
    return study


def _placed(found: Found, sources: Mapping[Path, str], study: Path) -> list[ForeignRun]:
    """The runs that have ended, their sources named as they lie beside the study's file."""
    roots = {reading.root_of(source, tool) for source, tool in sources.items()}
    names = {root.name: os.path.relpath(root, study.resolve().parent) for root in roots}
    if len(names) < len(roots):
        raise AblationsError("two sources have the same name: import one after the other")
    running = [run.run for run in found.runs if run.status == "running"]
    if running:
        found.note(
            f"{len(running)} still running, left out: {', '.join(running[:8])}. Import again when they have ended"
        )
    ended = [_tidied(run, names.get(run.source, run.source)) for run in found.runs if run.status != "running"]
    if not ended:
        raise AblationsError("nothing was imported: no run has ended")
    return sorted(ended, key=lambda run: run.started or "")


def _tidied(run: ForeignRun, source: str) -> ForeignRun:
    """A run whose names act on no terminal."""
    return replace(
        run,
        source=visible(source, 300),
        run=visible(run.run, 100),
        name=visible(run.name, 100),
        config={visible(key, 100): value for key, value in run.config.items()},
        scores={visible(key, 100): value for key, value in run.scores.items()},
        points=tuple((visible(metric, 100), step, value, at) for metric, step, value, at in run.points),
    )


def _metric(runs: Sequence[ForeignRun], choices: Choices) -> str:
    names = Counter(name for run in runs for name in run.scores)
    ordered = [name for name, _ in names.most_common()]
    if choices.metric:
        if choices.metric[0] not in names:
            raise AblationsError(f"--metric: {one_of('metric', choices.metric[0], ordered)}")
        return choices.metric[0]
    if len(ordered) == 1:
        return ordered[0]
    if not ordered:
        raise AblationsError("no run has a score; of a table, --metric names the column that holds it")
    shown = ordered if len(ordered) <= 12 else [*ordered[:12], f"… {len(ordered) - 12} more"]
    raise AblationsError(f"--metric: which decides? The runs have {', '.join(shown)}")


def _select(runs: Sequence[ForeignRun], choices: Choices) -> tuple[str, str] | None:
    if not choices.select:
        return None
    logged = dict.fromkeys(metric for run in runs for metric, _, _, _ in run.points)
    if choices.select not in logged:
        raise AblationsError(f"--select: {one_of('logged metric', choices.select, logged)}")
    return choices.select, choices.select_direction or _direction(choices.select)


def _direction(metric: str) -> str:
    return "min" if _LESS_IS_BETTER.search(metric) else "max"


def _planned(
    planned: Sequence[Planned],
    metric: str,
    choices: Choices,
    existing: Study | None,
    path: Path,
    store: Store,
    found: Found,
) -> Plan:
    """The study as it will be, and each run's arm and seed in it."""
    arms = arms_of(planned)
    changed: str | None
    if existing is None:
        baseline = chosen_baseline(arms, choices.baseline, found.note)
        entries = entries_of(arms, baseline.config, (), found.note)
        better = (choices.direction or _direction(metric), choices.direction is None and _direction(metric) == "min")
        changed = study_text.new_study(
            study_name(path), _origin(planned), metric, better, choices.smallest_effect, baseline.config, entries
        )
        study = checked(path, changed)
    else:
        before = records.seeds_taken(store)
        fresh = [arm for arm in arms if any(origin(each) not in before for each in arm.runs)]
        study, changed, entries = _extended(existing, arms, fresh, path, choices, found)
    names = {fingerprint(variant.config): variant for variant in expand(study)}
    seeds = _seeds(planned, store, found)
    wanted = []
    for each, seed in zip(planned, seeds, strict=True):
        variant = names.get(fingerprint(each.config))
        if variant is None:  # its ablation was taken out of the study since it was imported
            continue
        wanted.append((each, RunKey(variant.name, seed, variant.config_hash)))
    return Plan(study, changed, entries, wanted)


def _extended(
    existing: Study, arms: Sequence[Arm], fresh: Sequence[Arm], path: Path, choices: Choices, found: Found
) -> tuple[Study, str | None, list[Entry]]:
    """A study with those of the arms of new runs that it lacks; what was taken out of it stays out."""
    known = {fingerprint(variant.config) for variant in expand(existing)}
    new = [arm for arm in fresh if fingerprint(arm.config) not in known]
    if choices.baseline:
        asked = chosen_baseline(arms, choices.baseline, lambda line: None)
        if difference(asked.config, existing.baseline):
            raise AblationsError(f"{path} has another baseline than --baseline asks for: change it there, or --study")
    if not new:
        return existing, None, []
    lacked = dict.fromkeys(key for arm in new for key in difference(arm.config, existing.baseline))
    keys = [key for key in lacked if key not in existing.schema.tunables]
    entries = entries_of(new, existing.baseline, [each.name for each in existing.ablations], found.note)
    text = study_text.extended(existing.text, path, keys, entries)
    return checked(path, text), text, entries


def origin(planned: Planned) -> records.Origin:
    """Which run it is."""
    return records.origin(planned.run.tool, planned.run.source, planned.run.run)


def _seeds(planned: Sequence[Planned], store: Store, found: Found) -> list[int]:
    """Each run's seed; one without gets a number that no other run has, so that it makes no pair."""
    taken = records.seeds_taken(store)
    free = max((*taken.values(), *(each.seed for each in planned if each.seed is not None)), default=-1) + 1
    seeds, unknown = [], 0
    for each in planned:
        if each.seed is not None:
            seeds.append(each.seed)
            continue
        unknown += 1
        if origin(each) not in taken:
            taken[origin(each)], free = free, free + 1
        seeds.append(taken[origin(each)])
    if unknown:
        found.note(
            f"unpaired: {'no seed is known' if unknown == len(planned) else f'{unknown} runs have no seed'}, so that "
            "they make no pairs. Their means are compared for information; there is no test and no verdict "
            "(--seed KEY names a parameter that holds the seed)"
        )
    return seeds


def _origin(planned: Sequence[Planned]) -> str:
    counts = Counter((each.run.tool, each.run.source) for each in planned)
    return "; ".join(f"{count} runs of {source} ({tool})" for (tool, source), count in counts.items())


# -- words ----------------------------------------------------------------------------------------------------


def _say(
    plan: Plan, done: records.Written, notes: Sequence[str], is_new: bool, path: Path, results: Path, out: Console
) -> None:
    def line(text: str, **style: Any) -> None:
        out.print(Text(text, **style), soft_wrap=True)

    statuses = Counter(done.statuses)
    ended = ", ".join(f"{count} {status}" for status, count in statuses.items())
    line(f"{_runs(done.new)} imported into {results}" + (f": {ended}." if ended else "."))
    if done.known:
        line(f"{_runs(done.known)} there already.")
    if done.changed:
        line(f"{_runs(done.changed)} changed since the last import: what was there is kept beside the new state.")
    for note in [*notes, *done.doubled[:8]]:
        line(f"Note: {note.rstrip('?')}{'?' if note.endswith('?') else '.'}", style="yellow")
    if len(done.doubled) > 8:
        line(f"Note: … and {len(done.doubled) - 8} more of one config and seed.", style="yellow")
    if done.new or done.changed:
        _say_seeds(plan, line)
    if plan.text is not None:
        arms = len(expand(plan.study)) - 1
        what = f"written, with a baseline and {arms} arm{'' if arms == 1 else 's'}" if is_new else "extended"
        line(f"{path}: {what}.")
        for entry in plan.entries[:20]:
            for each in study_text.rendered(entry):
                line(f"  {each}", style="dim")
        if len(plan.entries) > 20:
            line(f"  … and {len(plan.entries) - 20} more", style="dim")
    if not plan.study.smallest_effect:
        line(f"Declare smallest_effect in {path}: without it no arm is equivalent.")


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _say_seeds(plan: Plan, line: Any) -> None:
    """Which arms lack runs that the baseline has: nothing says whether they were never made, or thrown away."""
    seeds: dict[str, set[int]] = {}
    for each, key in plan.wanted:
        if each.seed is not None:
            seeds.setdefault(key.variant, set()).add(key.seed)
    completed = {key.seed for each, key in plan.wanted if each.run.status == "completed"}
    base = seeds.get("baseline", set()) & completed
    if base and len(seeds) > 1 and not any(own & base for name, own in seeds.items() if name != "baseline"):
        line(
            "Note: unpaired: no arm shares a seed with the baseline, so there is no test and no verdict.",
            style="yellow",
        )
        return
    lacking = [f"{name} {len(base - own)}" for name, own in seeds.items() if base - own]
    if lacking:
        some = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more arms" if len(lacking) > 8 else "")
        line(
            f"Note: of the baseline's {len(base)} seeds arms lack some ({some}). Nothing says whether these runs were "
            "never made, or left out.",
            style="yellow",
        )
