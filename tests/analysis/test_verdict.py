from __future__ import annotations

from dataclasses import replace

import comparisons
import pytest

from ablations.analysis.results import FLAGS, VERDICTS
from ablations.analysis.verdict import decide, raise_flags

TESTED = replace(
    comparisons.WIDE,
    family_size=10,
    seeds=tuple(range(10)),
    differences=(0.02,) * 9 + (0.03,),
    n=10,
    n_planned=10,
    n_ok=10,
    baseline_ok=10,
    arm_mean=0.52,
    difference=0.02,
    ci_low=0.015,
    ci_high=0.025,
    p=0.001,
    p_adjusted=0.01,
    p_signflip=0.002,
    p_signflip_adjusted=0.02,
    p_tost_adjusted=0.6,
    smallest_effect=0.01,
)
UNTESTED = {"p": None, "p_adjusted": None}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"n": 0}, "not_assessed"),
        ({"n": 1}, "not_assessed"),
        ({"n": 2}, "not_assessed"),
        ({"n": 2, "n_diverged": 2, "itt_n": 2}, "not_assessed"),  # pairs come before failures
        ({**UNTESTED, "differences": (0.0,) * 10, "difference": 0.0}, "identical"),
        ({**UNTESTED, "difference": 0.02}, "degenerate"),
        ({"n_diverged": 10, "n_ok": 0, "itt_n": 10, "n": 0}, "all_failed"),
        ({"n_diverged": 1, "itt_n": 10, "n": 9}, "unstable"),  # before any p, however small
        ({"baseline_diverged": 1, "itt_n": 10, "n": 9}, "unstable"),
        ({"p_tost_adjusted": 0.04}, "helps_negligible"),
        ({"p_tost_adjusted": 0.04, "difference": -0.02}, "hurts_negligible"),
        ({}, "helps"),
        ({"direction": "min"}, "hurts"),
        ({"difference": -0.02}, "hurts"),
        ({"p_adjusted": 0.05}, "helps"),  # at alpha is enough
        ({"p_adjusted": 0.06, "p_tost_adjusted": 0.05}, "equivalent"),
        ({"p_adjusted": 0.06}, "inconclusive"),
        ({"p_adjusted": 0.06, "p_tost_adjusted": None, "smallest_effect": None}, "inconclusive"),
    ],
)
def test_the_first_verdict_that_fits_is_given(change, verdict):
    assert decide(replace(TESTED, **change)) == verdict
    assert verdict in VERDICTS


@pytest.mark.parametrize(
    ("change", "flag", "raised"),
    [
        ({"verdict": "helps"}, "material", True),
        ({"verdict": "helps", "ci_low": 0.009}, "material", False),
        ({"verdict": "hurts", "ci_low": -0.03, "ci_high": -0.01}, "material", True),
        ({"verdict": "inconclusive", "p_adjusted": 0.06}, "suggestive", True),
        ({"verdict": "inconclusive", "p": 0.06, "p_adjusted": 0.6}, "suggestive", False),
        ({"verdict": "helps"}, "suggestive", False),
        ({"verdict": "helps", "n": 3}, "tentative", True),
        ({"verdict": "helps", "n": 4}, "tentative", True),
        ({"verdict": "helps", "n": 5}, "tentative", False),
        ({"verdict": "not_assessed", "n": 3}, "tentative", False),
        ({"verdict": "helps", "p_signflip_adjusted": 0.06}, "depends_on_normality", True),
        ({"verdict": "helps"}, "depends_on_normality", False),
        ({"verdict": "helps", "p_signflip_adjusted": 0.06, "n": 8}, "depends_on_normality", False),  # floor: 9
        ({"verdict": "helps", "p_pooled": 0.06}, "pooled_disagrees", True),
        ({"verdict": "helps", "p_pooled": 0.04}, "pooled_disagrees", False),
        ({"verdict": "inconclusive", "p_adjusted": 0.06, "p_pooled": 0.04}, "pooled_disagrees", True),
        ({"verdict": "unstable", "n_diverged": 1}, "failure_value_missing", True),
        ({"verdict": "unstable", "n_diverged": 1, "failure_value": 0.0}, "failure_value_missing", False),
        ({"verdict": "inconclusive", "p_adjusted": 0.06}, "not_resolvable", True),
        ({"verdict": "inconclusive", "p_adjusted": 0.06, "more_seeds": 3}, "not_resolvable", False),
    ],
)
def test_a_flag_is_raised_when_it_should(change, flag, raised):
    assert (flag in raise_flags(replace(TESTED, **change))) == raised


def test_flags_come_in_the_order_of_their_list():
    raised = raise_flags(replace(TESTED, verdict="helps", n=3, p_pooled=0.5), provisional=True, extra_look=True)
    assert raised == ("material", "tentative", "pooled_disagrees", "provisional_effect", "optimistic_look")
    assert list(raised) == [flag for flag in FLAGS if flag in raised]
