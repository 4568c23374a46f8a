from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from ablations.analysis.paired import paired_t, tost

SLEEP_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])  # Student 1908, R's `sleep`
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])

# Two variables of the `clinic` data of the R package multeq, first and second half paired; p and intervals from R's
# equivalence::tost(eps = 0.6), as kept in statsmodels/stats/tests/test_tost.py.
VAR1 = np.array(
    [
        [2.84, 2.51, 2.41, 2.95, 3.14, 3.79, 4.14, 3.85, 3.02, 3.45, 5.37, 3.81, 4.19, 3.16, 3.84],
        [2.6, 2.82, 2.18, 3.46, 4.01, 3.04, 3.47, 4.06, 2.91, 3.59, 4.51, 3.16, 3.86, 3.31, 3.02],
    ]
)
VAR2 = np.array(
    [
        [4.0, 3.26, 4.14, 3.42, 3.25, 4.34, 4.97, 4.31, 3.11, 3.41, 5.02, 4.21, 4.59, 5.3, 4.32],
        [3.76, 3.66, 3.65, 3.6, 3.48, 2.87, 3.24, 3.92, 3.99, 4.21, 4.21, 3.31, 3.61, 2.97, 2.73],
    ]
)


def test_the_t_test_on_the_sleep_data_is_that_of_r():
    found = paired_t(SLEEP_1[None], SLEEP_2)
    # R: t.test(extra ~ group, data = sleep, paired = TRUE)
    assert found.t[0] == pytest.approx(-4.0621, abs=5e-5)
    assert found.p[0] == pytest.approx(0.002833, abs=5e-7)
    assert (found.low[0], found.high[0]) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert found.difference[0] == pytest.approx(-1.58)


@pytest.mark.parametrize(
    ("pairs", "p", "interval"),
    [
        (VAR2, 0.4412034046017588, (0.1261653305099018, 0.999168002823431)),
        (VAR1, 0.003166881489265175, (-0.0744336620516462, 0.4037669953849797)),
    ],
)
def test_equivalence_on_the_clinic_data_is_that_of_r(pairs, p, interval):
    found = paired_t(pairs[:1], pairs[1], smallest_effect=0.6)
    assert found.p_tost[0] == pytest.approx(p, rel=1e-10)
    assert (found.low90[0], found.high90[0]) == pytest.approx(interval, rel=1e-10)


def test_equivalence_of_many_arms_is_statsmodels_one_by_one():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    one_by_one = [ttost_paired(a, b, -0.8, 0.8)[0] for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(tost(x, y, 0.8), one_by_one)


def test_the_bound_is_the_smallest_effect_at_which_arms_become_equivalent():
    bound = float(paired_t(VAR1[:1], VAR1[1]).bound[0])
    assert tost(VAR1[:1], VAR1[1:], bound)[0] == pytest.approx(0.05, rel=1e-9)


def test_an_effect_size_has_hedges_correction():
    # By hand: d = (1, 2, 3), mean 2, sd 1, n - 1 = 2: 2 (1 - 3/7) = 8/7.
    assert paired_t(np.array([[1.0, 2.0, 3.0]]), np.zeros(3)).g_z[0] == pytest.approx(8 / 7)


def test_the_correlation_between_arm_and_baseline_is_pearsons():
    found = paired_t(np.stack([SLEEP_1, np.full(10, 2.0)]), SLEEP_2).r
    assert found[0] == pytest.approx(stats.pearsonr(SLEEP_1, SLEEP_2).statistic)
    assert np.isnan(found[1])


def test_arms_with_holes_are_compared_over_the_pairs_they_have():
    rng = np.random.default_rng(0)
    arms, base = rng.normal(size=(40, 7)), rng.normal(size=7)
    arms[rng.random(arms.shape) < 0.3] = np.nan
    base[2] = np.nan
    found = paired_t(arms, base)
    for row, arm in enumerate(arms):
        there = np.isfinite(arm) & np.isfinite(base)
        if there.sum() > 1:
            assert found.p[row] == pytest.approx(stats.ttest_rel(arm[there], base[there]).pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.1, -3.0])
def test_a_constant_difference_has_no_p(shift):
    base = np.array([0.51, 0.52, 0.49, 0.55])
    with warnings.catch_warnings(action="ignore"):
        scipys = stats.ttest_rel(base + 3.0, base).pvalue
    assert scipys < 1e-12 or np.isnan(scipys)  # the trap: a p from rounding alone
    found = paired_t((base + shift)[None], base)
    assert np.isnan([found.p[0], found.t[0], found.low[0], found.g_z[0]]).all()
    assert found.difference[0] == pytest.approx(shift)


def test_one_pair_has_a_difference_and_two_an_interval_but_no_effect_size():
    nan = np.nan
    found = paired_t(np.array([[0.6, nan], [0.6, 0.65], [nan, nan]]), np.array([0.5, 0.5]))
    assert found.difference[:2] == pytest.approx([0.1, 0.125])
    assert np.isnan(found.difference[2])
    assert np.isnan(found.sd[0])
    # By hand: d = .1, .15; half width 12.7062 x .0353553 / sqrt(2) = .3176551
    assert found.high[1] == pytest.approx(0.125 + 0.3176551, abs=1e-6)
    assert np.isnan(found.g_z[1])
