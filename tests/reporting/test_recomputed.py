"""A rendered report against its records: any changed digit is found, and no renderer raises a false alarm."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import AblationsError
from ablations.pages import Token
from ablations.recomputed import _about_pdf, check_report, compare_reports, compare_tokens, page_of, recompute
from ablations.reporting import builtin

State = Callable[[str], Any]


@pytest.fixture(scope="module")
def fresh(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of complete results, rendered once."""
    made = state("complete")
    folder = tmp_path_factory.mktemp("fresh")
    recompute(made.study, made.results, None, folder)
    return folder / "report.html"


@pytest.fixture
def kept(fresh: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    shutil.copytree(fresh.parent / "tables", tmp_path / "tables")
    return Path(shutil.copy(fresh, tmp_path / "report.html"))


@pytest.mark.slow
def test_a_report_that_follows_from_its_records_has_all_its_numbers_compared(state: State, kept: Path) -> None:
    made = state("complete")
    checked = check_report(made.study, made.results, None, kept.parent)
    assert checked.differences == []
    assert checked.notes == []
    evident = kept.read_text(encoding="utf-8").count("data-runs=")
    assert checked.numbers > evident > 50


@pytest.mark.slow
def test_a_pdf_is_known_by_its_bytes(state: State, tmp_path: Path) -> None:
    made = state("one seed")
    metadata = recompute(made.study, made.results, None, tmp_path)
    letter = {**metadata, "paper": "us-letter"}
    (pdf,) = builtin.render(tmp_path / "project", tmp_path / "kept", ["pdf"], letter)
    assert _about_pdf(pdf, True, tmp_path, metadata) == "report.pdf: what the records give, to the byte"
    pdf.write_bytes(pdf.read_bytes().replace(b"%PDF", b"%PDf"))
    other = "report.pdf: not what the built-in renderer makes here; its numbers were not compared"
    assert _about_pdf(pdf, True, tmp_path, metadata) == _about_pdf(pdf, False, tmp_path, metadata) == other


@pytest.mark.slow
def test_one_changed_digit_of_any_number_is_found(fresh: Path, kept: Path) -> None:
    text = fresh.read_text(encoding="utf-8")
    shown = [found.start(1) for found in re.finditer(r'data-runs="[^"]*"[^>]*>[^<]*?(\d)[^<\d]*</span>', text)]
    assert len(shown) > 50
    for place in (shown[0], shown[len(shown) // 2], shown[-1]):
        kept.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}", encoding="utf-8")
        (found,) = compare_reports(kept, fresh).differences
        assert (len(found.reported), found.file) == (len(found.recomputed), "report.html")
        assert sum(a != b for a, b in zip(found.reported, found.recomputed, strict=True)) == 1


@pytest.mark.slow
def test_a_changed_verdict_is_found_and_a_changed_word_is_said(fresh: Path, kept: Path) -> None:
    text = fresh.read_text(encoding="utf-8")
    place = text.index(" hurts", text.index("</nav>"))
    kept.write_text(text[:place] + " helps" + text[place + 6 :], encoding="utf-8")
    (found,) = compare_reports(kept, fresh).differences
    assert (found.reported, found.recomputed) == ("helps", "hurts")
    kept.write_text(text.replace(" baseline ", " reference ", 1), encoding="utf-8")
    checked = compare_reports(kept, fresh)
    assert checked.differences == []
    assert checked.notes == ["report.html: some words differ; another version of this package, or an edited text"]


@pytest.mark.slow
def test_a_redrawn_figure_is_found_and_another_drawing_library_is_no_alarm(fresh: Path, kept: Path) -> None:
    text = fresh.read_text(encoding="utf-8")
    drawings = re.findall(r"(?<=data:image/svg\+xml;base64,)[^\"]+", text)
    assert len(drawings) > 2
    kept.write_text(text.replace(drawings[0], drawings[0][:-8] + "AAAAAAAA"), encoding="utf-8")
    (found,) = compare_reports(kept, fresh).differences
    assert found.place.startswith("figure: ")
    kept.write_text(re.sub(r"(?<=data:image/svg\+xml;base64,)[^\"]+", "AAAA", text), encoding="utf-8")
    checked = compare_reports(kept, fresh)
    assert checked.differences == []
    assert "all figures are drawn otherwise here" in checked.notes[0]


@pytest.mark.slow
def test_a_page_as_quarto_writes_it_is_no_alarm(fresh: Path, kept: Path) -> None:
    text = fresh.read_text(encoding="utf-8").replace('class="section-number"', 'class="header-section-number"')
    text = re.sub(r'<span\s+class="number">([^<]*)</span>', r"\1", text)
    text = text.replace('class="cross-reference"', 'class="quarto-xref"')
    text = text.replace("<main", '<nav id="TOC">1 2 3</nav><main').replace(
        "</main>", '</main><nav class="page-navigation">4</nav>'
    )
    text = text.replace(
        '<h1 class="title">', '<header id="title-block-header"><p>2026-01-02</p></header><h1 class="title">'
    )
    kept.write_text(text, encoding="utf-8")
    checked = compare_reports(kept, fresh)
    assert checked.differences == []


@pytest.mark.slow
def test_a_record_that_changed_after_the_report_is_named_first(
    state: State, fresh: Path, kept: Path, tmp_path: Path
) -> None:
    made = state("complete")
    results = tmp_path / "results"
    shutil.copytree(made.results, results)
    path = sorted(results.glob("runs/*-s1/record.json"))[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    record["scores"]["test_f1"] += 0.1
    path.write_text(json.dumps(record), encoding="utf-8")
    checked = check_report(made.study, results, None, kept)
    first = checked.differences[0]
    assert record["run_id"] in first.place
    assert float(first.recomputed) == pytest.approx(record["scores"]["test_f1"], abs=1e-4)
    assert float(first.reported) == pytest.approx(record["scores"]["test_f1"] - 0.1, abs=1e-4)
    assert {each.file for each in checked.differences} >= {"report.html", "tables/comparisons.csv", "tables/runs.csv"}


@pytest.mark.slow
def test_copies_of_the_tables_are_compared_cell_by_cell(fresh: Path, kept: Path) -> None:
    path = kept.parent / "tables" / "runs.csv"
    text = path.read_text(encoding="utf-8")
    value = re.search(r"0\.\d{4,}", text)[0]  # type: ignore[index]
    path.write_text(text.replace(value, f"{float(value) * (1 + 1e-12)!r}"), encoding="utf-8")
    assert compare_reports(kept, fresh).differences == []  # another machine's last digit
    path.write_text(text.replace(value, f"{float(value) + 0.01!r}", 1), encoding="utf-8")
    (found,) = compare_reports(kept, fresh).differences
    assert (found.file, found.recomputed) == ("tables/runs.csv", value)
    path.unlink()
    assert compare_reports(kept, fresh).notes == ["tables/runs.csv: not there, not compared"]


def test_texts_are_compared_word_by_word_and_only_figures_count() -> None:
    def words(text: str) -> list[Token]:
        return [Token(word, text) for word in text.split()]

    assert compare_tokens(words("a 0.1 b"), words("a 0.1 b")) == ([], False)
    assert compare_tokens(words("an 0.1 b"), words("a 0.1 b")) == ([], True)
    assert compare_tokens(words("a 0.2 b"), words("a 0.1 b")) == ([("a 0.1 b", "0.2", "0.1")], False)
    assert compare_tokens(words("a b"), words("a 0.1 b")) == ([("a 0.1 b", "", "0.1")], False)
    assert compare_tokens(words("it helps"), words("it hurts")) == ([("it hurts", "helps", "hurts")], False)


def test_a_report_is_named_by_its_folder_or_its_page(tmp_path: Path) -> None:
    with pytest.raises(AblationsError, match=r"expected a report's page \(report\.html\), found none"):
        page_of(tmp_path)
    page = tmp_path / "index.html"
    page.touch()
    assert page_of(tmp_path) == page_of(page) == page  # Quarto's own name for it
    (tmp_path / "other.html").touch()
    with pytest.raises(AblationsError, match=r"found index\.html, other\.html"):
        page_of(tmp_path)
    with pytest.raises(AblationsError, match=r"notes\.txt: expected a report's page"):
        (tmp_path / "notes.txt").touch()
        page_of(tmp_path / "notes.txt")
    (tmp_path / "report.html").touch()
    assert page_of(tmp_path) == tmp_path / "report.html"
