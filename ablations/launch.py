"""Submits runs and follows them until they have ended; knows no experiment and prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ablations import handles, jobs
from ablations.executors.base import Ending, Executor, Job
from ablations.jobs import ENDED
from ablations.plan import RunKey, Variant
from ablations.store import Progress, Store

POLL_S = 0.2
ELSEWHERE_EVERY_S = 1.0  # how often the runs of other processes are looked at
RETRIES = 2  # times that a launch starts a run again whose process was lost


@dataclass(frozen=True)
class Active:
    """A run in progress: its key, seconds since it started, and how far it is (None before its first value)."""

    key: RunKey
    seconds: float
    progress: Progress | None

    @property
    def share(self) -> float:
        """Share of its steps that are done, 0 to 1."""
        known = self.progress is not None and self.progress.steps
        return min(1.0, self.progress.step / self.progress.steps) if self.progress and known else 0.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a launch.

    Attributes:
        ended: Runs that have ended, however they did.
        total: Runs of this launch.
        active: Runs in progress.
        seconds: Since the launch began.
        seconds_left: Forecast, or None while nothing is known.
    """

    ended: int
    total: int
    active: tuple[Active, ...]
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        key: The run.
        status: As the store has it; ``interrupted`` where its process died without a word.
        seconds: Wall time.
        cause: Why it is not completed, else None.
        score: Its primary metric, None where it has none.
    """

    key: RunKey
    status: str
    seconds: float
    cause: str | None
    score: float | None


class Watcher(Protocol):
    """Shows a launch to whoever waits for it."""

    def ended(self, run: Ended, snapshot: Snapshot) -> None:
        """A run has ended."""

    def tick(self, snapshot: Snapshot) -> None:
        """A moment has passed."""


@dataclass
class Remaining:
    """Time left, from the seconds each variant is expected to take (None: unknown) and what finished ones took."""

    expected_s: Mapping[str, float | None]
    workers: int
    ended: list[Ended] = field(default_factory=list)

    def learn(self, run: Ended) -> None:
        """Takes how a run ended."""
        if run.status == "completed":
            self.ended.append(run)

    def left_s(self, queued: Sequence[RunKey], active: Sequence[Active]) -> float | None:
        """Seconds until all of these have ended; None while that cannot be known."""
        whole = {key.variant: self._whole_s(key.variant) for key in (*queued, *(run.key for run in active))}
        if None in whole.values():
            return None
        waiting = sum(whole[key.variant] or 0.0 for key in queued)
        rests = [self._rest_s(run, whole[run.key.variant] or 0.0) for run in active]
        return max([(waiting + sum(rests)) / self.workers, *rests])

    def _whole_s(self, variant: str) -> float | None:
        """Seconds of a whole run: what the variant's own runs took, else the forecast at the pace of the others."""
        own = [run.seconds for run in self.ended if run.key.variant == variant]
        if own:
            return sum(own) / len(own)
        expected = self.expected_s[variant]
        others = [(run.seconds, self.expected_s[run.key.variant]) for run in self.ended]
        if expected is None:
            return sum(taken for taken, _ in others) / len(others) if others else None
        foreseen = sum(each for _, each in others if each is not None)
        pace = sum(taken for taken, each in others if each is not None) / foreseen if foreseen else 1.0
        return expected * pace

    def _rest_s(self, run: Active, whole: float) -> float:
        if run.share > 0.1:  # what it shows by itself is better than what others took
            whole = run.seconds / run.share
        return max(0.0, whole - run.seconds)


@dataclass
class _Launched:
    """A run of this launch: a job of its own, or none while another process has it."""

    key: RunKey
    job: Job | None
    since: float | None = None
    losses: int = 0
    looked: float = 0.0
    end: Ended | None = None


def launch(
    store: Store,
    executor: Executor,
    todo: Sequence[RunKey],
    variants: Mapping[str, Variant],
    experiment: str,
    remaining: Remaining,
    watcher: Watcher,
    metric: str | None,
    **settings: object,
) -> list[Ended]:
    """Runs all of ``todo``; a failed run stops none of the others.

    What another process is running or a cluster has queued is waited for, and run here if that comes to nothing. A run
    whose process is lost is started again, ``RETRIES`` times at most; one that was cancelled is not.

    Args:
        store: Where the runs' folders lie.
        executor: Runs them.
        todo: What to run, in this order.
        variants: By name.
        experiment: ``package.module:name``.
        remaining: Forecasts the time left.
        watcher: Is told of every end and every moment.
        metric: The score to tell of, without which a run has failed; None for none.
        **settings: Handed to each run: what changes no result.

    Returns:
        One entry a run, in the order of their ends.
    """
    start = time.monotonic()

    def submit(key: RunKey) -> Job:
        return executor.submit(store.prepare(key, variants[key.variant], experiment, metric=metric, **settings))

    def begin(key: RunKey) -> Job | None:
        jobs.settle(store, [key])
        job = jobs.found(store.run_dir(key.run_id))
        return job or (None if store.status(key.run_id) in ("running", "queued") else submit(key))

    launched = [_Launched(key, begin(key)) for key in todo]
    ends: list[Ended] = []
    while len(ends) < len(launched):
        for run in launched:
            if run.end is not None:
                continue
            _advance(store, run, submit, metric)
            if run.end is not None:
                ends.append(run.end)
                remaining.learn(run.end)
                watcher.ended(run.end, _snapshot(store, launched, start, remaining))
        watcher.tick(_snapshot(store, launched, start, remaining))
        time.sleep(POLL_S)
    return ends


def _advance(store: Store, run: _Launched, submit: Callable[[RunKey], Job], metric: str | None) -> None:
    """Looks how a run stands; says so in ``run.end`` once it has ended, or starts it if that falls to us."""
    now = time.monotonic()
    if run.job is None:
        if now - run.looked < ELSEWHERE_EVERY_S:
            return
        run.looked, run.since = now, run.since or now
        run.job = jobs.found(store.run_dir(run.key.run_id))  # a cluster that could not be asked before
        status = store.status(run.key.run_id)
        if status in ENDED:
            run.end = _outcome(store, run, None, metric, now - run.since)
        elif run.job is None and status not in ("running", "queued"):
            _again(store, run, submit, metric, now - run.since)
        return
    state = run.job.state()
    if state != "queued" and run.since is None:
        run.since = now
    if state != "ended":
        return
    ending, seconds = run.job.ending(), now - (run.since or now)
    jobs.record_ending(run.job.run_dir, ending, seconds)
    handles.forget(run.job.run_dir)
    status = store.status(run.key.run_id)
    if status == "running" or (ending is not None and ending.kind == "held" and status not in ENDED):
        run.job = None
    elif ending is not None and ending.kind == "unfinished" and status not in ENDED:
        _again(store, run, submit, metric, seconds)
    elif ending is not None and ending.kind == "lost" and status not in ENDED and run.losses < RETRIES:
        run.losses += 1
        _again(store, run, submit, metric, seconds)
    else:
        run.end = _outcome(store, run, ending, metric, seconds)


def _again(store: Store, run: _Launched, submit: Callable[[RunKey], Job], metric: str | None, seconds: float) -> None:
    """Submits a run another time, unless it was cancelled."""
    if handles.asked_to_stop(store.run_dir(run.key.run_id)):
        run.end = _outcome(store, run, None, metric, seconds)
    else:
        run.job, run.since = submit(run.key), None


def _snapshot(store: Store, launched: Sequence[_Launched], start: float, remaining: Remaining) -> Snapshot:
    now = time.monotonic()
    open_runs = [run for run in launched if run.end is None]
    active = tuple(
        Active(run.key, now - run.since, store.progress(run.key.run_id)) for run in open_runs if run.since is not None
    )
    queued = [run.key for run in open_runs if run.since is None]
    return Snapshot(
        ended=len(launched) - len(open_runs),
        total=len(launched),
        active=active,
        seconds=now - start,
        seconds_left=remaining.left_s(queued, active),
    )


def _outcome(store: Store, run: _Launched, ending: Ending | None, metric: str | None, seconds: float) -> Ended:
    status = store.status(run.key.run_id)
    if ending is not None and ending.kind == "unrecorded":
        return Ended(run.key, "failed", seconds, ending.text, None)
    if status in ("missing", "running") or not (store.run_dir(run.key.run_id) / "record.json").exists():
        cancelled = handles.asked_to_stop(store.run_dir(run.key.run_id))
        cause = "cancelled" if cancelled else ending.text if ending else "its process ended without a word"
        return Ended(run.key, "interrupted", seconds, cause, None)
    record = store.read_record(run.key.run_id)
    error = record["error"]
    why = f"{error['type']}: {error['message']}" if error else None
    if ending is not None and ending.kind == "stuck":
        why = ending.text
    if run.losses and status == "interrupted":
        why = f"{why}, for the {run.losses + 1}. time"
    return Ended(run.key, status, record["seconds"], why, record["scores"].get(metric))
