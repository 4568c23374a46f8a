from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

from ablations.analysis.power import design_table, equivalence_power, further_seeds, t_power, upper_sd


@pytest.mark.parametrize(
    ("family", "table", "tolerance"),
    [
        (1, {3: 3.26, 5: 1.68, 8: 1.16, 10: 1.00, 20: 0.66}, 0.005),
        (10, {3: 10.4, 5: 3.16, 8: 1.81, 10: 1.48, 20: 0.91}, 0.05),
    ],
)
def test_the_design_table_is_that_of_the_method(family, table, tolerance):
    assert design_table(tuple(table), family) == pytest.approx(table, abs=tolerance)


def test_half_a_standard_deviation_takes_34_pairs():
    assert t_power(0.5, 34) >= 0.8 > t_power(0.5, 33)  # G*Power 3.1 manual, matched pairs, dz = .5


def test_power_is_statsmodels_where_that_is_a_number_and_one_beyond():
    assert t_power(0.8, 12) == pytest.approx(TTestPower().power(0.8, 12, 0.05))
    assert np.isnan(TTestPower().power(60.0, 10, 0.05)) or TTestPower().power(60.0, 10, 0.05) == pytest.approx(1)
    np.testing.assert_allclose(t_power([10, 60, 1e3, 1e6], [10, 10, 200, 3]), 1.0, atol=1e-6)


@pytest.mark.parametrize(("bound", "n"), [(1.0, 10), (0.5, 60), (2.0, 4), (5.0, 3), (0.2, 5)])
def test_power_of_equivalence_is_the_integral(bound, n):
    df, quantile = n - 1, stats.t.ppf(0.95, n - 1)

    def integrand(u: float) -> float:
        return (2 * stats.norm.cdf(bound * n**0.5 - quantile * (u / df) ** 0.5) - 1) * stats.chi2.pdf(u, df)

    expected = integrate.quad(integrand, 0, df * (bound * n**0.5 / quantile) ** 2, epsabs=1e-10, limit=200)[0]
    assert equivalence_power(bound, n) == pytest.approx(expected, abs=1e-6)


def test_power_of_equivalence_is_what_simulation_finds():
    rng = np.random.default_rng(5)
    d = rng.normal(size=(40_000, 8))
    bound = np.abs(d.mean(axis=1)) + stats.t.ppf(0.95, 7) * d.std(axis=1, ddof=1) / 8**0.5
    assert (bound < 1.2).mean() == pytest.approx(float(equivalence_power(1.2, 8)), abs=0.01)


@pytest.mark.parametrize(("ratio", "n", "family"), [(0.9, 5, 1), (0.5, 5, 10), (1.5, 4, 3), (0.3, 10, 1)])
def test_further_seeds_are_the_fewest_that_have_both_powers(ratio, n, family):
    def enough(total: int) -> bool:
        return t_power(ratio, total, 0.05 / family) >= 0.8 and equivalence_power(ratio, total, 0.05) >= 0.8

    expected = next(total for total in range(3, 400) if enough(total))
    found = further_seeds(np.array([ratio]), np.array([n]), family_size=family)
    assert found[0] == max(1, expected - n)


def test_claims_of_equivalence_that_are_corrected_take_more_seeds():
    ratio, n = np.array([0.9]), np.array([5])

    def enough(total: int) -> bool:
        return t_power(0.9, total, 0.05) >= 0.8 and equivalence_power(0.9, total, 0.05 / 10) >= 0.8

    expected = next(total for total in range(3, 400) if enough(total))
    found = further_seeds(ratio, n, equivalence_size=10)[0]
    assert found == expected - 5 > further_seeds(ratio, n)[0]


def test_at_least_one_further_seed_is_asked_for_and_more_than_200_are_not():
    assert further_seeds(np.array([5.0]), np.array([20]))[0] == 1
    assert np.isnan(further_seeds(np.array([0.1]), np.array([5]))[0])


def test_the_upper_limit_of_a_standard_deviation_covers_in_four_of_five():
    rng = np.random.default_rng(0)
    sd = rng.normal(size=(20_000, 5)).std(axis=1, ddof=1)
    assert (upper_sd(sd, np.full(sd.shape, 5)) > 1).mean() == pytest.approx(0.8, abs=0.01)
