"""Submits runs and follows them until they have ended; knows no experiment and prints nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ablations.executors.base import Executor, Job
from ablations.plan import RunKey, Variant
from ablations.store import Progress, Store

POLL_S = 0.2


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
    key: RunKey
    job: Job
    since: float | None = None
    ended: bool = field(default=False)


def launch(
    store: Store,
    executor: Executor,
    todo: Sequence[RunKey],
    variants: Mapping[str, Variant],
    experiment: str,
    remaining: Remaining,
    watcher: Watcher,
    metric: str,
    **settings: object,
) -> list[Ended]:
    """Runs all of ``todo``; a failed run stops none of the others.

    Args:
        store: Where the runs' folders lie.
        executor: Runs them.
        todo: What to run, in this order.
        variants: By name.
        experiment: ``package.module:name``.
        remaining: Forecasts the time left.
        watcher: Is told of every end and every moment.
        metric: The score to tell of.
        **settings: Handed to each run: what changes no result.

    Returns:
        One entry a run, in the order of their ends.
    """
    start = time.monotonic()
    launched = [
        _Launched(
            key, executor.submit(store.prepare(key, variants[key.variant], experiment, metric=metric, **settings))
        )
        for key in todo
    ]
    ends: list[Ended] = []
    while len(ends) < len(launched):
        now = time.monotonic()
        for run in launched:
            if run.ended:
                continue
            state = run.job.state()
            if state != "queued" and run.since is None:
                run.since = now
            if state == "ended":
                run.ended = True
                ends.append(_outcome(store, run, metric, now))
                remaining.learn(ends[-1])
                watcher.ended(ends[-1], _snapshot(store, launched, start, remaining))
        watcher.tick(_snapshot(store, launched, start, remaining))
        time.sleep(POLL_S)
    return ends


def _snapshot(store: Store, launched: Sequence[_Launched], start: float, remaining: Remaining) -> Snapshot:
    now = time.monotonic()
    open_runs = [run for run in launched if not run.ended]
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


def _outcome(store: Store, run: _Launched, metric: str, now: float) -> Ended:
    seconds = now - (run.since if run.since is not None else now)
    status = store.status(run.key.run_id)
    if status == "running":
        return Ended(run.key, status, seconds, run.job.ending(), None)
    if status not in ("completed", "pruned", "diverged", "failed"):
        cause = run.job.ending()
        if (store.run_dir(run.key.run_id) / "record.json").exists():
            cause = store.read_record(run.key.run_id)["error"]["message"]
        return Ended(run.key, "interrupted", seconds, cause or "its process ended without a word", None)
    record = store.read_record(run.key.run_id)
    error = record["error"]
    cause = f"{error['type']}: {error['message']}" if error else None
    return Ended(run.key, status, record["seconds"], cause, record["scores"].get(metric))
