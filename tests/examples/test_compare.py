"""The example of a table made elsewhere, and the page about it: what they say comes out does."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import ablations
from ablations.cli import app

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "compare"
PAGE = (REPOSITORY / "docs" / "compare.md").read_text(encoding="utf-8")


def said(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What an ``ablations`` command prints, without blanks at the ends of lines."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    done = CliRunner().invoke(app, shlex.split(command.replace("\\\n", " "))[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()


def test_the_page_shows_what_the_command_prints(monkeypatch):
    [(command, expected)] = re.findall(r"```console\n\$ (.+?)\n(.+?)```", PAGE, flags=re.S)
    assert said(command, EXAMPLE, monkeypatch) == expected.strip()


def test_the_page_s_python_runs_and_says_the_same(monkeypatch, capsys):
    [code] = re.findall(r"```python\n(.+?)```", PAGE, flags=re.S)
    monkeypatch.chdir(EXAMPLE)
    exec(compile(code, "docs/compare.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "tanh equivalent 5 " in printed
    assert "tanh confirmed" in printed


def test_the_page_names_every_column_and_option(monkeypatch):
    for column in ablations.Columns.__dataclass_fields__:
        assert f"| `{column}` |" in PAGE
    for option in set(re.findall(r"(?<!-)--[a-z][a-z-]+", PAGE)):
        assert option in said("ablations compare --help", EXAMPLE, monkeypatch)


@pytest.mark.slow
def test_the_example_runs_and_its_commands_work(monkeypatch, tmp_path):
    runpy.run_path(str(EXAMPLE / "digits.py"))["main"](tmp_path)
    kept, made = pd.read_csv(EXAMPLE / "curves.csv"), pd.read_csv(tmp_path / "curves.csv")
    keys = ["variant", "seed", "step", "metric"]
    assert made[keys].equals(kept[keys])
    assert (made["value"] - kept["value"]).abs().max() < 0.1  # another processor may round otherwise
    commands = re.findall(r"^ablations compare (?:.+\\\n)*.+$", (EXAMPLE / "README.md").read_text(), flags=re.M)
    assert len(commands) == 2
    for command in commands:
        assert re.search(r"^slow +5 .+ hurts$", said(command, tmp_path, monkeypatch), flags=re.M)
    by_example = said(commands[1], tmp_path, monkeypatch)
    assert "On test sets like this one, over new examples as well as new seeds, slow changes right by" in by_example
    assert "test sets like this one; they are no tests." in by_example.replace("\n", " ")
