"""The example with a pretrained encoder, run with fewer steps."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.plan import expand
from ablations.study import load_study

EXAMPLE = Path(__file__).parents[2] / "examples" / "pretrained"
ENCODER = 22_713_216  # parameters of all-MiniLM-L6-v2 by its model card: 22.7 million


@pytest.fixture
def example(tmp_path):
    """A copy of the example with its encoder linked."""
    copied = Path(
        shutil.copytree(EXAMPLE, tmp_path / "pretrained", ignore=shutil.ignore_patterns("encoder", "results"))
    )
    done = subprocess.run([sys.executable, "link_encoder.py"], cwd=copied, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return copied


def test_the_example_is_a_valid_study_and_its_readme_names_what_there_is(example, monkeypatch):
    monkeypatch.chdir(example)
    study = load_study("study.yaml")
    assert [variant.name for variant in expand(study)] == ["baseline", "warm-decoder", "lower-lr"]
    assert json.loads((example / "encoder" / "config.json").read_text())["num_hidden_layers"] == 6
    readme = (example / "README.md").read_text()
    assert "python link_encoder.py" in readme
    assert "ablations run && ablations report" in readme


@pytest.mark.slow
def test_the_example_trains_a_real_pretrained_encoder_and_a_decoder_that_starts_from_it(example):
    text = (example / "study.yaml").read_text()
    for key, value in (("max_steps", 3), ("warmup_steps", 1), ("every_steps", 3), ("batch_samples", 4), ("seeds", 1),
                       ("train_samples", 200), ("validation_samples", 10), ("test_samples", 20)):  # fmt: skip
        text, found = re.subn(rf"\b{key}: \d+", f"{key}: {value}", text)
        assert found == 1, key
    (example / "study.yaml").write_text(text)
    command = [sys.executable, "-m", "ablations.cli", "run", "--only", "warm-decoder", "--workers", "2"]
    done = subprocess.run(command, cwd=example, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in example.glob("results/runs/*/record.json")]
    by_arm = {record["variant"]: record for record in records}
    assert set(by_arm) == {"baseline", "warm-decoder"}
    copied = by_arm["warm-decoder"]["info"]["warm_start"]["copied"]
    assert copied["parameters"] > 30_522 * 384  # the embeddings alone: vocabulary times width
    assert "warm_start" not in by_arm["baseline"]["info"]
    for record in records:
        assert record["info"]["cost"]["parameters"] > ENCODER
        assert math.isfinite(record["scores"]["test_loss"])
    assert by_arm["baseline"]["scores"] != by_arm["warm-decoder"]["scores"]
