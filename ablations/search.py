"""Searches: Optuna proposes values, each trial is a run like all others, and the ledger keeps what came of it.

Trials are proposed in rounds: a round's values, and whether one of its trials is stopped early, depend on the results
of earlier rounds alone, told in the order of their numbers. So neither the number of workers nor an interruption
changes what is tried, and a search that is taken up again tells Optuna the same results anew and gets the same
proposals.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ablations.errors import AblationsError
from ablations.executors.base import Ending, Executor, Job, State
from ablations.files import write_atomic
from ablations.plan import RunKey, Variant, seed_for
from ablations.schema import ABSENT
from ablations.space import Dimension, Search
from ablations.store import Store
from ablations.study import Ablation, Study
from ablations.trials import Trial, ledger_path, read_trials, search_of, trial_config, trial_hash, write_trials

if TYPE_CHECKING:
    import optuna

Curve = Sequence[tuple[int, float]]
DIGITS = 4  # of a proposed number: more are noise in a table, and none matters to a training


# -- what Optuna does -----------------------------------------------------------------------------------------


class Sampler:
    """Proposes values, and learns what came of them."""

    def __init__(self, search: Search):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._study = optuna.create_study(
            direction=_direction(search), sampler=_sampler(search), pruner=optuna.pruners.NopPruner()
        )
        self._distributions = {dimension.key: _distribution(dimension) for dimension in search.space}
        self._open: list[optuna.Trial] = []

    def propose(self, count: int) -> list[dict[str, Any]]:
        """The values of the next trials."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that Optuna calls experimental
            self._open = [self._study.ask(self._distributions) for _ in range(count)]
        return [
            {dimension.key: _value(dimension, trial.params[dimension.key]) for dimension in self._search.space}
            for trial in self._open
        ]

    def learn(self, trials: Iterable[Trial]) -> None:
        """Takes how the proposed trials ended; what diverged or is impossible counts as worse than any that is not."""
        from optuna.trial import TrialState

        for asked, trial in zip(self._open, trials, strict=True):
            if trial.state == "completed":
                self._study.tell(asked, trial.value)
            elif trial.state == "failed":
                self._study.tell(asked, state=TrialState.FAIL)
            else:
                for place, (_, value) in enumerate(trial.curve if trial.state == "pruned" else (), 1):
                    asked.report(value, place)
                self._study.tell(asked, state=TrialState.PRUNED)


class Pruner:
    """Decides which trials of a round are stopped, from the trials of earlier rounds alone."""

    def __init__(self, search: Search):
        self._search = search
        self._earlier: list[optuna.trial.FrozenTrial] = []

    def follow(self, number: int) -> Callable[[float], bool]:
        """A function that takes the trial's values one after the other, and says whether to stop it."""
        if self._search.pruner == "none":
            return lambda value: False
        trial = self._trial(number)
        count = 0

        def stops(value: float) -> bool:
            nonlocal count
            count += 1
            trial.report(value, count)
            return bool(trial.should_prune())

        return stops

    def until_stopped(self, number: int, curve: Curve) -> tuple[Curve, bool]:
        """The values up to where the trial is stopped, or all of them; and whether it is."""
        stops = self.follow(number)
        for place, (_, value) in enumerate(curve, 1):
            if stops(value):
                return curve[:place], True
        return curve, False

    def learn(self, trials: Sequence[Trial]) -> None:
        """Takes a whole round."""
        if self._search.pruner != "none":
            self._earlier += [self._frozen(trial) for trial in trials]

    def _trial(self, number: int) -> optuna.Trial:
        """A trial in a study of its own, that has the earlier rounds and knows nothing of its own one."""
        import optuna

        pruner = optuna.pruners.MedianPruner() if self._search.pruner == "median" else optuna.pruners.HyperbandPruner()
        study = optuna.create_study(
            study_name="search",  # Hyperband draws a trial's bracket from the name and number
            direction=_direction(self._search),
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=pruner,
        )
        nobody = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
        study.add_trials([*self._earlier, *[nobody] * (number - len(self._earlier))])
        return study.ask()

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        import optuna
        from optuna.trial import TrialState

        states = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        state = states.get(trial.state, TrialState.FAIL)
        asked = self._trial(trial.number)
        for place, (_, value) in enumerate(trial.curve, 1):
            asked.report(value, place)
            asked.should_prune()  # it notes what Hyperband compares
        return optuna.trial.create_trial(
            state=state,
            value=trial.value if state == TrialState.COMPLETE else None,
            intermediate_values={place: value for place, (_, value) in enumerate(trial.curve, 1)},
            system_attrs=asked.study.trials[trial.number].system_attrs,
        )


def _direction(search: Search) -> Literal["maximize", "minimize"]:
    return "maximize" if search.direction == "max" else "minimize"


def _sampler(search: Search) -> optuna.samplers.BaseSampler:
    import optuna

    seed = seed_for("search", search.seed) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if search.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # a round's trials keep their distance
        if search.sampler == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.low is None or dimension.high is None:
        return CategoricalDistribution(range(len(dimension.choices)))
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _value(dimension: Dimension, proposed: Any) -> Any:
    if dimension.low is None or dimension.high is None:
        return dimension.choices[proposed]
    if dimension.whole:
        return int(proposed)
    return min(max(float(f"{proposed:.{DIGITS}g}"), dimension.low), dimension.high)


# -- what is run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """Trials that may run at the same time.

    Attributes:
        keys: Those that have to run.
        variants: By the name of the trial.
        watched: Wraps an executor so that trials which the pruner gives up are stopped.
    """

    keys: tuple[RunKey, ...]
    variants: Mapping[str, Variant]
    watched: Callable[[Executor], Executor]


@dataclass(frozen=True)
class _Proposal:
    number: int
    values: Mapping[str, Any]
    variant: Variant
    key: RunKey
    misfit: str | None


def make_trials(
    study: Study, ablation: Ablation, store: Store, run: Callable[[Round], None], *, retry: bool = False
) -> tuple[Trial, ...]:
    """Makes all trials of a search; those that have ended are told to Optuna again and not run.

    Args:
        study: The study.
        ablation: Its ablation with the search.
        store: Where runs and ledgers are kept.
        run: Runs a round; returns when all of its runs have ended, however they did.
        retry: Whether to take the search up where a trial failed for the first time, and run that again.

    Raises:
        AblationsError: What Optuna proposes is not what it proposed when the ledger was written.
    """
    import optuna

    search, path = search_of(ablation), ledger_path(study, ablation, store)
    known = list(read_trials(path))
    if retry:
        failed = next((trial.number for trial in known if trial.state == "failed"), len(known))
        known = known[: failed - failed % search.round_size if failed < len(known) else failed]
    sampler, pruner = Sampler(search), Pruner(search)
    trials: list[Trial] = []
    while len(trials) < search.trials:
        count = min(search.round_size, search.trials - len(trials))
        proposals = [
            _proposal(study, ablation, len(trials) + place, values)
            for place, values in enumerate(sampler.propose(count))
        ]
        ended = known[len(trials) : len(trials) + count]
        _check_replay(path, proposals, ended)
        if len(ended) < count:
            ended = _run_round(study, search, store, proposals, pruner, run, retry)
        sampler.learn(ended)
        pruner.learn(ended)
        trials += ended
        if len(trials) > len(known):
            write_trials(path, ablation, optuna.__version__, trials)
    return tuple(trials)


def _proposal(study: Study, ablation: Ablation, number: int, values: Mapping[str, Any]) -> _Proposal:
    config, identity = trial_hash(study, ablation, values)
    name = f"{ablation.name}=trial-{number}"
    changes = {key: value for key, value in config.items() if value != study.baseline.get(key, ABSENT)}
    variant = Variant(
        name=name,
        ablation=ablation.name,
        group=ablation.group,
        changes=MappingProxyType(changes),
        config=MappingProxyType(config),
        config_hash=identity,
        label=", ".join(f"{key} = {value}" for key, value in values.items()),
        silent=study.schema.silent(config),
    )
    said = (*trial_config(study, ablation, values).problems, *study.schema.cross_check(config))
    misfit = next((f"{key}: {message}".removeprefix(": ") for key, message in said), None)
    return _Proposal(number, values, variant, RunKey(name, search_of(ablation).seed, identity), misfit)


def _check_replay(path: Path, proposals: Sequence[_Proposal], ended: Sequence[Trial]) -> None:
    for proposal, trial in zip(proposals, ended, strict=False):
        if dict(proposal.values) != dict(trial.values):
            import optuna

            raise AblationsError(
                f"{path}: trial {trial.number} is not what this Optuna ({optuna.__version__}) proposes: use the one "
                "that the file names to go on, or move the file away to search anew (runs are kept)"
            )


def _run_round(
    study: Study,
    search: Search,
    store: Store,
    proposals: Sequence[_Proposal],
    pruner: Pruner,
    run: Callable[[Round], None],
    retry: bool,
) -> list[Trial]:
    numbers = {each.key.run_id: each.number for each in reversed(proposals)}

    def must_run(key: RunKey) -> bool:
        if store.status(key.run_id) != "pruned":
            return True
        return not _judged(store, search, pruner, numbers[key.run_id], key.run_id)[1]  # stopped by another search

    keys = store.unsettled([each.key for each in proposals if not each.misfit], retry=retry)
    keys = [key for key in keys if must_run(key)]
    if keys:
        run(
            Round(
                tuple(keys),
                {each.variant.name: each.variant for each in proposals},
                lambda executor: _Watched(executor, store, search, pruner, numbers),
            )
        )
    return [_ended(store, search, pruner, each) for each in proposals]


def _ended(store: Store, search: Search, pruner: Pruner, proposal: _Proposal) -> Trial:
    """What came of a trial. A run that completed although the pruner gave it up, too late to stop it, is pruned."""
    number, run_id = proposal.number, proposal.key.run_id
    trial = Trial(number, run_id, proposal.values, "impossible", None, cause=proposal.misfit)
    if proposal.misfit:
        return trial
    status = store.status(run_id)
    if status not in ("completed", "pruned", "diverged"):
        return replace(trial, state="failed", cause=_cause(store, run_id))
    curve, stopped = _judged(store, search, pruner, number, run_id)
    trial = replace(trial, curve=tuple(curve))
    if status != "completed" or stopped:
        return replace(trial, state="diverged" if status == "diverged" else "pruned")
    value = store.read_record(run_id)["scores"].get(search.objective)
    if value is None or not math.isfinite(value):
        return replace(trial, state="failed", cause=f"it has no score {search.objective}")
    return replace(trial, state="completed", value=value)


def _cause(store: Store, run_id: str) -> str:
    if (store.run_dir(run_id) / "record.json").exists():
        error = store.read_record(run_id)["error"]
        return f"{error['type']}: {error['message']}" if error else "without a word"
    return "its process ended without a word"


def _judged(store: Store, search: Search, pruner: Pruner, number: int, run_id: str) -> tuple[Curve, bool]:
    """A trial's curve up to where the pruner stops it; and whether it does."""
    feed = Feed(store, search.objective, run_id)
    return pruner.until_stopped(number, feed.new())


class Feed:
    """The values of a run's objective as they are measured.

    What is measured at the last step decides nothing any more: the run has made its way.
    """

    def __init__(self, store: Store, metric: str, run_id: str):
        self._store, self._metric, self._run_id = store, metric, run_id
        self._path = store.run_dir(run_id) / "metrics.jsonl"
        self._offset, self._last = 0, -1

    def new(self) -> list[tuple[int, float]]:
        """(step, value) of what has been measured since the last call, whole lines only."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # written anew
                    self._offset = 0
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        progress = self._store.progress(self._run_id)
        end = progress.steps if progress and progress.steps else math.inf
        found = []
        for line in whole.splitlines():
            metric, step, value, _ = json.loads(line)
            if metric == self._metric and self._last < step < end and value is not None:
                self._last = step
                found.append((step, value))
        return found


class _Watched(Executor):
    """An executor that stops the trials which the pruner gives up."""

    def __init__(self, executor: Executor, store: Store, search: Search, pruner: Pruner, numbers: Mapping[str, int]):
        self._executor, self._store, self._search = executor, store, search
        self._pruner, self._numbers = pruner, numbers

    def submit(self, run_dir: Path) -> Job:
        """Accepts a trial's folder."""
        run_id = run_dir.name
        feed = Feed(self._store, self._search.objective, run_id)
        stops = self._pruner.follow(self._numbers[run_id])
        return _WatchedJob(self._executor.submit(run_dir), feed, stops)

    def room(self) -> int:
        """That of what it wraps."""
        return self._executor.room()

    def wait(self, seconds: float) -> None:
        """As what it wraps waits."""
        self._executor.wait(seconds)

    def close(self) -> None:
        """Closes what it wraps."""
        self._executor.close()


class _WatchedJob(Job):
    """A trial's job: whoever asks for its state has its newest values judged."""

    def __init__(self, job: Job, feed: Feed, stops: Callable[[float], bool]):
        super().__init__(job.run_dir)
        self._job, self._feed, self._stops = job, feed, stops
        self._stopped = False
        self._earlier = self._measured()

    def state(self) -> State:
        """Whether it waits, runs or has ended."""
        state = self._job.state()
        if state == "running" and not self._stopped and self._begun():
            for step, value in self._feed.new():
                if self._stops(value):
                    self._stopped = True
                    prune = {"attempt": self._attempt(), "step": step, "value": value}
                    write_atomic(self.run_dir / "prune.json", json.dumps(prune))
                    self._job.cancel()
                    break
        return state

    def _begun(self) -> bool:
        """Whether this attempt measures already: what an earlier one has left behind is not judged twice."""
        return self._measured() not in (None, self._earlier)

    def _measured(self) -> int | None:
        """When a value was last measured, in the file system's time; None for never."""
        try:
            return (self.run_dir / "progress.json").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _attempt(self) -> int:
        return int(json.loads((self.run_dir / "job.json").read_bytes())["attempt"])

    def cancel(self) -> None:
        """Stops it."""
        self._job.cancel()

    def ending(self) -> Ending | None:
        """How its process ended."""
        return self._job.ending()
