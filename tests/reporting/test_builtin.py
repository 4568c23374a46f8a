"""The built-in renderer's pages: rows that stay together, paper, long listings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import UnknownName
from ablations.reporting import builtin
from ablations.reporting.builtin import pandoc
from ablations.reporting.markdown import Column, code_block, kept_with_next, table
from ablations.reporting.qmd import walk
from ablations.reporting.render import render_report


def typst_of(markdown: str, *, paper: str = "a4") -> str:
    """The whole Typst source of a document."""
    document = builtin._document(json.loads(pandoc(markdown, "markdown", "json")), "typst", {})
    blocks = walk(walk(document.tree["blocks"], builtin._typst_node), builtin._rows_together)
    body = pandoc(json.dumps({**document.tree, "blocks": blocks}), "json", "typst")
    return builtin._preamble(document, {"paper": paper}) + body


def query(source: str, folder: Path, label: str) -> list[Any]:
    import typst

    path = folder / "document.typ"
    path.write_text(source, encoding="utf-8")
    found: list[Any] = json.loads(typst.query(str(path), f"<{label}>", field="value"))
    return found


def located(name: str) -> str:
    """A cell that says on which page it is."""
    return f"{name} `#context [#metadata(({json.dumps(name)}, here().page()))<place>]`{{=typst}}"


@pytest.mark.slow
def test_no_row_stands_alone_on_a_page_and_a_groups_name_stays_with_its_rows(tmp_path: Path) -> None:
    """Tables of many lengths, one after the other, end and begin anywhere on a page."""
    sizes = range(30, 60)
    made = []
    for size in sizes:
        rows = [[located(f"{size}:{at}"), "1"] for at in range(size)]
        rows.insert(size // 2, [f"**{located(f'{size}:group')}**", ""])
        made.append(table([Column("a"), Column("b")], rows, label=f"t{size}", caption="c"))
    source = typst_of("\n".join(made))
    pages = dict(query(source, tmp_path, "place"))
    for size in sizes:
        assert pages[f"{size}:0"] == pages[f"{size}:1"]
        assert pages[f"{size}:{size - 2}"] == pages[f"{size}:{size - 1}"]
        assert pages[f"{size}:group"] == pages[f"{size}:{size // 2}"]
    parted = [size for size in sizes if pages[f"{size}:0"] != pages[f"{size}:{size - 1}"]]
    assert len(parted) > 10  # tables did run over pages


def parted(folder: Path, questions: Any) -> set[str]:
    """Which of heading and question stand on the page before the finding, each part begun lower on its page."""
    made = []
    for at in range(60):
        space = f"`#pagebreak()\n#v({600 + 2 * at}pt)`{{=typst}}"
        question = questions(f"*{located(f'{at}:question')}*")
        made += [space, f"## {located(f'{at}:heading')} {{#sec-{at}}}", question, f"- {located(f'{at}:finding')}"]
    pages = dict(query(typst_of("\n\n".join(made)), folder, "place"))
    others = ("heading", "question")
    return {each for each in others for at in range(60) if pages[f"{at}:{each}"] != pages[f"{at}:finding"]}


@pytest.mark.slow
def test_a_question_and_its_heading_stand_on_the_page_of_the_first_finding(tmp_path: Path) -> None:
    assert parted(tmp_path, lambda question: question) == {"heading", "question"}
    assert parted(tmp_path, kept_with_next) == set()


def test_what_is_meant_for_a_pdf_is_not_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "index.qmd").write_text(f"# One\n\n{kept_with_next('*Why?*')}\n- because\n")
    page, _ = builtin.render(tmp_path, tmp_path)
    assert "<em>Why?</em>" in page.read_text()
    assert "typst:" not in page.read_text()


@pytest.mark.parametrize(("paper", "points"), [("a4", 595.3), ("us-letter", 612.0)])
def test_pages_have_the_width_of_their_paper(paper: str, points: float, tmp_path: Path) -> None:
    source = typst_of("text `#context [#metadata(page.width.pt())<width>]`{=typst}", paper=paper)
    assert query(source, tmp_path, "width") == [pytest.approx(points, abs=0.1)]


def test_an_unknown_paper_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown paper 'leter'; did you mean 'letter'"):
        render_report(tmp_path / "study.yaml", tmp_path / "results", paper="leter")


def test_a_long_listing_takes_two_columns(tmp_path: Path) -> None:
    """180 lines that took three pages at the size of a short one take one and a bit."""
    end = "\n\n`#context [#metadata(here().page())<end>]`{=typst}"
    lines = "\n".join(f"key-{at}: value" for at in range(180))
    assert query(typst_of(code_block(lines) + end), tmp_path, "end")[0] <= 2
