from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablations.analysis import signflip
from ablations.analysis.signflip import floor, least_seeds, sign_flip


@pytest.mark.parametrize("n", [2, 3, 6, 9, 14])
def test_the_exact_p_is_scipys(n):
    rng = np.random.default_rng(n)
    differences = np.round(rng.normal(0.5, 1, size=(3, n)), 1)  # rounded: ties
    for row, p in zip(differences, sign_flip(differences), strict=True):
        exact = stats.permutation_test(
            (row,), lambda d, axis: d.mean(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert p == pytest.approx(exact.pvalue)


def test_the_sampled_p_is_close_to_the_exact_one_and_never_zero(monkeypatch):
    differences = np.random.default_rng(0).normal(0.4, 1, size=(4, 12))
    exact = sign_flip(differences)
    monkeypatch.setattr(signflip, "EXACT_UP_TO", 11)
    assert sign_flip(differences) == pytest.approx(exact, abs=0.01)
    assert sign_flip(np.ones((1, 40)))[0] == pytest.approx(1e-5)


def test_memory_is_bounded_by_working_through_the_arms_in_parts(monkeypatch):
    differences = np.random.default_rng(0).normal(size=(50, 8))
    whole = sign_flip(differences)
    monkeypatch.setattr(signflip, "CELLS", 300)
    np.testing.assert_array_equal(sign_flip(differences), whole)


def test_all_seeds_on_one_side_give_the_floor():
    assert sign_flip(np.array([[0.1, 0.2, 0.3]]))[0] == floor(3) == 0.25
    assert floor(4) == 0.125


def test_ties_are_counted_in_spite_of_rounding():
    # 0.1 + 0.2 - 0.3 is not 0 in floating point; scaled by 1e-3 or not, p must be that of (1, 2, -3): all patterns.
    for scale in (1.0, 1e-3, 7.0):
        assert sign_flip(scale * np.array([[0.1, 0.2, -0.3]]))[0] == 1.0


@pytest.mark.parametrize(("family", "seeds"), [(1, 6), (10, 9)])  # method: m = 1: 6; 10: 9
def test_the_least_seeds_for_holms_first_step(family, seeds):
    assert least_seeds(family) == seeds
    assert floor(seeds) <= 0.05 / family < floor(seeds - 1)


def test_the_p_of_darwins_maize_is_fishers(monkeypatch):
    # Fisher 1935, section 21: crossed - self-fertilised plants in eighths of an inch; of the 2^15 patterns of signs 863
    # have a sum of 314 or more, and as many one of -314 or less.
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    assert maize.sum() == 314
    assert sign_flip(maize[None])[0] == pytest.approx(2 * 863 / 2**15, abs=0.003)  # sampled: 3 standard errors
    monkeypatch.setattr(signflip, "EXACT_UP_TO", 15)
    assert sign_flip(maize[None])[0] == 2 * 863 / 2**15
