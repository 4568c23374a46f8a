"""Every branch of the wording of uncertainty against a sentence written by hand."""

from __future__ import annotations

from dataclasses import replace

import comparisons
import pytest

from ablations.analysis.examples import ExampleInterval
from ablations.analysis.importance import Share
from ablations.analysis.results import POOLED_HIDDEN
from ablations.analysis.selection import Pick
from ablations.reporting.prose_uncertainty import (
    families_words,
    floor_sentence,
    holds,
    pick_sentence,
    pooled_sentence,
    power_sentence,
    share_sentence,
    stable_sentence,
    summary_sentence,
    wider_sentence,
)

WIDE = replace(comparisons.WIDE, smallest_effect=0.02)
# se .02 with 12 degrees of freedom: t(.975) = 2.1788, t(.95) = 1.7823; the seeds alone (t(.975, 4) = 2.776) are less
CROSSES = ExampleInterval("wide", 5, 2000, 0.042, 0.02, 0.008, 12.0, -0.0016, 0.0856)
CLEAR = replace(CROSSES, low=0.0116, high=0.0724)
SMALL = ExampleInterval("wide", 5, 2000, 0.002, 0.002, 0.0008, 12.0, -0.0024, 0.0064)
SMALL_CLEAR = replace(SMALL, difference=0.006, low=0.0016, high=0.0104)


def test_the_bound_over_examples_is_delta_star():
    assert CROSSES.bound == pytest.approx(0.042 + 1.7823 * 0.02, abs=1e-5)
    seeds_rule = replace(CROSSES, se=0.008)  # t(.95, 4) = 2.1318
    assert seeds_rule.bound == pytest.approx(0.042 + 2.1318 * 0.008, abs=1e-5)


@pytest.mark.parametrize(
    ("verdict", "wider", "expected"),
    [
        ("helps", CLEAR, ""),
        (
            "helps",
            CROSSES,
            "wide helps on this test set; on test sets like this one F1 may as well not change (95 % interval −0.002 "
            "to +0.086; 5 seeds, 2000 examples).",
        ),
        (
            "hurts",
            CROSSES,
            "wide hurts on this test set; on test sets like this one F1 may as well not change (95 % interval −0.002 "
            "to +0.086; 5 seeds, 2000 examples).",
        ),
        ("equivalent", SMALL, ""),
        (
            "equivalent",
            CROSSES,
            "wide changes F1 negligibly on this test set; on test sets like this one only a change larger than 0.078 "
            "is ruled out, and 0.02 is of interest (95 % interval −0.002 to +0.086; 5 seeds, 2000 examples).",
        ),
        ("helps_negligible", SMALL_CLEAR, ""),
        (
            "helps_negligible",
            SMALL,
            "wide changes F1 negligibly on this test set; on test sets like this one F1 may as well not change (95 % "
            "interval −0.002 to +0.006; 5 seeds, 2000 examples).",
        ),
        ("inconclusive", CROSSES, ""),
    ],
)
def test_what_is_left_of_a_claim_on_other_test_sets_reads(verdict, wider, expected):
    assert wider_sentence(replace(WIDE, verdict=verdict), wider, decimals=3, metric="F1") == expected


def test_units_and_names_for_readers_are_used():
    said = wider_sentence(
        replace(WIDE, verdict="equivalent"), CROSSES, decimals=3, metric="loss", unit="nats", label="X"
    )
    assert said == (
        "X changes loss negligibly on this test set; on test sets like this one only a change larger than 0.078 nats "
        "is ruled out, and 0.02 nats is of interest (95 % interval −0.002 nats to +0.086 nats; 5 seeds, 2000 examples)."
    )


def test_without_a_smallest_effect_nothing_is_negligible():
    assert not holds(replace(WIDE, verdict="equivalent", smallest_effect=None), SMALL)


@pytest.mark.parametrize(
    ("verdicts", "wider", "expected"),
    [
        (
            {"wide": "helps", "deep": "hurts"},
            {"wide": CLEAR, "deep": CROSSES},
            "Of 2 arms that have a claim on this test set, 1 would keep it on test sets like this one.",
        ),
        (
            {"wide": "helps", "deep": "hurts"},
            {"wide": CLEAR},
            "Of 1 arm that has a claim on this test set, 1 would keep it on test sets like this one.",
        ),
        (
            {"wide": "inconclusive"},
            {"wide": CLEAR},
            "No arm with scores by example has a claim that other test sets could bear out or not.",
        ),
    ],
)
def test_how_many_claims_hold_reads(verdicts, wider, expected):
    arms = [replace(WIDE, arm=arm, verdict=verdict) for arm, verdict in verdicts.items()]
    assert summary_sentence(arms, wider) == expected


def test_the_pick_of_the_best_reads():
    found = Pick("wide", 7, 5, 0.0324, 0.02811, 4)
    assert pick_sentence(found, decimals=3, metric="F1") == (
        "Optimistic (best of 7): picked as the best of 7 arms, wide changes F1 by +0.032 on the 5 seeds that it was "
        "picked on. Picked on all seeds but one and read on that one, the pick changes it by +0.028 (mean of 5 "
        "readings; the same arm in 4 of them). What a chosen arm is worth, runs of it on fresh seeds tell."
    )
    assert "X changes loss by +0.032 nats on" in pick_sentence(found, decimals=3, metric="loss", unit="nats", label="X")


def test_a_hidden_pooled_column_says_why():
    assert pooled_sentence([replace(WIDE, p_pooled=0.01)]) == ""
    noisy = replace(WIDE, pooled_hidden="noisy_arm")
    assert pooled_sentence([noisy, replace(WIDE, p=None, verdict="unstable")]) == (
        "The pooled-variance column is empty: the residual sd of one arm is over twice that of the median arm."
    )
    assert pooled_sentence([noisy, replace(WIDE, p_pooled=0.01), replace(WIDE, pooled_hidden="one_arm")]) == (
        "The pooled-variance column is empty for some arms: the residual sd of one arm is over twice that of the "
        "median arm; the family has one tested arm, which has nothing to share a variance with."
    )
    assert all(POOLED_HIDDEN.values())


@pytest.mark.parametrize(
    ("n", "family", "expected"),
    [
        (9, 10, ""),
        (
            5,
            10,
            "With 5 seeds the sign-flip test cannot go below p = 0.0625; to be significant at the first step of Holm's "
            "correction for 10 arms takes 9 seeds.",
        ),
        (
            3,
            1,
            "With 3 seeds the sign-flip test cannot go below p = 0.25; to be significant takes 6 seeds.",
        ),
    ],
)
def test_the_floor_of_the_sign_flip_test_reads(n, family, expected):
    assert floor_sentence(n, family, 0.05) == expected


def test_the_absence_of_failures_reads():
    assert stable_sentence(3, 5, 0.5218) == (
        "The other 3 arms had no diverged run: 0 of 5 still allows a rate of up to 52 %."
    )
    assert stable_sentence(1, 5, 0.5218).startswith("The other arm had no diverged run:")


def test_what_the_seeds_can_find_reads():
    assert power_sentence(5, 10, 3.16, power=0.8, sd=None, decimals=3) == (
        "Design: with 5 seeds and 10 arms at the first step of Holm's correction, a paired t-test finds a true "
        "difference of 3.16 times the sd of the differences with 80 % power."
    )
    assert power_sentence(5, 1, 1.68, power=0.9, sd=0.01, decimals=3, unit="nats") == (
        "Design: with 5 seeds, a paired t-test finds a true difference of 1.68 times the sd of the "
        "differences with 90 % power: 0.017 nats at the median sd seen, 0.010 nats."
    )


def test_the_family_is_named_where_there_are_several():
    text = power_sentence(5, 6, 2.76, power=0.8, sd=None, decimals=3, family="data")
    assert text.startswith("Design of the family data: with 5 seeds and 6 arms at the first step")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, "no arms"),
        ({"main": 1}, "1 arm"),
        ({"main": 18}, "18 arms"),
        ({"main": 18, "data": 6, "one": 1}, "the arms of each family: main (18 arms), data (6 arms) and one (1 arm)"),
    ],
)
def test_what_a_correction_counts_reads(sizes, expected):
    assert families_words(sizes) == expected


def test_shares_of_variance_read():
    assert share_sentence(Share(("layers",), 2, 12, 15.02, 0.0005, 0.71, 0.62), 18) == (
        "layers accounts for 62 % of the variance of 18 runs (omega squared; partial eta squared 0.71; F(2, 12) = "
        "15.0, p < 0.001)."
    )
    assert share_sentence(Share(("layers", "rate"), 2, 12, 0.4, 0.68, 0.06, -0.02), 18) == (
        "The interaction of layers with rate accounts for 0 % of the variance of 18 runs (omega squared; partial eta "
        "squared 0.06; F(2, 12) = 0.4, p = 0.68)."
    )
