from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.analysis.compare import compare
from ablations.analysis.pooled import Pooled, dunnett_p, pooled_p
from ablations.analysis.results import POOLED_HIDDEN


def test_dunnetts_p_is_scipys():
    rng = np.random.default_rng(1)
    groups = [rng.normal(size=8) for _ in range(5)]
    groups[1] += 1.2
    scipys = stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(0))
    assert dunnett_p(np.abs(scipys.statistic), 4, 35) == pytest.approx(scipys.pvalue, abs=2e-4)


def test_dunnetts_critical_values_are_those_of_his_table():
    # Dunnett 1964, two-sided .05: 5 comparisons, df 30: 2.66; with one comparison it is Student's t, df 10: 2.228.
    assert dunnett_p(np.array([2.66]), 5, 30)[0] == pytest.approx(0.05, abs=1e-3)
    assert dunnett_p(np.array([2.228]), 1, 10)[0] == pytest.approx(0.05, abs=1e-4)


def test_the_residual_variance_is_that_of_a_two_way_analysis():
    values = np.array([[1.0, 2, 3, 4], [2, 3, 5, 4], [1, 3, 3, 6]])
    # By hand: residual sum of squares 19/6 of 3 arms x 4 seeds, df 6; arm 1 - baseline = 1; t = 1 / sqrt(2 MSE / 4)
    residuals = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    mean_square = (residuals**2).sum() / 6
    expected = dunnett_p(np.array([1.0, 0.75]) / np.sqrt(2 * mean_square / 4), 2, 6)
    assert pooled_p(values).p == pytest.approx(expected)


def test_the_column_is_hidden_where_one_arm_is_much_noisier():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 10))
    assert pooled_p(values).hidden is None
    values[3] *= 4
    assert pooled_p(values) == Pooled(None, "noisy_arm")


def test_the_column_is_hidden_where_spreads_differ_by_less_than_twofold_but_detectably():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 40))
    values[:3] *= 1.9
    assert pooled_p(values) == Pooled(None, "unequal_spread")


def test_the_column_is_hidden_without_two_arms_three_seeds_and_a_variance():
    rng = np.random.default_rng(0)
    assert pooled_p(rng.normal(size=(2, 10))).hidden == "one_arm"
    assert pooled_p(rng.normal(size=(4, 2))).hidden == "few_seeds"
    assert pooled_p(np.ones((4, 5)) * np.arange(5)).hidden == "no_variance"


def test_every_reason_is_one_of_the_closed_list_and_comes_with_the_comparison(scores):
    frame = scores(base=[0.5, 0.52, 0.49], arm=[0.56, 0.59, 0.55])
    [alone] = compare(frame, baseline="base", metric="f1")
    assert (alone.p_pooled, alone.pooled_hidden) == (None, "one_arm")
    both = compare(
        frame.pipe(lambda rows: pd.concat([rows, rows[rows["variant"] == "arm"].assign(variant="other")])),
        baseline="base", metric="f1",
    )  # fmt: skip
    assert {c.pooled_hidden for c in both} <= {None, *POOLED_HIDDEN}


def test_the_pooled_p_is_corrected_only_where_the_verdicts_are(scores):
    arms = {"base": [0.5, 0.52, 0.49, 0.51], "arm": [0.53, 0.56, 0.51, 0.55], "other": [0.49, 0.53, 0.5, 0.5]}
    corrected, plain = (
        compare(scores(**arms), baseline="base", metric="f1", correction=each)[0] for each in ("holm", "none")
    )
    values = np.array(list(arms.values()))
    assert corrected.p_pooled == pytest.approx(pooled_p(values).p[0])
    residuals = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    t = (values[1] - values[0]).mean() / np.sqrt(2 * (residuals**2).sum() / 6 / 4)
    assert plain.p_pooled == pytest.approx(2 * stats.t.sf(t, 6), abs=1e-6)  # one comparison: Student's t
    assert plain.p_pooled < corrected.p_pooled
