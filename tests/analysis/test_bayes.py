from __future__ import annotations

import pytest

from ablations.analysis.bayes import posterior
from ablations.analysis.compare import compare

BASE = [0.50, 0.52, 0.49, 0.51, 0.53]
ARM = [0.51, 0.54, 0.49, 0.53, 0.53]


def compared(scores, **rules):
    [comparison] = compare(scores(base=BASE, arm=ARM), baseline="base", metric="f1", **rules)
    return comparison


def test_the_probabilities_are_those_of_the_one_sided_tests(scores):
    c = compared(scores, smallest_effect=0.02)
    found = posterior(c)
    assert found.better + found.same + found.worse == pytest.approx(1)
    assert c.p_tost == pytest.approx(max(found.better, found.worse))


def test_less_is_better_swaps_better_and_worse(scores):
    up, down = (posterior(compared(scores, smallest_effect=0.005, direction=d)) for d in ("max", "min"))
    assert (up.better, up.worse) == pytest.approx((down.worse, down.better))


def test_there_is_no_posterior_without_an_effect_of_interest_or_a_test(scores):
    assert posterior(compared(scores)) is None
    [same] = compare(scores(base=BASE, arm=BASE), baseline="base", metric="f1", smallest_effect=0.1)
    assert posterior(same) is None
