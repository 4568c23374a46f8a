"""Runs again what records describe, in a folder of its own, and compares every number with the record.

What is run is what the *record* says: its config, its seed, its number of threads; the study's file only names runs.
The results folder is read, never written.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ablations.errors import AblationsError, MissingRuns, UnknownName, one_of
from ablations.experiments import schema_for
from ablations.plan import RunKey, Variant, config_hash, run_keys
from ablations.recorded import is_imported
from ablations.schema import Schema
from ablations.store import Store, read_metrics

if TYPE_CHECKING:
    from ablations.executors.base import Executor
    from ablations.launch import Watcher
    from ablations.study import Study

Judgement = Literal["identical", "within tolerance", "different"]
Outcome = Literal["identical", "within tolerance", "different", "cannot be re-run"]

TOLERANCE = 1e-6
REPEATABLE = ("completed", "diverged")
_CLOCK = re.compile(r"^seconds(_|$)|(^|_)(s|ms|seconds|mb|gb)$")


@dataclass(frozen=True)
class Number:
    """One score, as recorded and as it comes out now; None where it is absent or not finite."""

    name: str
    recorded: float | None
    repeated: float | None
    judgement: Judgement


@dataclass(frozen=True)
class Series:
    """All values of one metric that were logged during a run.

    Attributes:
        name: The metric.
        identical: Values that are the same to the bit.
        within: Values that differ by no more than the tolerance.
        different: The others, also those that only one of the two runs has.
        largest: Largest absolute difference.
        step: Where that is; None where nothing differs.
    """

    name: str
    identical: int
    within: int
    different: int
    largest: float
    step: int | None

    @property
    def judgement(self) -> Judgement:
        """The worst of its values."""
        return "different" if self.different else "within tolerance" if self.within else "identical"


@dataclass(frozen=True)
class Verified:
    """What became of one run.

    Attributes:
        run_id: The run.
        variant: Its variant's name in the record.
        seed: Its seed.
        outcome: The worst of its numbers, or ``cannot be re-run``.
        reason: Why it cannot, or what ended differently; None where its numbers say it.
        scores: What the runs ended with.
        series: What they logged on the way, without what is measured by the clock.
        changed: What is not as it was when the record was made: name to (then, now).
    """

    run_id: str
    variant: str
    seed: int
    outcome: Outcome
    reason: str | None = None
    scores: tuple[Number, ...] = ()
    series: tuple[Series, ...] = ()
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self)
        found["series"] = [{**asdict(each), "judgement": each.judgement} for each in self.series]
        return found


# -- which runs -----------------------------------------------------------------------------------------------


def completed(store: Store, study: Study | None) -> list[dict[str, Any]]:
    """Records that can be repeated: of the study's planned runs, named as it names them, or of the whole folder.

    Raises:
        MissingRuns: There is none.
    """
    if study is None:
        found = [record for record in store.records() if record["status"] in REPEATABLE]
    else:
        planned = {key.run_id: key.variant for key in reversed(run_keys(study))}
        ordered = {key.run_id: None for key in run_keys(study)}
        records = {each: _record(store, each) for each in ordered}
        found = [
            {**record, "variant": planned[run_id]}
            for run_id, record in records.items()
            if record is not None and record["status"] in REPEATABLE
        ]
    if not found:
        whose = f"of the study {study.name} " if study else ""
        raise MissingRuns(f"{store.root}: no completed run {whose}to verify")
    return found


def _record(store: Store, run_id: str) -> dict[str, Any] | None:
    try:
        return store.read_record(run_id)
    except FileNotFoundError:
        return None


def named(records: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[Mapping[str, Any]]:
    """The records that names mean: a run's id, the beginning of one (six characters or more), or a variant.

    Raises:
        UnknownName: A name means none of them.
    """
    chosen: dict[str, Mapping[str, Any]] = {}
    for name in names:
        found = [each for each in records if name in (each["run_id"], each["variant"])] or [
            each for each in records if len(name) >= 6 and each["run_id"].startswith(name)
        ]
        if not found:
            variants = dict.fromkeys(each["variant"] for each in records)
            raise UnknownName(
                f"{one_of('variant', name, variants)}; a run is named by its folder under runs/, such as "
                f"{records[0]['run_id']}"
            )
        chosen.update((each["run_id"], each) for each in found)
    return [each for each in records if each["run_id"] in chosen]


def sampled(records: Sequence[Mapping[str, Any]], size: int, seed: int) -> list[Mapping[str, Any]]:
    """So many of the records, the same ones for a seed: those whose id hashes lowest with it."""

    def rank(record: Mapping[str, Any]) -> str:
        return hashlib.sha256(f"{seed}:{record['run_id']}".encode()).hexdigest()

    chosen = {each["run_id"] for each in sorted(records, key=rank)[:size]}
    return [each for each in records if each["run_id"] in chosen]


# -- what stands in the way -----------------------------------------------------------------------------------


def obstacle(
    record: Mapping[str, Any], say: Callable[[str], None] = lambda line: None, folder: Path | None = None
) -> str | None:
    """Why a record cannot be run again, or None; makes its data ready.

    Args:
        record: The record.
        say: Called with a line on what is being made ready.
        folder: Where the experiment may lie; by default the current one.
    """
    from ablations import runner

    experiment, config = record["experiment"], record["config"]
    if is_imported(record):
        return "it was imported, not made here: nothing is known that would run it again"
    expected = config_hash(experiment, config)
    if expected != record["config_hash"]:
        return f"its config has the hash {expected[:12]}, the record says {record['config_hash'][:12]}: it was edited"
    try:
        problems = list(_misfits(experiment, config, folder or Path()))
        if problems:
            return f"its config is no longer valid: {'; '.join(problems)}"
        runner.prepare(experiment, [config], say)
    except AblationsError as error:
        return str(error)
    except Exception as error:  # whatever a stranger's module does while it is imported
        return f"{type(error).__name__}: {error}"
    return None


def _misfits(experiment: str, config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """What the experiment, as it is now, says against a config of then."""
    with contextlib.closing(schema_for(experiment, folder)) as schema:
        yield from _said(schema, config)


def _said(schema: Schema, config: Mapping[str, Any]) -> Iterator[str]:
    """What a schema says against a config: of its values, then of what fits together."""
    said = [(key, schema.problem(key, value)) for key, value in config.items()]
    wrong = [f"{key}: {problem}" for key, problem in said if problem]
    yield from wrong
    if not wrong:
        yield from (f"{key}: {message}" for key, message in schema.cross_check({**schema.defaults(), **config}))


# -- run again ------------------------------------------------------------------------------------------------


def repeat(
    records: Sequence[Mapping[str, Any]],
    scratch: Store,
    started: Callable[[str, int, int], Executor],
    watching: Watcher,
    workers: Callable[[int], int],
) -> None:
    """Runs records again, into another store.

    Args:
        records: What to run.
        scratch: Where to.
        started: Gives an executor for an experiment, runs at a time, and threads of each.
        watching: Is told how it goes.
        workers: Gives how many runs of so many threads go on at a time.
    """
    from ablations.launch import Remaining, launch

    groups: dict[tuple[str, int | None], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["experiment"], record["environment"].get("threads")), []).append(record)
    for (experiment, threads), group in groups.items():
        variants = {_name(each, records): _variant(each, records) for each in group}
        keys = [RunKey(_name(each, records), each["seed"], each["config_hash"]) for each in group]
        seconds: dict[str, list[float]] = {}
        for key, each in zip(keys, group, strict=True):
            seconds.setdefault(key.variant, []).append(each["seconds"])
        at_once = max(1, min(workers(threads or 1), len(group)))
        remaining = Remaining({name: statistics.fmean(each) for name, each in seconds.items()}, at_once)
        with started(experiment, at_once, threads or 1) as executor:
            launch(scratch, executor, keys, variants, experiment, remaining, watching, metric=None, threads=threads)


def _name(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """A variant's name, made unambiguous where two configs in the folder have it."""
    name = str(record["variant"])
    hashes = {each["config_hash"] for each in records if each["variant"] == name}
    return name if len(hashes) == 1 else f"{name} ({record['config_hash'][:12]})"


def _variant(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Variant:
    config = record["config"]
    return Variant(_name(record, records), None, "", {}, config, record["config_hash"], "")


# -- compare --------------------------------------------------------------------------------------------------


def verified(
    record: Mapping[str, Any], store: Store, scratch: Store, *, tolerance: float = TOLERANCE, ignore: Sequence[str] = ()
) -> Verified:
    """Compares a record with its repetition.

    Args:
        record: What was recorded.
        store: Where its logged values lie.
        scratch: Where the repetition lies.
        tolerance: Largest difference that counts as none, relative to the number where that is above 1.
        ignore: Metrics that are left out.
    """
    who = {"run_id": record["run_id"], "variant": record["variant"], "seed": record["seed"]}
    again = _record(scratch, record["run_id"])
    if again is None or again["status"] not in REPEATABLE:
        error = again["error"] if again else None
        cause = f"{error['type']}: {error['message']}" if error else "its process ended without a word"
        reason = f"its repetition failed: {cause}"
        return Verified(**who, outcome="cannot be re-run", reason=reason, changed=changes(record, again))
    skipped = {name for name in (*record["scores"], *again["scores"]) if name in ignore or _CLOCK.search(name)}
    scores = tuple(
        Number(name, recorded, repeated, judge(recorded, repeated, tolerance))
        for name in dict.fromkeys((*record["scores"], *again["scores"]))
        if name not in skipped
        for recorded, repeated in [(record["scores"].get(name), again["scores"].get(name))]
    )
    series = tuple(_compared(_logged(store, record, ignore), _logged(scratch, record, ignore), tolerance))
    same_end = again["status"] == record["status"]
    return Verified(
        **who,
        outcome=worst([*scores, *series]) if same_end else "different",
        reason=None if same_end else f"recorded as {record['status']}, now {again['status']}",
        scores=scores,
        series=series,
        changed=changes(record, again),
    )


def judge(recorded: float | None, repeated: float | None, tolerance: float) -> Judgement:
    """How two values of one number compare.

    >>> judge(0.25, 0.25, 1e-6), judge(0.25, 0.25 + 1e-9, 1e-6), judge(0.25, None, 1e-6)
    ('identical', 'within tolerance', 'different')
    """
    if recorded == repeated:
        return "identical"
    if recorded is None or repeated is None:
        return "different"
    close = abs(recorded - repeated) <= tolerance * max(1.0, abs(recorded))
    return "within tolerance" if close else "different"


def worst(numbers: Iterable[Number | Series]) -> Judgement:
    """The worst that is said of some numbers."""
    found = {each.judgement for each in numbers}
    order: tuple[Judgement, ...] = ("different", "within tolerance")
    return next((each for each in order if each in found), "identical")


Logged = dict[str, dict[tuple[int, int], float | None]]


def _logged(store: Store, record: Mapping[str, Any], ignore: Sequence[str]) -> Logged:
    """What a run logged: by metric, then by step and how often that step had come before."""
    found: Logged = {}
    seen: Counter[tuple[str, int]] = Counter()
    for name, step, value, _ in read_metrics(store.run_dir(record["run_id"]) / "metrics.jsonl"):
        if name not in ignore and not _CLOCK.search(name):
            found.setdefault(name, {})[step, seen[name, step]] = value
            seen[name, step] += 1
    return found


def _compared(recorded: Logged, repeated: Logged, tolerance: float) -> Iterator[Series]:
    """One entry a metric; none where the record's values were not kept."""
    if not recorded:
        return
    for name in dict.fromkeys((*recorded, *repeated)):
        old, new = recorded.get(name, {}), repeated.get(name, {})
        counts = dict.fromkeys(("identical", "within tolerance", "different"), 0)
        largest, where = 0.0, None
        for place in sorted(old.keys() | new.keys()):
            present = place in old and place in new
            counts[judge(old[place], new[place], tolerance) if present else "different"] += 1
            before, after = old.get(place), new.get(place)
            apart = abs(before - after) if before is not None and after is not None else 0.0
            if apart > largest:
                largest, where = apart, place[0]
        yield Series(name, counts["identical"], counts["within tolerance"], counts["different"], largest, where)


# -- what changed since ---------------------------------------------------------------------------------------


def changes(record: Mapping[str, Any], again: Mapping[str, Any] | None = None) -> dict[str, tuple[Any, Any]]:
    """What is not as it was when a record was made: code, data, packages, device, threads.

    Args:
        record: The record.
        again: That of its repetition; without one, this process and the experiment as it is now are asked.
    """
    if again is None and is_imported(record):
        return {}
    if again is None:
        again = _present(record)
    then, now = _provenance(record), _provenance(again)
    return {name: (then.get(name), now[name]) for name in now if then.get(name) != now[name]}


def _provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """What may explain a difference, by name; what is not known is left out."""
    code, environment = record.get("code") or {}, record.get("environment") or {}
    found = {
        "code": code.get("package_hash"),
        "commit": code.get("git_commit"),
        "uncommitted changes": code.get("git_dirty"),
        "data": ((record.get("info") or {}).get("data") or {}).get("fingerprint"),
    }
    found |= {name: environment.get(name) for name in ("python", "platform", "cpu", "device", "threads")}
    found |= environment.get("packages") or {}
    return {name: value for name, value in found.items() if value is not None}


def _present(record: Mapping[str, Any]) -> dict[str, Any]:
    from ablations import runner

    here = runner.environment({"threads": record["environment"].get("threads")}, record["experiment"])
    here.pop("device")  # this process has no torch: it cannot know
    try:
        code = runner.code_of(record["experiment"])
    except Exception:  # the reason why it cannot be run is said already
        code = {}
    return {"environment": here, "code": code}
