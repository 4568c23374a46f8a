"""Submits runs and follows them until they have ended; knows no experiment and prints nothing."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ablations import handles, jobs
from ablations.executors.base import Ending, Executor, Job
from ablations.jobs import ENDED
from ablations.metricslog import PROGRESS_EVERY_S
from ablations.plan import RunKey, Variant
from ablations.sharing import Sharing, taken_over
from ablations.store import Progress, Store

POLL_S = 0.2
ELSEWHERE = ("running", "queued")  # statuses of what is not for this launch to begin
AT_ONCE = 16  # files that are written at once before the first run
ELSEWHERE_EVERY_S = 1.0  # how often the runs of other processes are looked at
RETRIES = 2  # times that a launch starts a run again whose process was lost


@dataclass(frozen=True)
class Active:
    """A run in progress.

    Attributes:
        key: The run.
        seconds: Since it started.
        progress: How far it is; None before its first value.
        first: Share that was done when it was first seen, of another run or another attempt, and its seconds by then.
    """

    key: RunKey
    seconds: float
    progress: Progress | None
    first: tuple[float, float] = (0.0, 0.0)

    @property
    def share(self) -> float:
        """Share of its steps that are done, 0 to 1."""
        return _share(self.progress)


def _share(progress: Progress | None) -> float:
    return min(1.0, progress.step / progress.steps) if progress is not None and progress.steps else 0.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a launch.

    Attributes:
        ended: Runs that have ended, however they did.
        total: Runs of this launch.
        active: Runs in progress.
        seconds: Since the launch began.
        seconds_left: Forecast, or None while nothing is known.
        waits_for: What runs that were submitted wait for, as a cluster says it, and how many do.
    """

    ended: int
    total: int
    active: tuple[Active, ...]
    seconds: float
    seconds_left: float | None
    waits_for: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        key: The run.
        status: As the store has it; ``interrupted`` where its process died without a word.
        seconds: Wall time of its own, without what it took over from another run.
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
    _taken: dict[str, list[float]] = field(default_factory=dict)  # by variant: runs, and their seconds in all
    _foreseen: list[float] = field(default_factory=lambda: [0.0, 0.0])  # seconds taken, and expected of the same runs

    def learn(self, run: Ended) -> None:
        """Takes how a run ended."""
        if run.status != "completed":
            return
        own = self._taken.setdefault(run.key.variant, [0, 0.0])
        own[0] += 1
        own[1] += run.seconds
        expected = self.expected_s[run.key.variant]
        if expected is not None:
            self._foreseen[0] += run.seconds
            self._foreseen[1] += expected

    def left_s(self, queued: Mapping[str, int], active: Sequence[Active]) -> float | None:
        """Seconds until all have ended; None while that cannot be known.

        Args:
            queued: How many runs of each variant wait.
            active: Runs in progress.
        """
        names = {*(name for name, count in queued.items() if count), *(run.key.variant for run in active)}
        whole = {name: self._whole_s(name) for name in names}
        if None in whole.values():
            return None
        waiting = sum((whole.get(name) or 0.0) * count for name, count in queued.items())
        rests = [self._rest_s(run, whole[run.key.variant] or 0.0) for run in active]
        return max([(waiting + sum(rests)) / self.workers, *rests])

    def _whole_s(self, variant: str) -> float | None:
        """Seconds of a whole run: what the variant's own runs took, else the forecast at the pace of the others."""
        if variant in self._taken:
            runs, seconds = self._taken[variant]
            return seconds / runs
        expected = self.expected_s[variant]
        if expected is None:
            runs, seconds = (sum(each) for each in zip(*self._taken.values(), strict=True)) if self._taken else (0, 0.0)
            return seconds / runs if runs else None
        taken, foreseen = self._foreseen
        return expected * (taken / foreseen if foreseen else 1.0)

    def _rest_s(self, run: Active, whole: float) -> float:
        done, seconds = run.share - run.first[0], run.seconds - run.first[1]
        if done > 0.1:  # what it shows by itself is better than what others took
            return seconds / done * (1 - run.share)
        return max(0.0, whole - run.seconds)


@dataclass(eq=False)
class _Launched:
    """A run of this launch: a job of its own, or none while another process has it."""

    key: RunKey
    job: Job | None = None
    since: float | None = None
    losses: int = 0
    looked: float = 0.0
    asked: float = -math.inf
    progress: Progress | None = None
    first: tuple[float, float] | None = None
    end: Ended | None = None


def launch(
    store: Store,
    executor: Executor,
    todo: Sequence[RunKey],
    variants: Mapping[str, Variant],
    experiment: str,
    remaining: Remaining,
    watcher: Watcher,
    sharing: Sharing | None = None,
    **settings: object,
) -> list[Ended]:
    """Runs all of ``todo``; a failed run stops none of the others.

    What another process is running or a cluster has queued is waited for, and run here if that comes to nothing. A run
    whose process is lost is started again, ``RETRIES`` times at most; one that was cancelled is not. A run that takes
    over the training of another one starts when that has ended, however it did; no other run waits for it.

    Args:
        store: Where the runs' folders lie.
        executor: Runs them.
        todo: What to run, in this order.
        variants: By name.
        experiment: ``package.module:name``.
        remaining: Forecasts the time left.
        watcher: Is told of every end and every moment.
        sharing: Which run takes over what of which; None for no run.
        **settings: Handed to each run: what changes no result. ``metric`` is the score to tell of, without which a run
            has failed.

    Returns:
        One entry a run, in the order of their ends.
    """
    launching = _launching(store, executor, todo, variants, experiment, sharing or Sharing(), settings)
    ends: list[Ended] = []
    while len(ends) < len(todo):
        launching.start_waiting()
        ended = launching.look()
        for end in ended:
            remaining.learn(end)
        snapshot = launching.snapshot(remaining)  # one a look: it asks all that run how far they are
        for end in ended:
            ends.append(end)
            watcher.ended(end, replace(snapshot, ended=len(ends)))
        watcher.tick(snapshot)
        if not ended:
            executor.wait(POLL_S)
    return ends


def submit(
    store: Store,
    executor: Executor,
    todo: Sequence[RunKey],
    variants: Mapping[str, Variant],
    experiment: str,
    sharing: Sharing,
    **settings: object,
) -> tuple[int, int]:
    """Submits ``todo`` to an executor whose jobs outlast it, and leaves them; arguments as of :func:`launch`.

    Returns:
        How many runs it has submitted, and how many of those it should have it has not: they wait for their turn.
    """
    launching = _launching(store, executor, todo, variants, experiment, sharing, settings)
    launching.start_waiting()
    left = executor.leave()
    return launching.submitted - left, left


def _launching(
    store: Store,
    executor: Executor,
    todo: Sequence[RunKey],
    variants: Mapping[str, Variant],
    experiment: str,
    shared: Sharing,
    settings: Mapping[str, object],
) -> _Launching:
    def prepare(key: RunKey) -> Path:
        own = {**settings, **shared.settings_of(store, key.run_id)}
        return store.prepare(key, variants[key.variant], experiment, **own)

    metric = settings.get("metric")
    return _Launching(store, executor, shared, prepare, str(metric) if metric else None, shared.ordered(todo))


class _Launching:
    """The runs of one launch: those that wait, those held back for another's training, and those that have begun.

    Only what has begun is looked at: a launch of a hundred thousand runs costs a moment what its running ones do.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        sharing: Sharing,
        prepare: Callable[[RunKey], Path],
        metric: str | None,
        todo: Sequence[RunKey],
    ):
        self._store, self._executor, self._sharing = store, executor, sharing
        self._prepare, self._metric = prepare, metric
        self.submitted = 0
        self._begun: dict[str, _Launched] = {}
        self._waiting: deque[RunKey] = deque()
        self._held_back: dict[str, list[RunKey]] = {}
        self._counts = Counter(key.variant for key in todo)
        self._total, self._start = len(todo), time.monotonic()
        planned = {key.run_id for key in todo}
        for key in todo:
            source = sharing.source_of(key.run_id)
            if source in planned:
                self._held_back.setdefault(source, []).append(key)
            else:
                self._waiting.append(key)
        with ThreadPoolExecutor(AT_ONCE) as pool:  # the disk confirms many files in the time of a few
            list(pool.map(self._announce, todo))

    def _announce(self, key: RunKey) -> None:
        """Prepares a run, unless somebody else has it: from now on it can be cancelled from anywhere."""
        if self._store.status(key.run_id) not in ELSEWHERE:
            self._prepare(key)

    def start_waiting(self) -> None:
        """Submits as many of the waiting runs as the executor has room for; waits for those that others run."""
        room = self._executor.room()
        while self._waiting and room > 0:
            key = self._waiting.popleft()
            jobs.settle(self._store, [key])
            run = self._begun[key.run_id] = _Launched(key, jobs.found(self._store.run_dir(key.run_id)))
            if run.job is not None or self._store.status(key.run_id) in ELSEWHERE:
                if not self._sharing.is_kept(self._store, key.run_id):
                    self._release(key.run_id)
                continue
            _again(self._store, run, self._submit, self._metric, 0.0)
            room -= 1

    def _submit(self, key: RunKey) -> Job:
        self.submitted += 1
        return self._executor.submit(self._prepare(key))

    def look(self) -> list[Ended]:
        """How those have ended that did since the last look."""
        ended = []
        for run in list(self._begun.values()):
            if run.end is None:
                _advance(self._store, run, self._submit, self._metric)
            if run.end is not None:
                ended.append(run.end)
                del self._begun[run.key.run_id]
                self._counts[run.key.variant] -= 1
                self._release(run.key.run_id)
                self._sharing.ended(self._store, run.key.run_id)
        return ended

    def _release(self, source: str) -> None:
        """Lets those go that waited for a run: before all others, for what they take over lies on the disk."""
        self._waiting.extendleft(reversed(self._held_back.pop(source, [])))

    def snapshot(self, remaining: Remaining) -> Snapshot:
        """The state of the launch."""
        now = time.monotonic()
        running = [run for run in self._begun.values() if run.since is not None]
        active = tuple(self._active(run, now) for run in running)
        queued = self._counts - Counter(run.key.variant for run in running)
        ended = self._total - self._counts.total()
        waiting = [run.job for run in self._begun.values() if run.since is None and run.job is not None]
        waits_for = Counter(job.waits_for for job in waiting if job.waits_for).most_common()
        left_s = remaining.left_s(queued, active)
        return Snapshot(ended, self._total, active, now - self._start, left_s, tuple(waits_for))

    def _active(self, run: _Launched, now: float) -> Active:
        """How far a run is, read anew as often as runs write it."""
        seconds = now - (run.since or now)
        if now - run.asked >= PROGRESS_EVERY_S:
            run.asked, run.progress = now, self._store.progress(run.key.run_id)
        if run.first is None and run.progress is not None:
            run.first = _share(run.progress), seconds
        return Active(run.key, seconds, run.progress, run.first or (0.0, 0.0))


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
    elif ending is not None and run.losses < RETRIES and _is_tried_again(ending, status):
        run.losses += 1
        _again(store, run, submit, metric, seconds)
    else:
        run.end = _outcome(store, run, ending, metric, seconds)


def _again(store: Store, run: _Launched, submit: Callable[[RunKey], Job], metric: str | None, seconds: float) -> None:
    """Submits a run, or submits it another time, unless it was cancelled."""
    if handles.asked_to_stop(store.run_dir(run.key.run_id)):
        run.end = _outcome(store, run, None, metric, seconds)
    else:
        run.job, run.since, run.progress, run.first = submit(run.key), None, None, None


def _is_tried_again(ending: Ending, status: str) -> bool:
    return ending.kind == "crowded" or (ending.kind == "lost" and status not in ENDED)


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
    own_s = record["seconds"] - taken_over(record).get("seconds", 0.0)
    return Ended(run.key, status, own_s, why, record["scores"].get(metric))
