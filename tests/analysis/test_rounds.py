"""Adaptive seeds: which arms a look settles, what an arm is left with, and what is never looked at."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablations.analysis.compare import Rules, compare_study, compare_table, rules_of
from ablations.analysis.results import Comparison
from ablations.analysis.rounds import follow, is_settled, take_looks
from ablations.analysis.table import DIVERGED, LOST, OK, RunTable
from ablations.study import Look, Study, load_study

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "adaptive_seeds.py"))
RULES = Rules(smallest_effect=0.5, failure_value=-10.0, looks=3)
ROUNDS = (3, 5, 6)
BASE = [0.0, 0.1, -0.1, 0.05, -0.05, 0.02]
FAR = [2.0, 2.1, 1.95, 2.0, 2.05, 2.0]  # differs at the first look
SAME = [0.01, 0.1, -0.12, 0.06, -0.04, 0.01]  # within 0.5 of the baseline at the first look
VAGUE = [1.0, -1.0, 0.6, -0.6, 0.9, -0.7]  # neither at any look


def table_of(*arms: list[float], diverged: tuple[tuple[int, int], ...] = (), lost: tuple[tuple[int, int], ...] = ()):
    values = np.array(arms, dtype=float)
    outcomes = np.full(values.shape, OK, dtype=np.int8)
    for places, outcome in ((diverged, DIVERGED), (lost, LOST)):
        for place in places:
            outcomes[place], values[place] = outcome, np.nan
    names = ("baseline", *(f"arm {row}" for row in range(1, len(arms))))
    return RunTable(names, tuple(range(values.shape[1])), values, outcomes, np.ones(values.shape, dtype=bool))


def course(table: RunTable, ended=None, rules: Rules = RULES):
    return take_looks(table, table.planned if ended is None else ended, ROUNDS, "score", rules)


def test_a_look_settles_what_a_test_decides_and_leaves_the_rest_to_the_next_round():
    found = course(table_of(BASE, FAR, SAME, VAGUE))
    assert found.looks == (
        Look(("arm 1", "arm 2"), ("arm 3",)),
        Look((), ("arm 3",)),
        Look((), ("arm 3",)),
    )
    far, same, vague = found.comparisons
    assert (far.verdict, far.n, far.look, far.looks) == ("helps", 3, 1, 3)
    assert (same.verdict, same.n, same.look) == ("equivalent", 3, 1)
    assert (vague.verdict, vague.n, vague.look) == ("inconclusive", 6, 3)
    assert {each.alpha for each in found.comparisons} == {0.05 / 3}
    assert found.waiting == ()


def test_there_is_no_further_look_once_all_arms_are_settled():
    found = course(table_of(BASE, FAR, SAME))
    assert found.looks == (Look(("arm 1", "arm 2"), ()),)


def test_a_settled_arm_enters_later_families_with_the_p_it_had():
    # At the second look arm 1 still has its p of three seeds, the smaller one; so arm 2's is the last of two: times 1.
    late = [0.2, 0.7, 0.4, 0.5, 0.45, 0.5]
    found = course(table_of(BASE, FAR, late), rules=replace(RULES, smallest_effect=None))
    assert found.looks[0] == Look(("arm 1",), ("arm 2",))
    first = stats.ttest_rel(FAR[:3], BASE[:3]).pvalue
    second = stats.ttest_rel(late[:5], BASE[:5]).pvalue
    assert first < second
    assert found.looks[1] == Look(("arm 2",), ())
    assert found.comparisons[0].p == pytest.approx(first)
    assert found.comparisons[1].p_adjusted == pytest.approx(second)


def test_a_baseline_that_diverges_in_a_later_round_changes_nothing_that_is_settled():
    calm = course(table_of(BASE, FAR, VAGUE))
    found = course(table_of(BASE, FAR, VAGUE, diverged=((0, 4),)))
    assert found.comparisons[0] == calm.comparisons[0]
    assert found.comparisons[1].verdict == "unstable"


def test_a_look_waits_for_every_run_of_its_round_and_no_other():
    table = table_of(BASE, FAR, VAGUE)
    ended = np.ones(table.planned.shape, dtype=bool)
    ended[1, 3:] = False  # not planned: settled by then
    assert course(table, ended).looks == course(table).looks
    ended[2, 4] = False
    found = course(table, ended)
    assert (len(found.looks), found.waiting) == (1, (("arm 2", 4),))
    assert (found.comparisons[1].n, found.comparisons[1].look) == (3, 1)
    ended[0, 0] = False
    found = course(table, ended)
    assert (found.looks, found.waiting) == ((), (("baseline", 0),))
    assert [each.look for each in found.comparisons] == [None, None]  # what there is, and no look at it


def test_an_arm_that_crashes_every_time_takes_no_more_seeds_and_one_that_crashed_once_does():
    lost = ((1, 0), (1, 1), (1, 2), (2, 1))
    found = course(table_of(BASE, FAR, VAGUE, lost=lost))
    assert found.looks[0] == Look(("arm 1",), ("arm 2",))
    assert [each.verdict for each in found.comparisons] == ["not_assessed", "inconclusive"]


def test_without_a_baseline_nothing_takes_more_seeds():
    found = course(table_of(BASE, FAR, VAGUE, lost=((0, 0), (0, 1), (0, 2))))
    assert found.looks == (Look(("arm 1", "arm 2"), ()),)


def test_an_unstable_arm_is_settled_when_the_test_of_all_outcomes_passes_or_there_is_none():
    lucky = [5.0, 5.1, 4.95, 5.0, 5.05, 5.0, 5.0, 5.0]
    rules = replace(RULES, looks=1, alpha=0.2)  # the sign-flip test of 3 pairs cannot go below 0.25, of 4 pairs 0.125
    table = table_of([*BASE, 0.0, 0.1], lucky, diverged=((0, 0),))
    found = take_looks(table, table.planned, (3, 4), "score", rules)
    assert found.looks == (Look((), ("arm 1",)), Look(("arm 1",), ()))
    untested = replace(rules, failure_value=None)
    assert take_looks(table, table.planned, (3, 4), "score", untested).looks == (Look(("arm 1",), ()),)


@pytest.mark.parametrize(
    ("verdict", "settled"),
    [
        ("identical", True), ("degenerate", True), ("all_failed", True), ("helps", True), ("hurts", True),
        ("helps_negligible", True), ("hurts_negligible", True), ("equivalent", True), ("inconclusive", False),
    ],
)  # fmt: skip
def test_only_what_more_seeds_could_change_is_open(verdict, settled):
    [any_] = compare_table(table_of(BASE, FAR), "score", RULES)
    assert is_settled(replace(any_, verdict=verdict)) is settled


def test_one_round_is_a_fixed_number_of_seeds():
    table = table_of(BASE, FAR, SAME, VAGUE)
    rules = replace(RULES, looks=1)
    found = take_looks(table, table.planned, (6,), "score", rules)
    assert list(found.comparisons) == compare_table(table, "score", replace(rules, look=1))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
@pytest.mark.slow
def test_what_a_look_does_not_plan_is_never_looked_at(seed):
    rng = np.random.default_rng(seed)
    table = table_of(*(rng.normal(size=(4, 6)) + np.array([[0.0], [0.0], [2.0], [5.0]])).tolist())
    found = course(table)
    taken = {arm: ROUNDS[at] for at, look in enumerate(found.looks) for arm in look.settled}
    other = table.values.copy()
    for row, arm in enumerate(table.arms):
        other[row, taken.get(arm, ROUNDS[len(found.looks) - 1]) :] = 1e3 * rng.normal()
    assert course(replace(table, values=other)) == found


# of a study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    text = (
        "study: coin\nexperiment: coin.experiment:ex\nmetric: heads\nsmallest_effect: 0.5\n"
        "seeds: {min: 3, max: 6, step: 2}\nablations:\n"
        "  far: {set: {coin.weight: 0.9}}\n  vague: {family: side, set: {coin.tosses: 50}}\n"
    )
    path.write_text(text, encoding="utf-8")
    return load_study(path)


def test_a_study_is_compared_by_the_looks_that_its_scores_allow(study, scores):
    frame = scores(baseline=BASE, far=FAR, vague=VAGUE).assign(metric="heads")
    found = follow(frame, study)
    assert [each.settled for each in found.looks] == [("far",), (), ()]
    assert [each.family_size for each in found.comparisons] == [1, 1]
    assert compare_study(frame, study) == list(found.comparisons)
    shuffled = frame.sample(frac=1, random_state=0)
    assert follow(shuffled, study) == found
    assert rules_of(study).looks == 3


def test_a_failed_run_has_ended_and_an_interrupted_one_has_not(study, scores):
    for status, looks in (("failed", 3), ("interrupted", 0), ("running", 0), ("missing", 0)):
        frame = scores(baseline=BASE, far=FAR, vague=[status, *VAGUE[1:]]).assign(metric="heads")
        assert len(follow(frame, study).looks) == looks, status


def test_another_metric_is_compared_over_all_seeds_that_each_arm_has_taken(study, scores):
    known = replace(study, taken=(Look(("far",), ("vague",)), Look((), ("vague",)), Look((), ("vague",))))
    frame = scores(baseline=BASE, far=FAR[:3], vague=VAGUE).assign(metric="entropy")
    far, vague = compare_study(frame, known, metric="entropy")
    assert (far.n, far.n_planned, far.unpaired_baseline, far.look) == (3, 3, (), None)
    assert (vague.n, vague.n_planned) == (6, 6)


# by simulation; benchmarks/adaptive_seeds.py has more of it


@pytest.mark.slow
def test_ten_null_arms_give_a_false_claim_no_more_often_than_alpha_over_all_looks():
    studies, null = 500, SIMULATION["EFFECTS"]["null"]
    [found] = SIMULATION["simulate"]([(4, 6, 8)], studies, np.random.default_rng(1), null, smallest=None)
    assert found.studies == studies
    assert found.share("false_claims", "studies") <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.slow
def test_rounds_save_runs_where_effects_are_large_and_still_find_them():
    plans = [(12,), (5, 9, 12)]
    effects = SIMULATION["EFFECTS"]["large"]
    fixed, rounds = SIMULATION["simulate"](plans, 60, np.random.default_rng(2), effects)
    assert fixed.runs == 60 * 11 * 12
    assert rounds.runs < 0.8 * fixed.runs
    assert rounds.share("found", "with_effect") > 0.95
    assert rounds.share("false_claims", "studies") <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_a_false_claim_is_counted_as_one():
    tally = SIMULATION["Tally"]()
    helps = Comparison(
        arm="a", baseline="b", metric="m", direction="max", alpha=0.05, family="main", family_size=1, seeds=(),
        unpaired_arm=(), unpaired_baseline=(), differences=(), n=5, n_planned=5, n_ok=5, n_diverged=0, n_lost=0,
        baseline_ok=5, baseline_diverged=0, baseline_lost=0, difference=1.0, verdict="helps",
    )  # fmt: skip
    tally.add((helps, helps), (0.0, 2.0), 10)
    tally.add((helps, replace(helps, verdict="equivalent")), (2.0, 1.0), 10)
    tally.add((helps, replace(helps, verdict="equivalent")), (2.0, 0.0), 10)
    assert (tally.studies, tally.false_claims, tally.found, tally.with_effect, tally.equivalent) == (3, 2, 3, 4, 1)
