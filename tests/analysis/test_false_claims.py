"""The promise, by simulation: with ten null arms, no false claim more often than alpha; intervals that cover."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

SIMULATE = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "false_claims.py"))["simulate"]
STUDIES = 800


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_ten_null_arms_give_a_false_claim_no_more_often_than_alpha(seeds):
    rates = SIMULATE(seeds, STUDIES, np.random.default_rng(seeds))
    error = math.sqrt(0.05 * 0.95 / STUDIES)  # of the share of studies; a study's arms are correlated
    assert rates.false_claims <= 0.05 + 3 * error
    assert rates.coverage == pytest.approx(0.95, abs=3 * error)
    assert rates.false_equivalence <= 0.05 + 3 * error
