"""``ablations verify``: what it does, in order, and the words around it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ablations import machine, repetition
from ablations.console import LiveWatcher, plain_table
from ablations.errors import AblationsError
from ablations.recorded import is_imported, origin
from ablations.repetition import TOLERANCE, Outcome, Verified
from ablations.store import Store

if TYPE_CHECKING:
    from ablations.executors.base import Executor
    from ablations.launch import Ended, Snapshot
    from ablations.study import Study

SAMPLE = 3
SHOWN, LONGEST = 20, 80
SYMBOLS: dict[Outcome, tuple[str, str]] = {
    "identical": ("✓", "green"),
    "within tolerance": ("≈", "green"),
    "different": ("✗", "red"),
    "cannot be re-run": ("!", "yellow"),
}


@dataclass(frozen=True)
class Wanted:
    """What to verify and how.

    Attributes:
        names: Runs and variants; none for a sample.
        everything: All completed runs instead of a sample.
        sample: Size of the sample.
        seed: Its seed.
        tolerance: Largest difference that counts as none, relative to numbers above 1.
        ignore: Metrics that are left out.
        workers: Runs at a time; None for one a GPU, or as many as the cores allow.
        into: Folder that keeps the repetitions; None to throw them away.
    """

    names: Sequence[str] = ()
    everything: bool = False
    sample: int = SAMPLE
    seed: int = 0
    tolerance: float = TOLERANCE
    ignore: Sequence[str] = ()
    workers: int | None = None
    into: Path | None = None


def verify_runs(store: Store, study: Study | None, wanted: Wanted, out: Console, as_json: bool) -> bool:
    """Runs records again and says, number by number, how they compare.

    Args:
        store: Holds the records; it is only read.
        study: Names the runs to draw from; None for all that the folder holds.
        wanted: Which runs.
        out: The terminal.
        as_json: Print everything as JSON instead.

    Returns:
        Whether every number is identical or within the tolerance, and every run could be repeated.

    Raises:
        MissingRuns: There is no completed run.
        UnknownName: A name means none.
        AblationsError: The folder for the repetitions is not empty.
    """
    records = repetition.completed(store, study)
    chosen = _chosen(records, wanted)
    progress = Console(stderr=True, markup=False, highlight=False)
    if not as_json:
        out.print(f"{len(chosen)} of {len(records)} completed runs, repeated from their records.", highlight=False)
    with _scratch(wanted.into) as folder:
        reasons = _obstacles(chosen, progress, study.folder if study else Path())
        runnable = [each for each in chosen if each["run_id"] not in reasons]
        with LiveWatcher(progress, "") if progress.is_terminal else Silent() as watching:
            repetition.repeat(
                runnable, Store(folder), _executor, watching, lambda threads: _workers(wanted.workers, threads)
            )
        found = [
            repetition.verified(each, store, Store(folder), tolerance=wanted.tolerance, ignore=wanted.ignore)
            if each["run_id"] not in reasons
            else _impossible(each, reasons[each["run_id"]])
            for each in chosen
        ]
    if as_json:
        print(json.dumps({"tolerance": wanted.tolerance, "runs": [each.as_dict() for each in found]}, indent=1))
    else:
        _show(found, wanted.tolerance, out)
    return all(each.outcome in ("identical", "within tolerance") for each in found)


class Silent:
    """Shows nothing: what a pipe gets is the outcome."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ended(self, run: Ended, snapshot: Snapshot) -> None:
        """Says nothing."""

    def tick(self, snapshot: Snapshot) -> None:
        """Says nothing."""


def verify_report(study: Path, results: Path, profile: str | None, report: Path, out: Console, as_json: bool) -> bool:
    """Computes a rendered report again from its records and says which numbers differ.

    Args:
        study: The study's file.
        results: The results folder; it is only read.
        profile: Name of a profile, or None for the one that fits the machine.
        report: The report's folder, or its page.
        out: The terminal.
        as_json: Print everything as JSON instead.

    Returns:
        Whether every number of the report follows from the records.

    Raises:
        StudyError: The study's file is wrong.
        AblationsError: There is no page.
    """
    from ablations.recomputed import check_report

    checked = check_report(study, results, profile, report)
    if as_json:
        print(json.dumps(asdict(checked), indent=1))
        return not checked.differences
    for each in checked.differences[:SHOWN]:
        line = Text("✗ ", style="red")
        line.append(f"{each.file}, {each.place}", style="default")
        line.append(
            f"\n    report {each.reported or 'nothing'}, records {each.recomputed or 'nothing'}", style="default"
        )
        out.print(line, soft_wrap=True)
    if len(checked.differences) > SHOWN:
        out.print(f"… and {len(checked.differences) - SHOWN} more (--json lists all).")
    for note in checked.notes:
        out.print(Text(f"Note: {note}."), soft_wrap=True)
    verdict = f"{len(checked.differences)} differ" if checked.differences else "all follow from the records"
    out.print(f"{checked.numbers} numbers and verdicts compared: {verdict}.")
    return not checked.differences


def _cut(text: str) -> str:
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") or "nothing"


def _chosen(records: Sequence[Mapping[str, Any]], wanted: Wanted) -> Sequence[Mapping[str, Any]]:
    if wanted.names:
        return repetition.named(records, wanted.names)
    return records if wanted.everything else repetition.sampled(records, wanted.sample, wanted.seed)


@contextmanager
def _scratch(into: Path | None) -> Iterator[Path]:
    """A folder for the repetitions: the one that is asked for, or one that is removed afterwards."""
    if into is not None:
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise AblationsError(f"{into}: expected a new or empty folder for the repetitions, found something in it")
        yield into
        return
    folder = Path(tempfile.mkdtemp(prefix="ablations-verify-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _obstacles(records: Sequence[Mapping[str, Any]], progress: Console, folder: Path) -> dict[str, str]:
    """Why runs cannot be repeated, by run id; each config is made ready once."""

    def say(line: str) -> None:
        if progress.is_terminal:
            progress.print(Text(line, style="dim"))

    of_config: dict[str, str | None] = {}
    for record in records:
        if record["config_hash"] not in of_config:
            of_config[record["config_hash"]] = repetition.obstacle(record, say, folder)
    found = {record["run_id"]: of_config[record["config_hash"]] for record in records}
    return {run_id: reason for run_id, reason in found.items() if reason}


def _impossible(record: Mapping[str, Any], reason: str) -> Verified:
    who = (record["run_id"], record["variant"], record["seed"])
    if is_imported(record):
        reason = f"{reason}. It is {origin(record)}"
    return Verified(*who, "cannot be re-run", reason, changed=repetition.changes(record))


def _workers(asked: int | None, threads: int) -> int:
    return asked or machine.gpus() or max(1, machine.cores() // threads)


def _executor(experiment: str, workers: int, threads: int) -> Executor:
    from ablations.executors.local import LocalExecutor

    return LocalExecutor(workers, threads, machine.gpu_names(), experiment)


# -- words ----------------------------------------------------------------------------------------------------


def _show(found: Sequence[Verified], tolerance: float, out: Console) -> None:
    common = [item for item in found[0].changed.items() if all(item in each.changed.items() for each in found)]
    for each in found:
        symbol, style = SYMBOLS[each.outcome]
        line = Text(f"{symbol} {each.outcome}", style=style)
        line.append(f"  {each.variant}, seed {each.seed}", style="default")
        line.append(f"  {each.run_id}", style="dim")
        if each.reason:
            line.append(f"\n    {each.reason}", style="default")
        out.print(line, soft_wrap=True)
        if each.scores or each.series:
            _show_numbers(each, out)
        own = [item for item in each.changed.items() if item not in common]
        if own:
            out.print(Text(f"    since the record: {_changes(own)}"), soft_wrap=True)
    out.print()
    if common:
        out.print(Text(f"Since the records were made: {_changes(common)}."), soft_wrap=True)
    counts = Counter(each.outcome for each in found)
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in SYMBOLS if counts[outcome])
    sentences = (f"{said}.", _largest(found), f"Tolerance: {tolerance:g}, relative to numbers above 1.")
    out.print(" ".join(filter(None, sentences)), soft_wrap=True)


def _show_numbers(each: Verified, out: Console) -> None:
    """A line where all is identical, else one a number that is not."""
    scores, series = each.scores, each.series
    logged = sum(one.identical + one.within + one.different for one in series)
    if repetition.worst([*scores, *series]) == "identical":
        kept = f"{logged} logged values" if series else "no logged values were kept"
        out.print(Text(f"    {len(scores)} scores identical, {kept}", style="dim"), soft_wrap=True)
        return
    rows = [
        (f"    {one.name}", _plain(one.recorded), _plain(one.repeated), _apart(one.recorded, one.repeated),
         one.judgement)
        for one in scores
    ]  # fmt: skip
    for one in series:
        total = one.identical + one.within + one.different
        where = f"up to {one.largest:.3g}, step {one.step}" if one.step is not None else ""
        rows.append((f"    {one.name}", f"{total} values", f"{one.identical} identical", where, one.judgement))
    out.print(plain_table(("    number", "recorded", "now", "difference", ""), rows))


def _plain(value: float | None) -> str:
    return "–" if value is None else repr(value)


def _apart(recorded: float | None, repeated: float | None) -> str:
    if recorded is None or repeated is None or recorded == repeated:
        return ""
    return f"{repeated - recorded:+.3g}"


def _largest(found: Sequence[Verified]) -> str:
    """Where the largest difference is, as a sentence."""
    apart: list[tuple[float, str]] = []
    for each in found:
        run = f"{each.variant}, seed {each.seed}"
        for score in each.scores:
            if score.recorded is not None and score.repeated is not None:
                apart.append((abs(score.repeated - score.recorded), f"{score.name} of {run}"))
        apart += [(one.largest, f"{one.name} of {run}, step {one.step}") for one in each.series]
    size, where = max(apart, default=(0.0, ""))
    if size:
        return f"Largest difference: {size:.3g} ({where})."
    return "No number differs." if all(each.outcome == "identical" for each in found) else ""


def _changes(items: Sequence[tuple[str, tuple[Any, Any]]]) -> str:
    """Changes in words; long hashes are cut."""

    def short(name: str, value: object) -> str:
        text = "unknown" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        return text[:12] if name in ("code", "commit", "data") else text

    return "; ".join(f"{name} {short(name, then)} → {short(name, now)}" for name, (then, now) in items)
