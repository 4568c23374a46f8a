"""The examples that are plain Sacred experiments: they know nothing of us, and run through to verdicts."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.analysis.results import VERDICTS
from ablations.plan import expand
from ablations.study import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {"scikit_learn": "digits.py", "characters": "train.py"}


@pytest.mark.parametrize(("example", "script"), SCRIPTS.items())
def test_the_example_knows_nothing_of_us_and_its_readme_runs_it_alone_too(example, script):
    source = (EXAMPLES / example / script).read_text()
    imported = re.findall(r"^\s*(?:from|import) (\w+)", source, flags=re.M)
    assert "sacred" in imported
    assert "ablations" not in imported
    assert f"python {script} with" in (EXAMPLES / example / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "alone"), [("scikit_learn", "with forest data.noise=2"), ("characters", "with lstm hidden=32")]
)
def test_the_commands_of_the_readme_lead_to_verdicts(example, alone, tmp_path):
    folder = shutil.copytree(EXAMPLES / example, tmp_path / example, ignore=shutil.ignore_patterns("results"))
    shown = re.findall(r"```sh\n(.+?)```", (folder / "README.md").read_text(), flags=re.S)
    lines = [line.partition("#")[0].strip() for block in shown for line in block.splitlines()]
    assert lines[0] == f"cd examples/{example}"
    assert lines[1:] == ["ablations run", "ablations report", f"python {SCRIPTS[example]} {alone}"]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "ABLATIONS_RENDERER": "builtin",
    }
    for line in lines[1:]:
        command = f"{line} --profile quick" if line.startswith("ablations") else line
        done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    record = json.loads(next(folder.glob("results/runs/*/record.json")).read_text())
    assert {"scikit_learn": "scikit-learn", "characters": "torch"}[example] in record["environment"]["packages"]
    study = load_study(folder / "study.yaml", "quick")
    with (folder / "results" / "report" / "tables" / "comparisons.csv").open() as file:
        verdicts = {row["arm"]: row["verdict"] for row in csv.DictReader(file)}
    assert set(verdicts) == {each.name for each in expand(study)} - {"baseline"}
    assert set(verdicts.values()) <= set(VERDICTS) - {"not_assessed"}
    assert {"helps", "hurts"} & set(verdicts.values())
