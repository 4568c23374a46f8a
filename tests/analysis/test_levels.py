from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.levels import trend
from ablations.analysis.table import read_table
from ablations.errors import AblationsError

# Per seed (column) one value per level 4, 8, 16, 32: a rise of about .05 per doubling.
RISING = {
    "base": [0.30, 0.31, 0.29, 0.30],
    "l8": [0.35, 0.36, 0.35, 0.34],
    "l16": [0.40, 0.42, 0.39, 0.40],
    "l32": [0.46, 0.46, 0.44, 0.44],
}
LEVELS = {"l16": 16, "base": 4, "l32": 32, "l8": 8}


def over(scores, arms=RISING, levels=LEVELS, **options):
    table = read_table(scores(**arms), baseline="base", metric="f1")
    return trend(table, levels, parameter="layers", metric="f1", **options)


def test_the_slope_is_the_mean_of_the_seeds_slopes_per_doubling(scores):
    found = over(scores)
    slopes = [stats.linregress([2, 3, 4, 5], column).slope for column in np.array(list(RISING.values())).T]
    assert found.levels == (4, 8, 16, 32)
    assert found.scale == "log2"
    assert found.slope.value == pytest.approx(np.mean(slopes))
    assert found.slope.p == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)
    assert found.slope.low < np.mean(slopes) < found.slope.high
    assert found.slope.n == 4


def test_the_slope_of_the_girls_jaws_is_the_published_one(scores):
    # Potthoff & Roy 1964, Table 1: distance in mm of 11 girls at 8, 10, 12, 14 years; the line is 17.3727 + .4795 age
    girls = """21 20 21.5 23 21 21.5 24 25.5 20.5 24 24.5 26 23.5 24.5 25 26.5 21.5 23 22.5 23.5 20 21 21 22.5 21.5 22.5
        23 25 23 23 23.5 24 20 21 22 21.5 16.5 19 19 19.5 24.5 25 28 28"""
    distances = np.array(girls.split(), dtype=float).reshape(11, 4)
    arms = dict(zip(("base", "ten", "twelve", "fourteen"), distances.T.tolist(), strict=True))
    found = over(scores, arms, {"base": 8, "ten": 10, "twelve": 12, "fourteen": 14}, scale="linear")
    assert found.slope.value == pytest.approx(0.4795, abs=5e-5)
    assert np.mean(found.means) - found.slope.value * 11 == pytest.approx(17.3727, abs=5e-5)


def test_a_parabola_has_its_own_curvature(scores):
    noise = np.random.default_rng(0).normal(0, 0.001, size=(4, 5))
    arms = {f"x{x}" if x else "base": [0.5 - 0.01 * x**2 + e for e in noise[x]] for x in range(4)}
    found = over(scores, arms, {arm: x for x, arm in enumerate(arms)})
    assert found.scale == "linear"
    assert found.curvature.value == pytest.approx(-0.01, abs=1e-3)
    assert found.curvature.p < 0.001


def test_pages_test_is_scipys_two_sided(scores):
    # The example of scipy's page_trend_test: 10 students, 3 methods, p = 0.0018191161948127822 one-sided.
    ratings = np.array(
        [[3, 4, 3], [2, 2, 4], [3, 3, 5], [1, 3, 2], [2, 3, 2], [2, 4, 5], [1, 2, 4], [3, 4, 4], [2, 4, 5], [1, 3, 4]]
    )
    arms = dict(zip(("base", "b", "c"), ratings.T.astype(float).tolist(), strict=True))
    found = over(scores, arms, {"base": 0, "b": 1, "c": 2})
    assert found.p_page == pytest.approx(2 * 0.0018191161948127822)
    assert found.page_n == 10
    assert over(scores, arms, {"base": 2, "b": 1, "c": 0}).p_page == pytest.approx(found.p_page)


def test_diverged_runs_rank_last_and_lost_seeds_are_left_out(scores):
    arms = RISING | {
        "l32": ["diverged"] * 3 + ["failed"],
        "l16": [0.25, 0.26, 0.24, 0.25],
        "l8": [0.28, 0.27, 0.26, 0.2],
    }
    found = over(scores, arms)
    assert found.page_n == 3
    assert found.p_page == pytest.approx(2 * stats.page_trend_test([[1, 2, 3, 4]] * 3).pvalue)  # falls at every seed
    assert found.slope is None
    assert np.isnan(found.means[-1])


def test_steps_are_paired_tests_of_neighbours_corrected_together(scores):
    found = over(scores)
    p = [
        stats.ttest_rel(b, a).pvalue for a, b in zip(list(RISING.values())[:-1], list(RISING.values())[1:], strict=True)
    ]
    assert [(step.lower, step.upper) for step in found.steps] == [(4, 8), (8, 16), (16, 32)]
    assert [step.difference.p for step in found.steps] == pytest.approx(p)
    assert min(step.p_adjusted for step in found.steps) == pytest.approx(3 * min(p))


def test_two_levels_have_a_slope_but_no_curvature_and_no_page(scores):
    found = over(scores, levels={"base": 4, "l32": 32})
    assert (found.curvature, found.p_page) == (None, None)
    assert found.slope.value == pytest.approx(0.15 / 3)


def test_two_seeds_have_no_test(scores):
    found = over(scores, {arm: values[:2] for arm, values in RISING.items()})
    assert (found.slope.p, found.steps[0].p_adjusted) == (None, None)


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        ({"base": 4, "l9": 8}, {}, "unknown variant 'l9'; did you mean 'l8'"),
        ({"base": 4, "l8": 4}, {}, "each once, not 4, 4"),
        ({"base": 4}, {}, "two levels or more"),
        ({"base": 0, "l8": 8}, {"scale": "log2"}, "must be positive, not 0"),
    ],
)
def test_levels_that_make_no_trend_are_refused(scores, levels, options, message):
    with pytest.raises(AblationsError, match=message):
        over(scores, levels=levels, **options)
