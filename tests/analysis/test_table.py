from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ablations.analysis.table import DIVERGED, LOST, OK, Columns, read_table
from ablations.errors import AblationsError, MissingRuns

NAN = float("nan")


def test_a_run_without_a_finite_value_is_lost_or_diverged_and_never_a_number(scores):
    table = read_table(scores(base=[0.5, 0.6, 0.7], arm=["failed", "diverged", 0.8]), baseline="base", metric="f1")
    assert table.outcomes.tolist() == [[OK, OK, OK], [LOST, DIVERGED, OK]]
    np.testing.assert_array_equal(table.values[1], [NAN, NAN, 0.8])


def test_without_statuses_nan_is_lost_and_infinity_diverged():
    frame = pd.DataFrame({"variant": ["base"] * 3, "seed": [0, 1, 2], "value": [0.5, NAN, float("inf")]})
    assert read_table(frame, baseline="base", metric="loss").outcomes.tolist() == [[OK, LOST, DIVERGED]]


def test_the_value_of_a_run_that_has_not_ended_is_not_used(scores):
    frame = scores(base=[0.5, 0.6], arm=[0.5, 0.6])
    frame.loc[3, "status"] = "running"
    assert read_table(frame, baseline="base", metric="f1").outcomes[1].tolist() == [OK, LOST]


def test_a_diverged_run_whose_last_value_was_logged_stays_diverged(scores):
    frame = scores(base=[0.5], arm=[0.4])
    frame.loc[1, "status"] = "diverged"
    table = read_table(frame, baseline="base", metric="f1")
    assert table.outcomes[1].tolist() == [DIVERGED]
    assert np.isnan(table.values[1, 0])


def test_a_planned_run_without_a_row_is_lost(scores):
    frame = scores(base=[0.5, 0.6], arm=[0.5])
    table = read_table(frame, baseline="base", metric="f1", planned={"arm": [0, 1], "never": [0, 1]})
    assert table.arms == ("base", "arm", "never")
    assert table.outcomes.tolist() == [[OK, OK], [OK, LOST], [LOST, LOST]]


def test_a_run_that_lacks_the_metric_is_lost(scores):
    frame = pd.concat([scores(base=[0.5, 0.6]), scores(base=[0.5]).assign(metric="recall")])
    assert read_table(frame, baseline="base", metric="recall").outcomes.tolist() == [[OK, LOST]]


def test_the_metric_may_be_a_column_and_columns_may_have_other_names():
    frame = pd.DataFrame({"arm": ["b", "a"], "run": [7, 7], "f1": [0.5, 0.6]})
    table = read_table(frame, baseline="b", metric="f1", columns=Columns(variant="arm", seed="run"))
    assert table.seeds == (7,)
    assert table.values.tolist() == [[0.5], [0.6]]


def test_examples_of_a_run_are_averaged_and_a_missing_one_loses_the_run():
    frame = pd.DataFrame(
        {
            "variant": ["b"] * 4,
            "seed": [0, 0, 1, 1],
            "example": [0, 1, 0, 1],
            "value": [0.0, 1.0, 0.0, NAN],
        }
    )
    np.testing.assert_array_equal(read_table(frame, baseline="b", metric="f1").values, [[0.5, NAN]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"seed": "sed"}), "unknown column 'seed'; did you mean 'sed'?"),
        (lambda f: f.assign(metric="recall"), "unknown metric 'f1'"),
        (lambda f: pd.concat([f, f]), "more than one 'f1' for variant 'base', seed 0"),
        (lambda f: f.assign(seed=[0.0, NAN]), "without a 'variant' or a 'seed'"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(scores, change, message):
    with pytest.raises(AblationsError, match=message.replace("?", r"\?")):
        read_table(change(scores(base=[0.5, 0.6])), baseline="base", metric="f1")


def test_an_unknown_baseline_is_named_with_the_nearest_variant(scores):
    with pytest.raises(MissingRuns, match="did you mean 'base'"):
        read_table(scores(base=[0.5]), baseline="bas", metric="f1")


def test_runs_that_were_not_planned_are_refused(scores):
    frame = scores(base=[0.5, 0.6], arm=[0.5, 0.6])
    with pytest.raises(AblationsError, match="variant that was not planned: unknown variant 'arm'"):
        read_table(frame, baseline="base", metric="f1", planned={"base": [0, 1]})
    with pytest.raises(AblationsError, match="seed that was not planned: 1"):
        read_table(frame, baseline="base", metric="f1", planned={"base": [0], "arm": [0]})
