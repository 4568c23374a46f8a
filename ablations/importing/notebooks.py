"""Notebooks or scripts that are copies of one another: their differences as the ablations of a study to be run."""

from __future__ import annotations

import difflib
import fnmatch
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ablations.authoring import checked, study_name, yaml_text
from ablations.drafts import name_text
from ablations.errors import AblationsError, Problem, StudyError, one_of, visible
from ablations.files import write_atomic
from ablations.importing.arms import Arm, Entry, entries_of
from ablations.importing.choices import Choices
from ablations.importing.code_settings import Code, read_code
from ablations.importing.foreign import Damaged, read_text
from ablations.importing.study_text import rendered
from ablations.recorded import IMPORTED

EXPERIMENT = "my_package.experiment:ex"
MOST_CODE = 12
_PLACES = {"output_dir", "out_dir", "logging_dir", "log_dir", "save_dir", "checkpoint_dir", "run_name", "save_path"}
LONGEST_LINE = 100


@dataclass
class Copy:
    """A notebook or script, and what it does otherwise than the baseline.

    Attributes:
        path: The file.
        code: What it holds.
        changed: Setting to its value; None for one that it lacks.
        other: Changes that are no settings, in words.
        aside: Settings that it changes and that make no difference.
    """

    path: Path
    code: Code
    changed: dict[str, Any] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name, fit for a comment."""
        return visible(self.path.name, 80)


def propose(paths: Sequence[Path], choices: Choices, study: Path, out: Console) -> None:
    """Writes a study of the differences of notebooks or scripts, for the user to complete.

    Args:
        paths: The files.
        choices: Of them ``baseline``, the name of a file, else the first one is; ``ignore`` and ``parameter``.
        study: The file to write, which must not exist.
        out: The terminal.

    Raises:
        AblationsError: A file cannot be read, or there is nothing to compare; says all that is wrong.
        StudyError: The study's file is there already.
    """
    if study.exists():
        raise StudyError(str(study), [Problem(0, "", "there already; --study names another file")])
    copies = _read_copies(paths)
    base = _baseline(copies, choices.baseline)
    others = [each for each in copies if each is not base]
    aside = _left_aside(copies, choices)
    for each in others:
        _compare(base, each, aside)
    text, entries = _proposal(study_name(study), base, others)
    checked(study, text.replace(f"experiment: {EXPERIMENT}", f"experiment: {IMPORTED}").replace("\nseeds: 5", "\n"))
    study.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(study, text)
    _say(study, base, others, entries, out)


# -- read -----------------------------------------------------------------------------------------------------


def _read_copies(paths: Sequence[Path]) -> list[Copy]:
    copies, wrong = [], []
    for path in dict.fromkeys(paths):
        try:
            script = path.suffix.lower() == ".py"
            cells = [read_text(path)] if script else list(_cells(path))
            copies.append(Copy(path, read_code(cells, script=script)))
        except Damaged as error:
            wrong.append(f"{path}: {error}")
    names = Counter(each.path.name for each in copies)
    wrong += [f"{name}: {count} files have this name" for name, count in names.items() if count > 1]
    if not wrong and len(copies) < 2:
        wrong.append("expected two notebooks or scripts or more: a baseline and copies of it")
    if wrong:
        raise AblationsError("nothing was written:\n" + "\n".join(wrong))
    return copies


def _cells(path: Path) -> Iterator[str]:
    """The sources of a notebook's code cells; raises Damaged where it is none, or none of Python."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"expected a notebook, found no JSON ({error})") from error
    sheets = found.get("worksheets") if isinstance(found, dict) else None
    cells = sheets[0].get("cells") if isinstance(sheets, list) and sheets else (
        found.get("cells") if isinstance(found, dict) else None
    )  # fmt: skip
    if not isinstance(cells, list):
        raise Damaged("expected a notebook with cells, found none")
    kernel = (found.get("metadata") or {}).get("kernelspec") or {}
    language = str(kernel.get("language") or "python").lower()
    if language != "python":
        raise Damaged(f"expected a notebook in Python, found one in {language}")
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            yield "".join(map(str, source)) if isinstance(source, list) else str(source)


def _baseline(copies: Sequence[Copy], asked: Sequence[str]) -> Copy:
    if not asked:
        return copies[0]
    found = [each for each in copies if asked[0] in (str(each.path), each.path.name, each.path.stem)]
    if len(asked) > 1 or not found:
        raise AblationsError(f"--baseline: {one_of('file', ' '.join(asked), [each.path.name for each in copies])}")
    return found[0]


# -- compare --------------------------------------------------------------------------------------------------


def _left_aside(copies: Sequence[Copy], choices: Choices) -> set[str]:
    """Settings that tell files apart and not ablations: texts that differ in each file, and names of folders."""
    found = set()
    for key in dict.fromkeys(key for each in copies for key in each.code.settings):
        values = [each.code.settings[key].value for each in copies if key in each.code.settings]
        own = len(values) == len(copies) > 2 and len(set(map(str, values))) == len(copies)
        tail = _plain(key.rpartition(".")[2])
        if all(isinstance(value, str) for value in values) and (own or tail in _PLACES):
            found.add(key)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in choices.ignore for name in (key, tail)):
            found.add(key)
    return {key for key in found if not {key, _plain(key.rpartition(".")[2])} & set(choices.parameter)}


def _compare(base: Copy, copy: Copy, aside: Collection[str]) -> None:
    """Notes what a copy sets otherwise, and what else it does."""
    before, after = base.code.settings, copy.code.settings
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if old is None or new is None or old.value != new.value:
            if key in aside:
                copy.aside.append(key)
            else:
                copy.changed[key] = new.value if new else None
    copy.other = [f"not read: {each}" for each in copy.code.unread]
    copy.other += [f"code: {each}" for each in _changed_code(base.code, copy.code)]


def _changed_code(base: Code, copy: Code) -> list[str]:
    old, new = base.statements, copy.statements
    matcher = difflib.SequenceMatcher(None, [each.text for each in old], [each.text for each in new], autojunk=False)
    found = []
    for kind, start, stop, first, last in matcher.get_opcodes():
        if kind == "equal":
            continue
        gone = " / ".join(_shown(each.text) for each in old[start:stop])
        come = " / ".join(_shown(each.text) for each in new[first:last])
        if come:
            what = f"`{come}`" + (f" instead of `{gone}`" if gone else " is new")
            found.append(f"{new[first].place}: {visible(what, 3 * LONGEST_LINE)}")
        else:
            found.append(f"`{visible(gone, 3 * LONGEST_LINE)}` is gone ({old[start].place} of the baseline)")
    if len(found) > MOST_CODE:
        found = [*found[:MOST_CODE], f"… and {len(found) - MOST_CODE} more places"]
    return found


def _shown(line: str) -> str:
    return visible(line.strip(), LONGEST_LINE)


# -- propose --------------------------------------------------------------------------------------------------


def _proposal(name: str, base: Copy, others: Sequence[Copy]) -> tuple[str, list[Entry]]:
    """The study's text, and its ablations."""
    keys = list(dict.fromkeys(key for each in others for key in each.changed))
    named = _parameters(keys)
    config = {named[key]: _value(base, key) for key in keys}
    arms: list[tuple[Arm, Copy]] = []
    same: list[Copy] = []
    for each in others:
        own = config | {named[key]: value for key, value in each.changed.items()}
        twin = next((arm for arm, _ in arms if arm.config == own), None)
        if not each.changed or twin is not None:
            same.append(each)
            continue
        arms.append((Arm(own, _stem(each, base) if len(each.changed) > 1 else ""), each))
    notes: list[str] = []
    entries = entries_of([arm for arm, _ in arms], config, (), notes.append)
    lines = [
        f"# Proposed from {len(others) + 1} files: the baseline {base.name}, and what its copies change.",
        "# Nothing was run. Next: 1. write a Sacred experiment of the baseline's code, whose config has the parameters",
        "# below and whose main function returns the metric; name it under experiment. 2. `ablations validate`.",
        "# 3. `ablations run`.",
        f"study: {name}",
        'question: ""  # what the study asks; the report begins with it',
        f"experiment: {EXPERIMENT}  # yours to write: package.module:name",
        "metric: score  # what the experiment returns, by which arms are compared",
        "# smallest_effect: 0.01  # smallest difference that would matter: declare it before the first run",
        "seeds: 5  # the copies were run once each, if at all: fewer than 3 seeds get no verdict",
        "",
        "# Each parameter that a copy changes, with its value in the baseline; null where that does not set it.",
        "baseline:" if keys else "baseline: {}",
        *(
            f"  {yaml_text(named[key])}: {yaml_text(config[named[key]])}  # {_origin(base, others, key)}"
            for key in keys
        ),
        *_not_counted(base, others, keys),
        "",
        "ablations:" if entries else "ablations: {}",
    ]
    for entry in entries:
        lines += [f"  {line}" for line in (*_comments(entry, entries, arms, named, base), *rendered(entry))]
    lines += _left_over(base, same)
    return "\n".join(lines) + "\n", entries


def _value(copy: Copy, key: str) -> Any:
    found = copy.code.settings.get(key)
    return found.value if found else None


def _parameters(keys: Sequence[str]) -> dict[str, str]:
    """A parameter's name for each setting: its last part in small letters, or all of it where that is not enough."""
    short = {key: _plain(key.rpartition(".")[2]) for key in keys}
    counts = Counter(short.values())
    names: dict[str, str] = {}
    for key in keys:
        name = short[key] if counts[short[key]] == 1 else _plain(key)
        while name in names.values():
            name += "_"
        names[key] = name
    return names


def _plain(text: str) -> str:
    name = re.sub(r"[^0-9a-zA-Z_.]+", "_", text).strip("_.").lower()
    return name if name[:1].isalpha() else f"p_{name}"


def _stem(copy: Copy, base: Copy) -> str:
    """A file's name without what all copies have in common with the baseline."""
    stem, other = copy.path.stem, base.path.stem
    common = 0
    while common < min(len(stem), len(other)) and stem[common] == other[common]:
        common += 1
    common = max((stem.rfind(mark, 0, common) + 1 for mark in "-_ ."), default=0)
    return stem[common:] or stem


def _origin(base: Copy, others: Sequence[Copy], key: str) -> str:
    """Where a setting stands."""
    found = base.code.settings.get(key)
    if found:
        return f"{base.name}, {found.place}: {visible(key, 80)}"
    copy = next(each for each in others if key in each.code.settings)
    return f"only in a copy: {copy.name}, {copy.code.settings[key].place}: {visible(key, 80)}"


def _not_counted(base: Copy, others: Sequence[Copy], changed: Sequence[str]) -> Iterator[str]:
    """As comments the settings left aside, and those that no copy changes: some belong into the config, too."""
    aside = dict.fromkeys(key for each in others for key in each.aside)
    if aside:
        yield "  # Left aside, for these texts tell files and not ablations apart (--parameter NAME counts one):"
        yield from (f"  #   {visible(key, 80)}" for key in aside)
    rest = [found for key, found in base.code.settings.items() if key not in changed and key not in aside]
    if rest:
        yield "  # The same in all copies; what is a parameter of the experiment among these may be declared, too:"
        for found in rest[:100]:
            yield f"  #   {visible(found.key, 80)} = {visible(yaml_text(found.value), 80)}  ({found.place})"
        if len(rest) > 100:
            yield f"  #   … and {len(rest) - 100} more"


def _comments(
    entry: Entry, entries: Sequence[Entry], arms: Sequence[tuple[Arm, Copy]], named: Mapping[str, str], base: Copy
) -> Iterator[str]:
    """Which files an ablation is from, where in them each difference stands, and what it does not express."""
    for change, copy in _copies_of(entry, entries, arms, named):
        yield f"# {copy.name}:"
        for key in change:
            found, was = copy.code.settings.get(key), base.code.settings.get(key)
            old = yaml_text(was.value) if was else "absent"
            new = f"{yaml_text(found.value)} ({found.place})" if found else "absent"
            yield f"#   {visible(key, 80)}: {visible(old, 60)} → {visible(new, 80)}"
        yield from (f"#   NOT EXPRESSED, {each}" for each in copy.other)


def _copies_of(
    entry: Entry, entries: Sequence[Entry], arms: Sequence[tuple[Arm, Copy]], named: Mapping[str, str]
) -> Iterator[tuple[list[str], Copy]]:
    """The copies that an ablation's variants are from, each with the settings that it changes."""
    for settings in _settings_of(entry, entries):
        for _, copy in arms:
            if {named[key]: value for key, value in copy.changed.items()} == settings:
                yield list(copy.changed), copy


def _settings_of(entry: Entry, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What each variant of an ablation sets."""
    by_name = {each.name: each for each in entries}
    if entry.kind == "sweep":
        key, levels = entry.content
        return [{key: level} for level in levels]
    if entry.kind == "set":
        return [dict(entry.content)]
    if entry.kind == "extends":
        start, further = entry.content
        return [settings | further for settings in _settings_of(by_name[start], entries)]
    merged: dict[str, Any] = {}
    for part in entry.content:
        owner, _, level = part.partition("=")
        for settings in _settings_of(by_name[owner], entries):
            if not level or part == f"{owner}={_level(settings)}":
                merged |= settings
    return [merged]


def _level(settings: Mapping[str, Any]) -> str:
    return name_text(next(iter(settings.values())))


def _left_over(base: Copy, same: Sequence[Copy]) -> Iterator[str]:
    """Copies that make no ablation, and what of the baseline could not be read."""
    for copy in same:
        what = "sets nothing otherwise than the baseline" if not copy.changed else "sets the same as another copy"
        yield f"  # {copy.name} {what}" + (":" if copy.other else ".")
        yield from (f"  #   NOT EXPRESSED, {each}" for each in copy.other)
    yield from (f"  # {base.name}, the baseline: not read: {each}" for each in base.code.unread)


def _say(study: Path, base: Copy, others: Sequence[Copy], entries: Sequence[Entry], out: Console) -> None:
    def line(text: str, **style: Any) -> None:
        out.print(Text(text, **style), soft_wrap=True)

    line(f"{study}: proposed, with {base.name} as the baseline and {len(entries)} ablations. Nothing was run.")
    for entry in entries:
        for each in rendered(entry):
            line(f"  {each}", style="dim")
    for copy in others:
        for each in copy.other:
            line(f"Note: {copy.name}: not expressed, {each}", style="yellow")
    for each in base.code.unread:
        line(f"Note: {base.name}: not read: {each}", style="yellow")
