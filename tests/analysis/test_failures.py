from __future__ import annotations

import numpy as np
import pytest

from ablations.analysis.failures import mcnemar, share_of_failures


def test_none_of_five_still_allows_a_rate_of_half():
    low, high = share_of_failures(0, 5)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 5))  # closed form; method: 52 %
    assert round(high, 2) == 0.52


def test_all_of_five_mirrors_none_of_five():
    assert share_of_failures(5, 5) == pytest.approx((0.025 ** (1 / 5), 1.0))


def test_mcnemar_looks_only_at_seeds_where_one_side_failed():
    five = np.ones(5, bool)
    assert mcnemar(five, ~five) == pytest.approx(2 * 0.5**5)  # by hand: five of five one way
    assert mcnemar(np.array([True, True, False, True]), np.array([True, False, True, True])) == 1.0
    assert mcnemar(five, five) == mcnemar(~five, ~five) == 1.0


def test_the_limits_of_mendels_ratio_are_those_of_r():
    # R, example(binom.test), Conover 1971: binom.test(682, 925): 95 percent confidence interval .7076683 .7654066
    assert share_of_failures(682, 925) == pytest.approx((0.7076683, 0.7654066), abs=5e-8)


def test_mcnemars_exact_p_is_that_of_r():
    # Counts 23, 15, 19, 31 and R's p as kept in statsmodels' tests (contingency_table_r_results.csv, homog_binom_p)
    counts = {(True, True): 23, (True, False): 15, (False, True): 19, (False, False): 31}
    arm, baseline = np.array([pair for pair, count in counts.items() for _ in range(count)]).T
    assert mcnemar(arm, baseline) == pytest.approx(0.60759136127308)
