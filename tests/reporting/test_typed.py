"""No number of the report is typed by hand, neither in its text nor in the code that writes its generated parts."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import RenderError
from ablations.reporting.render import render_report
from ablations.reporting.typed import refuse_typed_numbers, typed_numbers

REPOSITORY = Path(__file__).resolve().parents[2]
SEEN = [
    ("The baseline reaches 0.45.", ["0.45"]),
    ("a rise of +0.031, or −3 %", ["+0.031", "−3"]),
    ("**12** of 1,000", ["12", "1,000"]),
    ("| a | 0.25 |", ["0.25"]),
    ("[0.25]{.other}", ["0.25"]),
    ("5e-4", ["5e-4"]),
    ("(n = 3)", ["3"]),
]
UNSEEN = [
    "[0.25]{.constant}",
    "F1 and `test_f1`, `lr=0.004`",
    "# Results {#sec-1}",
    "see @tbl-main-2",
    "{{< include _part2.qmd >}}",
    "<!-- 0.45 -->",
    "1. first\n2. second",
    "```\n0.45\n```",
    "[text](https://example.org/2019)",
    "---\ntitle: Study of 2026\n---\ntext",
    "three or four seeds",
]


@pytest.mark.parametrize(("text", "expected"), SEEN)
def test_a_number_in_the_text_is_seen(text: str, expected: list[str]) -> None:
    assert [number for _, number in typed_numbers(text)] == expected


@pytest.mark.parametrize("text", UNSEEN)
def test_code_names_marked_constants_and_markup_are_no_numbers(text: str) -> None:
    assert list(typed_numbers(text)) == []


def test_the_report_of_this_project_holds_none() -> None:
    refuse_typed_numbers(REPOSITORY / "report")


def test_a_planted_number_fails_the_render_with_its_file_and_line(state: Callable[[str], Any], tmp_path: Path) -> None:
    made = state("nothing")
    study = tmp_path / "study.yaml"
    shutil.copy(made.study, study)
    shutil.copytree(REPOSITORY / "report", tmp_path / "report")
    with open(tmp_path / "report" / "_answer.qmd", encoding="utf-8") as file:
        lines = len(file.readlines())
    with open(tmp_path / "report" / "_answer.qmd", "a", encoding="utf-8") as file:
        file.write("\nThe best arm reaches 0.452, after 3 epochs.\n")
    with pytest.raises(RenderError) as caught:
        render_report(study, made.results)
    said = str(caught.value)
    assert f"_answer.qmd:{lines + 2}: 0.452" in said
    assert f"_answer.qmd:{lines + 2}: 3" in said
    assert "[42]{.constant}" in said


# -- the code that writes the generated parts -----------------------------------------------------------------

WRITERS = sorted(
    path
    for path in (REPOSITORY / "ablations" / "reporting").glob("*.py")
    if path.stem not in {"builtin", "qmd", "text", "typed", "policy"}  # they write no sentence
)
CONSTANTS = {
    "95": "level of the intervals",
    "90": "level of the interval of an equivalence test",
    "200": "most further seeds that are recommended",
    "12.7": "t quantile of two seeds",
    "1.4": "square root of two",
    "3": "fewest runs that an interval is drawn for",
    "5": "per cent of rise that tell overfitting",
    "1": "one thing of a kind, and the p of an arm that cannot be tested",
    "0": "none",
    "0.1": "per cent below which a probability is not told exactly",
    "99.9": "per cent above which a probability is not told exactly",
    "123456789": "figures to translate into superscripts",
}
"""Numbers that words of the method may hold; none is a result."""
_NUMBER = re.compile(r"(?<![\w.#/@&:;{%-])\d+(?:[.,]\d+)*(?![\w#}]|-\w)")


def typed_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each number in a string of a module that may reach a reader: no docstring, pattern, format."""
    passed: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        elif isinstance(node, ast.FormattedValue) and node.format_spec:
            passed.update(map(id, ast.walk(node.format_spec)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re."):
            passed.update(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield from ((node.lineno, found[0]) for found in _NUMBER.finditer(node.value))


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: path.stem)
def test_sentences_take_their_numbers_from_what_they_are_given(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [(line, number) for line, number in typed_in(tree) if number not in CONSTANTS] == []


def test_a_number_typed_into_such_code_is_found() -> None:
    code = 'def f(x):\n    """Docs: 7."""\n    return f"reaches 0.452 ({x:.3f})" + re.sub("9", "8", x) + "37 runs"\n'
    assert sorted(typed_in(ast.parse(code))) == [(3, "0.452"), (3, "37")]
