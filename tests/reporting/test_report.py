"""Whole reports, from records that were never run to HTML and PDF."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.errors import RenderError
from ablations.reporting import copies, fragments, sections
from ablations.reporting.builtin import pandoc
from ablations.reporting.qmd import nodes, words
from ablations.reporting.render import copy_project, find_quarto, project_of, render_report

REPOSITORY = Path(__file__).resolve().parents[2]
SNAPSHOTS = Path(__file__).with_name("snapshots")
KINDS = ["one seed", "unfinished", "one arm", "forty arms", "failures", "nothing helps", "nothing"]
SNAPPED = ("head", "missing", "answer", "todo", "compared", "main", "ledger", "limits", "data")

State = Callable[[str], Any]


@pytest.fixture(autouse=True)
def _builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATIONS_RENDERER", "builtin")


def normalised(text: str) -> str:
    """Without hashes of the config, which change whenever the experiment gains a parameter; runs are counted."""
    text = re.sub(r'\{\.evidence data-runs="([^"]*)"', lambda found: f"{{{len(found[1].split())} runs", text)
    return re.sub(r"\b[0-9a-f]{12}(?=-s\d)", "RUN", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["complete", *KINDS])
def test_the_content_is_what_it_was(name: str, state: State, tmp_path: Path) -> None:
    """ABLATIONS_UPDATE_SNAPSHOTS=1 writes the snapshots anew; read the difference before it is committed."""
    ctx = state(name).context()
    written = "\n".join(f"<!-- {part} -->\n{normalised(fragments.FRAGMENTS[part](ctx, tmp_path))}" for part in SNAPPED)
    path = SNAPSHOTS / f"{name.replace(' ', '-')}.md"
    if os.environ.get("ABLATIONS_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")
    assert written == path.read_text(encoding="utf-8")


def test_an_unfinished_study_says_what_is_missing(state: State, tmp_path: Path) -> None:
    said = sections.missing(state("unfinished").context(), tmp_path)
    assert "12 of 24 planned runs have a result" in said
    assert "not started" in said
    assert "No result at all: `layers=6`, `dropout`." in said or "No result at all: `dropout`, `layers=6`." in said


def test_a_finished_study_has_no_callout(state: State, tmp_path: Path) -> None:
    assert sections.missing(state("complete").context(), tmp_path) == ""


def test_every_arm_has_one_sentence_and_the_largest_effect_of_a_verdict_comes_first(
    state: State, tmp_path: Path
) -> None:
    ctx = state("complete").context()
    said = sections.answer(ctx, tmp_path)
    order = re.findall(r"^- .*?\*\*`([^`]+)`\*\*", said, flags=re.M)
    assert sorted(order) == sorted(each.arm for each in ctx.comparisons)
    shown = re.sub(r"\]\{\.evidence [^}]*\}", "", said)
    assert all(line.count(". ") == 0 and line.endswith(".") for line in shown.splitlines() if line.startswith("- "))
    helped = [abs(ctx.by_arm[arm].difference or 0) for arm in order if ctx.by_arm[arm].verdict == "helps"]
    assert helped == sorted(helped, reverse=True)


def test_a_study_that_asks_and_expects_nothing_has_no_columns_for_it(state: State, tmp_path: Path) -> None:
    assert "| Arm | Change from the baseline |\n" in sections.compared(state("one arm").context(), tmp_path)
    assert "| Question | Expected |\n" in sections.compared(state("complete").context(), tmp_path)


def test_a_missing_run_is_never_shown_as_zero(state: State, tmp_path: Path) -> None:
    ctx = state("unfinished").context()
    table = fragments.FRAGMENTS["ledger"](ctx, tmp_path)
    lines = [line for line in table.splitlines() if "**missing**" in line]
    assert len(lines) == 12
    assert all(line.split("|")[5].strip() == "–" for line in lines)


@pytest.mark.slow
def test_figures_lead_to_runs_that_exist(state: State, tmp_path: Path) -> None:
    ctx = state("complete").context()
    known = set(ctx.runs["run_id"])
    text = "".join(fragment(ctx, tmp_path) for fragment in fragments.FRAGMENTS.values())
    cited = re.findall(r'data-runs="([^"]*)"', text)
    assert len(cited) > 50
    assert {run for ids in cited for run in ids.split(" ")} <= known


def test_the_figures_of_the_text_are_those_of_the_alternative_text(state: State, tmp_path: Path) -> None:
    ctx = state("complete").context()
    alt = html.unescape(re.search(r'fig-alt="([^"]*)"', fragments.FRAGMENTS["forest"](ctx, tmp_path)).group(1))  # type: ignore[union-attr]
    table = fragments.FRAGMENTS["main"](ctx, tmp_path)
    for comparison in ctx.comparisons:
        row = next(line for line in table.splitlines() if line.startswith(f"| `{comparison.arm}`"))
        shown = re.search(r"\[([+−][\d.]+)\]", row).group(1)  # type: ignore[union-attr]
        assert f"{comparison.arm} {shown} " in alt


def test_the_stubs_are_committed_and_complete() -> None:
    stubs = {
        path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "report" / "_generated").glob("*.qmd")
    }
    assert stubs == dict.fromkeys(fragments.FRAGMENTS, fragments.STUB)


def test_every_fragment_is_shown_once() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "report").glob("*.qmd"))
    included = re.findall(r"^\{\{< include _generated/(\w+)\.qmd >\}\}$", text, flags=re.M)
    assert sorted(included) == sorted(fragments.FRAGMENTS)


def test_a_report_beside_the_study_wins(tmp_path: Path) -> None:
    assert project_of(tmp_path / "study.yaml") == REPOSITORY / "report"
    own = tmp_path / "report"
    own.mkdir()
    (own / "index.qmd").write_text("mine")
    assert project_of(tmp_path / "study.yaml") == own


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.inside: dict[str, str] = {}
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self._open = "json" if found.get("type") == "application/json" else tag

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style", "json"}:
            self.inside[self._open] = self.inside.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["complete", "one seed", "unfinished", "failures", "nothing"])
def test_every_state_gives_a_page_and_a_pdf_the_same_to_the_byte(name: str, state: State) -> None:
    made = state(name)
    first = [path.read_bytes() for path in render_report(made.study, made.results)]
    again = [path.read_bytes() for path in render_report(made.study, made.results)]
    assert first == again
    assert first[0].startswith(b"<!DOCTYPE html>")
    assert first[1].startswith(b"%PDF-")


@pytest.mark.slow
def test_the_page_needs_no_network_and_allows_nothing_but_itself(state: State) -> None:
    made = state("failures")
    text = render_report(made.study, made.results)[0].read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    policy = next(str(found["content"]) for tag, found in page.tags if found.get("http-equiv"))
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert [tag for tag, found in page.tags if "style" in found or any(name.startswith("on") for name in found)] == []
    assert [found["src"][:22] for tag, found in page.tags if found.get("src")] == [
        "data:image/svg+xml;bas" for tag, found in page.tags if tag == "img"
    ]
    assert all(found.get("alt") for tag, found in page.tags if tag == "img")
    assert len(page.ids) == len(set(page.ids))
    targets = {
        str(found["href"])[1:] for tag, found in page.tags if tag == "a" and str(found.get("href", "")).startswith("#")
    }
    assert targets <= set(page.ids)


@pytest.mark.slow
def test_a_hostile_cause_of_failure_is_inert_everywhere(state: State, synthetic: ModuleType) -> None:
    made = state("failures")
    text = render_report(made.study, made.results)[0].read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert [found for tag, found in page.tags if tag == "script" and "type" not in found] == [{}]
    assert html.escape(synthetic.HOSTILE, quote=False)[:60] in text.replace("&quot;", '"')
    assert set(json.loads(page.inside["json"])) == {"metric", "names", "columns", "runs"}


@pytest.mark.slow
def test_the_pre_render_script_writes_what_quarto_renders(state: State, tmp_path: Path) -> None:
    made = state("one seed")
    project = tmp_path / "report"
    copy_project(REPOSITORY / "report", project)
    environment = {**os.environ, "ABLATIONS_STUDY": str(made.study), "ABLATIONS_RESULTS": str(made.results)}
    subprocess.run([sys.executable, str(project / "prerender.py")], check=True, env=environment)
    assert "not assessed" in (project / "_generated" / "answer.qmd").read_text(encoding="utf-8")
    assert (project / "_generated" / "forest.svg").is_file()
    subprocess.run([sys.executable, str(project / "postrender.py")], check=True, env=environment)
    assert (project / "_generated" / "answer.qmd").read_text(encoding="utf-8") == fragments.STUB


def test_tables_are_copied_for_other_documents(state: State, tmp_path: Path) -> None:
    ctx = state("complete").context()
    copies.write(ctx, tmp_path)
    with open(tmp_path / "comparisons.csv", encoding="utf-8", newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert {arm: float(row["difference"]) for arm, row in rows.items()} == {
        each.arm: each.difference for each in ctx.comparisons
    }
    with open(tmp_path / "runs.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == ctx.planned
    latex = (tmp_path / "main.tex").read_text(encoding="utf-8")
    assert latex.startswith(r"\begin{longtable}[]{@{}lrrrrrlrr@{}}")
    assert "data-runs" not in latex + (tmp_path / "main.md").read_text(encoding="utf-8")


def test_quarto_renders_where_it_is_installed(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the program: it notes how it was called and leaves the two files where the project says."""
    monkeypatch.delenv("ABLATIONS_RENDERER")
    program = tmp_path / "quarto"
    program.write_text(
        '#!/bin/sh\nmkdir -p "$2/_output"\n'
        'echo "$@ $SOURCE_DATE_EPOCH $ABLATIONS_FRAGMENTS" > "$2/_output/report.html"\n'
        'cp "$2/_generated/head.qmd" "$2/_output/report.pdf"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_quarto() == str(program)
    made = state("nothing")
    page, pdf = render_report(made.study, made.results)
    assert page.read_text().split()[-6:] == ["--metadata", "title:tiny", "--metadata", "papersize:a4", "0", "written"]
    assert "0 of 24" in pdf.read_text().replace("\u00a0", " ")


def test_a_failing_quarto_is_quoted(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABLATIONS_RENDERER")
    program = tmp_path / "quarto"
    program.write_text("#!/bin/sh\necho 'no such font' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = state("nothing")
    monkeypatch.setenv("ABLATIONS_RENDERER", "quarto")
    with pytest.raises(RenderError, match="no such font"):
        render_report(made.study, made.results)


@pytest.mark.slow
def test_where_quarto_fails_its_words_are_said_and_the_built_in_renderer_takes_over(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ABLATIONS_RENDERER")
    program = tmp_path / "quarto"
    program.write_text("#!/bin/sh\necho 'no such font' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    logger, warned = logging.getLogger("ablations.reporting.render"), list[str]()
    monkeypatch.setattr(logger, "warning", lambda text, *given: warned.append(text % given))  # others turn loggers off
    made = state("nothing")
    _, pdf = render_report(made.study, made.results)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert len(warned) == 1
    assert "no such font" in warned[0]
    assert "built-in renderer takes over" in warned[0]


@pytest.mark.slow
def test_reading_a_report_needs_neither_torch_nor_a_drawing_library() -> None:
    code = (
        "import sys; import ablations.reporting.render; "
        "print(sorted({'torch', 'matplotlib', 'transformers', 'sacred'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_copied_tables_are_read_by_the_programs_they_are_for(state: State, tmp_path: Path) -> None:
    """What Markdown and LaTeX hold is what the CSV holds."""
    ctx = state("failures").context()
    copies.write(ctx, tmp_path)
    for name in ("main", "scores", "variants", "data"):
        with open(tmp_path / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) > 2
        assert len({len(row) for row in rows}) == 1
        latex = (tmp_path / f"{name}.tex").read_text(encoding="utf-8")
        assert latex.startswith(r"\begin{longtable}") and latex.endswith("\\end{longtable}\n")
        assert set(re.sub(r"[\x00-\x7f]", "", latex)) <= set("’“”")  # whatever else pdfLaTeX has no letter for
        assert latex.split("\\endlastfoot")[1].count(r" \\" + "\n") == len(rows) - 1
        tree = json.loads(pandoc((tmp_path / f"{name}.md").read_text(encoding="utf-8"), "gfm", "json"))
        (table,) = [node for node in nodes(tree["blocks"]) if node["t"] == "Table"]
        read = [words(row[1][0][4]) for row in [*table["c"][3][1], *table["c"][4][0][3]]]
        assert [each.replace("\u00a0", " ") for each in read] == [row[0] for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_copied_tables_are_set_by_latex(state: State, tmp_path: Path) -> None:
    copies.write(state("failures").context(), tmp_path)
    inputs = "\n".join(rf"\input{{{name}.tex}}" for name in ("main", "scores", "variants", "data"))
    lines = [
        r"\documentclass{article}\usepackage{booktabs,longtable,amssymb}\begin{document}",
        inputs,
        r"\end{document}",
    ]
    (tmp_path / "all.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
