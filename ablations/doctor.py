"""``ablations doctor``: looks over machine, versions, renderer, disk, study and results, and repairs what is safe."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from rich.console import Console
from rich.text import Text

from ablations import machine
from ablations.errors import AblationsError, StudyError
from ablations.plan import run_keys
from ablations.recorded import IMPORTED
from ablations.standing import as_recorded
from ablations.store import Store
from ablations.study import Study, load_study
from ablations.trials import settled, trial_runs
from ablations.upkeep import Finding, State, inspect

LITTLE_ROOM = 2 * 2**30  # bytes: a few checkpoints of the reference model
LITTLE_MEMORY = 2 * 2**30  # bytes
QUARTO = "1.9"  # the report is written for it
SYMBOLS: dict[State, tuple[str, str]] = {
    "fine": ("✓", "green"), "note": ("·", "dim"), "problem": ("✗", "red"), "repaired": ("↺", "yellow"),
}  # fmt: skip


def examine(study: Path, results: Path, fix: bool) -> list[Finding]:
    """Looks everything over.

    Args:
        study: The study file; there need not be one.
        results: The folder of results; there need not be one.
        fix: Whether to repair what is safe: nothing that anybody could still read is deleted.
    """
    store = Store(results)
    loaded, said = _study(study)
    findings = [*_machine(), *_versions(), *_renderer(), *_disk(results), *said]
    findings += inspect(store, _planned(loaded, store) if loaded else None)
    return [repaired(each) for each in findings] if fix else findings


def repaired(finding: Finding) -> Finding:
    """The finding after its repair, if it has one and that succeeds."""
    if finding.repair is None:
        return finding
    try:
        done = finding.repair()
    except OSError as error:
        return dataclasses.replace(finding, state="problem", advice=f"could not be repaired: {error.strerror}")
    return dataclasses.replace(finding, state="repaired", advice=done, repair=None)


def show(findings: list[Finding], out: Console, as_json: bool) -> bool:
    """Prints findings, and below them what to do; returns whether there is no problem."""
    fine = not any(each.state == "problem" for each in findings)
    if as_json:
        rows = [{name: getattr(each, name) for name in ("area", "subject", "state", "found", "advice")}
                | {"repairable": each.repair is not None} for each in findings]  # fmt: skip
        print(json.dumps({"fine": fine, "findings": rows}, indent=1))
        return fine
    for each in findings:
        symbol, style = SYMBOLS[each.state]
        line = Text(f"{symbol} {each.state:8}", style=style)
        line.append(f"  {each.area:8}  {each.subject}: {each.found}", style="default")
        line.append(f"\n{'':22}{each.advice}" if each.advice else "", style="bold" if each.state == "problem" else "")
        out.print(line, soft_wrap=True)
    out.print()
    problems = sum(each.state == "problem" for each in findings)
    repairable = sum(each.repair is not None for each in findings)
    out.print(f"{problems} problem{'' if problems == 1 else 's'}." if problems else "Nothing stands in the way.")
    if repairable:
        out.print(f"ablations doctor --fix sets {repairable} of these right.")
    return fine


# -- machine --------------------------------------------------------------------------------------------------


def _machine() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    known = platform.system() in ("Linux", "Darwin")
    advice = "" if known else "use Linux or macOS: runs are claimed with locks that other systems lack"
    yield Finding("machine", "system", "fine" if known else "problem", system, advice)
    memory = psutil.virtual_memory()
    found = f"{machine.cores()} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    short = memory.available < LITTLE_MEMORY
    advice = "fewer runs at a time (--workers) need less" if short else ""
    yield Finding("machine", "processor", "note" if short else "fine", found, advice)
    yield _gpus()


def _gpus() -> Finding:
    names = machine.gpu_names()
    if not names:
        return Finding("machine", "GPU", "fine", "none: runs use the processor")
    found = f"{len(names)}: {', '.join(names)}"
    torch = _installed("torch")
    if torch and torch.endswith("+cpu"):
        advice = "install a torch with CUDA: pip install torch --index-url of your CUDA version (pytorch.org)"
        return Finding("machine", "GPU", "problem", f"{found}, but torch {torch} cannot use it", advice)
    return Finding("machine", "GPU", "fine", found)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# -- versions -------------------------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    try:
        about = importlib.metadata.metadata("ablations")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("versions", "ablations", "problem", "not installed", "pip install -e .")
        return
    wanted = about["Requires-Python"] or ""
    suits = Version(platform.python_version()) in SpecifierSet(wanted)
    advice = "" if suits else f"make an environment with Python {wanted}"
    found = f"{platform.python_version()} ({sys.executable})"
    yield Finding("versions", "Python", "fine" if suits else "problem", found, advice)
    wrong, right = [], []
    for text in importlib.metadata.requires("ablations") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _installed(requirement.name)
        if version is not None and _suits(version, requirement.specifier):
            right.append(requirement.name)
            continue
        said = f"{version or 'absent'}, expected {requirement.specifier or 'any version'}"
        command = f'pip install "{requirement.name}{requirement.specifier}"'
        wrong.append(Finding("versions", requirement.name, "problem", said, command))
    yield Finding("versions", "packages", "fine" if not wrong else "note", f"{len(right)} as ablations expects them")
    yield from wrong


def _suits(version: str, wanted: SpecifierSet) -> bool:
    try:
        return wanted.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


# -- renderer and disk ----------------------------------------------------------------------------------------


def _renderer() -> Iterator[Finding]:
    quarto = machine.find_quarto()
    if quarto is not None:
        yield _quarto(quarto)
    parts = {name: _installed(name) for name in ("pypandoc_binary", "typst")}
    missing = [name for name, version in parts.items() if version is None]
    if missing:
        state: State = "problem" if quarto is None else "note"
        yield Finding("renderer", "built-in", state, f"lacks {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        said = ", ".join(f"{name} {version}" for name, version in parts.items())
        used = "renders the report" if quarto is None else "steps in where Quarto fails"
        yield Finding("renderer", "built-in", "fine", f"{used}: {said}")


def _quarto(path: str) -> Finding:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True)
        version = Version(done.stdout.strip())
    except (OSError, subprocess.SubprocessError, InvalidVersion) as error:
        return Finding(
            "renderer", "Quarto", "note", f"{path} does not run: {error}", "the built-in renderer takes over"
        )
    if version < Version(QUARTO):
        advice = f"the report is written for {QUARTO} or newer; without, ABLATIONS_RENDERER=builtin"
        return Finding("renderer", "Quarto", "note", f"{version} ({path})", advice)
    return Finding("renderer", "Quarto", "fine", f"{version} ({path})")


def _disk(results: Path) -> Iterator[Finding]:
    folder = next(path for path in (results.resolve(), *results.resolve().parents) if path.is_dir())
    room = shutil.disk_usage(folder)
    found = f"{room.free / 2**30:.1f} of {room.total / 2**30:.1f} GiB free"
    short = room.free < LITTLE_ROOM
    advice = "a run of the reference model keeps checkpoints of several GiB" if short else ""
    yield Finding("disk", str(folder), "note" if short else "fine", found, advice)
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor.", dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(file.name)
    except OSError as error:
        advice = "results need a folder that can be written and locked: choose another with --results"
        yield Finding("disk", str(folder), "problem", f"cannot be written or locked: {error.strerror}", advice)


# -- study ----------------------------------------------------------------------------------------------------


def _study(path: Path) -> tuple[Study | None, list[Finding]]:
    """The study of a file, if it can be read, and what is to be said of it."""
    if not path.exists():
        return None, [
            Finding("study", str(path), "note", "absent", "write one (docs/study-file.md), or name it with --study")
        ]
    try:
        study = load_study(path)
    except StudyError as error:
        count = len(error.problems)
        found = f"{count} problem{'' if count == 1 else 's'}"
        return None, [Finding("study", str(path), "problem", found, "ablations validate says them")]
    profile = f", profile {study.profile}" if study.profile else ""
    notes = [Finding("study", str(path), "note", note) for note in study.notes]
    return study, [Finding("study", str(path), "fine", f"{study.name}{profile}"), *notes]


def _planned(study: Study, store: Store) -> frozenset[str] | None:
    """Ids of all runs that a study may want; None where its searches' ledgers cannot be read, which is said there."""
    try:
        if study.experiment == IMPORTED:
            return frozenset(key.run_id for key in run_keys(as_recorded(study, store)))
        whole = settled(dataclasses.replace(study, rounds=()), store)
        return frozenset(key.run_id for key in run_keys(whole)) | trial_runs(study, store)
    except (AblationsError, KeyError, TypeError):
        return None
