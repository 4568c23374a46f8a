import datetime
import json
import math
import shutil

import pytest

from ablations.analysis.compare import compare_study
from ablations.errors import AblationsError, StudyError
from ablations.store import Store, read_metrics

ASKED = {"metric": ["test.accuracy"]}


def test_configs_become_a_baseline_with_named_changes(from_sacred):
    from_sacred.take("runs_sacred", metric=["accuracy"])
    study = from_sacred.loaded
    assert study.experiment == "imported"
    assert dict(study.baseline) == {"lr": 0.1, "model.act": "relu", "model.depth": 2, "sizes": [3, 4]}
    kinds = {each.name: each.kind for each in study.ablations}
    assert kinds == {"lr": "sweep", "depth": "set", "lr-0.2+depth": "combine"}
    assert "left aside" in from_sacred.said and "out" in from_sacred.said  # the folder of each run


def test_verdicts_follow_from_pairs_of_the_same_seed(from_sacred):
    study = from_sacred.take("runs_sacred", smallest_effect=0.01, **ASKED).loaded
    found = {each.arm: each for each in compare_study(Store(from_sacred.results).read_scores(study), study)}
    assert found["lr=0.2"].seeds == (1, 2, 3)
    assert found["lr=0.2"].verdict == "hurts"  # 0.1 less by construction, with a noise of 0.002 a step
    assert found["depth"].verdict == "helps"
    scores = {seed: record["scores"]["test.accuracy"] for (arm, seed), record in from_sacred.records().items()
              if arm == "depth"}  # fmt: skip
    base = {seed: record["scores"].get("test.accuracy") for (arm, seed), record in from_sacred.records().items()
            if arm == "baseline"}  # fmt: skip
    by_hand = sum(scores[seed] - base[seed] for seed in scores) / 3
    assert found["depth"].difference == pytest.approx(by_hand)


def test_runs_that_failed_come_with_their_cause(from_sacred):
    records = from_sacred.take("runs_sacred", **ASKED).records()
    assert records["lr=0.2", 4]["status"] == "failed"
    assert records["lr=0.2", 4]["error"]["type"] == "ValueError"
    assert records["lr=0.2", 4]["error"]["message"] == "the data are gone"
    assert records["baseline", 4]["error"]["type"] == "Interrupted"
    assert records["lr=0.4", 4]["status"] == "diverged"
    assert records["lr=0.4", 4]["scores"]["test.accuracy"] is None


def test_curves_and_provenance_come_along(from_sacred):
    record = from_sacred.take("runs_sacred", **ASKED).records()["baseline", 1]
    points = read_metrics(from_sacred.results / "runs" / record["run_id"] / "metrics.jsonl")
    assert [step for metric, step, _, _ in points if metric == "accuracy"] == [0, 10, 20]
    assert all(seconds >= 0 for *_, seconds in points)
    imported = record["info"]["imported"]
    assert [imported[name] for name in ("tool", "source", "run", "paired")] == ["Sacred", "runs_sacred", "1", True]
    assert len(imported["sha256"]) == 64
    assert record["environment"]["packages"]["numpy"] and record["environment"]["python"]
    assert str(from_sacred.folder) not in json.dumps(record)


def test_importing_again_changes_nothing(from_sacred):
    from_sacred.take("runs_sacred", **ASKED)
    before = {path: path.read_bytes() for path in from_sacred.folder.rglob("*") if path.is_file()}
    from_sacred.take("runs_sacred")
    assert "0 runs imported" in from_sacred.said and "18 runs there already" in from_sacred.said
    assert {path: path.read_bytes() for path in from_sacred.folder.rglob("*") if path.is_file()} == before


def test_importing_again_adds_what_is_new_and_keeps_what_was_edited(from_sacred):
    place = from_sacred
    shutil.move(place.folder / "runs_sacred" / "3", place.folder / "3")  # lr 0.4, seed 1
    for folder in list((place.folder / "runs_sacred").iterdir()):
        config = folder / "config.json"
        if config.exists() and '"lr": 0.2' in config.read_text():
            shutil.move(folder, place.folder / folder.name)
    place.take("runs_sacred", **ASKED)
    text = place.study.read_text().replace('question: ""', "question: Mine?")
    place.study.write_text(text)
    for folder in list(place.folder.iterdir()):
        if folder.name.isdigit():
            shutil.move(folder, place.folder / "runs_sacred" / folder.name)
    place.take("runs_sacred")
    assert "8 runs imported" in place.said
    study = place.loaded
    assert study.question == "Mine?"
    assert place.study.read_text().startswith(text.rstrip("\n"))
    assert {(record["variant"], seed) for (_, seed), record in place.records().items()} == set(place.records())
    assert len(study.recorded) == 5 and all(len(seeds) in (3, 4) for seeds in study.recorded.values())


def test_a_parameter_that_is_new_later_leaves_earlier_runs_where_they_are(from_sacred):
    place = from_sacred.take("runs_sacred", **ASKED)
    before = set(place.results.glob("runs/*"))
    config = place.folder / "runs_sacred" / "19"
    shutil.copytree(place.folder / "runs_sacred" / "1", config)
    text = json.loads((config / "config.json").read_text())
    (config / "config.json").write_text(json.dumps(text | {"dropout": 0.5}))
    place.take("runs_sacred")
    assert "1 run imported" in place.said
    assert before < set(place.results.glob("runs/*"))
    assert place.loaded.baseline["dropout"] is None
    assert next(each for each in place.loaded.ablations if each.name == "dropout").levels[0].changes == {"dropout": 0.5}


def test_an_ablation_that_was_taken_out_of_the_study_stays_out(from_sacred):
    place = from_sacred.take("runs_sacred", **ASKED)
    lines = place.study.read_text().splitlines()
    at = lines.index("  lr-0.2+depth:")
    place.study.write_text("\n".join(lines[:at] + lines[at + 2 :]) + "\n")
    before = place.study.read_text()
    place.take("runs_sacred")
    assert place.study.read_text() == before and "0 runs imported" in place.said
    assert len(place.loaded.recorded) == 4


def test_a_run_that_changed_since_is_kept_beside_its_new_state(from_sacred):
    place = from_sacred.take("runs_sacred", **ASKED)
    path = place.folder / "runs_sacred" / "1" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"result": {"test": {"accuracy": 0.25}}}))
    place.take("runs_sacred")
    assert "1 run changed since" in place.said
    record = place.records()["baseline", 1]
    assert record["scores"]["test.accuracy"] == 0.25 and record["attempt"] == 2
    kept = json.loads((place.results / "runs" / record["run_id"] / "record-a1.json").read_text())
    assert kept["scores"]["test.accuracy"] != 0.25


def test_of_two_runs_of_one_config_and_seed_the_last_that_completed_counts(from_sacred):
    place = from_sacred
    again = place.folder / "runs_sacred" / "30"
    shutil.copytree(place.folder / "runs_sacred" / "1", again)
    run = json.loads((again / "run.json").read_text())
    late = {"start_time": "2099-01-01T00:00:00.0", "status": "FAILED", "experiment": {"sources": [["a.py", "b"]]}}
    (again / "run.json").write_text(json.dumps(run | late))
    place.take("runs_sacred", **ASKED)
    record = place.records()["baseline", 1]
    assert record["status"] == "completed" and record["info"]["imported"]["run"] == "1"
    assert "runs 1, 30 have one config and seed" in place.said and "Their sources differ" in place.said
    assert (place.results / "runs" / record["run_id"] / "record-a1.json").exists()


@pytest.mark.parametrize(("beat", "there"), [("2020-01-01T00:00:00.000000", True), ("now", False)])
def test_a_run_that_says_running_is_dead_once_its_heart_has_stopped(from_sacred, beat, there):
    path = from_sacred.folder / "runs_sacred" / "1" / "run.json"
    run = json.loads(path.read_text())
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
    path.write_text(json.dumps(run | {"status": "RUNNING", "heartbeat": now if beat == "now" else beat}))
    from_sacred.take("runs_sacred", **ASKED)
    records = from_sacred.records().values()
    found = next((record for record in records if record["info"]["imported"]["run"] == "1"), None)
    assert (found is not None) == there
    if there:
        assert found["status"] == "failed" and "without a word" in found["error"]["message"]
    else:
        assert "1 still running, left out: 1" in from_sacred.said


def test_seeds_that_differ_in_every_run_make_no_pairs_and_no_verdict(from_sacred):
    for number, path in enumerate(sorted((from_sacred.folder / "runs_sacred").glob("*/config.json"))):
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"seed": 1000 + number}))
    study = from_sacred.take("runs_sacred", **ASKED).loaded
    found = compare_study(Store(from_sacred.results).read_scores(study), study)
    assert {each.verdict for each in found} == {"not_assessed"}
    assert all(each.welch_difference is not None and each.p is None for each in found)
    assert "unpaired" in from_sacred.said


def test_unpaired_is_said_where_the_user_says_that_seeds_make_no_pairs(from_sacred):
    study = from_sacred.take("runs_sacred", seed="none", ignore=["seed"], **ASKED).loaded
    assert all(not set(a) & set(b) for x, a in study.recorded.items() for y, b in study.recorded.items() if x != y)
    assert "unpaired: no seed is known" in from_sacred.said
    assert not any(record["info"]["imported"]["paired"] for record in from_sacred.records().values())


def test_everything_that_is_wrong_is_said_at_once_with_its_file(from_sacred):
    root = from_sacred.folder / "runs_sacred"
    (root / "1" / "config.json").write_text('{"lr": 0.')
    (root / "2" / "run.json").write_text("[" * 100_000)
    (root / "3" / "config.json").unlink()
    (root / "3" / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(AblationsError) as caught:
        from_sacred.take("runs_sacred", **ASKED)
    said = str(caught.value)
    for name in ("1/config.json", "2/run.json", "3/config.json"):
        assert f"runs_sacred/{name}: expected" in said
    assert not from_sacred.study.exists() and not from_sacred.results.exists()


def test_a_torn_file_of_metrics_costs_the_curves_and_not_the_run(from_sacred):
    (from_sacred.folder / "runs_sacred" / "1" / "metrics.json").write_text('{"accuracy": {"steps": [0, 1')
    record = from_sacred.take("runs_sacred", **ASKED).records()["baseline", 1]
    assert record["status"] == "completed"
    assert "1/metrics.json: its curves are left out" in from_sacred.said


def test_what_was_pickled_is_read_without_unpickling(from_sacred):
    path = from_sacred.folder / "runs_sacred" / "1" / "config.json"
    config = json.loads(path.read_text())
    evil = {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {from_sacred.folder}/evil"]}]}
    half = {"py/reduce": [{"py/function": "numpy._core.multiarray.scalar"}, {"py/tuple": [
        {"py/reduce": [{"py/type": "numpy.dtype"}, {"py/tuple": ["f8", False, True]}]}, {"py/b64": "AAAAAAAA4D8="},
    ]}]}  # fmt: skip
    path.write_text(json.dumps(config | {"evil": evil, "half": half}))  # jsonpickle.encode(numpy.float64(0.5))
    from_sacred.take("runs_sacred", baseline=["half=0.5"], **ASKED)
    assert from_sacred.loaded.baseline["half"] == 0.5
    assert from_sacred.loaded.baseline["evil"] == "<an object that was pickled>"
    assert not (from_sacred.folder / "evil").exists()


def test_names_that_act_on_terminals_or_leave_folders_do_neither(from_sacred):
    path = from_sacred.folder / "runs_sacred" / "1" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"../../x\x1b[2J": "a\nb", "url": "https://me:s3cret@host/x"}))
    from_sacred.take("runs_sacred", **ASKED)
    text = from_sacred.study.read_text() + from_sacred.said + json.dumps(list(from_sacred.records().values()))
    assert "\x1b" not in text and "s3cret" not in text
    assert {path.name for path in from_sacred.folder.iterdir()} == {"runs_sacred", "results", "study.yaml"}


def test_a_study_of_runs_of_ones_own_is_never_touched(from_sacred, coin_study):
    path = coin_study()
    before = path.read_text()
    with pytest.raises(StudyError, match="expected a study of imported runs"):
        from_sacred.take("runs_sacred", **ASKED)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "which decides"),
        ({"metric": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"metric": ["accuracy"], "seed": "sead"}, "did you mean 'seed'"),
        ({"metric": ["accuracy"], "baseline": ["lr=7"]}, "no run has lr=7: lr is 0.1, 0.2, 0.4"),
        ({"metric": ["accuracy"], "baseline": ["rate=7"]}, "unknown parameter 'rate'"),
        ({"metric": ["accuracy"], "baseline": ["99"]}, "unknown run or arm '99'"),
        ({"metric": ["accuracy"], "select": "acc"}, "unknown logged metric 'acc'"),
        ({"metric": ["accuracy"], "direction": "up"}, "unknown direction 'up'"),
    ],
)
def test_a_choice_that_means_nothing_is_explained(from_sacred, choices, message):
    with pytest.raises(AblationsError, match=message):
        from_sacred.take("runs_sacred", **choices)
    assert not from_sacred.study.exists()


@pytest.mark.parametrize("asked", [["lr=0.2", "model.depth=2"], ["2"]])
def test_the_baseline_is_named_by_its_parameters_or_by_a_run(from_sacred, asked):
    from_sacred.take("runs_sacred", baseline=asked, **ASKED)
    assert from_sacred.loaded.baseline["lr"] == 0.2 and from_sacred.loaded.baseline["model.depth"] == 2


def test_the_step_at_which_another_metric_is_best_may_stand_for_a_run(from_sacred):
    path = from_sacred.folder / "runs_sacred" / "1" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["loss"]["values"][1] = -5.0
    path.write_text(json.dumps(metrics))
    record = from_sacred.take("runs_sacred", metric=["accuracy"], select="loss").records()["baseline", 1]
    assert record["info"]["selected_step"] == 10
    assert record["scores"]["accuracy"] == metrics["accuracy"]["values"][1]


def test_a_loss_is_better_where_it_is_less_and_the_guess_is_said(from_sacred):
    from_sacred.take("runs_sacred", metric=["loss"])
    assert from_sacred.loaded.direction == "min"
    assert "direction: min  # guessed" in from_sacred.study.read_text()


def test_scores_that_are_not_finite_are_no_numbers(from_sacred):
    for (_, _), record in from_sacred.take("runs_sacred", **ASKED).records().items():
        assert all(value is None or math.isfinite(value) for value in record["scores"].values())


def test_one_run_alone_is_the_same_run_as_in_its_folder(from_sacred):
    from_sacred.take("runs_sacred/1", ignore=["out"], **ASKED)
    assert from_sacred.records()["baseline", 1]["info"]["imported"]["source"] == "runs_sacred"
    from_sacred.take("runs_sacred")
    assert "17 runs imported" in from_sacred.said and "1 run there already" in from_sacred.said


def test_what_the_study_counts_cannot_be_ignored_later(from_sacred):
    from_sacred.take("runs_sacred/1", **ASKED)
    with pytest.raises(AblationsError, match="--ignore: the study counts out"):
        from_sacred.take("runs_sacred", ignore=["o*"])


def test_arms_are_called_as_a_parameter_says(from_sacred):
    tags = {("0.1", "2"): "plain", ("0.2", "2"): "fast!"}
    for path in (from_sacred.folder / "runs_sacred").glob("*/config.json"):
        config = json.loads(path.read_text())
        tag = tags.get((str(config["lr"]), str(config["model"]["depth"])), "other")
        path.write_text(json.dumps(config | {"tag": tag}))
    from_sacred.take("runs_sacred", name="tag", **ASKED)
    assert {each.name for each in from_sacred.loaded.ablations} == {"fast", "other", "other-2", "other-3"}
    assert "3 configs are called other" in from_sacred.said
