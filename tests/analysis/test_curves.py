from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.analysis.curves import (
    Curve,
    area,
    band,
    common_span,
    compare_curves,
    race,
    read_curves,
    scalars,
    time_to,
)
from ablations.errors import AblationsError, MissingRuns

STEPS = np.array([0.0, 10.0, 20.0, 40.0])


def curve(*y: float, x: np.ndarray = STEPS) -> Curve:
    return Curve(x[: len(y)], np.array(y))


def test_a_curve_is_read_from_rows_in_any_order_and_the_later_of_two_points_stays():
    frame = pd.DataFrame(
        {
            "variant": "base",
            "seed": 0,
            "metric": "loss",
            "step": [20, 0, 10, 10, 30],
            "value": [1.0, 3.0, 9.0, 2.0, float("nan")],
            "seconds": [4.0, 0.0, 1.0, 2.0, 5.0],
        }
    )
    read = read_curves(frame, "loss")["base", 0]
    assert (read.x.tolist(), read.y.tolist()) == ([0, 10, 20], [3, 2, 1])
    assert read_curves(frame, "loss", x="seconds")["base", 0].x.tolist() == [0, 1, 2, 4]
    with pytest.raises(AblationsError, match="unknown metric 'los'; did you mean 'loss'"):
        read_curves(frame, "los")
    with pytest.raises(AblationsError, match="unknown column 'flops'"):
        read_curves(frame, "loss", x="flops")


def test_nothing_is_extrapolated():
    short, long = curve(0.0, 1.0, 2.0), curve(0.0, 1.0, 2.0, 4.0)
    assert np.isnan(short.at(np.array([30.0]))[0])
    assert long.at(np.array([30.0]))[0] == 3.0
    assert common_span([short, long]) == (0.0, 20.0)
    with pytest.raises(MissingRuns, match="one starts at 20, one ends at 10"):
        common_span([curve(0.0, 1.0), Curve(np.array([20.0, 30.0]), np.ones(2))])
    with pytest.raises(MissingRuns, match="no learning curve"):
        common_span([])


def test_the_area_is_the_mean_height():
    # By hand: 0 to 10: mean .5; 10 to 20: 1.5; 20 to 40: 3 over twice the width: (5 + 15 + 60) / 40 = 2
    assert area(curve(0.0, 1.0, 2.0, 4.0), 0, 40) == pytest.approx(2.0)
    assert area(curve(0.0, 1.0, 2.0, 4.0), 5, 15) == pytest.approx(1.0)


def test_the_time_to_a_target_is_the_first_crossing():
    assert time_to(curve(0.0, 1.0, 0.5, 4.0), 0.75) == 7.5
    assert time_to(curve(4.0, 2.0, 3.0, 0.0), 3.0, "min") == 5.0
    assert time_to(curve(1.0, 0.0), 0.5) == 0.0
    assert time_to(curve(0.0, 1.0), 2.0) is None


def test_runs_are_compared_at_the_smallest_budget_that_all_have():
    rng = np.random.default_rng(0)
    curves = {}
    for seed in range(5):
        height = rng.normal(1, 0.05)
        curves["base", seed] = curve(0.0, height, height, 2 * height)
        curves["arm", seed] = curve(0.0, height + 0.2 + rng.normal(0, 0.01), height + 0.3 + rng.normal(0, 0.01))
    found = compare_curves(curves, baseline="base")
    d = [curves["arm", s].y[2] - curves["base", s].y[2] for s in range(5)]
    assert found["at_budget"][0].difference == pytest.approx(np.mean(d))
    assert found["at_budget"][0].p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert found["area"][0].verdict == "helps"
    assert scalars(curves)["value"].notna().all()


def test_a_target_that_was_not_reached_ranks_last_and_is_counted():
    curves = {("base", seed): curve(0.0, 0.1 + 0.01 * seed, 0.2, 0.3) for seed in range(6)}
    curves |= {("arm", seed): curve(0.0, 0.6, 0.7 + 0.01 * seed) for seed in range(6)}
    curves["base", 0] = curve(0.0, 0.9)
    [found] = race(curves, 0.5, baseline="base")
    assert (found.n, found.reached_arm, found.reached_baseline) == (6, 6, 1)
    assert found.median_arm == pytest.approx(10 * 0.5 / 0.6)
    assert found.median_baseline is None
    # By hand: ranks: base 0 first (1), six arms tied at 4.5, five never at 10: differences 3.5, -5.5 x 5: |sum| = 24;
    # as far or further: all six alike (31, twice) and base 0 alone turned (24, twice): 4 of 64
    assert found.p == pytest.approx(4 / 64)


def test_a_race_of_two_seeds_or_of_equals_has_no_p():
    two = {(arm, seed): curve(0.0, 1.0) for arm in ("base", "arm") for seed in range(2)}
    six = {(arm, seed): curve(0.0, 1.0) for arm in ("base", "arm") for seed in range(6)}
    assert race(two, 0.5, baseline="base")[0].p is None
    assert race(six, 0.5, baseline="base")[0].p is None


def test_the_band_is_the_pointwise_t_interval_over_runs():
    curves = [curve(0.0, 1.0, 2.0), curve(1.0, 2.0, 4.0), curve(0.5, 1.2)]
    mean, low, high = band(curves, np.array([10.0, 20.0, 30.0]))
    expected = stats.ttest_1samp([1.0, 2.0, 1.2], 0).confidence_interval()
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))
    assert mean[1] == 3.0  # the third run ended before
    assert np.isnan([mean[2], low[2]]).all()
