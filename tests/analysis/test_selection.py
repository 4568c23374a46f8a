from __future__ import annotations

import numpy as np
import pytest

from ablations.analysis.compare import compare
from ablations.analysis.conclude import conclude
from ablations.analysis.selection import best_of, pick
from ablations.analysis.table import OK, RunTable, read_table

BASE = [0.5, 0.5, 0.5]


def table(scores, **arms) -> RunTable:
    return read_table(scores(base=BASE, **arms), baseline="base", metric="f1")


def test_the_best_arm_is_read_on_the_seed_that_did_not_choose_it(scores):
    found = pick(table(scores, a=[0.9, 0.5, 0.5], b=[0.5, 0.6, 0.6], c=[0.5, 0.5, 0.5]))
    # By hand: means a .633, b .567. Without seed 0: b (.6), read on 0: 0; without 1: a (.7 to .55), read: 0; so for 2.
    assert (found.arm, found.candidates, found.n, found.same) == ("a", 3, 3, 2)
    assert found.difference == pytest.approx(0.4 / 3)
    assert found.held_out == pytest.approx(0)


def test_less_is_better_picks_the_lowest(scores):
    found = pick(table(scores, a=[0.6, 0.6, 0.6], b=[0.4, 0.3, 0.4]), "min")
    assert (found.arm, found.same) == ("b", 3)
    assert found.difference == found.held_out == pytest.approx(-0.4 / 3)


def test_arms_that_lack_a_run_are_no_candidates_and_one_arm_is_no_pick(scores):
    assert pick(table(scores, a=[0.6, 0.6, "failed"], b=[0.6, 0.6, 0.7])) is None
    assert pick(table(scores, a=[0.6, "failed", 0.6], b=[0.6, 0.6, 0.7], c=[0.5, 0.6, 0.8])).candidates == 2
    assert pick(read_table(scores(base=[0.5] * 2, a=[0.6] * 2, b=[0.7] * 2), baseline="base", metric="f1")) is None


def test_of_arms_without_an_effect_the_pick_gains_something_and_the_reading_nothing():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        values = rng.normal(size=(11, 5))
        names = tuple(f"a{row}" for row in range(11))
        picked = pick(RunTable(names, tuple(range(5)), values, np.full((11, 5), OK, np.int8), np.ones((11, 5), bool)))
        found.append((picked.difference, picked.held_out))
    gain, honest = np.mean(found, axis=0)
    assert gain > 0.5  # of sd 1: the expected largest of 10 means of 5, 1.54 x .45 = .69, whatever the baseline
    assert abs(honest) < 4 * np.std(found, axis=0)[1] / 20


def test_the_arm_that_looks_best_is_labelled_with_how_many_it_was_picked_from(scores):
    frame = scores(base=[0.5, 0.52, 0.49], a=[0.6, 0.58, 0.59], b=[0.55, 0.58, 0.52], c=["failed"] * 3)
    found = compare(frame, baseline="base", metric="f1")
    assert best_of(found) == ("a", 2)
    assert {each.arm: each.best_of for each in conclude(found)} == {"a": 2, "b": 0, "c": 0}


def test_nothing_is_the_best_where_all_is_worse_or_alone(scores):
    worse = compare(scores(base=[0.5, 0.52, 0.5], a=[0.4, 0.5, 0.4], b=[0.3, 0.2, 0.2]), baseline="base", metric="f1")
    alone = compare(scores(base=[0.5, 0.52, 0.5], a=[0.6, 0.7, 0.6]), baseline="base", metric="f1")
    few = compare(scores(base=[0.5, 0.52], a=[0.6, 0.7], b=[0.6, 0.8]), baseline="base", metric="f1")
    assert (best_of(worse), best_of(alone), best_of(few)) == (None, None, None)
