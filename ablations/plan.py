"""From a study to its runs: variants, seeds, hashes, and a forecast of time. Light: imports no pydantic, no torch."""

from __future__ import annotations

import hashlib
import heapq
import json
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ablations.recorded import IMPORTED, identity

if TYPE_CHECKING:
    from ablations.study import Ablation, Level, Study

ASSUMED_FLOPS_PER_S = 8e10
"""Rate of one CPU worker where nothing was measured: a small transformer in fp32 on one core of a 2020s server."""

ASSUMED_GPU_FLOPS_PER_S = 1e13
"""The same of a GPU: between what short runs of a small model and of one of CodeBERT's size reach, start included."""


@dataclass(frozen=True)
class Variant:
    """The baseline, or the baseline plus changes.

    Attributes:
        name: ``baseline``, or the level's name.
        ablation: The ablation it belongs to; None for the baseline.
        group: The ablation's group.
        changes: Dotted key to value, where it is set and differs from the baseline.
        config: All parameters, flat.
        config_hash: See :func:`config_hash`; of ``config`` without ``silent``.
        label: The changes in words, e.g. ``decoder.layers 4 → 32``.
        waits_for: What has to be done before it is known, in words; empty where it is. Until then ``config`` is what
            its search starts from, and no run can have its ``config_hash``.
        silent: Keys of ``config`` that do not identify its runs (``Schema.silent``), and that no record holds.
    """

    name: str
    ablation: str | None
    group: str
    changes: Mapping[str, Any]
    config: Mapping[str, Any]
    config_hash: str
    label: str
    waits_for: str = ""
    silent: frozenset[str] = frozenset()

    @property
    def identifying(self) -> dict[str, Any]:
        """What its runs are identified by, and what their records hold."""
        return {key: value for key, value in self.config.items() if key not in self.silent}


@dataclass(frozen=True)
class RunKey:
    """What identifies a run: a variant, a seed, and the hash of the resolved config."""

    variant: str
    seed: int
    config_hash: str

    @property
    def run_id(self) -> str:
        """Its folder's name under ``results/runs``; the same config and seed have the same in every study."""
        return f"{self.config_hash[:12]}-s{self.seed}"


@dataclass(frozen=True)
class Saved:
    """What a run does not compute itself because it begins with the training of another one.

    Attributes:
        source: Id of that other run, which has to end first.
        training: Share of its training, 0 to 1.
        validation: Share of its validations, 0 to 1.
    """

    source: str
    training: float
    validation: float


@dataclass(frozen=True)
class Forecast:
    """How long the runs take.

    Attributes:
        seconds: Of one whole run, by variant; None where nothing is known.
        own: Of one of the runs to make, on average, without what it takes over; as ``seconds`` where there is none.
        total: Until the last run ends, in seconds, without what runs take over from each other; None where nothing is
            known of one of them.
        runs: Number of runs forecast.
        source: What the forecast rests on, for the user.
    """

    seconds: Mapping[str, float | None]
    own: Mapping[str, float | None]
    total: float | None
    runs: int
    source: str


def expand(study: Study) -> list[Variant]:
    """All variants of a study, the baseline first, in the order of the file."""
    unchanged = Variant(
        "baseline",
        None,
        "",
        MappingProxyType({}),
        study.baseline,
        config_hash(study.experiment, study.schema.identifying(study.baseline)),
        "no change",
        silent=study.schema.silent(study.baseline),
    )
    return [unchanged, *(_variant(study, each, level) for each in study.ablations for level in each.levels)]


def _variant(study: Study, ablation: Ablation, level: Level) -> Variant:
    config = {**study.baseline, **level.changes} if level.config is None else dict(level.config)
    identifying = study.schema.identifying(config)
    identity = config_hash(study.experiment, identifying)
    if ablation.search and level.waits_for:
        identity = ablation.search.identity(study.experiment, identifying)
    return Variant(
        name=level.name,
        ablation=ablation.name,
        group=ablation.group,
        changes=level.changes,
        config=MappingProxyType(config),
        config_hash=identity,
        label=level.label,
        waits_for=level.waits_for,
        silent=study.schema.silent(config),
    )


def run_keys(study: Study) -> list[RunKey]:
    """All planned runs, seed by seed: every arm has its first seed before any has its second.

    Of adaptive seeds: those of the rounds that the looks taken so far have led to.
    """
    taken = [(each, frozenset(seeds_of(study, each.name))) for each in expand(study)]
    return [RunKey(each.name, seed, each.config_hash) for seed in study.seeds for each, own in taken if seed in own]


def seeds_of(study: Study, variant: str) -> tuple[int, ...]:
    """The seeds that a variant takes, as far as the looks taken so far tell.

    A settled arm keeps those of the look that settled it. All others, and the baseline, with which they are compared,
    take those of the next round, as long as an arm is open and there is one. Of imported runs: those that there are.
    """
    if study.experiment == IMPORTED:
        return study.recorded.get(variant, ())
    if not study.rounds:
        return study.seeds
    rounds = next((at for at, look in enumerate(study.taken) if variant in look.settled), None)
    if rounds is None:
        goes_on = not study.taken or (bool(study.taken[-1].open) and len(study.taken) < len(study.rounds))
        rounds = len(study.taken) if goes_on else len(study.taken) - 1
    return study.seeds[: study.rounds[rounds]]


def seed_words(study: Study) -> str:
    """How many seeds an arm takes, in words: ``5 seeds``, ``5 to 12 seeds``, of imported runs ``3 to 5 runs``."""
    if study.experiment == IMPORTED:
        counts = sorted({len(seeds) for seeds in study.recorded.values()} - {0})
        ends = " to ".join(map(str, dict.fromkeys(counts[:1] + counts[-1:])))
        return f"{ends} run{'' if counts == [1] else 's'}" if counts else "imported runs"
    if study.rounds:
        return f"{study.rounds[0]} to {study.rounds[-1]} seeds"
    return f"{len(study.seeds)} seed{'' if len(study.seeds) == 1 else 's'}"


def config_hash(experiment: str, config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the experiment's name and the resolved config as canonical JSON."""
    if experiment == IMPORTED:
        config = identity(config)
    canonical = json.dumps(
        {"experiment": experiment, "config": dict(config)}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def seed_for(part: str, seed: int) -> int:
    """Seed of a named part of a run, e.g. ``initialisation``, from 0 to 2**63 - 1.

    It never depends on the variant: the data order and the initialisation of a seed are the same in every arm,
    otherwise pairs are no pairs.
    """
    return int.from_bytes(hashlib.sha256(f"{part}:{seed}".encode()).digest()[:8], "big") >> 1


def forecast(
    variants: Sequence[Variant],
    keys: Sequence[RunKey],
    history: Iterable[Mapping[str, Any]] = (),
    workers: int = 1,
    *,
    assumed: float = ASSUMED_FLOPS_PER_S,
    flops: Callable[[Mapping[str, Any]], float | None] = lambda config: None,
    saved: Mapping[str, Saved] = MappingProxyType({}),
) -> Forecast:
    """Forecasts the time that runs take.

    A variant's finished runs tell its time. Where it has none, its counted FLOPs are divided by the rate of the
    other finished runs (their FLOPs over their seconds, the median; those of these variants are counted in the same
    way, those of others are what they recorded, and taken where there are none), or by an assumed rate. What a run
    takes over counts as the share that it is of its training and validations, which are as large a part of a run as
    they were of finished ones; where none has said so, training is all of it.

    Args:
        variants: From :func:`expand`.
        keys: The runs to make, each of one of the variants.
        history: Finished runs on this machine, each with ``config_hash``, ``flops`` (may be None) and ``seconds``, and
            where they are known ``seconds_training`` and ``seconds_evaluation``.
        workers: Runs that go on at once.
        assumed: Operations per second of a worker where nothing was measured.
        flops: Counts the FLOPs of a config's run, as ``Schema.flops`` does.
        saved: By id of a run, what it takes over; those that are not in it compute all themselves.
    """
    past = [row for row in history if _positive(row.get("seconds"))]
    own: dict[str, list[float]] = {}
    for row in past:
        own.setdefault(str(row.get("config_hash")), []).append(float(row["seconds"]))
    counts = {variant.config_hash: flops(variant.config) for variant in variants}
    rates = _rates({name: count for name, count in counts.items() if count}, past)
    rate = statistics.median(rates) if rates else assumed
    seconds: dict[str, float | None] = {}
    for variant in variants:
        if variant.config_hash in own:
            seconds[variant.name] = statistics.fmean(own[variant.config_hash])
        else:
            count = counts[variant.config_hash]
            seconds[variant.name] = count / rate if count else None
    counted = any(variant.config_hash not in own for variant in variants)
    source = _source(len(past), len(rates), counted, None in seconds.values(), assumed)
    left = _left(keys, saved, past)
    total = _makespan(keys, [_times(left[key.run_id], seconds[key.variant]) for key in keys], saved, workers)
    shares: dict[str, list[float]] = {}
    for key in keys:
        shares.setdefault(key.variant, []).append(left[key.run_id])
    means = {name: _times(statistics.fmean(shares.get(name, [1.0])), whole) for name, whole in seconds.items()}
    return Forecast(MappingProxyType(seconds), MappingProxyType(means), total, len(keys), source)


def _rates(counts: Mapping[str, float], past: Sequence[Mapping[str, Any]]) -> list[float]:
    """FLOPs per second of finished runs: as they are counted now, else as recorded (which may leave out padding)."""
    alike = [counts[row["config_hash"]] / float(row["seconds"]) for row in past if row.get("config_hash") in counts]
    return alike or [float(row["flops"]) / float(row["seconds"]) for row in past if _positive(row.get("flops"))]


def _left(keys: Sequence[RunKey], saved: Mapping[str, Saved], past: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By id of a run, the share of its time that is left to it where it takes over something."""
    parts = [
        [float(row[part]) / float(row["seconds"]) for part in ("seconds_training", "seconds_evaluation")]
        for row in past
        if _positive(row.get("seconds_training")) and _positive(row.get("seconds_evaluation"))
    ]
    training, validation = map(statistics.median, zip(*parts, strict=True)) if parts else (1.0, 0.0)
    left = {}
    for key in keys:
        each = saved.get(key.run_id)
        left[key.run_id] = 1 - each.training * training - each.validation * validation if each else 1.0
    return {run_id: max(0.0, share) for run_id, share in left.items()}


def _times(share: float, seconds: float | None) -> float | None:
    return None if seconds is None else share * seconds


def _positive(value: Any) -> bool:
    """Whether it is a number above 0; NaN, as tables have it for none, is not."""
    return isinstance(value, (int, float)) and 0 < value < float("inf")


def _source(past: int, rated: int, counted: bool, unknown: bool, rate: float) -> str:
    runs = f"{past} finished run{'' if past == 1 else 's'}"
    if not counted:
        return f"from {runs}"
    if unknown:
        return f"from {runs}; unknown for the others" if past else "unknown until a run has finished"
    if rated:
        return f"from {runs}; variants without one: counted FLOPs at their rate"
    assumed = f"counted FLOPs at an assumed {rate / 1e9:,.0f} GFLOP/s a worker"
    return f"from {runs}; variants without one, roughly: {assumed}" if past else f"rough: {assumed}"


def _makespan(
    keys: Sequence[RunKey], seconds: Sequence[float | None], saved: Mapping[str, Saved], workers: int
) -> float | None:
    """Time until the last run ends when each free worker takes the next run that waits for no other one."""
    known = [each for each in seconds if each is not None]
    if len(known) < len(seconds):
        return None
    planned = {key.run_id for key in keys}
    waiting, held_back = deque[tuple[str, float]](), dict[str, list[tuple[str, float]]]()
    for key, taken in zip(keys, known, strict=True):
        source = saved[key.run_id].source if key.run_id in saved else None
        queue = held_back.setdefault(source, []) if source in planned else waiting
        queue.append((key.run_id, taken))
    now, running = 0.0, list[tuple[float, str]]()
    while waiting or running:
        while waiting and len(running) < max(1, workers):
            run_id, taken = waiting.popleft()
            heapq.heappush(running, (now + taken, run_id))
        now, ended = heapq.heappop(running)
        waiting.extendleft(reversed(held_back.pop(ended, [])))
    return now
