"""docs/reliability.md names the test of each promise: they all have to be there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def defined_in(path):
    if not path.exists():
        return set()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def missing_from(text):
    return [f"{path}::{name}" for path, name in NAMED.findall(text) if name not in defined_in(ROOT / path)]


def promises(text):
    """The items of the page's lists, each with its further lines."""
    return re.findall(r"^- .*(?:\n  .*)*", text, flags=re.MULTILINE)


def test_every_test_that_a_promise_names_exists():
    assert missing_from(PAGE.read_text(encoding="utf-8")) == []


def test_every_promise_names_a_test():
    found = promises(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 25
    assert [each for each in found if not NAMED.search(each)] == []


def test_the_check_finds_a_test_that_is_not_there():
    here = "tests/reliability/test_promises.py"
    text = f"- A promise: `{here}::test_of_nothing`, `{here}::test_every_promise_names_a_test`, `tests/no.py::test_it`"
    assert missing_from(text) == [f"{here}::test_of_nothing", "tests/no.py::test_it"]
