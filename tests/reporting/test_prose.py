"""Every branch of the wording against a sentence written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from comparisons import WIDE as FIVE

from ablations.analysis.conclude import conclude
from ablations.analysis.results import VERDICTS
from ablations.reporting.prose import VERDICT_WORDS, brief, number, p_value, rounded_up, sentence, verdict_words

NO_EFFECT = {
    "verdict": "inconclusive",
    "difference": -0.004,
    "differences": (-0.02, 0.01, 0.0, -0.03, 0.02),
    "ci_low": -0.029,
    "ci_high": 0.021,
    "p": 0.68,
    "p_adjusted": 1.0,
    "smallest_bound": 0.02301,
}
NOT_ASSESSED = {
    "verdict": "not_assessed",
    "p": None,
    "p_adjusted": None,
    "p_signflip": None,
    "ci_low": None,
    "ci_high": None,
}
FAILED = {"p": None, "p_mcnemar": 0.5, "failure_low": 0.0527, "failure_high": 0.8534, "failure_value": 0.0}
EXPLORATORY = " Exploratory: no expectation was declared."


def words(change: dict[str, Any], expected: str | None = None, **options: str) -> str:
    [conclusion] = conclude([replace(FIVE, **change)], expectations={"wide": expected})
    text = sentence(conclusion, **options)
    return text.removesuffix(EXPLORATORY) if expected is None else text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003 "
            "after Holm's correction for 8 arms); better on 5 of 5 seeds.",
        ),
        (
            {"family_size": 1},
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003); "
            "better on 5 of 5 seeds.",
        ),
        (
            {"correction": "none"},
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003, "
            "not corrected for the 8 arms); better on 5 of 5 seeds.",
        ),
        (
            {"smallest_effect": 0.02, "flags": ("material",)},
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003 "
            "after Holm's correction for 8 arms); better on 5 of 5 seeds. The whole interval lies beyond the smallest "
            "effect of interest, 0.02.",
        ),
        (
            {"smallest_effect": 0.03},
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003 "
            "after Holm's correction for 8 arms); better on 5 of 5 seeds. Whether it exceeds the smallest effect of "
            "interest, 0.03, is not settled.",
        ),
        (
            {"verdict": "hurts", "direction": "min", "metric": "loss", "better": 0},
            "wide hurts: loss, where less is better, changes by +0.042 (95 % interval +0.021 to +0.063; paired "
            "t-test, n = 5 seeds, p = 0.003 after Holm's correction for 8 arms); worse on 5 of 5 seeds.",
        ),
        (
            {"verdict": "helps_negligible", "smallest_effect": 0.08, "p_tost_adjusted": 0.0021},
            "wide helps, but by a negligible amount: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired "
            "t-test, n = 5 seeds, p = 0.003 after Holm's correction for 8 arms); better on 5 of 5 seeds. It is "
            "smaller than the smallest effect of interest, 0.08 (two one-sided paired t-tests, p = 0.002).",
        ),
        (
            {
                "verdict": "hurts_negligible",
                "smallest_effect": 0.08,
                "p_tost_adjusted": 0.0021,
                "difference": -0.042,
                "ci_low": -0.063,
                "ci_high": -0.021,
                "differences": (-0.05, -0.04, -0.06, -0.03, 0.0),
                "better": 0,
            },
            "wide hurts, but by a negligible amount: f1 changes by −0.042 (95 % interval −0.063 to −0.021; paired "
            "t-test, n = 5 seeds, p = 0.003 after Holm's correction for 8 arms); worse on 4 of 5 seeds. It is smaller "
            "than the smallest effect of interest, 0.08 (two one-sided paired t-tests, p = 0.002).",
        ),
        (
            NO_EFFECT,
            "wide has no detectable effect on f1: the difference is −0.004 (95 % interval −0.029 to +0.021; paired "
            "t-test, n = 5 seeds, p = 1.00 after Holm's correction for 8 arms). An effect larger than 0.024 is ruled "
            "out at 95 %, one-sided each way.",
        ),
        (
            {**NO_EFFECT, "alpha": 0.025},
            "wide has no detectable effect on f1: the difference is −0.004 (95 % interval −0.029 to +0.021; paired "
            "t-test, n = 5 seeds, p = 1.00 after Holm's correction for 8 arms). An effect larger than 0.024 is ruled "
            "out at 97.5 %, one-sided each way.",
        ),
        (
            {
                "verdict": "equivalent",
                "smallest_effect": 0.03,
                "p_tost_adjusted": 0.011,
                "difference": -0.004,
                "ci_low": -0.029,
                "ci_high": 0.021,
                "ci90_low": -0.0228,
                "ci90_high": 0.0152,
                "smallest_bound": 0.0228,
            },
            "wide is equivalent to the baseline within ±0.03 of f1 (two one-sided paired t-tests, n = 5 seeds, p = "
            "0.011): the difference is −0.004 (90 % interval −0.023 to +0.015). An effect larger than 0.023 is ruled "
            "out at 95 %, one-sided each way.",
        ),
        (  # the interval is that of the test: at 2.5 % each way, 95 %
            {
                "verdict": "equivalent",
                "alpha": 0.025,
                "smallest_effect": 0.03,
                "p_tost_adjusted": 0.011,
                "difference": 0.004,
                "ci_low": -0.021,
                "ci_high": 0.029,
                "ci90_low": -0.0148,
                "ci90_high": 0.0228,
                "smallest_bound": 0.029,
            },
            "wide is equivalent to the baseline within ±0.03 of f1 (two one-sided paired t-tests, n = 5 seeds, p = "
            "0.011): the difference is +0.004 (95 % interval −0.021 to +0.029). An effect larger than 0.029 is ruled "
            "out at 97.5 %, one-sided each way.",
        ),
        (
            {"verdict": "identical", "differences": (0.0,) * 5, "p": None},
            "wide is bit-identical to the baseline in f1 on each of 5 seeds. Was the setting applied? No test was "
            "made.",
        ),
        (
            {"verdict": "identical", "differences": (0.0, 1e-17, 0.0, 0.0, 0.0), "p": None},
            "wide is identical to the baseline up to rounding in f1 on each of 5 seeds. Was the setting applied? No "
            "test was made.",
        ),
        (
            {"verdict": "degenerate", "difference": 0.02, "ci_low": None, "ci_high": None, "p": None},
            "wide differs from the baseline by the same +0.0200 in f1 on each of 5 seeds. Are the seeds applied? No "
            "test was made.",
        ),
    ],
)
def test_verdicts_on_all_seeds_read(change, expected):
    assert words(change) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {**FAILED, "verdict": "unstable", "n_diverged": 2, "n_ok": 3, "n": 3, "itt_n": 5, "itt_difference": -0.176},
            "wide is unstable: 2 of its 5 runs with an outcome diverged (95 % Clopper-Pearson interval 5 % to 85 %), "
            "against 0 of 5 of the baseline (exact McNemar test, p = 0.50). With 0 for each diverged run, f1 changes "
            "by −0.176 (exact sign-flip test, n = 5 seeds, p = 0.003 after Holm's correction for 8 arms). Among runs "
            "that finished (n = 3 seeds) the difference is +0.042 (95 % interval +0.021 to +0.063).",
        ),
        (
            {
                **FAILED,
                "verdict": "unstable",
                "n_diverged": 15,
                "n_ok": 1,
                "n": 1,
                "itt_n": 16,
                "itt_difference": -0.4,
                "ci_low": None,
                "ci_high": None,
                "family_size": 1,
            },
            "wide is unstable: 15 of its 16 runs with an outcome diverged (95 % Clopper-Pearson interval 5 % to 85 "
            "%), against 0 of 5 of the baseline (exact McNemar test, p = 0.50). With 0 for each diverged run, f1 "
            "changes by −0.4000 (sign-flip test, n = 16 seeds, p = 0.003). Among runs that finished (n = 1) the "
            "difference is +0.0420.",
        ),
        (
            {**FAILED, "verdict": "unstable", "n_diverged": 5, "n_ok": 1, "n": 0, "itt_n": 5, "failure_value": None},
            "wide is unstable: 5 of its 6 runs with an outcome diverged (95 % Clopper-Pearson interval 5 % to 85 %), "
            "against 0 of 5 of the baseline (exact McNemar test, p = 0.50). No failure value was declared, so no test "
            "was made; the arm counts as p = 1 in the family.",
        ),
        (
            {
                **FAILED,
                "verdict": "unstable",
                "baseline_diverged": 1,
                "baseline_ok": 4,
                "n": 4,
                "itt_n": 5,
                "failure_value": None,
                "failure_low": 0.0,
                "failure_high": 0.522,
            },
            "wide has an unstable baseline: 0 of its 5 runs with an outcome diverged (95 % Clopper-Pearson interval 0 "
            "% to 52 %), against 1 of 5 of the baseline (exact McNemar test, p = 0.50). No failure value was "
            "declared, so no test was made; the arm counts as p = 1 in the family. Among runs that finished (n = 4 "
            "seeds) the difference is +0.042 (95 % interval +0.021 to +0.063).",
        ),
        (
            {
                "verdict": "all_failed",
                "n_ok": 0,
                "n_diverged": 5,
                "n": 0,
                "p_mcnemar": 0.0625,
                "failure_low": 0.478,
                "failure_high": 1.0,
            },
            "wide failed: all 5 of its runs with an outcome diverged (95 % Clopper-Pearson interval 48 % to 100 %), "
            "against 0 of 5 of the baseline (exact McNemar test, p = 0.062). There is no f1 to compare.",
        ),
        (
            {**NOT_ASSESSED, "n_diverged": 1, "n_ok": 1, "n_lost": 3, "n": 1, "itt_n": 2},
            "wide is not assessed: 2 seeds with an outcome on both sides, and 1 of its 2 runs diverged, against 0 of "
            "5 of the baseline. 3 of its 5 planned runs have no result.",
        ),
    ],
)
def test_failures_read(change, expected):
    assert words(change) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"n": 0, "n_ok": 0, "n_lost": 5, "seeds": (), "differences": ()},
            "wide is not assessed: none of its 5 planned runs has a result.",
        ),
        (
            {"n": 0, "baseline_ok": 0, "baseline_mean": None, "seeds": (), "differences": ()},
            "wide is not assessed: the baseline has no result.",
        ),
        (
            {"n": 0, "seeds": (), "differences": (), "difference": None},
            "wide is not assessed: it shares no seed with the baseline.",
        ),
        (
            {"n": 0, "difference": None, "welch_difference": 0.055, "welch_low": -0.035, "welch_high": 0.145},
            "wide is not assessed: it shares no seed with the baseline. For information, not a test: the means differ "
            "by +0.0550 (95 % Welch interval −0.0350 to +0.1450).",
        ),
        (
            {
                "n": 1,
                "differences": (0.06,),
                "difference": 0.06,
                "in_band": False,
                "band_low": 0.4619,
                "band_high": 0.5581,
            },
            "wide is not assessed: one seed, where f1 differs by +0.0600. That is outside the baseline's own seed "
            "noise (0.4619 to 0.5581 for one more run, 95 %, from 5 runs); not a test.",
        ),
        (
            {
                "n": 1,
                "differences": (0.06,),
                "difference": 0.06,
                "in_band": True,
                "band_low": 0.4619,
                "band_high": 0.5581,
            },
            "wide is not assessed: one seed, where f1 differs by +0.0600. That is inside the baseline's own seed noise "
            "(0.4619 to 0.5581 for one more run, 95 %, from 5 runs); not a test.",
        ),
        (
            {"n": 1, "differences": (0.06,), "difference": 0.06},
            "wide is not assessed: one seed, where f1 differs by +0.0600. The baseline has too few runs to say how "
            "large its own seed noise is; not a test.",
        ),
        (
            {"n": 2, "differences": (0.06, 0.04), "difference": 0.05, "ci_low": -0.077, "ci_high": 0.177},
            "wide is not assessed: two seeds, where f1 differs by +0.06 and +0.04. For information, not a test: 95 % "
            "interval −0.08 to +0.18 (the t quantile of two seeds is 12.7).",
        ),
        (
            {"n": 2, "differences": (0.06, 0.06), "difference": 0.06},
            "wide is not assessed: two seeds, where f1 differs by +0.0600 and +0.0600.",
        ),
        (
            {"n": 4, "differences": (0.05, 0.04, -0.06, 0.03), "ci_low": -0.05, "ci_high": 0.07},
            "wide is not assessed: 4 seeds, fewer than the study asks for, where f1 differs by +0.050, +0.040, −0.060 "
            "and +0.030.",
        ),
    ],
)
def test_too_few_seeds_read(change, expected):
    assert words({**NOT_ASSESSED, **change}) == expected


@pytest.mark.parametrize(
    ("change", "start", "remark"),
    [
        (
            {"n": 3, "differences": (0.05, 0.04, 0.06), "better": 3, "flags": ("tentative",)},
            "wide tentatively helps: f1 changes",
            "With 3 seeds the sign-flip test cannot go below p = 0.25.",
        ),
        (
            {**NO_EFFECT, "n": 4, "flags": ("tentative",)},
            "Tentatively, wide has no detectable effect on f1",
            "With 4 seeds the sign-flip test cannot go below p = 0.125.",
        ),
        (
            {**NO_EFFECT, "p": 0.012, "p_adjusted": 0.096, "flags": ("suggestive",)},
            "wide has no detectable effect",
            "Suggestive only: alone it would pass (p = 0.012), in its family it does not.",
        ),
        (
            {**NO_EFFECT, "smallest_effect": 0.01, "more_seeds": 11, "more_seeds_safe": 28},
            "wide has no detectable effect",
            "11 more seeds, 28 to be safe, would find an effect of 0.01 or rule it out, each with 80 % power.",
        ),
        (
            {**NO_EFFECT, "smallest_effect": 0.01, "more_seeds": 1, "power": 0.9},
            "wide has no detectable effect",
            "1 more seed, over 200 to be safe, would find an effect of 0.01 or rule it out, each with 90 % power.",
        ),
        (
            {**NO_EFFECT, "smallest_effect": 0.001, "flags": ("not_resolvable",)},
            "wide has no detectable effect",
            "Not resolvable by seeds (over 200 more would be needed): enlarge the test set or the smallest effect of "
            "interest.",
        ),
        (
            {"p_signflip_adjusted": 0.0625, "flags": ("depends_on_normality",)},
            "wide helps",
            "The sign-flip test does not agree (p = 0.062): the result depends on normality.",
        ),
        (
            {"p_pooled": 0.2, "flags": ("pooled_disagrees",)},
            "wide helps",
            "The pooled-variance analysis does not agree (p = 0.20).",
        ),
        (
            {"flags": ("provisional_effect",)},
            "wide helps",
            "The smallest effect of interest is provisional: it was derived from the data.",
        ),
        (
            {"flags": ("optimistic_look",)},
            "wide helps",
            "The data were looked at more often than declared: p is optimistic.",
        ),
        ({"n_lost": 1, "n_planned": 6}, "wide helps", "1 of its 6 planned runs has no result."),
        (
            {"unpaired_arm": (5,), "unpaired_baseline": (6, 7)},
            "wide helps",
            "Not used, without a partner: seed 5 of the arm. Not used, without a partner: seeds 6 and 7 of the "
            "baseline.",
        ),
    ],
)
def test_remarks_read(change, start, remark):
    text = words(change)
    assert text.startswith(start)
    assert text.endswith(". " + remark)


@pytest.mark.parametrize(
    ("expected", "verdict", "remark"),
    [
        ("better", "helps", "Expected better than the baseline: confirmed."),
        ("worse", "helps", "Expected worse than the baseline: refuted."),
        ("same", "inconclusive", "Expected the same as the baseline: undecided."),
        (None, "helps", "Exploratory: no expectation was declared."),
    ],
)
def test_what_became_of_an_expectation_reads(expected, verdict, remark):
    [conclusion] = conclude([replace(FIVE, verdict=verdict)], expectations={"wide": expected})
    assert sentence(conclusion).endswith(" " + remark)


def test_the_arm_that_looks_best_is_labelled_as_optimistic():
    worse = replace(FIVE, arm="deep", difference=0.01)
    best, other = conclude([FIVE, worse])
    label = " As a pick after the runs its figure is optimistic (best of 2 arms)."
    assert sentence(best).removesuffix(EXPLORATORY).endswith(f"better on 5 of 5 seeds.{label}")
    assert label not in sentence(other)


def test_names_and_units_for_readers_are_used():
    text = words(
        {**NO_EFFECT, "smallest_effect": 2.0, "more_seeds": 3, "more_seeds_safe": 4},
        label="layers 4 → 8",
        unit="points",
        metric="F1",
    )
    assert text == (
        "layers 4 → 8 has no detectable effect on F1: the difference is −0.004 points (95 % interval −0.029 points to "
        "+0.021 points; paired t-test, n = 5 seeds, p = 1.00 after Holm's correction for 8 arms). An effect larger "
        "than 0.024 points is ruled out at 95 %, one-sided each way. 3 more seeds, 4 to be safe, would find an effect "
        "of 2 points or rule it out, each with 80 % power."
    )


@pytest.mark.parametrize(
    ("verdict", "flags", "words_of_table"),
    [
        ("helps", (), "helps"),
        ("helps", ("tentative",), "helps (tentative)"),
        ("inconclusive", ("suggestive", "tentative"), "no detectable effect (suggestive, tentative)"),
        ("unstable", ("tentative",), "unstable"),
    ],
)
def test_a_table_has_few_words(verdict, flags, words_of_table):
    [conclusion] = conclude([replace(FIVE, verdict=verdict, flags=flags)])
    assert verdict_words(conclusion) == words_of_table


def test_every_verdict_has_words_and_none_says_no_effect():
    assert list(VERDICT_WORDS) == list(VERDICTS)
    assert "no effect" not in " ".join(VERDICT_WORDS.values())
    for verdict in VERDICTS:
        change = {
            "verdict": verdict,
            "smallest_effect": 0.1,
            "p_tost_adjusted": 0.01,
            "p_mcnemar": 1.0,
            "failure_value": 0.0,
        }
        assert "no effect" not in words(change).lower()


@pytest.mark.parametrize(
    ("p", "alpha", "text"),
    [
        (0.0009, 0.05, "p < 0.001"),
        (0.0312, 0.05, "p = 0.031"),
        (0.6, 0.05, "p = 0.60"),
        (1.0, 0.05, "p = 1.00"),
        (0.0502, 0.05, "p = 0.0502"),  # p = 0.050 would read as significant
        (0.0498, 0.05, "p = 0.050"),
        (0.00002, 0.0001, "p < 0.0001"),
    ],
)
def test_a_printed_p_is_on_the_side_of_alpha_where_it_belongs(p, alpha, text):
    assert p_value(p, alpha) == text


def test_a_bound_is_rounded_up_and_a_figure_has_a_true_minus_sign():
    assert (rounded_up(0.0231, 3), rounded_up(0.02300001, 3), rounded_up(0.023, 3)) == ("0.024", "0.024", "0.023")
    assert (
        number(-0.0004, 3, sign=True),
        number(-0.0004, 3),
        number(0.0, 3, sign=True),
        number(-0.4, 1, sign=True),
        number(0.4, 1, sign=True),
    ) == (
        "−0.000",
        "0.000",
        "0.000",
        "−0.4",
        "+0.4",
    )


@pytest.mark.parametrize(
    ("change", "expected", "sentence_of_it"),
    [
        (
            {"smallest_effect": 0.02, "flags": ("material",)},
            "better",
            "wide helps: f1 changes by +0.042 (95 % interval +0.021 to +0.063; paired t-test, n = 5 seeds, p = 0.003 "
            "after Holm's correction for 8 arms); better on 5 of 5 seeds; the whole interval beyond ±0.02; "
            "optimistic, as the best of 2 arms; expected better: confirmed.",
        ),
        (
            {**NO_EFFECT, "flags": ("suggestive", "pooled_disagrees"), "n_lost": 1, "n_planned": 6},
            "same",
            "wide has no detectable effect on f1: the difference is −0.004 (95 % interval −0.029 to +0.021; "
            "paired t-test, n = 5 seeds, p = 1.00 after Holm's correction for 8 arms); suggestive, by its own p alone; "
            "the pooled-variance analysis does not agree; 1 of 6 runs without a result; expected the same: undecided.",
        ),
        (
            {"verdict": "identical", "difference": 0.0, "differences": (0.0,) * 5},
            None,
            "wide is bit-identical to the baseline in f1 on each of 5 seeds; exploratory.",
        ),
        (
            {**NOT_ASSESSED, "n": 1, "differences": (0.02,), "difference": 0.02, "in_band": None},
            None,
            "wide is not assessed: one seed, where f1 differs by +0.0200; exploratory.",
        ),
    ],
)
def test_the_answer_says_a_verdict_its_test_and_what_changes_its_weight_in_one_sentence(
    change: dict[str, Any], expected: str | None, sentence_of_it: str
) -> None:
    worse = replace(FIVE, arm="other", difference=0.001)
    concluded = conclude([replace(FIVE, **change), worse], expectations={"wide": expected, "other": None})
    assert brief(concluded[0]) == sentence_of_it


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_one_sentence_of_a_verdict_begins_as_the_longer_wording_does(verdict: str) -> None:
    [conclusion] = conclude([replace(FIVE, verdict=verdict, smallest_effect=0.02, p_mcnemar=0.5)], expectations={})
    said = brief(conclusion, label="ARM")
    assert sentence(conclusion, label="ARM").startswith(said.split(";")[0].removesuffix("."))
    assert ". " not in said
    assert said.endswith("; exploratory.")
