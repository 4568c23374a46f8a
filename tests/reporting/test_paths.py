"""Attribution paths: a table and a figure from the baseline to the whole."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import paths
from ablations.reporting.context import Context, load_context

State = Callable[[str], Any]

PATH = """\
study: stepwise
metric: test_f1
smallest_effect: 0.01
seeds: 5
ablations:
  deep: {set: {decoder.layers: 4}}
  wide: {set: {decoder.intermediate: 512}}
  soft: {set: {decoder.dropout: 0.2}}
  altogether: {combine: [deep, wide, soft]}
  to-altogether: {path: altogether, question: Where does the gain come from?}
"""
EFFECTS = {"deep": 0.02, "wide": 0.03, "soft": -0.03, "to-altogether=2-wide": 0.06, "altogether": 0.04}


@pytest.fixture(scope="module")
def ctx(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("stepwise")
    study = synthetic.write_study(folder, PATH)
    synthetic.write_results(study, folder / "results", effects=EFFECTS)
    return load_context(study, folder / "results")


def shown(line: str) -> list[str]:
    return [re.sub(r"\]\{[^}]*\}|^\[", "", cell.strip()) for cell in line.strip("| ").split(" | ")]


def rows(said: str) -> list[list[str]]:
    return [shown(line) for line in said.splitlines() if re.match(r"\| \d \|", line)]


def test_a_path_shows_each_step_under_the_arm_whose_runs_serve(ctx: Context, tmp_path: Path) -> None:
    said = paths.paths(ctx, tmp_path)
    assert [row[2] for row in rows(said)] == ["`baseline`", "`deep`", "`to-altogether=2-wide`", "`altogether`"]
    assert [row[1] for row in rows(said)][1] == "decoder.layers 2 → 4"
    assert "Where does the gain come from?" in said


def test_the_steps_add_up_to_the_whole(ctx: Context, tmp_path: Path) -> None:
    found = rows(paths.paths(ctx, tmp_path))
    steps = [float(row[4].replace("−", "-")) for row in found[1:]]
    totals = [float(row[6].replace("−", "-")) for row in found[1:]]
    assert totals[0] == steps[0]
    assert sum(steps) == pytest.approx(totals[-1], abs=1e-3)  # each is rounded to 4 decimals
    assert totals[-1] == pytest.approx(ctx.by_arm["altogether"].difference, abs=1e-4)
    assert steps[2] < 0 < steps[1]


def test_the_figure_says_the_numbers_of_the_table(ctx: Context, tmp_path: Path) -> None:
    said = paths.paths(ctx, tmp_path)
    alt = html.unescape(re.search(r'fig-alt="([^"]*)"', said).group(1))  # type: ignore[union-attr]
    for row in rows(said)[1:]:
        assert f" {row[6]} " in alt
    assert (tmp_path / "path-1.svg").is_file()


def test_a_path_without_results_has_a_table_and_no_figure(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, PATH)
    said = paths.paths(load_context(study, tmp_path / "results"), tmp_path)
    assert [row[4:] for row in rows(said)] == [["–"] * 3] * 4
    assert "fig-alt" not in said


@pytest.mark.parametrize("name", ["complete", "nothing"])
def test_a_study_without_a_path_says_so(name: str, state: State, tmp_path: Path) -> None:
    said = paths.paths(state(name).context(), tmp_path)
    assert said == ""
