"""Levels, combinations, and which arms are set in bold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import combinations, designs, factors
from ablations.reporting.context import load_context
from ablations.reporting.numbers import best_variants, mean, scores_of

State = Callable[[str], Any]

COMBINED = """\
study: combined
metric: test_f1
seeds: 5
ablations:
  deep: {set: {decoder.layers: 4}}
  wide: {set: {decoder.intermediate: 512}}
  both: {combine: [deep, wide]}
"""


def test_the_baseline_is_one_of_a_sweeps_levels(state: State) -> None:
    found = {sweep.parameter: sweep.levels for sweep in designs.sweeps(state("complete").context())}
    assert found == {
        "training.learning_rate": {"baseline": 5e-5, "lr=0.0003": 3e-4, "lr=0.004": 4e-3},
        "decoder.layers": {"baseline": 2.0, "layers=4": 4.0, "layers=6": 6.0},
    }


def test_a_swept_parameters_chart_says_the_means_that_the_scores_have(state: State, tmp_path: Path) -> None:
    ctx = state("complete").context()
    said = factors.factors(ctx, tmp_path)
    shown = re.search(r"decoder\.layers: 2 (0\.\d+), 4 (0\.\d+), 6 (0\.\d+)", said)
    assert shown is not None
    assert [float(each) for each in shown.groups()] == pytest.approx(
        [mean(scores_of(ctx, name, "test_f1")) for name in ("baseline", "layers=4", "layers=6")], abs=6e-5
    )


@pytest.mark.parametrize("name", ["one seed", "unfinished", "failures", "nothing"])
def test_a_section_stands_only_where_the_study_has_what_it_is_about(name: str, state: State, tmp_path: Path) -> None:
    ctx = state(name).context()
    assert factors.levels(ctx, tmp_path).startswith("# Levels {#sec-levels}") == (name != "nothing")
    assert combinations.combinations(ctx, tmp_path) == ""


def test_a_combination_is_held_against_the_sum_of_its_parts(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, COMBINED)
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.02, "wide": 0.03, "both": 0.01})
    said = designs.combinations(load_context(study, tmp_path / "results"), tmp_path)
    assert said.startswith("- both changes the metric by +0.0")
    assert "for the sum of its 2 parts: an interaction, −0.04" in said


def test_bold_are_the_best_mean_and_what_cannot_be_told_from_it(state: State) -> None:
    best = best_variants(state("complete").context())
    assert "constant-lr" in best
    assert not best & {"baseline", "lr=0.004", "dropout"}


@pytest.mark.parametrize("name", ["one seed", "nothing"])
def test_nothing_is_bold_where_nothing_can_be_tested(name: str, state: State) -> None:
    assert best_variants(state(name).context()) == frozenset()
