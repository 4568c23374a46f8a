"""Every command of the README and the documentation: it is run, in order, in a folder such as its page speaks of."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import ablations
from ablations.cli import app

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("examples/*/README.md"))
)
ELSEWHERE = {  # pages whose commands are run by tests of their own
    "docs/compare.md": "tests/examples/test_compare.py",
    "examples/compare/README.md": "tests/examples/test_compare.py",
    "examples/java_corpus/README.md": "tests/examples/test_java_corpus.py",
    "examples/pretrained/README.md": "tests/examples/test_pretrained.py",
    "examples/characters/README.md": "tests/examples/test_strangers.py",
    "examples/scikit_learn/README.md": "tests/examples/test_strangers.py",
}
STUDY = """\
study: coin
experiment: coin.experiment:ex
metric: heads
smallest_effect: 0.05
seeds: 4
baseline: {coin.weight: 0.5}
ablations:
  constant-lr:
    question: Does it change anything?
    set: {coin.weight: 0.9}
"""


def text_of(page):
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.+?)^```", text_of(page), flags=re.M | re.S)


def commands(page):
    """The lines of a page's shell blocks, continued ones joined, without comments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines) if line]


# -- the folders that pages speak of --------------------------------------------------------------------------


def with_results(place, folder):
    """A study of the name, run, with its report."""
    (place / folder).mkdir(parents=True, exist_ok=True)
    (place / folder / "study.yaml").write_text(STUDY)
    subprocess.run([sys.executable, "-m", "ablations.cli", "run"], cwd=place / folder, check=True, capture_output=True)
    return place / folder


def stage_authoring(place):
    (place / "my_package").mkdir()
    for name in ("__init__.py", "config.py"):
        shutil.copyfile(REPOSITORY / "tests" / "toys" / "coin" / name, place / "my_package" / name)
    own = (REPOSITORY / "tests" / "toys" / "coin" / "experiment.py").read_text()
    (place / "my_package" / "experiment.py").write_text(own.replace("from coin.", "from my_package."))
    return place


def stage_verify(place):
    here = with_results(place, "own")
    subprocess.run([sys.executable, "-m", "ablations.cli", "report"], cwd=here, check=True, capture_output=True)
    shutil.copytree(here / "results" / "report", here / "submitted" / "report")
    shutil.copytree(here / "results" / "report", place / "submitted")  # the home of the test
    shutil.copytree(here, place / "colleague")
    shutil.copytree(here, here / "other", ignore=shutil.ignore_patterns("submitted"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for subject, text in (("first", STUDY.replace("0.05", "0.1")), ("second", STUDY)):
        (here / "study.yaml").write_text(text)
        for command in ("init -q", "add study.yaml", f"commit -qm {subject}"):
            subprocess.run([*git, *command.split()], cwd=here, check=True)
    return here


def stage_makefile(place):
    shutil.copyfile(REPOSITORY / "Makefile", place / "Makefile")
    return place


def stage_clusters(place):
    (place / "study.yaml").write_text(STUDY)
    return place


STRANGER = """\
from sacred import Experiment

ex = Experiment("train", save_git_info=False)


@ex.config
def config():
    rate = 0.5  # how fast it learns


@ex.automain
def run(rate, seed):
    return {"score": rate + seed * rate**2}
"""


def stage_own_experiment(place):
    (place / "train.py").write_text(STRANGER)
    return place


def stage_import(place):
    shutil.copytree(REPOSITORY / "tests" / "data" / "imports" / "mlruns", place / "mlruns")
    for name, layers, more in (("baseline", 4, ""), ("constant-lr", 4, ", schedule='constant'"), ("layers-24", 24, ""),
                               ("layers-32", 32, "")):  # fmt: skip
        source = f"train(learning_rate=5e-5, layers={layers}{more})"
        cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source}]
        (place / f"{name}.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    return place


def stage_first_study(place):
    for name, text in re.findall(
        r'^```\w+ title="(.+?)"\n(.+?)^```', text_of("docs/first-study.md"), flags=re.M | re.S
    ):
        (place / name).write_text(text)
    return place


STAGES = {
    "docs/authoring.md": stage_authoring,
    "docs/clusters.md": stage_clusters,
    "docs/first-study.md": stage_first_study,
    "docs/own-experiment.md": stage_own_experiment,
    "docs/import.md": stage_import,
    "docs/verify.md": stage_verify,
}
AS_SHOWN = {"README.md", "CONTRIBUTING.md"}  # only what make would do: its targets are these very tests, and minutes


def as_run(page, command, folder):
    """A command with the names of this folder, and the exit codes that are fine."""
    if page in AS_SHOWN:
        return command.replace("make ", "make -n "), (0,)
    if "4c3b1f0a9d2e-s3" in command:
        record = next(folder.glob("results/runs/*-s3"))
        command = command.replace("4c3b1f0a9d2e-s3", record.name[:-3] + "-s3")
    return command, (0, 1) if command.startswith("ablations diff") else (0,)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_commands_is_run_here_or_by_a_test_that_is_named(page):
    if commands(page):
        assert page in {*STAGES, *AS_SHOWN, *ELSEWHERE}
    if page in ELSEWHERE:
        example = Path(page).parent.name if page.startswith("examples") else Path(page).name
        assert example in (REPOSITORY / ELSEWHERE[page]).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", [*STAGES, *sorted(AS_SHOWN)])
def test_the_commands_of_a_page_work(page, tmp_path):
    folder = STAGES.get(page, stage_makefile)(tmp_path)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "ABLATIONS_RENDERER": "builtin",
    }
    assert commands(page)
    for shown in commands(page):
        command, fine = as_run(page, shown, folder)
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in fine, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_that_a_page_names_exist(page):
    group = typer.main.get_command(app)
    for named in re.findall(r"`(ablations [a-z][^`]*)`", text_of(page).replace("\n", " ")):
        words = shlex.split(named.replace("…", ""))[1:]
        for name in words[0].rstrip(",").split("|"):
            assert name in group.commands, f"{page}: {named}"
        options = {each for parameter in group.commands[words[0]].params for each in parameter.opts}
        for word in words[1:]:
            assert not word.startswith("--") or word.strip("[],.") in {*options, "--help"}, f"{page}: {named}"


# -- Python ---------------------------------------------------------------------------------------------------


def test_the_statistics_page_prints_what_it_says(capsys):
    [code] = blocks("docs/statistics.md", "python")
    exec(compile(code, "docs/statistics.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# (.+)$", code, flags=re.M)


@pytest.mark.slow
def test_the_six_functions_take_a_study_to_its_report(tmp_path):
    [code] = blocks("docs/python.md", "python")
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "recipe.py").write_text(code)
    environment = {**os.environ, "ABLATIONS_RENDERER": "builtin"}
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts, conclusion, paths = done.stdout.splitlines()
    assert json.loads(counts.replace("'", '"')) == {"completed": 8}
    assert conclusion.startswith("constant-lr helps +0.")
    assert all((tmp_path / path).stat().st_size > 10_000 for path in paths.split())


def test_the_page_about_python_names_all_that_is_public():
    named = set(re.findall(r"^::: ablations\.(?:\w+\.)+(\w+)$", text_of("docs/python.md"), flags=re.M))
    assert named == set(ablations.__all__)


# -- the site -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_is_built_and_none_of_its_links_leads_nowhere(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra `dev`")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "reference/commands/index.html", "reference/parameters/index.html"} <= built
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis" not in home
    python = (tmp_path / "site" / "python" / "index.html").read_text(encoding="utf-8")
    assert "Compares every arm of a long table with the baseline" in python
