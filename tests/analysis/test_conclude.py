from __future__ import annotations

import pytest

from ablations.analysis.compare import compare
from ablations.analysis.conclude import conclude, judge

BASE = [0.50, 0.52, 0.49, 0.51, 0.53]
ARMS = {
    "better": [0.56, 0.59, 0.55, 0.56, 0.59],
    "worse": [0.44, 0.47, 0.43, 0.44, 0.47],
    "negligible": [0.506, 0.527, 0.494, 0.516, 0.536],
    "same": [0.501, 0.519, 0.491, 0.509, 0.530],
    "noise": [0.58, 0.46, 0.55, 0.43, 0.57],
    "identical": BASE,
    "unstable": [0.56, "diverged", 0.55, 0.56, 0.59],
}


@pytest.mark.parametrize(
    ("arm", "verdict", "outcomes"),
    [
        ("better", "helps", "confirmed refuted refuted"),
        ("worse", "hurts", "refuted confirmed refuted"),
        ("negligible", "helps_negligible", "refuted refuted confirmed"),
        ("same", "equivalent", "refuted refuted confirmed"),
        ("noise", "inconclusive", "undecided undecided undecided"),
        ("identical", "identical", "undecided undecided undecided"),
        ("unstable", "unstable", "undecided undecided undecided"),
    ],
)
def test_an_expectation_is_confirmed_refuted_or_undecided(scores, arm, verdict, outcomes):
    [c] = compare(scores(base=BASE, arm=ARMS[arm]), baseline="base", metric="f1", smallest_effect=0.02)
    assert c.verdict == verdict
    assert [judge(expected, c) for expected in ("better", "worse", "same")] == outcomes.split()


def test_a_difference_that_may_be_too_small_to_matter_does_not_refute_sameness(scores):
    frame = scores(base=BASE, arm=[0.51, 0.56, 0.52, 0.55, 0.55])
    [with_effect] = compare(frame, baseline="base", metric="f1", smallest_effect=0.02)
    [without] = compare(frame, baseline="base", metric="f1")
    assert with_effect.verdict == without.verdict == "helps"
    assert (judge("same", with_effect), judge("same", without)) == ("undecided", "refuted")


def test_an_arm_without_an_expectation_is_exploratory(scores):
    frame = scores(base=BASE, a=ARMS["better"], b=ARMS["noise"])
    a, b = conclude(compare(frame, baseline="base", metric="f1"), expectations={"a": "better", "b": None})
    assert (a.arm, a.expectation, a.exploratory) == ("a", "confirmed", False)
    assert (b.arm, b.expectation, b.exploratory) == ("b", None, True)


def test_the_first_comparison_of_an_arm_decides_and_all_are_cited(scores):
    primary = compare(scores(base=BASE, a=ARMS["better"]), baseline="base", metric="f1")
    secondary = compare(scores(base=BASE, a=ARMS["worse"]), baseline="base", metric="f1")
    [conclusion] = conclude([*primary, *secondary])
    assert conclusion.verdict == "helps"
    assert conclusion.comparisons == (*primary, *secondary)
    assert conclusion.primary is primary[0]
