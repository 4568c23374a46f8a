"""What is wrong inside a folder of results, and what can be set right there without losing anything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablations import claims, index
from ablations.errors import AblationsError
from ablations.files import read_json, read_versioned, read_whole
from ablations.plan import RunKey, config_hash
from ablations.store import FORMAT, Store, lacking, outcome_of, read_metrics
from ablations.trials import read_trials

State = Literal["fine", "note", "problem", "repaired"]
_LEFTOVER = re.compile(r"\..+\.(part|now)|\.reserve")
_SACRED = re.compile(r"(.+)-a[0-9]+")


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        area: What it is about: machine, versions, renderer, disk, study or results.
        subject: The thing.
        state: ``fine``; ``note``, worth knowing; ``problem``, to be acted on; ``repaired``.
        found: What was found.
        advice: What to do about it; empty where there is nothing to do.
        repair: Sets it right and returns what it did; None where that needs a person.
    """

    area: str
    subject: str
    state: State
    found: str
    advice: str = ""
    repair: Callable[[], str] | None = None


def inspect(store: Store, planned: frozenset[str] | None) -> Iterator[Finding]:
    """Looks through a folder of results, changing nothing.

    Args:
        store: The folder.
        planned: Ids of all runs that the study and profile at hand may want; None where there is no study.
    """
    folders = sorted(path for path in store.root.glob("runs/*") if path.is_dir())
    if not folders:
        yield Finding("results", str(store.root), "fine", "no runs yet")
        return
    found = [finding for folder in folders for finding in _run(folder)]
    found += _ledgers(store)
    found += _index(store)
    found += _sacred(store, {folder.name for folder in folders})
    statuses = _counted(store, folders)
    state: State = "fine" if not any(each.state == "problem" for each in found) else "note"
    yield Finding("results", str(store.root), state, f"{len(folders)} runs: {statuses}")
    yield from found
    if planned is not None:
        yield from _strangers(store, folders, planned)


def _counted(store: Store, folders: Sequence[Path]) -> str:
    counts: dict[str, int] = {}
    for folder in folders:
        try:
            status = store.status(folder.name)
        except (AblationsError, KeyError, OSError):
            status = "unreadable"
        counts[status] = counts.get(status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


# -- one run --------------------------------------------------------------------------------------------------


def _run(folder: Path) -> Iterator[Finding]:
    """All that is wrong with a run's folder."""
    alive = _alive(folder)
    for name in ("record.json", "job.json", claims.NAME, "progress.json"):
        yield from _torn(folder / name, alive)
    if alive:
        return  # whoever is at work writes and renames here
    yield from _versions(folder)
    yield from _record(folder)
    yield from _curves(folder)
    yield from _leftovers(folder)
    if not (folder / "job.json").exists() and not (folder / "record.json").exists():
        yield from _empty(folder)


def _alive(folder: Path) -> bool:
    with contextlib.suppress(AblationsError, KeyError, OSError):
        claim = read_json(folder / claims.NAME)
        return claim is not None and claims.is_alive(folder, claim)
    return False


def _torn(path: Path, alive: bool) -> Iterator[Finding]:
    """A file that is no whole JSON object: nobody can write one, so a disk, or somebody, has damaged it."""
    try:
        read_json(path)
    except AblationsError:
        advice = "put it aside (--fix): the run is then made again" if path.name == "record.json" else "put it aside"
        repair = None if alive else _put_aside(path)
        yield Finding("results", _named(path), "problem", "damaged: no whole JSON object", advice, repair)
    except OSError as error:
        yield Finding("results", _named(path), "problem", f"cannot be read: {error.strerror}", "mend its permissions")


def _put_aside(path: Path) -> Callable[[], str]:
    def repair() -> str:
        target = path.with_name(f"{path.name}.damaged")
        number = 1
        while target.exists():
            number += 1
            target = path.with_name(f"{path.name}.damaged-{number}")
        os.rename(path, target)
        return f"put aside as {target.name}"

    return repair


def _versions(folder: Path) -> Iterator[Finding]:
    for name, kind in (("record.json", "record"), ("job.json", "job")):
        if not _is_whole(folder / name):
            continue
        try:
            read_versioned(folder / name, kind, FORMAT)
        except AblationsError as error:
            said = str(error).partition(": ")[2]
            yield Finding("results", _named(folder / name), "problem", said, "use the version that wrote it")


def _record(folder: Path) -> Iterator[Finding]:
    """Whether a record is of the run whose folder it lies in, and complete."""
    with contextlib.suppress(AblationsError, OSError):
        record = read_versioned(folder / "record.json", "record", FORMAT)
        if record is None:
            claim = read_json(folder / claims.NAME)
            if claim is not None:
                found = f"its process ({claim.get('pid')} on {claim.get('host')}) ended without a word"
                yield Finding("results", folder.name, "note", found, "ablations run goes on with it")
            return
        missed = lacking(record)
        if missed:
            found = f"lacks {', '.join(missed)}"
        elif _own_id(record) != folder.name:
            found = f"is of the run {_own_id(record)}: its config, seed or folder was changed after it was written"
        else:
            return
        path = folder / "record.json"
        yield Finding("results", _named(path), "problem", found, "put it aside (--fix)", _put_aside(path))


def _own_id(record: dict[str, Any]) -> str:
    """The id that a record's own config and seed make."""
    return RunKey("", record["seed"], config_hash(record["experiment"], record["config"])).run_id


def _curves(folder: Path) -> Iterator[Finding]:
    try:
        read_metrics(folder / "metrics.jsonl")
    except AblationsError as error:
        said = str(error).partition("metrics.jsonl:")[2]
        advice = "the run's curves are lost, its scores are not; to have them, put record.json aside and run again"
        yield Finding("results", _named(folder / "metrics.jsonl"), "problem", f"damaged in line {said}", advice)
    except OSError as error:
        path = folder / "metrics.jsonl"
        yield Finding("results", _named(path), "problem", f"cannot be read: {error.strerror}", "mend its permissions")


def _leftovers(folder: Path) -> Iterator[Finding]:
    """What killed processes have left behind and nobody will read."""
    parts = [path for path in (*folder.glob(".*"), *folder.glob("checkpoint/.*")) if _LEFTOVER.fullmatch(path.name)]
    if _is_whole(folder / claims.NAME) and (folder / "record.json").exists():
        parts.append(folder / claims.NAME)
    with contextlib.suppress(AblationsError, OSError, KeyError):
        record = outcome_of(folder)
        if record is not None and record["status"] != "interrupted" and (folder / "checkpoint").is_dir():
            parts.append(folder / "checkpoint")
    if not parts:
        return
    names = ", ".join(sorted(path.name for path in parts))
    found = f"left behind by a process that was killed: {names} ({_size(parts) / 2**20:.1f} MiB)"
    yield Finding("results", folder.name, "note", found, "ablations doctor --fix removes it", _remove(parts))


def _size(paths: Sequence[Path]) -> int:
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _remove(paths: Sequence[Path]) -> Callable[[], str]:
    def repair() -> str:
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return "removed"

    return repair


def _empty(folder: Path) -> Iterator[Finding]:
    if any(path for path in folder.iterdir() if path.name != ".lock"):
        yield Finding(
            "results", folder.name, "note", "neither a job nor a record in it", "look what it is, or delete it"
        )
    else:
        yield Finding(
            "results", folder.name, "note", "an empty folder", "ablations doctor --fix removes it", _remove([folder])
        )


# -- the folder as a whole ------------------------------------------------------------------------------------


def _ledgers(store: Store) -> Iterator[Finding]:
    for path in sorted(store.root.glob("searches/*.json")):
        subject = f"searches/{path.name}"
        try:
            trials = read_trials(path)
        except AblationsError as error:
            advice = "put it aside to search anew, or use the version that wrote it"
            yield Finding("results", subject, "problem", str(error).partition(": ")[2], advice)
            continue
        except (KeyError, TypeError, OSError) as error:
            found = f"damaged: {type(error).__name__}: {error}"
            yield Finding("results", subject, "problem", found, "put it aside to search anew")
            continue
        gone = [trial for trial in trials if trial.state == "completed" and not store.run_dir(trial.run_id).is_dir()]
        if gone:
            found = f"{len(gone)} of its {len(trials)} trials have no folder any more"
            yield Finding("results", subject, "note", found, "their values are still used; their curves are gone")


def _index(store: Store) -> Iterator[Finding]:
    path = store.root / index.NAME
    with contextlib.suppress(
        AblationsError, KeyError, TypeError, OSError
    ):  # a record that cannot be read is said above
        wrong = index.differing(store.root, store.read_record)
        if wrong == []:
            return
        found = "damaged, or of another version" if wrong is None else f"differs from the records of {', '.join(wrong)}"
        state: State = "note" if wrong is None else "problem"  # a damaged one is not believed
        yield Finding("results", path.name, state, found, "--fix removes it: it is made again", _remove([path]))


def _sacred(store: Store, runs: set[str]) -> Iterator[Finding]:
    attempts = [path.name for path in store.root.glob("sacred/*") if (match := _SACRED.fullmatch(path.name))
                and match.group(1) not in runs]  # fmt: skip
    if attempts:
        found = f"Sacred's folders of {len(attempts)} attempts at runs that are gone"
        yield Finding("results", "sacred", "note", found, "nothing reads them; delete them if they are not wanted")


def _strangers(store: Store, folders: Sequence[Path], planned: frozenset[str]) -> Iterator[Finding]:
    """Runs that the study at hand does not plan: of other studies, or of what it was before."""
    strange = [folder.name for folder in folders if folder.name not in planned]
    if strange:
        some = ", ".join(strange[:3]) + (" …" if len(strange) > 3 else "")
        found = f"{len(strange)} runs that this study does not plan in this profile ({some})"
        yield Finding("results", str(store.root), "note", found, "kept: another study, or an earlier state of this one")


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _is_whole(path: Path) -> bool:
    try:
        return isinstance(json.loads(read_whole(path)), dict)
    except (AblationsError, OSError, ValueError):
        return False
