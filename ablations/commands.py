"""What the commands do, one function each: the recipe of a study, with the words around it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations import jobs, looks, machine
from ablations.chosen import Chosen
from ablations.console import SYMBOLS, duration, plain_table, status_text, watcher
from ablations.errors import Problem, StudyError, UnknownName, one_of
from ablations.executors.base import Executor, Work
from ablations.launch import Ended, Remaining, launch, submit
from ablations.plan import (
    ASSUMED_FLOPS_PER_S,
    ASSUMED_GPU_FLOPS_PER_S,
    Forecast,
    RunKey,
    Variant,
    expand,
    forecast,
    run_keys,
    seed_words,
)
from ablations.recorded import IMPORTED, NOTHING_TO_RUN
from ablations.sharing import Sharing, foresee, share_planned
from ablations.standing import standing
from ablations.store import Store
from ablations.study import Ablation, Study
from ablations.trials import best, search_of, settled, trials_of


def run_study(
    study: Study,
    store: Store,
    out: Console,
    only: Sequence[str] | None,
    executor: Chosen,
    retry: bool,
    *,
    sharing: bool = True,
) -> bool:
    """Runs what is not done yet and says how it went.

    Args:
        study: What to run.
        store: Where runs are kept.
        out: The terminal.
        only: Names of ablations or variants to run; None for all. The baseline always runs along.
        executor: What runs them, and whether they are left to it.
        retry: Whether failed and diverged runs are run again.
        sharing: Whether runs may begin with the training of others.

    Returns:
        Whether every planned run (of ``only``) has completed; where they are left, whether they had before.

    Raises:
        StudyError: Its runs were imported: there is nothing to run.
    """
    if study.experiment == IMPORTED:
        lines = study.text.splitlines()
        at = next((number for number, each in enumerate(lines, 1) if each.startswith("experiment:")), 0)
        raise StudyError(str(study.path), [Problem(at, "experiment", f"{IMPORTED}: {NOTHING_TO_RUN}")])
    chosen = _chosen(study, only)
    open_searches = [
        each for each in study.ablations if each.search and each.levels[0].waits_for and each.levels[0].name in chosen
    ]
    tried: set[str] = set()

    def run_planned(now: Study) -> bool:
        return _run_planned(now, store, out, chosen, executor, retry, tried, sharing=sharing)

    completed = run_planned(study)
    if executor.detach:
        for ablation in open_searches:
            out.print(f"{ablation.name}: a search is made by a launch that stays: ablations run without --detach.")
        return completed
    for ablation in open_searches:  # after the arms that need none: their results are there first
        _search(study, ablation, store, out, executor, retry)
    while (later := standing(study, store)) != study:  # what searches have found, and what looks have left open
        for line in looks.taken_since(study, later):
            out.print(Text(line))
        before, study = study, later
        if run_keys(study) != run_keys(before):
            out.print()
            completed = run_planned(study)
    if study.rounds:
        out.print(Text(looks.where_it_stands(study, store)))
    return completed


def _run_planned(
    study: Study,
    store: Store,
    out: Console,
    chosen: Collection[str],
    executor: Chosen,
    retry: bool,
    tried: set[str],
    *,
    sharing: bool,
) -> bool:
    """Runs what is not done of the variants that are known; returns whether all planned runs have completed.

    What is in ``tried`` is not run again; what is run is added to it.
    """
    variants = {variant.name: variant for variant in expand(study)}
    keys = [key for key in run_keys(study) if key.variant in chosen]
    runnable = [key for key in keys if not variants[key.variant].waits_for]
    runnable = [key for key in runnable if key.run_id not in tried]
    todo = store.unsettled(runnable, retry=retry)  # also what another process runs: it is waited for
    jobs.settle(store, todo)
    todo = store.unsettled(todo, retry=retry)
    workers, threads = executor.shares(len(todo))
    shared = _shared(study, store, todo, executor) if sharing else Sharing()
    expected = _forecast(study, store, todo, workers, shared)
    _say_intent(study, store, keys, todo, expected, workers, out, stays=not executor.detach)
    if not todo:
        return _say_outcome(study, store, keys, out)
    settings = {"metric": study.metric, "threads": threads, "retry": retry, "folder": str(study.folder)}
    with _started(executor, study, store, out, workers, threads) as started:
        _prepare(study, [variants[key.variant] for key in todo], out)
        todo = store.unsettled(runnable, retry=retry)  # another process may have been at work meanwhile
        tried.update(key.run_id for key in todo)
        shared = _shared(study, store, todo, executor, plan=share_planned) if sharing else Sharing()
        _say_shared(shared, out)
        if executor.detach:
            submitted = submit(store, started, todo, variants, study.experiment, shared, **settings)
            _say_submitted(store, keys, *submitted, out)
            return False
        remaining = Remaining(_forecast(study, store, todo, workers, shared).own, workers)
        with watcher(out, study.metric, executor.outlasts) as watching:
            ends = launch(store, started, todo, variants, study.experiment, remaining, watching, shared, **settings)
    out.print()
    _say_failures(ends, out)
    return _say_outcome(study, store, keys, out)


def _shared(
    study: Study,
    store: Store,
    todo: Sequence[RunKey],
    executor: Chosen | None = None,
    planned: Sequence[RunKey] | None = None,
    plan: Callable[..., Sharing] = foresee,
) -> Sharing:
    """Who of ``todo`` takes over from whom; ``planned`` are all runs, by default those that are planned by now."""
    variants = {variant.name: variant for variant in expand(study)}
    planned = run_keys(study) if planned is None else planned
    known, open_ = ([key for key in keys if not variants[key.variant].waits_for] for keys in (planned, todo))
    shared = plan(known, open_, variants, study.schema.trunk, store)
    return shared.at_once(todo) if executor is not None and executor.detach else shared


def _say_shared(shared: Sharing, out: Console) -> None:
    if shared.sources:
        count = len(shared.sources)
        said = "1 run begins" if count == 1 else f"{count} runs begin"
        out.print(Text(f"{said} with the training of another run: that is not repeated.", style="dim"))


def _search(study: Study, ablation: Ablation, store: Store, out: Console, executor: Chosen, retry: bool) -> None:
    """Makes the trials of a search and says what it found."""
    from ablations.search import Round, make_trials

    search = search_of(ablation)
    workers, threads = executor.shares(search.round_size)
    made = len(trials_of(study, ablation, store))
    out.print(
        Text(f"{ablation.name}: search by {search.objective}, {search.sampler}, seed {search.seed}", style="bold")
    )
    out.print(Text(search.label))
    out.print(f"{made} of {search.trials} trials have ended; {workers} at a time.")

    with _started(executor, study, store, out, workers, threads) as started:

        def run(trials: Round) -> None:
            variants = list(trials.variants.values())
            _prepare(study, variants, out)
            expected = forecast(variants, (), store.history(), workers, assumed=_rate(), flops=study.schema.flops)
            with watcher(out, search.objective, executor.outlasts) as watching:
                launch(
                    store,
                    trials.watched(started),
                    trials.keys,
                    trials.variants,
                    study.experiment,
                    Remaining(expected.seconds, workers),
                    watching,
                    metric=search.objective,
                    threads=threads,
                    retry=retry,
                    folder=str(study.folder),
                )

        trials = make_trials(study, ablation, store, run, retry=retry)
    states = Counter(trial.state for trial in trials)
    out.print()
    out.print(", ".join(f"{count} {state}" for state, count in states.items()))
    found = best(trials, search)
    level = settled(study, store).ablations[study.ablations.index(ablation)].levels[0]
    out.print(Text(f"{ablation.name}: {level.label}" if found else f"{ablation.name}: {level.waits_for}"))
    out.print()


def _chosen(study: Study, only: Sequence[str] | None) -> set[str]:
    """Names of the variants to run: those named, those of the ablations named, and the baseline."""
    variants = {variant.name: variant for variant in expand(study)}
    if not only:
        return set(variants)
    ablations = {each.name: each for each in study.ablations}
    chosen = _named(study, only)
    used = {step.variant for name in only if name in ablations for step in ablations[name].steps}
    return chosen | used | {next(iter(variants))}


def _named(study: Study, names: Sequence[str]) -> set[str]:
    """The variants that names of variants and ablations mean."""
    variants = {variant.name: variant for variant in expand(study)}
    ablations = {each.name for each in study.ablations}
    for name in names:
        if name not in variants and name not in ablations:
            raise UnknownName(one_of("ablation or variant", name, sorted({*variants, *ablations})))
    return {name for name, variant in variants.items() if name in names or variant.ablation in names}


def _say_intent(
    study: Study,
    store: Store,
    keys: Sequence[RunKey],
    todo: Sequence[RunKey],
    expected: Forecast,
    workers: int,
    out: Console,
    *,
    stays: bool,
) -> None:
    out.print(_title(study))
    for note in study.notes:
        out.print(Text(f"Note: {note}"))
    names = {key.variant for key in keys}
    most = sum(key.variant in names for key in looks.most_runs(study))
    up_to = f" to {most}" if most > len(keys) else ""
    out.print(f"{len(names)} variants x {seed_words(study)} = {len(keys)}{up_to} runs, {len(todo)} to run.")
    elsewhere = Counter(store.status(key.run_id) for key in keys) if stays else Counter[str]()
    if elsewhere["running"]:
        out.print(f"{elsewhere['running']} are being run already: waiting for them, and taking over what is left.")
    if elsewhere["queued"]:
        out.print(f"{elsewhere['queued']} are queued already: waiting for them (ablations cancel withdraws them).")
    if todo:
        left = expected.total
        out.print(f"{workers} at a time, {'about ' + duration(left) if left is not None else 'time unknown'}.")


def _started(executor: Chosen, study: Study, store: Store, out: Console, workers: int, threads: int) -> Executor:
    def say(line: str) -> None:
        out.print(Text(line), soft_wrap=True)

    return executor.kind.start(executor.options, Work(study.name, study.experiment, store.root, workers, threads, say))


def _prepare(study: Study, variants: Sequence[Variant], out: Console) -> None:
    from ablations import runner

    distinct = {variant.config_hash: variant.config for variant in variants}
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:  # variants that share their data share what is to be said of them
            out.print(Text(line, style="yellow" if line.startswith("warning:") else "dim"))
            said.add(line)

    runner.prepare(study.experiment, list(distinct.values()), say)


def _forecast(study: Study, store: Store, todo: Sequence[RunKey], workers: int, shared: Sharing) -> Forecast:
    ordered, flops = shared.ordered(todo), study.schema.flops
    past, saved = store.history(), shared.saved
    return forecast(expand(study), ordered, past, workers, assumed=_rate(), flops=flops, saved=saved)


def _rate() -> float:
    return ASSUMED_GPU_FLOPS_PER_S if machine.gpus() else ASSUMED_FLOPS_PER_S


def _say_submitted(store: Store, keys: Sequence[RunKey], count: int, left: int, out: Console) -> None:
    """What a launch that leaves has done."""
    statuses = Counter(store.status(key.run_id) for key in keys)
    out.print()
    out.print(f"{count} run{'' if count == 1 else 's'} submitted.")
    if left:
        out.print(f"{left} not: they wait for their turn, in which a launch begins them that stays, or a later one.")
    out.print(_counted(statuses))


def _say_failures(ends: Sequence[Ended], out: Console) -> None:
    for end in ends:
        if end.status != "completed":
            line = status_text(end.status)
            line.append(f"  {end.key.variant}, seed {end.key.seed}: {end.cause}", style="default")
            out.print(line)


def _say_outcome(study: Study, store: Store, keys: Sequence[RunKey], out: Console) -> bool:
    """Prints a line a variant and what to do next; returns whether all of ``keys`` have completed."""
    out.print(_score_table(study, store, keys))
    statuses = Counter(store.status(key.run_id) for key in keys)
    out.print()
    if statuses["completed"] == len(keys):
        out.print("All runs have completed.")
        return True
    out.print(_counted(statuses))
    again = {key.run_id for key in store.unsettled(keys)}
    if {key.run_id for key in keys if store.status(key.run_id) in ("failed", "diverged")} - again:
        out.print("Failed and diverged runs are not repeated by themselves; ablations run --retry repeats them.")
    if again:
        out.print("ablations run goes on with what is missing, and repeats what the disk or the system has failed.")
    for waits_for in sorted({f"{v.name}: {v.waits_for}." for v in expand(study) if v.waits_for}):
        out.print(Text(waits_for))
    return False


def _score_table(study: Study, store: Store, keys: Sequence[RunKey]) -> Table:
    rows = []
    for name, own in _by_variant(keys).items():
        records = [store.read_record(key.run_id) for key in own if store.status(key.run_id) == "completed"]
        values = [score for each in records if (score := each["scores"].get(study.metric)) is not None]
        mean = f"{statistics.fmean(values):.3f}" if values else "–"
        spread = f"± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        taken = duration(statistics.fmean(each["seconds"] for each in records)) if records else "–"
        rows.append((Text(name), f"{len(records)}/{len(own)}", mean, spread, taken))
    columns = ("variant", "runs", study.metric, "sd", "a run")
    return plain_table(columns, rows, right=("runs", study.metric, "a run"))


def _by_variant(keys: Sequence[RunKey]) -> dict[str, list[RunKey]]:
    grouped: dict[str, list[RunKey]] = {}
    for key in keys:
        grouped.setdefault(key.variant, []).append(key)
    return grouped


def _counted(statuses: Mapping[str, int]) -> Text:
    return Text(", ").join(status_text(status, statuses[status]) for status in SYMBOLS if statuses.get(status))


# -- plan and status ------------------------------------------------------------------------------------------


def show_plan(study: Study, store: Store, out: Console) -> None:
    """Prints every variant: what differs from the baseline, what is done, what would run, how long it would take."""
    variants, keys = expand(study), run_keys(study)
    todo = store.pending(keys)
    trials = {
        each.name: each.search.trials - len(trials_of(study, each, store)) for each in study.ablations if each.search
    }
    workers = max(1, min(machine.gpus() or machine.cores(), len(todo) + sum(trials.values()) or 1))
    waiting = {key.run_id for key in todo}
    shared = _shared(study, store, store.unsettled(keys))
    expected = _forecast(study, store, todo, workers, shared)
    out.print(_title(study))
    rows = []
    for variant in variants:
        own = [key for key in keys if key.variant == variant.name]
        left = sum(key.run_id in waiting for key in own)
        seconds = expected.seconds[variant.name]
        each = duration(seconds) if seconds is not None else "unknown"
        rows.append((Text(variant.name), Text(variant.label), f"{len(own) - left}/{len(own)}", str(left), each))
    out.print(plain_table(("variant", "change", "done", "to run", "a run"), rows, right=("done", "to run", "a run")))
    out.print()
    for note in study.notes:
        out.print(Text(f"Note: {note}"))
    seeds = ", ".join(map(str, study.seeds))
    most = len(looks.most_runs(study))
    up_to = f" to {most}" if most > len(keys) else ""
    runs = f"{len(keys)}{up_to} runs, {len(todo)} to run"
    out.print(f"{len(variants)} variants x {seed_words(study)} ({seeds}) = {runs}.")
    if study.rounds:
        for said in looks.so_far(study, store):
            out.print(Text(said))
    for name, count in trials.items():
        if count:
            out.print(f"{name}: {count} trials of its search come first.")
    _say_shared(shared, out)
    _say_forecast(study, store, trials, workers, expected, out)


def _say_forecast(
    study: Study, store: Store, trials: Mapping[str, int], workers: int, expected: Forecast, out: Console
) -> None:
    """How long the planned runs take and, of adaptive seeds, those that may still be planned."""

    def total(runs: Forecast) -> str:
        seconds = runs.total
        for name, count in trials.items():
            one = runs.seconds[name]
            seconds = seconds + count * one / workers if seconds is not None and one is not None else None
        return f"About {duration(seconds)}" if seconds is not None else "A time not known yet"

    if expected.runs:
        out.print(f"{total(expected)} with {workers} at a time ({expected.source}).")
    most_runs = looks.most_runs(study)
    still = store.pending(most_runs)
    if len(still) > expected.runs:
        most = _forecast(study, store, still, workers, _shared(study, store, still, planned=most_runs))
        if most.total is not None:
            out.print(f"{total(most)} for {len(still)} runs, if no look settles an arm any more.")


def cancel_runs(study: Study, store: Store, names: Sequence[str], out: Console) -> None:
    """Stops what is queued or running, of all arms or of those named alone, and says what was found."""
    chosen = _named(study, names) if names else {variant.name for variant in expand(study)}
    found = jobs.cancel(store, [key for key in run_keys(study) if key.variant in chosen])
    for each in found:
        out.print(Text(f"{each.key.variant}, seed {each.key.seed}: {each.text}"), soft_wrap=True)
    counts: Counter[str] = Counter(each.how for each in found)
    said = {"stopping": "asked to stop: a checkpoint is kept", "withdrawn": "withdrawn", "asked": "left a note"}
    words = ", ".join(f"{counts[how]} {text}" for how, text in said.items() if counts[how])
    out.print(f"{words}." if found else "Nothing is queued or running.")


def show_status(study: Study, store: Store, out: Console, as_json: bool) -> None:
    """Prints how every planned run stands, and why what failed did."""
    waits = {variant.name: variant.waits_for for variant in expand(study)}
    ended = store.summaries()
    rows = [_standing(store, key, ended.get(key.run_id), waits[key.variant]) for key in run_keys(study)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    out.print(_title(study))
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    lines = [(Text(name), _counted(Counter(row["status"] for row in own))) for name, own in by_variant.items()]
    out.print(plain_table(("variant", "runs"), lines))
    out.print()
    for row in rows:
        if row["cause"] or row["status"] in ("queued", "running"):
            line = status_text(row["status"])
            line.append(f"  {row['variant']}, seed {row['seed']}", style="default")
            line.append(f": {row['cause']}" if row["cause"] else f", {row['progress']}", style="default")
            line.append(f"\n    {row['folder']}", style="dim")
            out.print(line, soft_wrap=True)
    out.print(_counted(Counter(row["status"] for row in rows)))
    if study.rounds:
        for said in looks.so_far(study, store):
            out.print(Text(said))


def _standing(store: Store, key: RunKey, ended: Mapping[str, Any] | None, waits_for: str) -> dict[str, Any]:
    status = store.status(key.run_id) if not ended or ended["status"] == "interrupted" else ended["status"]
    cause, progress = waits_for or None, None
    job = jobs.standing(store.run_dir(key.run_id)) if status in ("queued", "running", "interrupted") else None
    if job is not None and status == "queued" and job.state == "ended":
        status, cause = "interrupted" if ended else "missing", job.text
    elif status == "queued":
        progress = job.text if job else "submitted this moment"
    elif ended and status != "running":
        cause = ended["error"]
    elif status == "interrupted":
        cause = "its process ended without a word"
    elif status == "running":
        found = store.progress(key.run_id)
        progress = f"step {found.step} of {found.steps or '?'}" if found else "starting"
    return {
        "variant": key.variant,
        "seed": key.seed,
        "run_id": key.run_id,
        "status": status,
        "cause": cause,
        "progress": progress,
        "folder": str(store.run_dir(key.run_id)),
    }


def _title(study: Study) -> Text:
    return Text(study.name + (f", profile {study.profile}" if study.profile else ""), style="bold")
