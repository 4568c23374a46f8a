"""Wording of trends and combinations against sentences written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablations.analysis.additivity import Interaction
from ablations.analysis.levels import Estimate, Step, Trend
from ablations.reporting.prose_levels import interaction_sentence, trend_sentence


def step(lower: float, upper: float, value: float, p: float | None) -> Step:
    return Step(lower, upper, Estimate(value, value - 0.01, value + 0.01, p, 5), p)


RISING = Trend(
    parameter="layers",
    metric="f1",
    direction="max",
    alpha=0.05,
    scale="log2",
    levels=(4, 24, 32, 64),
    means=(0.3, 0.35, 0.36, 0.36),
    slope=Estimate(0.02, 0.011, 0.029, 0.002, 5),
    curvature=Estimate(-0.01, -0.02, 0.0, 0.06, 5),
    p_page=0.0004,
    page_n=5,
    steps=(step(4, 24, 0.05, 0.01), step(24, 32, 0.01, 0.4), step(32, 64, 0.0, 1.0)),
)
TREND = (
    "f1 rises with layers: +0.0200 per doubling (95 % interval +0.0110 to +0.0290; one-sample t-test on the seeds' "
    "slopes, n = 5 seeds, p = 0.002; Page's trend test, n = 5, p < 0.001)."
)
STEPS = "(paired t-tests after Holm's correction for 3 steps)"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            f"{TREND} Step by step it rises from 4 to 24; no detectable step 24 to 32 and 32 to 64 {STEPS}. "
            "Exploratory.",
        ),
        (
            {"steps": (step(4, 24, 0.05, 0.01), step(24, 32, 0.01, 0.02), step(32, 64, -0.04, 0.03))},
            f"{TREND} Step by step it rises from 4 to 32 and falls from 32 to 64 {STEPS}. Exploratory.",
        ),
        (
            {"steps": (step(4, 24, 0.05, None), step(24, 32, 0.01, 0.2), step(32, 64, 0.04, 0.3))},
            f"{TREND} No single step between neighbouring levels is detectable {STEPS}. Exploratory.",
        ),
        (
            {"curvature": Estimate(-0.01, -0.02, -0.001, 0.03, 5), "steps": ()},
            f"{TREND} It bends downwards (t-test on the seeds' quadratic coefficients, n = 5 seeds, p = 0.030). "
            "Exploratory.",
        ),
        (
            {"slope": Estimate(-0.02, -0.051, 0.011, 0.15, 5), "scale": "linear", "p_page": None, "steps": ()},
            "No detectable trend of f1 over layers: −0.020 per unit of layers (95 % interval −0.051 to +0.011; "
            "one-sample t-test on the seeds' slopes, n = 5 seeds, p = 0.15). Exploratory.",
        ),
        (
            {"slope": Estimate(0.02, None, None, None, 2), "p_page": 0.25, "page_n": 2, "steps": ()},
            "f1 over layers: +0.0200 per doubling, n = 2 seeds; not a test; Page's trend test, n = 2, p = 0.25. "
            "Exploratory.",
        ),
        (
            {"slope": None, "curvature": None, "p_page": None, "steps": ()},
            "No seed is complete at all levels of layers, so f1 has no slope. Exploratory.",
        ),
    ],
)
def test_trends_read(change, expected):
    assert trend_sentence(replace(RISING, **change)) == expected


BOTH = Interaction(
    combination="both",
    parts=("a", "b"),
    seeds=(0, 1, 2, 3, 4),
    combined=Estimate(0.078, 0.07, 0.08, 0.001, 5),
    summed=Estimate(0.088, 0.07, 0.1, 0.001, 5),
    interaction=Estimate(-0.01, -0.032, 0.012, 0.27, 5),
    smallest_effect=0.05,
    p_tost=0.2,
    sd_factor=2.0,
    logit=None,
)
FIGURES = "both changes the metric by +0.078 against +0.088 for the sum of its"
NOISE = "the sd of an interaction is 2 times that of a run, against 1.4 for a simple difference."


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            f"{FIGURES} 2 parts: no detectable interaction, −0.010 (95 % interval −0.032 to +0.012; paired t-test, n "
            f"= 5 seeds, p = 0.27). With 2 parts {NOISE} Exploratory.",
        ),
        (
            {"interaction": Estimate(-0.01, -0.032, 0.012, 0.03, 5), "logit": Estimate(0, -1, 1, 0.8, 5)},
            f"{FIGURES} 2 parts: an interaction, −0.010 (95 % interval −0.032 to +0.012; paired t-test, n = 5 seeds, "
            f"p = 0.030). With 2 parts {NOISE} On the logit scale, where a ceiling does not count, it is not "
            "detectable (p = 0.80). Exploratory.",
        ),
        (
            {"p_tost": 0.01, "parts": ("a", "b", "c", "d"), "logit": Estimate(0, -1, 1, 0.01, 5)},
            f"{FIGURES} 4 parts: no detectable interaction, −0.010 (95 % interval −0.032 to +0.012; paired t-test, n "
            "= 5 seeds, p = 0.27). It is smaller than the smallest interaction of interest, 0.05 (two one-sided "
            f"paired t-tests, p = 0.010). With 4 parts {NOISE} So many parts are usually inconclusive; arms that "
            "leave one part out of the combination say more. On the logit scale, where a ceiling does not count, it "
            "remains (p = 0.010). Exploratory.",
        ),
        (
            {"interaction": Estimate(-0.01, None, None, None, 2)},
            "both changes the metric by +0.0780 against +0.0880 for the sum of its 2 parts: a gap of −0.0100, n = 2 "
            "seeds; not a test. Exploratory.",
        ),
        (
            {"interaction": Estimate(0.0, None, None, None, 5)},
            f"{FIGURES} 2 parts: a gap of 0.000, the same at each of 5 seeds; not a test. Exploratory.",
        ),
        ({"interaction": None}, "both: no seed has the baseline, all 2 parts and the combination."),
    ],
)
def test_combinations_read(change, expected):
    assert interaction_sentence(replace(BOTH, **change)) == expected


def test_the_metric_of_a_combination_has_its_name():
    assert interaction_sentence(BOTH, metric="F1").startswith("both changes F1 by +0.078 against")
