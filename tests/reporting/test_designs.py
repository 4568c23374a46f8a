"""Levels, combinations, and which arms are set in bold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import combinations, designs, factors, sections
from ablations.reporting.context import load_context
from ablations.reporting.numbers import best_variants

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


def shown(markdown: str) -> str:
    """What a reader sees of it."""
    return re.sub(r"\[([^\]]*)\]\{\.evidence[^}]*\}", r"\1", markdown).replace("\u00a0", " ")


def test_the_baseline_is_one_of_a_sweeps_levels(state: State) -> None:
    found = {sweep.parameter: sweep.levels for sweep in designs.sweeps(state("complete").context())}
    assert found == {
        "training.learning_rate": {"baseline": 5e-5, "lr=0.0003": 3e-4, "lr=0.004": 4e-3},
        "decoder.layers": {"baseline": 2.0, "layers=4": 4.0, "layers=6": 6.0},
    }


@pytest.mark.parametrize("name", ["one seed", "unfinished", "failures", "nothing"])
def test_a_section_stands_only_where_the_study_has_what_it_is_about(name: str, state: State, tmp_path: Path) -> None:
    ctx = state(name).context()
    assert factors.levels(ctx, tmp_path).startswith("# Levels {#sec-levels}") == (name != "nothing")
    assert combinations.combinations(ctx, tmp_path) == ""


def test_a_combination_is_held_against_the_sum_of_its_parts(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, COMBINED)
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.02, "wide": 0.03, "both": 0.01})
    said = designs.combinations(load_context(study, tmp_path / "results"), tmp_path)
    plain = shown(said)
    assert plain.startswith("- both changes test F1 by +0.0")
    assert "for the sum of its 2 parts: an interaction, −0.04" in plain
    assert "2 times that of a run, against 1.4 for a simple difference" in said.replace("\u00a0", " ")  # no results


def test_a_combination_that_adds_up_is_held_against_the_smallest_effect(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, COMBINED.replace("seeds: 5", "seeds: 5\nsmallest_effect: 0.05"))
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.02, "wide": 0.03, "both": 0.05})
    said = shown(designs.combinations(load_context(study, tmp_path / "results"), tmp_path))
    assert "It is smaller than the smallest interaction of interest, 0.05 (two one-sided paired t-tests, p" in said


def test_a_combination_without_a_result_says_so(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, COMBINED)
    missing = synthetic.Outcome("missing")
    synthetic.write_results(
        study, tmp_path / "results", lambda variant, seed: missing if variant == "both" else synthetic.Outcome()
    )
    assert designs.combinations(load_context(study, tmp_path / "results"), tmp_path) == "- `both`: no result yet.\n"


GRID = """\
study: grid
metric: test_f1
seeds: 4
ablations:
  alone: {set: {decoder.dropout: 0.3}}
  sizes:
    grid: {decoder.layers: [2, 4], decoder.intermediate: [512, 1024]}
"""
CELLS = {
    "sizes=2/512": 0.01,
    "sizes=2/1024": 0.02,
    "sizes=4/512": 0.08,
    "sizes=4/1024": 0.09,
    "alone": -0.01,
}


def test_a_grid_has_shares_of_variance_and_is_no_change_of_one_thing(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, GRID)
    synthetic.write_results(study, tmp_path / "results", effects=CELLS)
    ctx = load_context(study, tmp_path / "results")
    said = shown(designs.importance(ctx, tmp_path))
    assert said.startswith("# What matters most {#sec-importance}")
    assert "Over the grid `sizes`: Analysis of variance with the seeds as blocks (type II)" in said
    [layers] = re.findall(r"- decoder\.layers accounts for (\d+) % of the variance of 16 runs", said)
    assert int(layers) > 70  # effects of .07 and .01 on noise of .006 and seeds of .008
    assert "- The interaction of decoder.layers with decoder.intermediate accounts for" in said
    assert "Rank" not in said  # one ablation alone has no rank


def test_a_grid_with_an_empty_cell_says_why_it_has_no_shares(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, GRID)
    lost = synthetic.Outcome("failed", "gone")
    outcomes = lambda variant, seed: lost if variant == "sizes=4/512" else synthetic.Outcome()  # noqa: E731
    synthetic.write_results(study, tmp_path / "results", outcomes, effects=CELLS)
    said = designs.importance(load_context(study, tmp_path / "results"), tmp_path)
    assert "no shares of variance: no full factorial design: there is no run with decoder.layers = 4" in said


def test_ablations_rank_by_their_largest_difference(state: State, tmp_path: Path) -> None:
    ctx = state("complete").context()
    rows = re.findall(r"^\| (\d) \| `([\w-]+)` \| `([^`]+)`", designs.importance(ctx, tmp_path), flags=re.M)
    assert rows == [
        ("1", "lr", "lr=0.004"),
        ("2", "constant-lr", "constant-lr"),
        ("3", "layers", "layers=6"),
        ("4", "dropout", "dropout"),
        ("5", "input", "input"),
    ]


APART = """\
study: apart
metric: test_f1
seeds: 4
ablations:
  deep: {set: {decoder.layers: 4}}
  shape: {set: {decoder: {heads: 8, intermediate: 512}}}
  final: {set: {decoder.layers: 4, training.schedule: constant, training.epochs: 2}}
  to-final: {path: final}
"""


def test_what_a_path_takes_apart_has_no_rank_and_several_parameters_are_said(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    study = synthetic.write_study(tmp_path, APART)
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.02, "shape": 0.03, "final": 0.1})
    said = designs.importance(load_context(study, tmp_path / "results"), tmp_path)
    rows = re.findall(r"^\| (\d) \| `([\w-]+)` \| ([^|]+) \|", said, flags=re.M)
    assert rows == [("1", "shape", "`shape`, 2 parameters"), ("2", "deep", "`deep`")]
    assert "Not among them, since other arms take apart what it changes: `final`." in said


TWINS = """\
study: twins
metric: test_f1
seeds: {seeds}
ablations:
  stop: {{set: {{training.on_failure: stop}}}}
  spot: {{set: {{training.on_failure: rollback}}}}
  deep: {{set: {{decoder.layers: 4}}}}
"""


@pytest.mark.parametrize(("seeds", "effects", "alike"), [(3, {}, True), (2, {}, False), (3, {"stop": 0.01}, False)])
def test_arms_of_which_every_score_is_the_same_are_pointed_at(
    seeds: int, effects: dict[str, float], alike: bool, synthetic: ModuleType, tmp_path: Path
) -> None:
    study = synthetic.write_study(tmp_path, TWINS.format(seeds=seeds))
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.02, **effects})  # noise by letters
    said = shown(sections.todo(load_context(study, tmp_path / "results"), tmp_path))
    assert ("Every score of `stop` and `spot` is the same, seed by seed: what they differ in had no" in said) == alike
    assert "`deep`" not in said.partition("Every score")[2].partition("\n")[0]


@pytest.mark.parametrize("name", ["one seed", "nothing"])
def test_nothing_is_ranked_where_nothing_was_tested(name: str, state: State, tmp_path: Path) -> None:
    assert designs.importance(state(name).context(), tmp_path) == ""


def test_bold_are_the_best_mean_and_what_cannot_be_told_from_it(state: State) -> None:
    best = best_variants(state("complete").context())
    assert "constant-lr" in best
    assert not best & {"baseline", "lr=0.004", "dropout"}


@pytest.mark.parametrize("name", ["one seed", "nothing"])
def test_nothing_is_bold_where_nothing_can_be_tested(name: str, state: State) -> None:
    assert best_variants(state(name).context()) == frozenset()
