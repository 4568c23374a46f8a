"""What a page may do: what stands in it, by its hash, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import subprocess
import sys
from pathlib import Path

from ablations.reporting.builtin import pandoc
from ablations.reporting.policy import policy, with_policy

REPORT = Path(__file__).resolve().parents[2] / "report"
PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><style>p { color: red }</style></head>
<body><p style="margin: 0">x</p><script>start("a && b")</script>
<script type="application/json">{"a": 1}</script></body></html>"""


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def rules(page: str) -> dict[str, list[str]]:
    parts = [rule.split() for rule in policy(page).split("; ")]
    return {name: allowed for name, *allowed in parts}


def test_scripts_and_styles_of_the_page_are_allowed_by_their_hash_alone() -> None:
    found = rules(PAGE)
    assert found["default-src"] == ["'none'"]
    assert found["script-src"] == [hashed('start("a && b")')]
    assert found["style-src"] == [hashed("p { color: red }"), "'unsafe-hashes'", hashed("margin: 0")]


def test_a_page_without_scripts_may_run_none() -> None:
    assert rules("<html><head></head><body></body></html>")["script-src"] == ["'none'"]


def test_the_policy_stands_before_everything_that_it_is_about() -> None:
    made = with_policy(PAGE)
    assert made.index("Content-Security-Policy") < made.index("<style>")
    given = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', made)[1])  # type: ignore[index]
    assert given == policy(PAGE)
    assert with_policy(made) == made


def test_scripts_and_styles_in_addresses_become_part_of_the_page() -> None:
    """As `embed-resources` may leave them: percent-encoded or in base 64, with text that would end an element."""
    script = 'document.title = "</script><!--";'
    encoded = base64.b64encode(script.encode()).decode()
    page = (
        f'<html><head><meta charset="utf-8"><script defer src="data:text/javascript;base64,{encoded}"></script>'
        '<link rel="stylesheet" href="data:text/css,p%20%7B%20margin%3A0%20%7D"></head><body></body></html>'
    )
    made = with_policy(page)
    assert "src=" not in made
    assert rules(made)["script-src"] == [hashed('document.title = "<\\/script><\\!--";')]
    assert rules(made)["style-src"] == [hashed("p { margin:0 }")]


def test_the_post_render_script_closes_the_page_that_quarto_names(tmp_path: Path) -> None:
    """pandoc makes the page, as it does for Quarto: with a table whose columns have styles of their own."""
    for name in ("prerender.py", "postrender.py"):
        (tmp_path / name).write_bytes((REPORT / name).read_bytes())
    wide = "| a | b |\n|---|----|\n| " + "x " * 60 + "| y |\n"
    page = tmp_path / "_output" / "report.html"
    page.parent.mkdir()
    page.write_text(pandoc(f"# One\n\n{wide}", "markdown", "html5", "--standalone", "--metadata=title:t"))
    environment = {**os.environ, "QUARTO_PROJECT_OUTPUT_FILES": "_output/report.html\n_output/report.pdf"}
    command = [sys.executable, str(tmp_path / "postrender.py")]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    dresses = set(re.findall(r'style="([^"]*)"', page.read_text()))
    assert dresses
    assert {hashed(html.unescape(each)) for each in dresses} <= set(rules(page.read_text())["style-src"])
    assert "Content-Security-Policy" in page.read_text()
