from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.pooled import dunnett_p, pooled_p


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
    assert pooled_p(values) == pytest.approx(expected)


def test_the_column_is_hidden_where_one_arm_is_much_noisier():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 10))
    assert pooled_p(values) is not None
    values[3] *= 4
    assert pooled_p(values) is None


def test_the_column_is_hidden_without_two_arms_three_seeds_and_a_variance():
    rng = np.random.default_rng(0)
    assert pooled_p(rng.normal(size=(2, 10))) is None
    assert pooled_p(rng.normal(size=(4, 2))) is None
    assert pooled_p(np.ones((4, 5)) * np.arange(5)) is None
