import json
import os
import shutil
import time
from pathlib import Path

import pytest

from ablations.errors import AblationsError
from ablations.importing.wandb_log import read_log
from ablations.store import read_metrics

SAMPLES = Path(__file__).parents[1] / "data" / "imports"
EXPORT = """"Name","State","Notes","User","Created","Runtime","Sweep","activation","optimizer.lr","seed","accuracy"
"a","finished","-","me","2026-11-25T21:40:13.000Z","3","","relu","0.1","0","0.72"
"b","finished","-","me","2026-11-25T21:41:13.000Z","3","","relu","0.1","1","0.73"
"c","finished","-","me","2026-11-25T21:42:13.000Z","3","","relu","0.01","0","0.62"
"d","crashed","-","me","2026-11-25T21:43:13.000Z","3","","relu","0.01","1","0.5"
"""
CHART = """"Step","a - accuracy","a - accuracy__MIN","a - accuracy__MAX","nobody - accuracy"
"0","0.5","0.5","0.5","1"
"10","0.72","0.72","0.72",""
"""


@pytest.fixture
def offline(place):
    shutil.copytree(SAMPLES / "wandb", place.folder / "wandb")
    return place


def log_of(place, name):
    paths = sorted(place.folder.glob("wandb/*/*.wandb"))
    return next(path for path in paths if read_log(path.read_bytes()).name == name)


def test_offline_runs_are_read_from_their_logs(offline):
    records = offline.take("wandb", metric=["accuracy"]).records()
    assert sorted((arm, seed, record["status"]) for (arm, seed), record in records.items()) == [
        *(("baseline", seed, "completed") for seed in (0, 1, 2)),
        *(("lr=0.01", seed, "completed") for seed in (0, 1, 2)),
        ("lr=0.3", 0, "failed"),
        ("lr=0.3", 1, "diverged"),
    ]
    assert offline.loaded.baseline == {"activation": "relu", "optimizer.lr": 0.1}
    assert "left aside" in offline.said and "output_dir" in offline.said
    assert records["lr=0.3", 0]["error"]["message"] == "its process ended with exit code 1"


def test_the_numbers_are_those_of_mlflow_for_the_same_runs(offline):
    """Both samples were made from the same values, by two tools."""
    from ablations.importing.csv_files import Asked
    from ablations.importing.reading import read_all, tools_of

    theirs = {run.name: run for run in read_all(tools_of([SAMPLES / "mlruns"], None), Asked()).runs}
    ours = {run.name: run for run in read_all(tools_of([SAMPLES / "wandb"], None), Asked()).runs}
    assert theirs.keys() == ours.keys()
    for name, run in ours.items():
        assert [value for metric, _, value, _ in run.points if metric == "loss"] == [
            value for metric, _, value, _ in theirs[name].points if metric == "loss"
        ]
        assert run.scores["loss"] == theirs[name].scores["loss"]


def test_the_log_of_a_killed_run_is_read_as_far_as_it_goes(offline):
    path = log_of(offline, "lr 0.1, seed 0")
    path.write_bytes(path.read_bytes()[:-200])
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(path, (long_ago, long_ago))
    found = [record for record in offline.take("wandb", metric=["accuracy"]).records().values()
             if record["info"]["imported"]["name"] == "lr 0.1, seed 0"]  # fmt: skip
    assert found[0]["status"] == "failed" and "without an exit code" in found[0]["error"]["message"]


@pytest.mark.parametrize("seed", range(40))
def test_no_log_whatever_its_bytes_does_more_than_be_refused(seed):
    import random

    rng = random.Random(seed)
    content = bytearray(sorted(SAMPLES.glob("wandb/*/*.wandb"))[0].read_bytes())
    for _ in range(20):
        content[rng.randrange(7, len(content))] = rng.randrange(256)
    read_log(bytes(content))


def test_a_run_that_was_synchronised_is_read_from_its_config_and_summary(place):
    files = place.folder / "wandb" / "run-20260101_000000-abc" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text("_wandb:\n  value: {}\nlr:\n  desc: null\n  value: 0.1\nseed:\n  value: 3\n")
    (files / "wandb-summary.json").write_text(json.dumps({"accuracy": 0.5, "_runtime": 12.5, "_timestamp": 1.7e9}))
    record = place.take("wandb", metric=["accuracy"]).records()["baseline", 3]
    assert record["scores"] == {"accuracy": 0.5} and record["seconds"] == 12.5
    assert record["started"] == "2023-11-14T22:13:07.500+00:00"  # date -u -d @1699999987.5, 12.5 s before 1.7e9


def test_what_is_no_log_is_said(offline):
    path = log_of(offline, "lr 0.1, seed 0")
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(AblationsError, match=r"\.wandb: expected a log of W&B, which starts with :W&B"):
        offline.take("wandb", metric=["accuracy"])


def test_the_exported_table_brings_states_and_no_columns_of_wandbs_own(place):
    place.write("export.csv", EXPORT)
    records = place.take("export.csv", metric=["accuracy"]).records()
    assert records["lr", 1]["status"] == "failed" and records["lr", 1]["error"]["type"] == "Crashed"
    assert place.loaded.baseline == {"activation": "relu", "optimizer.lr": 0.1}
    assert records["baseline", 0]["seconds"] == 3.0
    assert records["baseline", 0]["started"] == "2026-11-25T21:40:13.000+00:00"


def test_an_exported_chart_brings_the_curves_of_the_runs_that_it_names(place):
    place.write("export.csv", EXPORT)
    place.write("chart.csv", CHART)
    record = place.take("export.csv", "chart.csv", metric=["accuracy"]).records()["baseline", 0]
    points = read_metrics(place.results / "runs" / record["run_id"] / "metrics.jsonl")
    assert points == [("accuracy", 0, 0.5, None), ("accuracy", 10, 0.72, None)]
    assert "nobody" in place.said


def test_a_table_made_through_the_api_has_dicts_in_its_cells(place):
    rows = ["summary,config,name"]
    for number, (lr, value) in enumerate([(0.1, "0.7"), (0.1, "0.71"), (0.2, "nan"), (0.2, "0.6")]):
        rows.append(f"\"{{'acc': {value}, '_step': 9}}\",\"{{'lr': {lr}, 'seed': {number % 2}}}\",run-{number}")
    place.write("project.csv", "\n".join(rows))
    records = place.take("project.csv", metric=["acc"]).records()
    assert records["baseline", 1]["scores"]["acc"] == 0.71
    assert records["lr", 0]["status"] == "diverged"


def test_a_cell_that_is_code_is_not_run(place):
    code = f"__import__('os').mkdir('{place.folder}/evil')"
    place.write("project.csv", f'summary,config,name\n"{{\'a\': 1}}","{code}",x\n')
    with pytest.raises(AblationsError, match="line 2: expected a dict of plain values"):
        place.take("project.csv", metric=["a"])
    assert not (place.folder / "evil").exists()
