"""Wording of examples, curves and trouble against sentences written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablations.analysis.curves import Race
from ablations.analysis.diagnosis import Overfitting, Spike, Spikes
from ablations.analysis.examples import ExampleInterval
from ablations.reporting.prose_runs import examples_sentence, overfitting_sentence, race_sentence, spikes_sentence


def test_an_interval_over_examples_reads():
    found = ExampleInterval("wide", 5, 2000, 0.0412, 0.01, 0.008, 12.0, 0.019, 0.063)
    assert examples_sentence(found, metric="f1") == (
        "On test sets like this one, over new examples as well as new seeds, wide changes f1 by +0.041 (95 % interval "
        "+0.019 to +0.063; two-way random effects, n = 5 seeds, 2000 examples)."
    )


RACE = Race("wide", 5, 5, 2, 400.0, None, 0.0625)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            "wide reaches F1 0.20 at 5 of 5 seeds (median 400 steps), the baseline at 2 of 5: no detectable "
            "difference in time (sign-flip test on ranks, a target not reached ranking last, n = 5 seeds, p = "
            "0.062). Exploratory.",
        ),
        (
            {"p": 0.03125, "median_baseline": 812.5, "reached_baseline": 4},
            "wide reaches F1 0.20 at 5 of 5 seeds (median 400 steps), the baseline at 4 of 5 (median 812.5 steps): the "
            "times differ (sign-flip test on ranks, a target not reached ranking last, n = 5 seeds, p = 0.031). "
            "Exploratory.",
        ),
        (
            {"p": None, "n": 2, "reached_arm": 2},
            "wide reaches F1 0.20 at 2 of 2 seeds (median 400 steps), the baseline at 2 of 2; not a test. Exploratory.",
        ),
    ],
)
def test_a_race_reads(change, expected):
    assert race_sentence(replace(RACE, **change), target="F1 0.20", unit="steps") == expected


OVER = Overfitting(12.3, 400.0, True, True, 0.012)
FINE = Overfitting(1.0, 800.0, True, False, 0.0)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([FINE, FINE], "wide: none of 2 runs overfitted (validation loss 5 % or more above its minimum at the end)."),
        (
            [OVER, replace(OVER, best_x=500.0, metric_drop=0.02), FINE],
            "wide: 2 of 3 runs overfitted: their validation loss ended up to 12 % above its minimum, reached at "
            "steps 400 to 500, while the training loss still fell. f1 ended 0.020 or less below its best.",
        ),
        (
            [replace(OVER, metric_drop=0.0)],
            "wide: 1 of 1 runs overfitted: their validation loss ended up to 12 % above its minimum, reached at step "
            "400, while the training loss still fell. f1 did not fall with it.",
        ),
        (
            [replace(OVER, metric_drop=None)],
            "wide: 1 of 1 runs overfitted: their validation loss ended up to 12 % above its minimum, reached at step "
            "400, while the training loss still fell.",
        ),
    ],
)
def test_overfitting_reads(runs, expected):
    assert overfitting_sentence("wide", runs, metric="f1") == expected


CALM = Spikes((), False)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([CALM], ""),
        (
            [Spikes((Spike(10, 12, 2.5, True),), False), CALM],
            "wide: 1 spike of the training loss in 1 of 2 runs, up to 2.5 times its level.",
        ),
        (
            [Spikes((Spike(10, 12, 2.5, True), Spike(90, 99, 4.0, False)), True), CALM],
            "wide: 2 spikes of the training loss in 1 of 2 runs, up to 4.0 times its level, 1 of them not recovered "
            "from; 1 of 2 runs ended above where they started, or not finite.",
        ),
    ],
)
def test_spikes_read(runs, expected):
    assert spikes_sentence("wide", runs) == expected
