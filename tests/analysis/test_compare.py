from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from ablations.analysis.compare import compare
from ablations.analysis.table import Columns
from ablations.errors import AblationsError

BASE = [0.50, 0.52, 0.49, 0.51, 0.53]
BETTER = [0.56, 0.59, 0.55, 0.56, 0.59]
NOISE = [0.52, 0.50, 0.53, 0.512, 0.527]
LOST, DIVERGED = "failed", "diverged"


def one(frame: pd.DataFrame, **rules):
    [comparison] = compare(frame, baseline="base", metric="f1", **rules)
    return comparison


def test_the_numbers_of_an_arm_are_those_one_gets_by_hand(scores):
    c = one(scores(base=BASE, arm=BETTER))
    # By hand: d = .06, .07, .06, .05, .06: mean .06, sd sqrt(.0002 / 4) = .0070711, se .0031623, t(.975, 4) = 2.7764
    assert c.differences == pytest.approx((0.06, 0.07, 0.06, 0.05, 0.06))
    assert (c.difference, c.sd_difference, c.se) == pytest.approx((0.06, 0.0070711, 0.0031623), rel=1e-4)
    assert (c.ci_low, c.ci_high) == pytest.approx((0.06 - 0.0087799, 0.06 + 0.0087799), rel=1e-4)
    assert (c.n, c.df, c.better, c.n_ok, c.n_planned) == (5, 4, 5, 5, 5)
    assert (c.arm_mean, c.baseline_mean) == pytest.approx((0.57, 0.51))
    assert c.p_signflip == 2 / 32  # all five on one side
    assert c.verdict == "helps"


def test_less_is_better_turns_the_verdict_but_not_the_difference(scores):
    c = one(scores(base=BASE, arm=BETTER), direction="min")
    assert (c.verdict, c.better) == ("hurts", 0)
    assert c.difference == pytest.approx(0.06)
    assert c.improvement == pytest.approx(-0.06)


def test_arms_that_were_planned_count_in_the_family_whether_or_not_they_ran(scores):
    frame = scores(base=BASE, arm=[0.55, 0.55, 0.5, 0.54, 0.58])
    alone = one(frame)
    planned = {arm: range(5) for arm in ("base", "arm", *"abcdefghi")}
    first, *others = compare(frame, baseline="base", metric="f1", planned=planned)
    assert (alone.verdict, alone.family_size) == ("helps", 1)
    assert first.p_adjusted == pytest.approx(10 * alone.p)
    assert (first.verdict, first.family_size) == ("inconclusive", 10)
    assert "suggestive" in first.flags
    assert {other.verdict for other in others} == {"not_assessed"}
    assert all(other.p_adjusted is None and other.n_lost == 5 for other in others)


def test_a_family_of_its_own_is_corrected_alone(scores):
    frame = scores(base=BASE, arm=BETTER, other=NOISE)
    families = {"arm": "main", "other": "side"}
    assert [c.family_size for c in compare(frame, baseline="base", metric="f1", family=families)] == [1, 1]


def test_no_shared_seed_gives_welchs_interval_and_no_verdict(scores):
    c = one(scores(base=[0.5, 0.52, LOST, LOST], arm=[LOST, LOST, 0.55, 0.58]))
    assert (c.verdict, c.n, c.p, c.difference) == ("not_assessed", 0, None, None)
    # By hand: means .51 and .565; R: t.test(c(.55, .58), c(.5, .52)): se sqrt(.00045/2 + .0002/2) = .018028, df 1.742
    assert c.welch_difference == pytest.approx(0.055)
    assert c.welch_high - c.welch_difference == pytest.approx(0.018028 * 4.9684, rel=2e-3)


def test_welchs_interval_on_the_sleep_data_is_that_of_r():
    # R: t.test(extra ~ group, data = sleep): 95 percent confidence interval -3.3654832 .2054832 (Student 1908)
    sleep = {"1": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
             "2": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]}  # fmt: skip
    rows = [(drug, f"{drug}-{at}", value) for drug, values in sleep.items() for at, value in enumerate(values)]
    [c] = compare(pd.DataFrame(rows, columns=["variant", "seed", "value"]), baseline="2", metric="extra")
    assert (c.n, c.verdict) == (0, "not_assessed")
    assert (c.welch_low, c.welch_high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_the_whole_comparison_of_the_sleep_data_is_that_of_r():
    # R: t.test(extra ~ group, data = sleep, paired = TRUE): t = -4.0621, df = 9, p = .002833, -2.4598858 to -.7001142
    drug_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    drug_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    frame = pd.DataFrame({"drug": [1] * 10 + [2] * 10, "patient": [*range(10)] * 2, "extra": drug_1 + drug_2})
    [c] = compare(frame, baseline="1", metric="extra", columns=Columns(variant="drug", seed="patient"))
    assert (c.t, c.df, c.p) == (pytest.approx(4.0621, abs=5e-5), 9, pytest.approx(0.002833, abs=5e-7))
    assert (c.ci_low, c.ci_high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert (c.verdict, c.better) == ("helps", 9)  # patient 5 slept as long on both


def test_seeds_without_a_partner_are_listed(scores):
    c = one(scores(base=[*BASE, LOST], arm=[LOST, *BETTER]))
    assert (c.seeds, c.unpaired_arm, c.unpaired_baseline) == ((1, 2, 3, 4), (5,), (0,))


def test_one_seed_is_held_against_the_baselines_own_noise(scores):
    c = one(scores(base=BASE, arm=[0.57, LOST, LOST, LOST, LOST]))
    # By hand: mean .51, sd .0158114, t(.975, 4) = 2.77645: half width .0158114 x 2.77645 x sqrt(1.2) = .0480897
    assert (c.band_low, c.band_high) == pytest.approx((0.51 - 0.04809, 0.51 + 0.04809), abs=1e-5)
    assert (c.verdict, c.in_band) == ("not_assessed", False)
    assert one(scores(base=BASE, arm=[0.55, LOST, LOST, LOST, LOST])).in_band is True
    assert one(scores(base=[0.5, 0.6], arm=[0.55, LOST])).in_band is None


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_seeds_are_not_assessed_and_have_no_p(scores, n):
    c = one(scores(base=BASE[:n], arm=BETTER[:n]))
    assert (c.verdict, c.p, c.p_signflip, c.p_adjusted) == ("not_assessed", None, None, None)
    assert (c.ci_low is None) == (n == 1)


def test_fewer_seeds_than_the_study_asks_for_are_not_assessed(scores):
    c = one(scores(base=BASE[:4], arm=BETTER[:4]), min_seeds=5)
    assert (c.verdict, c.p, c.p_tost) == ("not_assessed", None, None)


def test_identical_and_constant_arms_are_named_and_have_no_p(scores):
    same = one(scores(base=BASE, arm=BASE), smallest_effect=0.01)
    shifted = one(scores(base=BASE, arm=[value + 0.02 for value in BASE]), smallest_effect=0.01)
    assert (same.verdict, shifted.verdict) == ("identical", "degenerate")
    assert {same.p, same.p_adjusted, same.p_tost, same.p_signflip, shifted.p, shifted.p_signflip} == {None}


def test_diverged_runs_make_an_arm_unstable_and_the_sign_flip_test_decides_its_p(scores):
    frame = scores(base=BASE, arm=[0.56, DIVERGED, 0.55, 0.56, 0.59], other=BETTER)
    arm, other = compare(frame, baseline="base", metric="f1", failure_value=0.0)
    assert (arm.verdict, arm.p, arm.n, arm.itt_n, arm.n_diverged) == ("unstable", None, 4, 5, 1)
    # By hand: differences .06, -.52, .06, .05, .06; no pattern of signs has a sum nearer to zero than -.29, so p = 1.
    assert arm.itt_difference == pytest.approx((0.23 - 0.52) / 5)
    assert arm.p_signflip == 1.0
    assert (arm.p_adjusted, other.p_adjusted) == pytest.approx((1.0, 2 * other.p))
    assert arm.difference == pytest.approx(0.0575)  # among runs that finished
    assert arm.ci_low is not None
    assert other.verdict == "helps"


def test_without_a_failure_value_an_unstable_arm_is_not_tested_and_says_so(scores):
    c = one(scores(base=BASE, arm=[0.56, DIVERGED, 0.55, 0.56, 0.59]))
    assert (c.verdict, c.p_signflip, c.p_adjusted, c.itt_difference) == ("unstable", None, None, None)
    assert "failure_value_missing" in c.flags


def test_a_run_whose_partner_diverged_is_unused_only_where_the_failure_has_no_value(scores):
    frame = scores(base=[*BASE[:4], LOST], arm=[0.56, DIVERGED, LOST, 0.56, 0.59])
    without, counted = one(frame), one(frame, failure_value=0.0)
    assert (without.unpaired_arm, without.unpaired_baseline) == ((4,), (1, 2))
    assert (counted.unpaired_arm, counted.unpaired_baseline) == ((4,), (2,))
    assert (counted.n, counted.itt_n) == (2, 3)


def test_an_arm_none_of_whose_runs_finished_has_failed(scores):
    c = one(scores(base=BASE, arm=[DIVERGED] * 4 + [LOST]), failure_value=0.0)
    assert (c.verdict, c.n, c.n_diverged, c.n_lost, c.arm_mean) == ("all_failed", 0, 4, 1, None)
    assert c.p_mcnemar == pytest.approx(0.125)  # 2 x .5^4


def test_a_diverged_run_of_the_baseline_makes_its_arms_unstable(scores):
    c = one(scores(base=[DIVERGED, *BASE[1:]], arm=BETTER), failure_value=0.0)
    assert (c.verdict, c.n_diverged, c.baseline_diverged) == ("unstable", 0, 1)


def test_a_lost_run_is_never_counted_as_zero(scores):
    lost = one(scores(base=BASE, arm=[*BETTER[:4], LOST]), failure_value=0.0)
    short = one(scores(base=BASE[:4], arm=BETTER[:4]), failure_value=0.0)
    assert (lost.difference, lost.p, lost.arm_mean) == (short.difference, short.p, short.arm_mean)
    assert (lost.n_lost, lost.verdict) == (1, "helps")


def test_alpha_is_split_over_declared_looks_and_more_looks_are_flagged(scores):
    frame = scores(base=BASE, arm=NOISE)
    assert one(frame, looks=2).alpha == 0.025
    assert "optimistic_look" not in one(frame, looks=2, look=2).flags
    assert "optimistic_look" in one(frame, looks=2, look=3).flags


def test_further_seeds_are_counted_for_inconclusive_arms_with_an_effect_of_interest(scores):
    frame = scores(base=BASE, arm=NOISE)
    c = one(frame, smallest_effect=0.02)
    assert c.verdict == "inconclusive"
    assert 1 <= c.more_seeds < c.more_seeds_safe
    assert one(frame).more_seeds is None
    assert "not_resolvable" in one(frame, smallest_effect=0.0002).flags


def test_further_seeds_are_counted_for_the_correction_that_is_declared(scores):
    frame = scores(base=BASE, arm=NOISE, **dict.fromkeys("abcdefgh", BETTER))
    [alone], [corrected, *_], [uncorrected, *_] = (
        compare(frame if planned else scores(base=BASE, arm=NOISE), baseline="base", metric="f1",
                smallest_effect=0.02, correction=correction)
        for planned, correction in ((False, "holm"), (True, "holm"), (True, "none"))
    )  # fmt: skip
    assert (corrected.first_step, uncorrected.first_step) == (9, 1)
    assert uncorrected.more_seeds == alone.more_seeds
    assert corrected.more_seeds >= alone.more_seeds


def test_claims_of_equivalence_that_are_corrected_take_further_seeds(scores):
    frame = scores(base=BASE, arm=NOISE, **dict.fromkeys("abcdefgh", BETTER))
    plain, corrected = (
        compare(frame, baseline="base", metric="f1", smallest_effect=0.02, equivalence_correction=each)[0]
        for each in ("none", "holm")
    )
    assert corrected.more_seeds > plain.more_seeds


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"alpha": 5}, "alpha must lie between 0 and 1, not 5"),
        ({"smallest_effect": -0.1}, "must be positive, not -0.1"),
        ({"failure_value": float("nan")}, "must be finite, not nan"),
        ({"looks": 0}, "looks are counted from 1, not 0"),
        ({"correction": "sidak"}, "unknown correction 'sidak'"),
        ({"smallest_efect": 0.1}, "did you mean 'smallest_effect'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(scores, rules, message):
    with pytest.raises(AblationsError, match=message):
        one(scores(base=BASE, arm=NOISE), **rules)


def test_a_comparison_is_plain_values_for_json(scores):
    plain = one(scores(base=BASE, arm=NOISE)).as_dict()
    assert plain["seeds"] == [0, 1, 2, 3, 4]
    assert plain["more_seeds"] is None
    assert all(isinstance(value, str | int | float | bool | list | None) for value in plain.values())


@pytest.mark.slow
def test_a_thousand_arms_of_ten_seeds_take_less_than_two_seconds():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1001, 10)) + rng.normal(size=10)
    values[1:][rng.random((1000, 10)) < 0.05] = np.nan
    frame = pd.DataFrame(
        {
            "variant": np.repeat([f"a{arm}" for arm in range(1001)], 10),
            "seed": np.tile(np.arange(10), 1001),
            "value": values.ravel(),
        }
    )
    start = time.process_time()
    compare(frame, baseline="a0", metric="f1", smallest_effect=1.0)
    assert time.process_time() - start < 2
