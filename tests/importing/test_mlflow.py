import shutil
from pathlib import Path

import pytest

from ablations.errors import AblationsError
from ablations.importing import mlflow_files
from ablations.store import read_metrics

SAMPLES = Path(__file__).parents[1] / "data" / "imports"


@pytest.fixture
def store(place):
    shutil.copytree(SAMPLES / "mlruns", place.folder / "mlruns")
    return place


def run_of(place, name):
    """The folder of the run that MLflow calls so."""
    paths = place.folder.glob("mlruns/*/*/meta.yaml")
    return next(path.parent for path in paths if f"run_name: {name}" in path.read_text())


def test_a_file_store_is_read_as_files(store):
    records = store.take("mlruns", metric=["val/accuracy"]).records()
    assert {key: record["status"] for key, record in records.items()} == {
        **{("baseline", seed): "completed" for seed in (0, 1, 2)},
        **{("lr=0.01", seed): "completed" for seed in (0, 1, 2)},
        ("lr=0.3", 0): "failed",
        ("lr=0.3", 1): "diverged",
    }
    assert store.loaded.baseline == {"activation": "relu", "optimizer/lr": 0.1}
    assert records["baseline", 0]["info"]["imported"]["name"] == "lr 0.1, seed 0"
    assert records["lr=0.3", 0]["error"]["message"] == "it raised an error"


def test_curves_keep_their_steps_and_times(store):
    record = store.take("mlruns", metric=["val/accuracy"]).records()["baseline", 0]
    points = read_metrics(store.results / "runs" / record["run_id"] / "metrics.jsonl")
    points = [each for each in points if each[0] != "loss"]
    file = (run_of(store, "lr 0.1, seed 0") / "metrics" / "val" / "accuracy").read_text().split()
    assert [(metric, step) for metric, step, _, _ in points] == [("val/accuracy", step) for step in (0, 10, 20)]
    assert points[-1][2] == float(file[-2]) == record["scores"]["val/accuracy"]
    assert all(0 <= seconds < 60 for *_, seconds in points)


@pytest.mark.parametrize("source", ["mlruns", "its experiment", "mlflow_runs.csv"])
def test_an_experiment_alone_and_the_export_as_csv_give_the_same(store, source):
    shutil.copy(SAMPLES / "mlflow_runs.csv", store.folder)
    path = next((store.folder / "mlruns").iterdir()) if source == "its experiment" else source
    records = store.take(path, metric=["val/accuracy"]).records()
    assert len(records) == 8
    file = run_of(store, "lr 0.1, seed 1") / "metrics" / "val" / "accuracy"
    assert records["baseline", 1]["scores"]["val/accuracy"] == float(file.read_text().split()[-2])
    assert records["lr=0.3", 1]["status"] == ("failed" if source == "mlflow_runs.csv" else "diverged")  # it drops NaN


@pytest.mark.parametrize(("status", "kind"), [(5, "Killed"), (2, "Scheduled")])
def test_killed_and_never_started_runs_are_failures(store, status, kind):
    meta = run_of(store, "lr 0.1, seed 0") / "meta.yaml"
    meta.write_text(meta.read_text().replace("status: 3", f"status: {status}"))
    found = [record for record in store.take("mlruns", metric=["val/accuracy"]).records().values()
             if record["info"]["imported"]["name"] == "lr 0.1, seed 0"]  # fmt: skip
    assert [(record["status"], record["error"]["type"]) for record in found] == [("failed", kind)]


@pytest.mark.parametrize("stale_s", [0.0, 3600.0])
def test_a_run_that_has_logged_nothing_for_long_runs_no_more(store, monkeypatch, stale_s):
    monkeypatch.setattr(mlflow_files, "STALE_S", stale_s)
    meta = run_of(store, "lr 0.1, seed 0") / "meta.yaml"
    meta.write_text(meta.read_text().replace("status: 3", "status: 1"))
    statuses = [record["status"] for record in store.take("mlruns", metric=["val/accuracy"]).records().values()]
    assert statuses.count("failed") == (1 if stale_s else 2)
    assert ("still running" in store.said) == bool(stale_s)


def test_what_is_deleted_in_mlflow_is_left_out_and_said(store):
    meta = run_of(store, "lr 0.3, seed 0") / "meta.yaml"
    meta.write_text(meta.read_text().replace("lifecycle_stage: active", "lifecycle_stage: deleted"))
    assert len(store.take("mlruns", metric=["val/accuracy"]).records()) == 7
    assert "1 runs that are deleted in MLflow were left out" in store.said


def test_a_link_and_a_damaged_line_are_said_with_their_file(store):
    folder = run_of(store, "lr 0.1, seed 0")
    (folder / "params" / "password").symlink_to("/etc/passwd")
    (folder / "metrics" / "loss").write_text("1 0.5 0\nnonsense\n")
    with pytest.raises(AblationsError) as caught:
        store.take("mlruns", metric=["val/accuracy"])
    assert "params/password: expected a file, found a link" in str(caught.value)
    assert "metrics/loss: line 2: expected time, value and step, found 'nonsense'" in str(caught.value)


def test_a_run_is_known_by_its_id_wherever_it_is_read_from(store):
    shutil.copy(SAMPLES / "mlflow_runs.csv", store.folder)
    store.take("mlflow_runs.csv", metric=["val/accuracy"])
    store.take("mlruns")
    assert "0 runs imported" in store.said and "8 runs changed since" in store.said  # they have curves now
    assert len(store.records()) == 8


def test_the_table_that_mlflows_page_downloads_is_read_with_its_guards_against_formulas(place):
    head = ["Start Time", "Duration", "Run ID", "Name", "Source Type", "Source Name", "User", "Status"]
    rows = [[*head, "depth", "lr", "seed", "score"]]
    for depth in (2, 4):
        for seed in range(3):
            about = [
                "2024-03-05 10:11:12",
                "1.2min",
                f"{depth}{seed}" * 16,
                "fox-1",
                "LOCAL",
                "train.py",
                "me",
                "FINISHED",
            ]
            rows.append([*about, str(depth), "0.1", str(seed), f"'-0.{depth}{seed}"])
    text = "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)
    (place.folder / "runs.csv").write_text(text)
    records = place.take("runs.csv", metric=["score"]).records()
    assert {key: record["scores"]["score"] for key, record in records.items()} == {
        (arm, seed): float(f"-0.{depth}{seed}") for arm, depth in (("baseline", 2), ("depth", 4)) for seed in range(3)
    }
    assert place.loaded.baseline == {"depth": 2, "lr": 0.1}
    assert {record["info"]["imported"]["tool"] for record in records.values()} == {"MLflow"}
