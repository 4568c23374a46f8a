"""Holds a rendered report against its records: everything is computed again, and compared number by number."""

from __future__ import annotations

import csv
import difflib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.errors import AblationsError
from ablations.pages import Page, Token, read_page, tokens
from ablations.reporting import builtin, copies, fragments
from ablations.reporting.context import load_context
from ablations.reporting.render import PAPERS, copy_project, project_of

CLOSE = 1e-9
VERDICTS = {"better", "worse", "helps", "hurts", "equivalent", "inconclusive", "identical", "unstable", *"▲▼△▽≈"}


@dataclass(frozen=True)
class Difference:
    """A number of the report that its records do not give.

    Attributes:
        file: The file of the report.
        place: Where in it.
        reported: What stands there; empty where something is missing.
        recomputed: What the records give; empty where nothing should stand there.
    """

    file: str
    place: str
    reported: str
    recomputed: str


@dataclass
class Checked:
    """What came of it.

    Attributes:
        numbers: Numbers (and verdicts) that were compared.
        differences: Those that differ.
        notes: What could not be compared, or differs without a number being affected.
    """

    numbers: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_report(study: Path, results: Path, profile: str | None, kept: Path) -> Checked:
    """Computes a report again from its records and compares it with the rendered one.

    Args:
        study: The study's file.
        results: The results folder; it is only read.
        profile: Name of a profile, or None for the one that fits the machine.
        kept: The report's folder, or its page.

    Raises:
        AblationsError: There is no page.
        StudyError: The study's file is wrong.
    """
    page = page_of(kept)
    with tempfile.TemporaryDirectory(prefix="ablations-verify-") as folder:
        fresh = Path(folder) / "report.html"
        metadata = recompute(study, results, profile, Path(folder))
        checked = compare_reports(page, fresh)
        pdf = page.with_suffix(".pdf")
        if pdf.is_file():
            checked.notes.append(_about_pdf(pdf, page.read_bytes() == fresh.read_bytes(), Path(folder), metadata))
        return checked


def _about_pdf(pdf: Path, same_page: bool, folder: Path, metadata: Mapping[str, str]) -> str:
    """What can be said of a PDF: made by the built-in renderer on a machine like this one, it has the same bytes."""
    if same_page:
        for paper in PAPERS.values():
            (fresh,) = builtin.render(folder / "project", folder, ["pdf"], {**metadata, "paper": paper})
            if fresh.read_bytes() == pdf.read_bytes():
                return f"{pdf.name}: what the records give, to the byte"
    return f"{pdf.name}: not what the built-in renderer makes here; its numbers were not compared"


def recompute(study: Path, results: Path, profile: str | None, folder: Path) -> dict[str, str]:
    """Renders the page and the copies of the tables anew, into a folder; returns what the renderer was told."""
    ctx = load_context(study, results, profile)
    copy_project(project_of(study), folder / "project")
    fragments.write(ctx, folder / "project" / "_generated")
    copies.write(ctx, folder / "tables")
    metadata = {"title": ctx.study.name, "epoch": ctx.epoch}
    builtin.render(folder / "project", folder, ["html"], metadata)
    return metadata


def compare_reports(kept: Path, fresh: Path) -> Checked:
    """Compares two pages and the copies of the tables beside them.

    Args:
        kept: The page in question.
        fresh: The page as it ought to be.
    """
    checked = Checked()
    _check_page(kept, fresh, checked)
    _check_tables(kept.parent / "tables", fresh.parent / "tables", checked)
    return checked


def page_of(kept: Path) -> Path:
    """The page of a report, named by itself or by its folder.

    Raises:
        AblationsError: There is none, or several.
    """
    if kept.is_file() and kept.suffix == ".html":
        return kept
    found = [kept / "report.html"] if (kept / "report.html").is_file() else sorted(kept.glob("*.html"))
    if len(found) == 1:
        return found[0]
    seen = "none" if not found else ", ".join(each.name for each in found)
    raise AblationsError(f"{kept}: expected a report's page (report.html), found {seen}; `ablations report` renders it")


def _check_page(kept: Path, fresh: Path, checked: Checked) -> None:
    old_text, new_text = kept.read_text(encoding="utf-8"), fresh.read_text(encoding="utf-8")
    old, new = read_page(old_text), read_page(new_text)
    checked.numbers += sum(is_figure(each.text) for section in new.sections.values() for each in section)
    checked.numbers += sum(1 for _ in _leaves(new.runs))
    if old_text == new_text:
        return
    checked.differences += _behind(kept.name, old.runs, new.runs)
    worded = False
    for name in dict.fromkeys((*new.sections, *old.sections)):
        found, wording = compare_tokens(old.sections.get(name, []), new.sections.get(name, []))
        worded = worded or wording
        checked.differences += [
            Difference(kept.name, f"{name or 'beginning'}: {place}".removesuffix(": "), reported, recomputed)
            for place, reported, recomputed in found
        ]
    _check_pictures(kept.name, old, new, checked)
    if worded:
        checked.notes.append(f"{kept.name}: some words differ; another version of this package, or an edited text")


def is_figure(word: str) -> bool:
    """Whether a word is a number or a verdict: what has to follow from the records.

    >>> [is_figure(word) for word in ("0.31", "layers=32", "hurts", "the")]
    [True, True, True, False]
    """
    return word in VERDICTS or any(each.isdigit() for each in word)


def compare_tokens(old: Sequence[Token], new: Sequence[Token]) -> tuple[list[tuple[str, str, str]], bool]:
    """Compares two texts word by word.

    Returns:
        (place, old, new) of each stretch whose numbers differ, and whether other words differ.
    """
    before, after = [each.text for each in old], [each.text for each in new]
    if before == after:
        return [], False
    found, wording = [], False
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        was, now = (
            [each for each in old[i:j] if is_figure(each.text)],
            [each for each in new[k:m] if is_figure(each.text)],
        )
        if [each.text for each in was] == [each.text for each in now]:
            wording = True
        elif len(was) == len(now):
            found += [(b.place, a.text, b.text) for a, b in zip(was, now, strict=True) if a.text != b.text]
        else:
            place = (now or was)[0].place
            found.append((place, " ".join(each.text for each in was), " ".join(each.text for each in now)))
    return found, wording


def _behind(file: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """What a page says of the runs behind its numbers against what the records say."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for path in dict.fromkeys((*after, *before)):
        if before.get(path) != after.get(path):
            shown = tuple(str(each.get(path, "")) for each in (before, after))
            yield Difference(file, f"runs behind the numbers: {path}", *shown)


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of nested data, with their paths."""
    if isinstance(data, dict):
        for name, each in data.items():
            yield from _leaves(each, f"{path}, {name}" if path else str(name))
    elif isinstance(data, list):
        for number, each in enumerate(data, 1):
            yield from _leaves(each, f"{path}, {number}")
    else:
        yield path, data


def _check_pictures(file: str, old: Page, new: Page, checked: Checked) -> None:
    """Compares what is drawn, to the byte.

    Another version of the drawing library draws every figure otherwise: then nothing follows from the bytes, and the
    alternative texts, which hold the figures' numbers, have been compared.
    """
    drawn = {each.alt: each.digest for each in old.pictures if each.digest}
    both = [each for each in new.pictures if each.alt in drawn]
    same = [each for each in both if drawn[each.alt] == each.digest]
    if both and not same:
        checked.notes.append(f"{file}: all figures are drawn otherwise here; compared by their alternative texts")
        return
    for each in both:
        if each not in same:
            checked.differences.append(Difference(file, f"figure: {each.alt[:60]}", "another drawing", "the records'"))


# -- copies of the tables -------------------------------------------------------------------------------------


def _check_tables(kept: Path, fresh: Path, checked: Checked) -> None:
    for path in sorted(fresh.iterdir()):
        old = kept / path.name
        if not old.is_file():
            checked.notes.append(f"tables/{path.name}: not there, not compared")
            continue
        compare = _compare_csv if path.suffix == ".csv" else _compare_text
        compare(f"tables/{path.name}", old.read_text(encoding="utf-8"), path.read_text(encoding="utf-8"), checked)


def _compare_csv(file: str, old: str, new: str, checked: Checked) -> None:
    """Cell by cell; the last digits of a floating-point number may differ between machines."""
    before, after = _cells(old), _cells(new)
    checked.numbers += sum(is_figure(value) for value in after.values())
    for cell in dict.fromkeys((*after, *before)):
        was, now = before.get(cell, ""), after.get(cell, "")
        if was != now and not _close(was, now):
            checked.differences.append(Difference(file, ", ".join(cell), was, now))


def _cells(text: str) -> dict[tuple[str, str], str]:
    """By the row's first cell (numbered where several rows share it) and the column's name."""
    found: dict[tuple[str, str], str] = {}
    for row in csv.DictReader(text.splitlines()):
        name = key = str(next(iter(row.values()), ""))
        number = 1
        while any((name, column) in found for column in row):
            number += 1
            name = f"{key} ({number})"
        found.update({(name, str(column)): str(value) for column, value in row.items()})
    return found


def _close(was: str, now: str) -> bool:
    """Whether two cells hold the same numbers; cells of several are compared one by one."""
    olds, news = was.split(), now.split()
    if len(olds) != len(news):
        return False
    try:
        pairs = [(float(a), float(b)) for a, b in zip(olds, news, strict=True)]
    except ValueError:
        return False
    return all(abs(a - b) <= CLOSE * max(1.0, abs(a)) for a, b in pairs)


def _compare_text(file: str, old: str, new: str, checked: Checked) -> None:
    before, after = ([each for line in text.splitlines() for each in _line(line)] for text in (old, new))
    checked.numbers += sum(is_figure(each.text) for each in after)
    found, _ = compare_tokens(before, after)
    checked.differences += [Difference(file, place, was, now) for place, was, now in found]


def _line(text: str) -> list[Token]:
    cells = [each.strip() for each in re.split(r"[|&]", text) if each.strip()]
    return [each for cell in cells for each in tokens(cell, cells[0][:60])]
