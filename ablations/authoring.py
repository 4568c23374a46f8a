"""``ablations init``, ``add`` and ``rm``: a study's file is changed line by line, so that all else in it stays.

What would be written is checked first, whole and for every profile; the file is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.drafts import value_text
from ablations.errors import AblationsError, Problem, StudyError, one_of
from ablations.experiments import schema_for
from ablations.files import write_atomic
from ablations.recorded import IMPORTED
from ablations.schema import ABSENT, Schema, Tunable
from ablations.study import Study, load_study
from ablations.study_file import NAME, NAME_RULE, StudyFile
from ablations.yamlfile import Document, KeyPath, read_yaml

_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_EXPERIMENT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_REFERRING = ("extends", "combine", "leave_one_out", "path", "order")


@dataclass(frozen=True)
class Entry:
    """An ablation as the command line gives it.

    Attributes:
        name: Its name.
        settings: ``key=value`` each.
        sweeps: ``key=value,value`` each; one makes a sweep, several a grid.
        extends: The ablation or variant whose changes come first.
        combine: Ablations or variants whose changes are made together.
        question: The question it answers.
        expect: What is expected.
        group: Heading in the report.
    """

    name: str
    settings: Sequence[str] = ()
    sweeps: Sequence[str] = ()
    extends: str | None = None
    combine: Sequence[str] = ()
    question: str = ""
    expect: str | None = None
    group: str = ""


# -- add ------------------------------------------------------------------------------------------------------


def add(path: Path, entry: Entry) -> tuple[Study, str]:
    """Writes an ablation at the end of a study's file.

    Args:
        path: The file.
        entry: The ablation.

    Returns:
        The study with it, and the lines that were written.

    Raises:
        StudyError: The file or the ablation is wrong; nothing was written.
    """
    text, document = _read(path)
    problems = list(_about(entry, document))
    if problems:
        raise StudyError(str(path), problems)
    lines, end, indent = _place(path, text, document)
    written = [" " * indent + line for line in _rendered(entry, indent)]
    before = [""] if _apart(lines, document, end) else []
    new = [*lines[:end], *before, *written, *lines[end:]]
    return _replaced(path, text, new), "\n".join(written)


def _about(entry: Entry, document: Document) -> Iterator[Problem]:
    """What is wrong with the words on the command line."""
    if document.data.get("experiment") == IMPORTED:
        message = "its runs were imported: `ablations import` brings ablations with their runs, and none can be run"
        yield document.problem(("experiment",), message)
    if not NAME.fullmatch(entry.name):
        yield Problem(0, "", f"expected a name ({NAME_RULE}), found {entry.name!r}")
    elif entry.name in _ablations(document):
        line = document.line(("ablations", entry.name))
        yield Problem(line, f"ablations.{entry.name}", f"there already; `ablations rm {entry.name}` removes it")
    if not (entry.settings or entry.sweeps or entry.combine or entry.extends):
        yield Problem(0, "", f"expected a change, such as `ablations add {entry.name} training.schedule=constant`")
    for given in (*entry.settings, *entry.sweeps):
        key, equals, value = given.partition("=")
        if not equals or not _KEY.fullmatch(key):
            yield Problem(0, "", f"expected key=value with a dotted key, found {given!r}")
            continue
        found = _values(value)
        if isinstance(found, str):
            yield Problem(0, "", f"{key}: {found}")
        elif given in entry.settings and len(found) != 1:
            yield Problem(
                0, "", f"{key}: expected one value, found {value!r}; a list is written [a, b], levels --sweep"
            )


def _values(text: str) -> list[Any] | str:
    """The YAML values that a text holds, separated by commas, or what is wrong with it."""
    document = read_yaml(f"[{text}]") if "\n" not in text and "\r" not in text else Document(readable=False)
    if document.problems:
        return document.problems[0].message
    if not document.readable or not isinstance(document.data, list) or not document.data:
        return f"expected a value, found {text!r}"
    return document.data


def _ablations(document: Document) -> Mapping[str, Any]:
    found = document.data.get("ablations") if isinstance(document.data, dict) else None
    return found if isinstance(found, dict) else {}


def _rendered(entry: Entry, indent: int) -> list[str]:
    """The entry's lines, its name not indented."""
    parts = {
        "group": _text(entry.group) if entry.group else "",
        "question": _text(entry.question) if entry.question else "",
        "expect": _text(entry.expect) if entry.expect else "",
        "extends": _text(entry.extends) if entry.extends else "",
        "combine": f"[{', '.join(map(_text, entry.combine))}]" if entry.combine else "",
        "set": _mapping(entry.settings, "{}"),
        "sweep" if len(entry.sweeps) == 1 else "grid": _mapping(entry.sweeps, "[{}]"),
    }
    return [f"{entry.name}:", *(" " * (indent or 2) + f"{key}: {value}" for key, value in parts.items() if value)]


def _mapping(given: Sequence[str], shape: str) -> str:
    """``key=value`` texts as entries in braces; the values stay as they were typed."""
    pairs = [each.partition("=") for each in given]
    return f"{{{', '.join(f'{key}: {shape.format(value.strip())}' for key, _, value in pairs)}}}" if pairs else ""


def _text(text: str) -> str:
    """A text as YAML, in quotes where it would mean something else without."""
    document = read_yaml(f"[{text}]")
    plain = document.readable and not document.problems and document.data == [text] and ": " not in text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _place(path: Path, text: str, document: Document) -> tuple[list[str], int, int]:
    """The file's lines, where in them a new ablation goes, and how far it is indented."""
    lines = _lines(text)
    names = list(_ablations(document))
    if "ablations" not in document.data:
        lines = [*lines, "", "ablations:"]
        return lines, len(lines), 2
    at = document.line(("ablations",)) - 1
    if not names:
        lines[at] = re.sub(r":\s*\{\s*\}", ":", lines[at], count=1)
        return lines, at + 1, 2
    first = document.line(("ablations", names[0])) - 1
    if first == at or not _starts(lines[first], names[0]):
        raise StudyError(str(path), [document.problem(("ablations",), _IN_BRACES)])
    last = document.line(("ablations", names[-1])) - 1
    return lines, _end(lines, last), _indent(lines[first])


_IN_BRACES = "expected a name a line, found entries in braces: write them one below the other first"


def _starts(line: str, name: str) -> bool:
    return line.lstrip().startswith((f"{name}:", f'"{name}"', f"'{name}'", f"{name} "))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _end(lines: Sequence[str], start: int) -> int:
    """Where the entry ends whose name stands in a line: what follows is not indented further."""
    end = at = start + 1
    while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > _indent(lines[start])):
        at += 1
        if lines[at - 1].strip():
            end = at
    return end


def _apart(lines: Sequence[str], document: Document, end: int) -> bool:
    """Whether a blank line stands between the file's ablations, and one may stand there."""
    names = list(_ablations(document))
    if len(names) < 2 or (end < len(lines) and lines[end].strip()):
        return False
    above = _start(lines, document.line(("ablations", names[-1])) - 1) - 1
    return not lines[above].strip()


def _start(lines: Sequence[str], at: int) -> int:
    """Where an entry starts: at the comments directly above its name."""
    start = at
    while start and lines[start - 1].lstrip().startswith("#") and _indent(lines[start - 1]) == _indent(lines[at]):
        start -= 1
    return start


# -- rm -------------------------------------------------------------------------------------------------------


def remove(path: Path, name: str) -> tuple[Study, list[str]]:
    """Takes an ablation out of a study's file, and out of its profiles; no result is touched.

    Args:
        path: The file.
        name: The ablation.

    Returns:
        The study without it, and the profiles that named it.

    Raises:
        StudyError: There is none of that name, or another one is made from it; nothing was written.
    """
    text, document = _read(path)
    if name not in _ablations(document):
        raise StudyError(str(path), [Problem(0, "ablations", one_of("ablation", name, _ablations(document)))])
    used = list(_users(document, name))
    if used:
        raise StudyError(str(path), used)
    profiles = document.data.get("profiles") or {}
    named = [each for each, profile in profiles.items() if name in ((profile or {}).get("ablations") or {})]
    places: list[KeyPath] = [("ablations", name), *(("profiles", each, "ablations", name) for each in named)]
    lines = _lines(text)
    for place in sorted(places, key=document.line, reverse=True):  # from the end: lines above keep their numbers
        lines = _without(path, lines, document, place)
    return _replaced(path, text, lines), named


def _users(document: Document, name: str) -> Iterator[Problem]:
    """Where other ablations name this one or a variant of it."""
    data = document.data
    sections: list[tuple[KeyPath, Any]] = [(("ablations",), data.get("ablations"))]
    for profile, each in (data.get("profiles") or {}).items():
        sections.append((("profiles", profile, "ablations"), (each or {}).get("ablations")))
    for path, entries in sections:
        for other, entry in (entries or {}).items():
            if other == name or not isinstance(entry, dict):
                continue
            for key in _REFERRING:
                given = entry.get(key)
                for each in given if isinstance(given, list) else [given]:
                    if isinstance(each, str) and (each == name or each.startswith(f"{name}=")):
                        yield document.problem((*path, other, key), f"needs {each}: remove or change {other} first")


def _without(path: Path, lines: list[str], document: Document, place: KeyPath) -> list[str]:
    """The lines without one entry and the comments directly above it."""
    at = document.line(place) - 1
    if not _starts(lines[at], str(place[-1])):
        raise StudyError(str(path), [document.problem(place, _IN_BRACES)])
    start, end = _start(lines, at), _end(lines, at)
    if start and not lines[start - 1].strip() and (end == len(lines) or not lines[end].strip()):
        start -= 1  # of two blank lines one stays
    kept = [*lines[:start], *lines[end:]]
    around: Any = document.data
    for part in place[:-1]:
        around = around[part]
    if len(around) == 1:
        parent = document.line(place[:-1]) - 1
        kept[parent] = re.sub(r":", ": {}", kept[parent], count=1)
    return kept


# -- init -----------------------------------------------------------------------------------------------------


def start(path: Path, experiment: str) -> Study:
    """Writes a commented study of an experiment: all its parameters with their defaults, and a first ablation.

    Args:
        path: The file, which must not exist.
        experiment: ``package.module:name`` of the Sacred experiment.

    Raises:
        StudyError: The file is there already, or the experiment cannot be used; nothing was written.
    """
    if path.exists():
        raise StudyError(str(path), [Problem(0, "", "there already; --study names another file")])
    with contextlib.closing(_schema(path, experiment)) as schema:
        text = template(study_name(path), experiment, schema)
    study = checked(path, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return study


def _schema(path: Path, experiment: str) -> Schema:
    problem = f"expected package.module:name of a Sacred experiment, found {experiment}"
    if _EXPERIMENT.fullmatch(experiment):
        try:
            return schema_for(experiment, path.parent)
        except AblationsError as error:
            problem = str(error)
        except Exception as error:  # whatever a stranger's module config does while it is imported
            problem = f"{experiment} cannot be imported: {type(error).__name__}: {error}"
    raise StudyError(str(path), [Problem(0, "experiment", problem)])


def study_name(path: Path) -> str:
    """A study's name from the name of its folder."""
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", path.resolve().parent.name).lstrip("0123456789_.+-")[:60]
    return name or "study"


def template(name: str, experiment: str, schema: Schema) -> str:
    """A commented study's text.

    Args:
        name: Of the study.
        experiment: ``package.module:name``.
        schema: What the experiment lets one set.
    """
    usual = StudyFile.model_fields["metric"].default
    scores = [*schema.metrics] or [*schema.likely]
    metric = usual if usual in scores else next(iter(scores), "result")
    rest = [each for each in scores if each != metric][:4]
    others = f" (others: {', '.join(rest)}{', …' if len(scores) > len(rest) + 1 else ''})" if rest else ""
    lines = [
        "# A baseline, and named changes of it. `ablations validate` says what is wrong with this file,",
        "# `ablations plan` what would run, `ablations run` runs what is not done, `ablations report` says what holds.",
        f"study: {name}",
        'question: ""  # what the study asks; the report begins with it',
        f"experiment: {experiment}",
        f"metric: {metric}  # verdicts speak about this one{others}",
        *(() if schema.metrics else (_DIRECTION,)),
        "# smallest_effect: 0.01  # smallest difference that would matter: declare it before the first run",
        "seeds: 5  # runs of each arm; fewer than 3 get no verdict",
        "",
        "# What every arm is compared with. A line that is commented out says what holds without it.",
        *(
            [f"# named: [{schema.named[0]}]  # named configs it begins with: {', '.join(schema.named)}"]
            if schema.named
            else ()
        ),
        "baseline:",
        *_parameters(schema),
        "",
        "# One entry a change; `ablations add NAME key=value` writes them, too.",
        "ablations:",
        *_example(schema),
    ]
    return "\n".join(lines) + "\n"


_DIRECTION = "direction: max  # max where a larger one is better, min where a smaller one is"


def _parameters(schema: Schema) -> Iterator[str]:
    """A line a parameter with its default; the first one is set, so that there is something to edit."""
    first = next((key for key, each in schema.tunables.items() if each.default not in (ABSENT, None)), None)
    for key, tunable in schema.tunables.items():
        unit = f", in {tunable.unit}" if tunable.unit and tunable.unit not in tunable.help else ""
        comment = f"{tunable.help}{unit}: {tunable.expects}" if tunable.help else tunable.expects
        value = "" if tunable.default is ABSENT else f" {yaml_text(tunable.default)}"
        yield f"  {'' if key == first else '# '}{key}:{value}  # {' '.join(comment.split())}"
    if first is None:
        yield "  {}"


def yaml_text(value: Any) -> str:
    """A plain value as YAML, fit for braces, too.

    >>> yaml_text(["yes", 0.0003, None])
    '["yes", 0.0003, null]'
    """
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(name)}: {yaml_text(each)}' for name, each in value.items())}}}"
    return _text(value) if isinstance(value, str) else value_text(value)


_TELLING = ("learning_rate", "lr", "rate", "depth", "layers", "hidden", "width", "units", "dropout", "weight")


def _example(schema: Schema) -> list[str]:
    """The lines of a first ablation that is valid: half and twice a number, or the other of two words."""

    def rank(tunable: Tunable) -> int:
        name = tunable.key.rpartition(".")[2]
        return _TELLING.index(name) if name in _TELLING else len(_TELLING)

    for tunable in sorted(schema.tunables.values(), key=rank):
        levels = [each for each in _other_values(tunable) if _fits(schema, tunable, each)]
        if levels:
            name = tunable.key.rpartition(".")[2].replace("_", "-")
            shown = ", ".join(map(yaml_text, levels))
            return [
                f"  {name}:",
                f"    question: Does {tunable.key} matter?",
                f"    sweep: {{{tunable.key}: [{shown}]}}",
            ]
    return ["  {}"]


def _other_values(tunable: Tunable) -> list[Any]:
    default = tunable.default
    if isinstance(default, bool):
        return [not default]
    if tunable.choices:
        return [each for each in tunable.choices if each != default][:1]
    if isinstance(default, (int, float)) and default:
        return [type(default)(default / 2), type(default)(default * 2)]
    return []


def _fits(schema: Schema, tunable: Tunable, value: Any) -> bool:
    if value == tunable.default or schema.problem(tunable.key, value):
        return False
    if schema.resolver is not None:
        return not schema.resolve({tunable.key: tunable.normal(value)}).problems
    return not list(schema.cross_check({**schema.defaults(), tunable.key: tunable.normal(value)}))


# -- files ----------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[str, Document]:
    """A study's text, which must be a valid study, and what it holds."""
    load_study(path)
    text = path.read_bytes().decode("utf-8-sig")
    return text, read_yaml(text)


def checked(path: Path, text: str) -> Study:
    """The study that a text would be.

    Raises:
        StudyError: It would be none; lines are those of the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        draft.write_text(text, encoding="utf-8", newline="")
        try:
            return load_study(draft, beside=path.parent)
        except StudyError as error:
            raise StudyError(f"{path} (as it would be)", error.problems) from error


def _lines(text: str) -> list[str]:
    """The lines as YAML counts them, without their ends."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _replaced(path: Path, text: str, lines: Sequence[str]) -> Study:
    """Replaces a study's file by other lines once they are known to be a study; also behind a link.

    Raises:
        StudyError: They are none.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    changed = end.join(lines) + end
    study = checked(path, changed)
    target = path.resolve()
    mode = target.stat().st_mode
    write_atomic(target, changed)
    os.chmod(target, mode)
    return study
