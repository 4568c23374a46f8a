"""``ablations verify`` as its user meets it, on real runs in processes of their own."""

import json
import re
import shutil
import subprocess
import sys

import pytest

ABLATIONS = [sys.executable, "-m", "ablations.cli"]


def ablations(*arguments, folder):
    return subprocess.run(
        [*ABLATIONS, *arguments], cwd=folder, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.slow
def test_records_are_repeated_to_the_bit_and_an_edited_one_is_found(coin_study):
    folder = coin_study().parent
    assert ablations("run", folder=folder).returncode == 0
    done = ablations("verify", "--sample", "2", "--seed", "5", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 of 6 completed runs, repeated from their records.\n✓ identical  ")
    assert done.stdout.count("2 scores identical, 100 logged values") == 2
    assert "2 identical. No number differs. Tolerance: 1e-06" in done.stdout
    assert done.stderr == ""  # progress is for terminals

    (folder / "study.yaml").unlink()  # the records alone say what to run
    path = next(each for each in folder.glob("results/runs/*-s1/record.json") if '"loaded"' in each.read_text())
    record = json.loads(path.read_text())
    record["scores"]["heads"] += 0.125
    path.write_text(json.dumps(record))
    done = ablations("verify", path.parent.name, "--into", "kept", folder=folder)
    assert done.returncode == 1
    assert re.search(r"✗ different  loaded, seed 1", done.stdout)
    assert re.search(r"heads +[\d.]+ +[\d.]+ +-0.125 +different", done.stdout)
    assert "Largest difference: 0.125 (heads of loaded, seed 1)." in done.stdout
    repeated = json.loads((folder / "kept" / "runs" / path.parent.name / "record.json").read_text())
    assert repeated["scores"]["heads"] == pytest.approx(record["scores"]["heads"] - 0.125)
    refused = ablations("verify", path.parent.name, "--into", "kept", folder=folder)
    assert refused.returncode == 3
    assert "kept: expected a new or empty folder" in refused.stderr


def test_there_must_be_something_to_verify(coin_study):
    folder = coin_study().parent
    done = ablations("verify", folder=folder)
    assert done.returncode == 3
    assert done.stderr == "ablations: results: no completed run of the study coin to verify\n"


NAMING = """
study: small
seeds: 1
baseline:
  data: {input_tokens: 24, train_samples: 300, validation_samples: 40, test_samples: 60}
  model.hidden: 32
  encoder: {layers: 1, heads: 2, intermediate: 64}
  decoder: {layers: 1, heads: 2, intermediate: 64}
  training: {max_steps: 12, learning_rate: 2.0e-3}
  evaluation.every_steps: 6
ablations:
  constant-lr: {set: {training.schedule: constant}}
"""


@pytest.mark.slow
def test_a_run_of_the_reference_experiment_repeats_to_the_bit(tmp_path):
    (tmp_path / "study.yaml").write_text(NAMING, encoding="utf-8")
    assert ablations("run", "--only", "baseline", folder=tmp_path).returncode == 0
    shutil.move(tmp_path / "study.yaml", tmp_path / "elsewhere.yaml")
    done = ablations("verify", "--all", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["outcome"] == "identical"
    assert {score["name"] for score in run["scores"]} >= {"test_f1", "validation_f1", "test_loss"}
    series = {each["name"]: each for each in run["series"]}
    assert series["train_loss"]["identical"] == 12  # one a step
    assert series["validation_f1"]["identical"] == 2
    assert "tokens_per_s" not in series
