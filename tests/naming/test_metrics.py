"""Metrics on sets of words; expected values by hand after reference-study.md's formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.naming.metrics import METRICS, exact, f1, f1_multiset, precision, recall, score

names = st.lists(st.sampled_from(["get", "set", "name", "value"]), max_size=5)


@pytest.mark.parametrize(
    ("true", "predicted", "p", "r", "f"),
    [
        (["get", "name"], ["get", "name"], 1, 1, 1),
        (["get", "name"], ["name"], 1, 1 / 2, 2 / 3),
        (["get", "name"], ["set", "name", "value"], 1 / 3, 1 / 2, 2 / 5),
        (["get"], [], 0, 0, 0),
        (["get"], ["set"], 0, 0, 0),
        (["a", "a", "b"], ["a"], 1, 1 / 2, 2 / 3),  # a repeated word counts once
    ],
)
def test_precision_recall_and_f1_of_a_sample(true, predicted, p, r, f):
    assert (precision(true, predicted), recall(true, predicted)) == pytest.approx((p, r))
    assert f1(true, predicted) == pytest.approx(f)


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        (["a", "a", "b"], ["a"], 2 * 1 / 4),
        (["a", "a", "b"], ["b", "a", "a"], 1),
        (["a"], ["a", "a", "a"], 2 * 1 / 4),
        (["a"], ["b"], 0),
    ],
)
def test_f1_on_multisets_counts_a_repeated_word_as_often_as_it_occurs(true, predicted, expected):
    assert f1_multiset(true, predicted) == pytest.approx(expected)


@given(names, names)
def test_on_names_without_repetitions_both_f1_agree(true, predicted):
    once, again = list(dict.fromkeys(true)), list(dict.fromkeys(predicted))
    assert f1_multiset(once, again) == pytest.approx(f1(true, predicted))


def test_exact_minds_the_order_and_repetitions():
    assert exact(["a", "b"], ["a", "b"]) == 1
    assert exact(["a", "b"], ["b", "a"]) == exact(["a"], ["a", "a"]) == 0


def test_the_mean_f1_is_not_the_harmonic_mean_of_the_mean_precision_and_recall():
    scored = score([["a", "b"], ["c"]], [["a"], ["d"]])
    p, r, f = (sum(scored[name]) / 2 for name in ("precision", "recall", "f1"))
    assert f == pytest.approx(1 / 3)
    assert 2 * p * r / (p + r) == pytest.approx(1 / 3)  # alike here
    scored = score([["a", "b"], ["c"]], [["a"], ["c", "d"]])
    p, r, f = (sum(scored[name]) / 2 for name in ("precision", "recall", "f1"))
    assert f == pytest.approx(2 / 3)
    assert 2 * p * r / (p + r) == pytest.approx(3 / 4)  # not here


@given(names, names)
def test_every_metric_lies_between_0_and_1_and_a_name_predicts_itself(true, predicted):
    for metric in METRICS.values():
        assert 0 <= metric.of(true, predicted) <= 1
        if true:
            assert metric.of(true, true) == 1


@given(names, names)
def test_f1_does_not_mind_which_of_the_two_is_true(true, predicted):
    assert f1(true, predicted) == pytest.approx(f1(predicted, true))
