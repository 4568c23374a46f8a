import pytest

from ablations.analysis.compare import compare, compare_study
from ablations.errors import AblationsError
from ablations.store import Store, read_metrics

WIDE = """variant,seed,lr,acc,loss,status
baseline,0,0.1,0.71,0.30,completed
baseline,1,0.1,0.72,0.29,completed
baseline,2,0.1,0.715,0.28,completed
low,0,0.01,0.61,0.39,completed
low,1,0.01,0.63,0.41,finished
low,2,0.01,,,crashed
high,0,1,nan,0.9,
high,1,1,0.2,0.8,diverged
"""


def test_a_wide_table_has_a_row_a_run(place):
    place.write("runs.csv", WIDE)
    records = place.take("runs.csv", metric=["acc"]).records()
    assert {key: record["status"] for key, record in records.items() if key[0] != "baseline"} == {
        ("low", 0): "completed", ("low", 1): "completed", ("low", 2): "failed", ("high", 0): "diverged",
        ("high", 1): "diverged",
    }  # fmt: skip
    assert records["baseline", 0]["config"] == {"lr": 0.1}
    assert records["baseline", 0]["scores"] == {"acc": 0.71, "loss": 0.3}
    assert "taken for scores" in place.said and "loss" in place.said
    assert records["low", 2]["error"]["message"] == "CSV says crashed, and nothing else"


def test_a_column_may_be_declared_a_setting(place):
    place.write("runs.csv", WIDE)
    place.take("runs.csv", metric=["acc"], parameter=["loss"])
    assert "loss" in place.loaded.baseline


def test_a_long_table_gives_the_same_comparison_as_ablations_compare(place):
    import pandas as pd

    rows = ["variant,seed,step,metric,value"]
    for arm, gain in (("base", 0.0), ("deep", 0.1), ("wide", 0.004)):
        for seed in range(5):
            for step in (0, 10):
                value = 0.5 + gain + 0.01 * seed + 0.003 * ((seed * len(arm) + step) % 4)
                rows.append(f"{arm},{seed},{step},acc,{value}")
    place.write("long.csv", "\n".join(rows))
    study = place.take("long.csv", metric=["acc"], baseline=["base"], smallest_effect=0.02).loaded
    found = compare_study(Store(place.results).read_scores(study), study)
    expected = compare(pd.read_csv(place.folder / "long.csv"), baseline="base", metric="acc", smallest_effect=0.02)
    ours = {each.arm: (each.verdict, each.difference, each.p_adjusted, each.ci_low) for each in found}
    assert ours == {each.arm: (each.verdict, each.difference, each.p_adjusted, each.ci_low) for each in expected}
    record = place.records()["deep", 3]
    assert [point[1] for point in read_metrics(place.results / "runs" / record["run_id"] / "metrics.jsonl")] == [0, 10]


def test_rows_without_a_seed_are_repetitions_and_make_no_pairs(place):
    place.write("runs.csv", "lr,acc\n0.1,0.70\n0.1,0.71\n0.1,0.71\n0.2,0.60\n0.2,0.61\n0.2,0.62\n")
    study = place.take("runs.csv", metric=["acc"]).loaded
    assert study.recorded == {"baseline": (0, 1, 2), "lr": (3, 4, 5)}  # equal rows are two runs
    [found] = compare_study(Store(place.results).read_scores(study), study)
    assert found.verdict == "not_assessed" and found.p is None
    assert found.welch_difference == pytest.approx(0.61 - (0.70 + 0.71 + 0.71) / 3)
    assert "unpaired: no seed is known" in place.said


def test_a_row_that_is_put_above_the_others_is_all_that_is_new(place):
    rows = ["lr,acc", "0.1,0.70", "0.1,0.71", "0.2,0.60"]
    place.write("runs.csv", "\n".join(rows))
    place.take("runs.csv", metric=["acc"])
    rows.insert(1, "0.2,0.65")
    place.write("runs.csv", "\n".join(rows))
    place.take("runs.csv")
    assert "1 run imported" in place.said and "3 runs there already" in place.said
    assert place.loaded.recorded == {"baseline": (0, 1), "lr": (2, 3)}


def test_seeds_that_are_texts_pair_all_the_same(place):
    place.write("runs.csv", "lr,fold,acc\n0.1,a,0.7\n0.1,b,0.71\n0.2,a,0.6\n0.2,b,0.61\n")
    study = place.take("runs.csv", metric=["acc"], seed="fold").loaded
    assert study.recorded["baseline"] == study.recorded["lr"]


def test_true_and_one_are_one_value_where_runs_disagree(place):
    place.write("runs.csv", "flag,seed,acc\nTrue,0,0.7\n1,1,0.71\n1.0,2,0.71\n0,0,0.5\n0,1,0.51\n")
    assert {arm for arm, _ in place.take("runs.csv", metric=["acc"]).records()} == {"baseline", "flag"}


def test_arms_that_differ_in_nothing_but_their_name_are_not_one(place):
    rows = ["variant,lr,seed,acc"]
    for arm, lr, gain in (("plain", 0.1, 0), ("no-augmentation", 0.1, -0.1), ("low", 0.01, -0.2)):
        rows += [f"{arm},{lr},{seed},{0.7 + gain + seed / 100}" for seed in range(3)]
    place.write("runs.csv", "\n".join(rows))
    records = place.take("runs.csv", metric=["acc"], baseline=["plain"]).records()
    assert {arm for arm, _ in records} == {"baseline", "no-augmentation", "low"}
    assert len(records) == 9 and "one config and seed" not in place.said


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_columns_stand_between_commas_semicolons_or_tabs(place, between):
    place.write("runs.csv", "lr,seed,acc\n0.1,0,0.7\n0.2,0,0.6\n".replace(",", between))
    assert set(place.take("runs.csv", metric=["acc"]).records()) == {("baseline", 0), ("lr", 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr,acc\n", "expected a header and a row a run"),
        ("lr,lr,acc\n1,2,3\n", "column 'lr' is there twice"),
        ("lr,acc\n1,2,3\n", "row 2 has not as many cells"),
        ('lr,acc\n1,"2\n', "expected a CSV file"),
        ("lr,acc\n0.1,0;7\n", "line 2: expected a number for acc, found '0;7'"),
        ("lr,acc,status\n0.1,0.7,perhaps\n", "line 2: expected a status .* found 'perhaps'"),
        ("variant,seed,example,acc\na,0,1,1\n", "scores by test example are for `ablations compare`"),
        ("lr;acc\n0,1;0,7\n", "line 2: expected a number for acc, found '0,7'"),
        ("step,acc\n1,0.7\n", "expected a column run_id, or variant and seed"),
        ("variant,seed,step,acc\na,1,x,0.7\n", "line 2: expected a step in column 'step', found 'x'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(place, text, message):
    place.write("runs.csv", text)
    with pytest.raises(AblationsError, match=message):
        place.take("runs.csv", metric=["acc"])


def test_sources_that_are_none_are_all_said(place):
    place.write("notes.txt", "")
    (place.folder / "empty").mkdir()
    with pytest.raises(AblationsError) as caught:
        place.take("notes.txt", "empty", "gone.csv", metric=["acc"])
    assert str(caught.value).count("expected folders of Sacred") == 2
    assert "gone.csv: absent" in str(caught.value)
