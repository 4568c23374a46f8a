"""A study whose runs share trainings, by the command line: what it records, and that each number comes out whole."""

import json
import subprocess
import sys

import pytest

STUDY = """
study: shared
experiment: ablations.naming.experiment:ex
metric: test_f1
seeds: [3]
baseline:
  data: {input_tokens: 24, train_samples: 800, validation_samples: 60, test_samples: 80, special_methods: false}
  model: {hidden: 32}
  encoder: {layers: 1, heads: 2, intermediate: 64}
  decoder: {layers: 1, heads: 2, intermediate: 64, dropout: 0.1}
  training: {max_steps: 15, learning_rate: 2.0e-3, batch_samples: 16, schedule: constant}
  evaluation: {every_steps: 6}
ablations:
  longer: {set: {training.max_steps: 30}}
  unmasked: {set: {evaluation.causal: false, evaluation.cache: false}}
"""


def ablations(folder, *words):
    command = [sys.executable, "-m", "ablations.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_runs_that_share_a_training_say_so_and_are_repeated_whole_with_the_same_numbers(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    said = ablations(tmp_path, "run", "--workers", "2")
    assert "2 runs begin with the training of another run: that is not repeated." in said
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/*/record.json")]
    by_name = {record["variant"]: record for record in records}
    first = by_name["baseline"]["run_id"]
    taken = {name: record["info"].get("taken_over", {}) for name, record in by_name.items()}
    assert {name: (each.get("run_id"), each.get("steps"), each.get("how")) for name, each in taken.items()} == {
        "baseline": (None, None, None),
        "longer": (first, 15, "continued"),
        "unmasked": (first, 15, "scored anew"),
    }
    for name in ("longer", "unmasked"):
        assert by_name[name]["seconds"] > taken[name]["seconds"] > 0
        assert by_name[name]["info"]["resumed_at"] == []
    assert not list(tmp_path.glob("results/runs/*/trunk"))
    assert f"the training up to step 15 is that of {first}" in ablations(tmp_path, "explain", "unmasked")
    ablations(tmp_path, "report")
    page = (tmp_path / "results" / "report" / "report.html").read_text()
    assert "the training up to step 15 is that of" in page
    assert "runs began with the training of another one" in page
    verified = ablations(tmp_path, "verify", "--all", "--json")
    assert [each["outcome"] for each in json.loads(verified)["runs"]] == ["identical"] * 3


@pytest.mark.slow
def test_without_sharing_every_run_trains_whole(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("max_steps: 30", "max_steps: 18"))
    ablations(tmp_path, "run", "--workers", "2", "--no-sharing")
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/*/record.json")]
    assert [record["info"].get("taken_over") for record in records] == [None] * 3
