from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.additivity import additivity
from ablations.analysis.table import read_table
from ablations.errors import AblationsError

BASE = [0.50, 0.52, 0.49, 0.51]
A = [0.53, 0.54, 0.52, 0.55]
B = [0.56, 0.57, 0.56, 0.56]
BOTH = [0.58, 0.60, 0.57, 0.58]


def of(scores, parts=("a", "b"), **change):
    options = {name: change.pop(name) for name in ("smallest_effect", "bounded") if name in change}
    arms = {"base": BASE, "a": A, "b": B, "both": BOTH} | change
    return additivity(read_table(scores(**arms), baseline="base", metric="f1"), "both", parts, **options)


def test_the_interaction_is_what_the_sum_of_the_parts_does_not_explain(scores):
    found = of(scores, smallest_effect=0.1)
    # By hand: combined .08 .08 .08 .07; a .03 .02 .03 .04; b .06 .05 .07 .05; interaction -.01 .01 -.02 -.02
    i = np.array([-0.01, 0.01, -0.02, -0.02])
    assert found.combined.value == pytest.approx(0.0775)
    assert found.summed.value == pytest.approx(0.0875)
    assert found.interaction.value == pytest.approx(-0.01)
    assert found.interaction.p == pytest.approx(stats.ttest_1samp(i, 0).pvalue)
    se = i.std(ddof=1) / 2
    assert found.p_tost == pytest.approx(stats.t.sf((0.1 - 0.01) / se, 3))
    assert found.logit is None


@pytest.mark.parametrize(("parts", "factor"), [(2, 2.0), (5, 4.7)])  # the method's figures
def test_interactions_are_noisier_than_differences(scores, parts, factor):
    arms = {f"p{part}": A for part in range(parts)}
    found = of(scores, parts=tuple(arms), **arms)
    assert found.sd_factor == pytest.approx(factor, abs=0.02)


def test_the_factor_is_what_independent_runs_give():
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(5, 40_000))  # base, three parts, combination
    interaction = runs[4] - runs[0] - (runs[1:4] - runs[0]).sum(axis=0)
    assert interaction.std() == pytest.approx(np.sqrt(1 + 3 + 4), rel=0.02)


def test_near_the_end_of_the_scale_the_logits_are_compared_too(scores):
    high = of(
        scores, base=[0.85, 0.86, 0.84, 0.85], a=[0.9, 0.91, 0.9, 0.89], b=[0.9] * 4, both=[0.93, 0.94, 0.93, 0.92]
    )
    assert high.interaction.value < 0  # a ceiling, not an interaction:
    assert abs(high.logit.value) < 0.15
    assert of(scores, base=[1.2, 1.3, 1.1, 1.2], bounded=True).logit is None
    assert of(scores, base=[0.9, 0.9, 0.9, 0.91], bounded=False).logit is None


def test_parts_that_add_up_exactly_have_no_p(scores):
    found = of(scores, both=[a + b - base for a, b, base in zip(A, B, BASE, strict=True)], smallest_effect=0.1)
    assert (found.interaction.value, found.interaction.p, found.p_tost) == (0.0, None, None)


def test_only_seeds_that_all_arms_completed_are_used(scores):
    found = of(scores, a=["failed", *A[1:]])
    assert found.seeds == (1, 2, 3)
    assert of(scores, a=["failed"] * 4).interaction is None


def test_a_combination_needs_parts_that_exist(scores):
    with pytest.raises(AblationsError, match="at least two parts, not 1"):
        of(scores, parts=("a",))
    with pytest.raises(AblationsError, match="unknown variant 'c'"):
        of(scores, parts=("a", "c"))
