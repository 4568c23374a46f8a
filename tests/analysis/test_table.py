from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ablations.analysis.table import DIVERGED, LOST, OK, Checkpoint, Columns, read_table
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


def test_a_run_that_has_no_row_for_an_example_is_lost():
    frame = pd.DataFrame({"variant": ["b"] * 3, "seed": [0, 0, 1], "example": [0, 1, 0], "value": [0.0, 1.0, 0.9]})
    np.testing.assert_array_equal(read_table(frame, baseline="b", metric="f1").values, [[0.5, NAN]])


def test_an_example_that_a_run_has_twice_is_refused():
    frame = pd.DataFrame({"variant": ["b"] * 2, "seed": [0, 0], "example": [7, 7], "value": [0.0, 1.0]})
    with pytest.raises(AblationsError, match="more than one 'f1' for variant 'b', seed 0, example 7"):
        read_table(frame, baseline="b", metric="f1")


def test_a_column_that_was_named_must_be_there(scores):
    with pytest.raises(AblationsError, match="unknown column 'stat'; did you mean 'status'"):
        read_table(scores(base=[0.5]), baseline="base", metric="f1", columns=Columns(status="stat"))


def test_numbers_may_be_written_as_text_and_gaps_in_the_usual_ways():
    frame = pd.DataFrame({"variant": ["b"] * 4, "seed": range(4), "value": ["0.5", "nan", " ", "inf"]})
    outcomes = read_table(frame, baseline="b", metric="f1").outcomes
    assert outcomes.tolist() == [[OK, LOST, LOST, DIVERGED]]


def curve(seed: int, test: list[float], validation: list[float], variant: str = "b") -> pd.DataFrame:
    steps = [100 * (at + 1) for at in range(len(test))]
    long = [(variant, seed, step, "test", value) for step, value in zip(steps, test, strict=True)]
    long += [(variant, seed, step, "validation", value) for step, value in zip(steps, validation, strict=True)]
    return pd.DataFrame(long, columns=["variant", "seed", "step", "metric", "value"])


def test_the_last_step_of_a_run_stands_for_it():
    frame = pd.concat([curve(0, [0.1, 0.9, 0.5], [0] * 3), curve(1, [0.2, 0.3], [0] * 2)]).sample(
        frac=1, random_state=0
    )
    assert read_table(frame, baseline="b", metric="test").values.tolist() == [[0.5, 0.3]]


def test_a_checkpoint_is_the_earliest_step_at_which_validation_is_best():
    frame = pd.concat([curve(0, [0.1, 0.7, 0.9], [3, 5, 5]), curve(1, [0.2, 0.3, 0.4], [2, 1, 1])])
    best = read_table(frame, baseline="b", metric="test", checkpoint=Checkpoint("validation"))
    least = read_table(frame, baseline="b", metric="test", checkpoint=Checkpoint("validation", "min"))
    assert (best.values.tolist(), least.values.tolist()) == ([[0.7, 0.2]], [[0.1, 0.3]])


def test_a_checkpoint_may_be_selected_by_a_column_and_hold_examples():
    frame = pd.DataFrame(
        {
            "variant": ["b"] * 4,
            "seed": [0] * 4,
            "step": [1, 1, 2, 2],
            "example": [0, 1, 0, 1],
            "f1": [0.2, 0.4, 0.9, 0.9],
            "loss": [1.0, 2.0, 3.0, 0.5],
        }
    )
    table = read_table(frame, baseline="b", metric="f1", checkpoint=Checkpoint("loss", "min"))
    assert table.values.tolist() == [[pytest.approx(0.3)]]  # mean loss 1.5 at step 1, 1.75 at step 2


def test_a_checkpoint_that_cannot_be_read_says_why(scores):
    frame = curve(0, [0.1, 0.7], [3, 5])
    with pytest.raises(AblationsError, match="unknown metric 'valid'; did you mean 'validation'"):
        read_table(frame, baseline="b", metric="test", checkpoint=Checkpoint("valid"))
    with pytest.raises(AblationsError, match="'validation' is best at step 200, where the metric was not measured"):
        unmeasured = frame[(frame["metric"] == "validation") | (frame["step"] == 100)]
        read_table(unmeasured, baseline="b", metric="test", checkpoint=Checkpoint("validation"))
    with pytest.raises(AblationsError, match="'validation' is best nowhere for variant 'b', seed 0"):
        nothing = frame.assign(value=frame["value"].where(frame["metric"] == "test"))
        read_table(nothing, baseline="b", metric="test", checkpoint=Checkpoint("validation"))
    with pytest.raises(AblationsError, match="unknown direction 'up'"):
        Checkpoint("validation", "up")
    with pytest.raises(AblationsError, match="selecting a step by 'validation' takes a column 'step'"):
        read_table(scores(base=[0.5]), baseline="base", metric="f1", checkpoint=Checkpoint("validation"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"seed": "sed"}), "unknown column 'seed'; did you mean 'sed'?"),
        (lambda f: f.assign(metric="recall"), "unknown metric 'f1'"),
        (lambda f: pd.concat([f, f]), "more than one 'f1' for variant 'base', seed 0"),
        (lambda f: f.assign(seed=[0.0, NAN]), "1 rows without a 'seed', the first is row 1"),
        (lambda f: f.rename(columns={"seed": "sed", "variant": "arm"}), "column 'variant'.*; unknown column 'seed'"),
        (lambda f: f.assign(value=["0,5", 0.6]), "expected numbers in column 'value', found '0,5' in row 0"),
        (lambda f: f.assign(step=["one", 2]), "expected numbers in column 'step', found 'one' in row 0"),
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
