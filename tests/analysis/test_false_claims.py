"""The promise, by simulation: with ten null arms, no false claim more often than alpha; intervals that cover."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.compare import Rules, compare_table
from ablations.analysis.family import adjust
from ablations.analysis.paired import paired_t

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "false_claims.py"))
STUDIES = 5_000
SEEDS = [3, 5, 10]


@pytest.mark.parametrize("seeds", SEEDS)
def test_ten_null_arms_give_a_false_claim_no_more_often_than_alpha(seeds):
    rates = SIMULATION["simulate_numbers"](seeds, STUDIES, np.random.default_rng(seeds))
    error = math.sqrt(0.05 * 0.95 / STUDIES)  # of the share of studies; a study's arms are correlated
    assert rates.false_claims <= 0.05 + 3 * error
    assert rates.coverage == pytest.approx(0.95, abs=3 * error)
    assert rates.false_equivalence <= 0.05 + 3 * error


@pytest.mark.parametrize("seeds", SEEDS)
def test_whole_comparisons_hold_the_numbers_that_are_simulated(seeds):
    rng, effect = np.random.default_rng(seeds), 1.5
    for _ in range(5):
        values = rng.normal(size=(11, seeds)) + rng.normal(size=seeds)
        table = SIMULATION["table_of"](values, np.zeros(values.shape, dtype=bool))
        found = compare_table(table, "score", Rules(smallest_effect=effect))
        numbers = paired_t(values[1:] - values[0], np.zeros(seeds), smallest_effect=effect)
        assert [c.p_adjusted for c in found] == pytest.approx(list(adjust(numbers.p, ["main"] * 10)))
        assert [(c.ci_low, c.ci_high) for c in found] == [
            pytest.approx(ends) for ends in zip(numbers.low, numbers.high, strict=True)
        ]
        assert [c.p_tost for c in found] == pytest.approx(list(numbers.p_tost))
        claims = [c.verdict.startswith(("helps", "hurts")) for c in found]
        assert claims == [c.p_adjusted <= 0.05 for c in found]


def test_a_test_that_forgets_the_correction_would_be_found_out():
    """The simulation has teeth: ten uncorrected tests claim something far more often."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 11, 5))
    p = paired_t((values[:, 1:] - values[:, :1]).reshape(-1, 5), np.zeros(5)).p.reshape(2000, 10)
    assert (p.min(axis=1) <= 0.05).mean() > 0.2
