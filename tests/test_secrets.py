"""What is written down of the environment, and what is not."""

import json
import os
import subprocess
import sys

import pytest

from ablations.secrets import RECORDED_VARIABLES, has_credentials, recorded_variables, without_credentials


def test_only_listed_variables_are_recorded_and_no_long_values():
    environ = {"HF_TOKEN": "hf_x", "AWS_SECRET_ACCESS_KEY": "y", "HOME": "/root", "OMP_NUM_THREADS": "2" * 500}
    assert recorded_variables(environ) == {"OMP_NUM_THREADS": "2" * 100}
    assert not [name for name in RECORDED_VARIABLES if any(part in name for part in ("KEY", "TOKEN", "SECRET", "URL"))]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("https://user:s3cret@host/a.git", "https://host/a.git"),
        ("https://ghp_0123456789012345678901234567890123@github.com/a/b", "https://github.com/a/b"),
        ("index-url = https://__token__:pypi-s3cret@host/simple and more", "index-url = https://host/simple and more"),
        ('{"url": "http://:s3cret@host:8080/x?y=1"}', '{"url": "http://host:8080/x?y=1"}'),
    ],
)
def test_credentials_in_urls_are_taken_out_and_nothing_else(text, rest):
    assert has_credentials(text)
    assert without_credentials({"error": [text, {"deep": text}], "n": 1}) == {"error": [rest, {"deep": rest}], "n": 1}


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b",
        "ssh://git@host/x",
        "git@github.com:a/b",
        "a@b.example",
        "https://host/?mail=a:b@c",
        "lr@1e-3",
    ],
)
def test_what_is_no_credential_is_left_alone(text):
    assert not has_credentials(text)
    if not text.startswith("ssh"):
        assert without_credentials(json.dumps(text)) == json.dumps(text)


PLANTED = """
import os
from sacred import Experiment

ex = Experiment("planted")  # as users write them: with what git says of the repository
ex.add_config({"coin": {"weight": 0.5}})

@ex.main
def run(coin, seed, _run):
    for step in range(3):
        _run.log_scalar("share", coin["weight"] + step, step)
    if coin["weight"] > 0.8:
        raise RuntimeError("https://me:s3cret-url@host/simple did not answer")
    return {"heads": coin["weight"]}
"""
CONFIG = """
from dataclasses import dataclass, field
from typing import ClassVar
from ablations.schema import tunable

@dataclass
class Coin:
    weight: float = tunable(0.5, "chance of heads", ge=0, le=1)

@dataclass
class Config:
    coin: Coin = field(default_factory=Coin)
    metrics: ClassVar[dict[str, str]] = {"heads": "max"}
"""
STUDY = """
study: planted
experiment: planted.experiment:ex
metric: heads
seeds: 1
ablations:
  loaded: {set: {coin.weight: 0.7}}
  broken: {set: {coin.weight: 0.9}}
"""


@pytest.mark.slow
def test_no_secret_of_environment_command_line_or_git_remote_reaches_any_file_of_a_real_study(tmp_path):
    package = tmp_path / "planted"
    package.mkdir()
    for name, text in {"__init__": "", "experiment": PLANTED, "config": CONFIG}.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "study.yaml").write_text(STUDY)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://me:s3cret-remote@host/x.git"],
        ["add", "planted"],
        ["commit", "-q", "-m", "x"],
    ):
        subprocess.run([*git, *command], check=True)
    names = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "DATABASE_URL", "MY_PASSPHRASE")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    environ = {**os.environ, "PYTHONPATH": path, "ABLATIONS_RENDERER": "builtin", "MKL_CBWR": "AVX2"}
    environ |= {name: f"s3cret-{name.lower()}" for name in names}
    environ |= {"PIP_INDEX_URL": "https://me:s3cret-index@host/simple"}
    for command, code in (("run", 1), ("report", 0)):
        python = [sys.executable, "-X", "note=s3cret-argument", "-m", "ablations.cli", command]
        done = subprocess.run(python, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert {"record.json", "job.json", "log.txt", "run.json", "report.html"} <= {path.name for path in files}
    assert [str(path) for path in files if b"s3cret" in path.read_bytes()] == []
    runs = [json.loads(path.read_text()) for path in files if path.name == "record.json"]
    assert {run["environment"]["variables"]["MKL_CBWR"] for run in runs} == {"AVX2"}
    assert "RuntimeError: https://host/simple did not answer" in "".join(
        (run["error"] or {}).get("traceback", "") for run in runs
    )
    remotes = [json.loads(path.read_text())["experiment"]["repositories"] for path in files if path.name == "run.json"]
    assert all(each[0]["url"] == "https://host/x.git" for each in remotes)
