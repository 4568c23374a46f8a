from __future__ import annotations

import itertools
import time

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from ablations.analysis.examples import (
    bootstrap_examples,
    compare_examples,
    expected_best,
    resampled_splits,
    seed_by_example,
)
from ablations.analysis.table import Checkpoint
from ablations.errors import AblationsError, MissingRuns


def long_table(cube: np.ndarray, arms: list[str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [arms, range(cube.shape[1]), range(cube.shape[2])], names=["variant", "seed", "example"]
    )
    return pd.DataFrame({"value": cube.ravel()}, index=index).reset_index()


def test_the_mean_squares_are_those_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(4, 6)) + rng.normal(size=(4, 1)) + rng.normal(size=6)
    table = long_table(d[None], ["a"])
    squares = anova_lm(smf.ols("value ~ C(seed) + C(example)", table).fit())["mean_sq"]
    expected = (squares["C(seed)"] + squares["C(example)"] - squares["Residual"]) / 24
    found = seed_by_example(d)
    assert found.se == pytest.approx(np.sqrt(expected))
    assert found.se_seeds == pytest.approx(d.mean(axis=1).std(ddof=1) / 2)  # the paired-t se on this test set
    assert 1 < found.df < 23


def test_without_variance_between_examples_the_interval_is_that_of_the_seeds():
    d = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.3, 0.1]]) + np.array([[0.0], [0.1], [0.3]])
    found = seed_by_example(d)
    assert found.se == found.se_seeds
    assert found.df == 2


def test_what_holds_on_more_test_sets_is_never_surer_than_what_holds_on_this_one():
    rng = np.random.default_rng(4)
    for _ in range(50):
        found = seed_by_example(rng.normal(size=(3, 50)) + 0.3 * rng.normal(size=(3, 1)) + 0.2 * rng.normal(size=50))
        assert found.high - found.difference >= stats.t.ppf(0.975, 2) * found.se_seeds - 1e-12


def test_the_interval_covers_new_seeds_and_examples_where_that_of_the_seeds_does_not():
    rng = np.random.default_rng(1)
    both = seeds_only = 0
    for _ in range(600):
        d = rng.normal(size=(5, 40)) + 0.3 * rng.normal(size=(5, 1)) + 2 * rng.normal(size=40)
        found = seed_by_example(d)
        both += found.low <= 0 <= found.high
        seeds_only += abs(found.difference) <= stats.t.ppf(0.975, 4) * found.se_seeds
    assert both / 600 == pytest.approx(0.95, abs=0.027)  # 3 standard errors of a share
    assert seeds_only / 600 < 0.85


def test_arms_of_a_long_table_are_paired_by_seed_and_incomplete_runs_left_out():
    rng = np.random.default_rng(2)
    cube = rng.random((3, 4, 10))
    table = long_table(cube, ["base", "a", "b"])
    dropped = table[~((table["variant"] == "a") & (table["seed"] == 0) & (table["example"] == 3))]
    a, b = compare_examples(dropped.sample(frac=1, random_state=0), baseline="base", metric="f1")
    by_arm = {found.arm: found for found in (a, b)}
    assert (by_arm["a"].n, by_arm["b"].n) == (3, 4)
    assert by_arm["a"].difference == pytest.approx((cube[1, 1:] - cube[0, 1:]).mean())


def test_a_run_that_did_not_complete_is_left_out():
    table = long_table(np.random.default_rng(2).random((2, 4, 10)), ["base", "a"]).assign(status="completed")
    table.loc[(table["variant"] == "a") & (table["seed"] == 1), "status"] = "failed"
    [a] = compare_examples(table, baseline="base", metric="f1")
    assert a.n == 3


def test_tables_that_cannot_be_read_say_why():
    table = long_table(np.random.default_rng(2).random((2, 3, 4)), ["base", "a"])
    with pytest.raises(MissingRuns, match="did you mean 'base'"):
        compare_examples(table, baseline="bas", metric="f1")
    with pytest.raises(AblationsError, match="unknown column 'example'"):
        compare_examples(table.drop(columns="example"), baseline="base", metric="f1")
    with pytest.raises(AblationsError, match="more than one 'f1' for variant 'base', seed 0, example 0"):
        compare_examples(pd.concat([table, table]), baseline="base", metric="f1")
    with pytest.raises(AblationsError, match="2 are needed"):
        compare_examples(table[table["example"] == 0], baseline="base", metric="f1")
    with pytest.raises(AblationsError, match="needs 2 of each, not 1 and 4"):
        seed_by_example(np.ones((1, 4)))


def test_the_examples_of_the_step_selected_are_compared():
    cube = np.random.default_rng(2).random((2, 3, 4))
    steps = pd.concat([long_table(cube + shift, ["base", "a"]).assign(step=step) for step, shift in ((1, 0), (2, 1))])
    [last] = compare_examples(steps, baseline="base", metric="f1")
    assert last == compare_examples(long_table(cube + 1, ["base", "a"]), baseline="base", metric="f1")[0]
    selected = steps.rename(columns={"value": "f1"}).assign(validation=steps["step"])
    [first] = compare_examples(selected, baseline="base", metric="f1", checkpoint=Checkpoint("validation", "min"))
    assert first == compare_examples(long_table(cube, ["base", "a"]), baseline="base", metric="f1")[0]


def f1(counts: np.ndarray) -> np.ndarray:
    return np.asarray(2 * counts[..., 0] / (2 * counts[..., 0] + counts[..., 1]))


def test_the_bootstrap_agrees_with_the_exact_variance_where_the_metric_is_a_mean():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=50)
    arm, base = (rng.normal(size=(4, 50)) * 0.1 + scale * shared for scale in (1.0, 0.5))
    found = bootstrap_examples(arm[..., None], base[..., None], lambda sums: sums[..., 0] / 50, rng=rng, resamples=4000)
    d = arm - base
    by_example = d.mean(axis=0)
    expected = d.mean(axis=1).var(ddof=1) / 4 + by_example.var(ddof=0) / 50
    assert found.se == pytest.approx(np.sqrt(expected), rel=0.05)
    assert found.difference == pytest.approx(d.mean())


def test_the_bootstrap_takes_a_metric_that_is_no_mean_and_repeats_itself():
    rng = np.random.default_rng(3)
    arm, base = rng.integers(0, 4, size=(2, 3, 30, 2)).astype(float)
    one, two = (bootstrap_examples(arm, base, f1, rng=np.random.default_rng(7), resamples=150) for _ in range(2))
    assert one == two
    assert one.difference == pytest.approx((f1(arm.sum(axis=1)) - f1(base.sum(axis=1))).mean())


def test_overlapping_training_sets_widen_the_interval():
    # By hand, Nadeau & Bengio eq. 9: d = 1, 2, 3: mean 2, s 1, n_test / n_train = 1/3: t = 2 / sqrt(1/3 + 1/3) = 2.449
    t, p = resampled_splits(np.array([1.0, 2.0, 3.0]), 1 / 3)
    assert t == pytest.approx(2 / np.sqrt(2 / 3))
    assert p == pytest.approx(2 * stats.t.sf(t, 2))


def test_the_expected_best_is_the_mean_over_all_draws():
    values = np.array([0.3, 0.1, 0.7, 0.5, 0.2, 0.9])
    for n in range(1, 7):
        assert expected_best(values, n) == pytest.approx(np.mean([max(d) for d in itertools.combinations(values, n)]))
    assert np.isfinite(expected_best(np.random.default_rng(0).random(2000), 900))
    with pytest.raises(AblationsError, match="expected best of 7 runs needs at least 7"):
        expected_best(values, 7)


@pytest.mark.slow
def test_twenty_arms_of_ten_seeds_and_five_thousand_examples_take_less_than_five_seconds():
    table = long_table(np.random.default_rng(0).random((21, 10, 5000)), [f"a{arm}" for arm in range(21)])
    start = time.process_time()
    assert len(compare_examples(table, baseline="a0", metric="f1")) == 20
    assert time.process_time() - start < 5
