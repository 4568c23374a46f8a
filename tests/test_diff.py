"""Two studies, two states of one, two results folders, two reports: what changed, and why."""

import json
import shutil
import subprocess
import sys

import pytest

from ablations.diff import compare_sides
from ablations.errors import AblationsError, StudyError
from ablations.executors.inprocess import InProcessExecutor
from ablations.plan import expand, run_keys
from ablations.reporting import copies
from ablations.reporting.context import load_context
from ablations.sides import read_side
from ablations.store import Store
from ablations.study import load_study

STUDY = """
study: coin
experiment: coin.experiment:ex
metric: heads
seeds: 3
smallest_effect: 0.05
ablations:
  loaded: {set: {coin.weight: 0.9}}
  short: {set: {coin.tosses: 50}}
"""


def run(study_path, results):
    study, store = load_study(study_path), Store(results)
    variants = {variant.name: variant for variant in expand(study)}
    with InProcessExecutor() as executor:
        for key in run_keys(study):
            executor.submit(store.prepare(key, variants[key.variant], study.experiment, threads=1)).state()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "study.yaml").write_text(STUDY)
    run(folder / "study.yaml", folder / "results")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A study with its results, to be changed."""
    shutil.copytree(made, tmp_path / "a")
    return tmp_path / "a"


def difference(a, b):
    return compare_sides(read_side(str(a)), read_side(str(b)))


def edited(folder, run_with, change):
    """Changes the records of the runs for whose record a condition holds."""
    paths = [path for path in folder.glob("results/runs/*/record.json") if run_with(json.loads(path.read_text()))]
    assert paths
    for path in paths:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))


def test_a_study_does_not_differ_from_itself(made):
    found = difference(made / "study.yaml", made / "results")
    assert found.empty
    assert found.unchanged == ("baseline", "loaded", "short")


def test_arms_come_go_and_change_their_config_or_name(folder):
    other = folder / "other.yaml"
    text = STUDY.replace("coin.weight: 0.9", "coin.weight: 0.8").replace("short:", "brief:")
    other.write_text(text + "  long: {set: {coin.tosses: 500}}\n")
    found = difference(folder / "study.yaml", other)
    assert (found.added, found.removed) == (("long",), ())
    loaded, brief = found.changed
    assert loaded.arm == "loaded"
    assert loaded.verdict == ("helps", "not_assessed")  # nothing of the new config has run
    assert loaded.score[1] is None
    assert "coin.weight 0.9 → 0.8" in loaded.because
    assert "seeds 0, 1, 2 completed → missing" in loaded.because
    assert (brief.arm, brief.because[0]) == ("short → brief", "renamed, the same config")
    assert brief.verdict[0] == brief.verdict[1]
    assert found.unchanged == ("baseline",)


def test_a_rule_that_turns_a_verdict_is_named(folder):
    other = folder / "other.yaml"
    other.write_text(STUDY.replace("smallest_effect: 0.05", "smallest_effect: 0.6"))
    found = difference(folder / "study.yaml", other)
    assert found.rules == {"smallest_effect": (0.05, 0.6)}
    loaded = next(each for each in found.changed if each.arm == "loaded")
    assert loaded.verdict == ("helps", "helps_negligible")  # about .4 better: more than .05, less than .6
    assert loaded.because == ("rule smallest_effect 0.05 → 0.6",)


def test_more_seeds_are_named(folder):
    other = folder / "other.yaml"
    other.write_text(STUDY.replace("seeds: 3", "seeds: 4"))
    run(other, folder / "results")
    found = difference(folder / "study.yaml", other)
    assert {each.arm for each in found.changed} == {"baseline", "loaded", "short"}
    assert found.changed[0].because == ("seeds +3",)
    assert found.changed[1].because == ("what changed the baseline",)


def test_other_code_data_and_packages_are_named_once(folder, made):
    def change(record):
        record["scores"]["heads"] += 0.01
        record["code"]["package_hash"] = "f" * 64
        record["environment"]["packages"]["numpy"] = "0.9"
        record["info"]["data"] = {"fingerprint": "d" * 64}

    edited(folder, lambda record: record["variant"] == "loaded", change)
    (loaded,) = difference(made / "results", folder / "results").changed
    now = json.loads(next(made.glob("results/runs/*/record.json")).read_text())
    assert f"code {now['code']['package_hash'][:12]} → ffffffffffff" in loaded.because
    assert f"numpy {now['environment']['packages']['numpy']} → 0.9" in loaded.because
    assert loaded.score[1] - loaded.score[0] == pytest.approx(0.01)
    assert not any("edited" in each for each in loaded.because)


def test_a_score_that_nothing_explains_is_suspicious(folder, made):
    def change(record):
        record["scores"]["heads"] += 0.1

    edited(folder, lambda record: record["variant"] == "short" and record["seed"] == 1, change)
    (short,) = difference(made / "results", folder / "results").changed
    assert short.because == (
        "seed 1: other scores from the same config, code, data and environment (an edited record?)",
    )


def test_a_run_that_failed_is_named(folder, made):
    def change(record):
        record |= {"status": "failed", "scores": {}, "error": {"type": "E", "message": "m", "traceback": ""}}

    edited(folder, lambda record: record["variant"] == "short" and record["seed"] == 2, change)
    (short,) = difference(made / "results", folder / "results").changed
    assert "seed 2 completed → failed" in short.because


def test_a_failure_value_that_a_report_had_no_use_for_is_no_difference(folder):
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("seeds:", "failure_value: 0.0\nseeds:", 1))
    copies.write(load_context(study, folder / "results"), folder / "report" / "tables")
    assert difference(folder / "report", study).rules == {}


def test_reports_are_compared_by_their_tables(folder, made):
    for each in (made, folder):
        copies.write(load_context(each / "study.yaml", each / "results"), each / "report" / "tables")
    assert difference(made / "report", folder / "report").empty
    assert difference(made / "report", made / "study.yaml").empty

    def change(record):
        record["scores"]["heads"] -= 0.3
        record["code"]["package_hash"] = "f" * 64

    edited(folder, lambda record: record["variant"] == "loaded", change)
    (loaded,) = difference(made / "report", folder / "study.yaml").changed
    assert loaded.score[0] - loaded.score[1] == pytest.approx(0.3)
    assert any(each.startswith("code ") and each.endswith("→ ffffffffffff") for each in loaded.because)


def test_a_state_of_a_commit_is_compared_with_that_of_now(folder):
    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("add", "study.yaml")
    git("commit", "-q", "-m", "first")
    path = folder / "study.yaml"
    assert difference(f"{path}@HEAD", path).empty
    path.write_text(STUDY.replace("  short: {set: {coin.tosses: 50}}\n", ""))
    assert difference(f"{path}@HEAD", path).removed == ("short",)
    with pytest.raises(AblationsError, match=r"study\.yaml@nothing: "):
        read_side(f"{path}@nothing")
    git("commit", "-q", "-am", "second")
    path.write_text("study: 7\n")
    git("commit", "-q", "-am", "broken")
    with pytest.raises(StudyError, match=r"study\.yaml@HEAD:1: study: expected text"):
        read_side(f"{path}@HEAD")


def test_results_without_a_study_are_refused(tmp_path):
    (tmp_path / "results" / "runs").mkdir(parents=True)
    with pytest.raises(AblationsError, match="expected a study's file for these results, found none at"):
        read_side(str(tmp_path / "results"))


@pytest.mark.slow
def test_the_command_says_what_changed_and_ends_as_diff_does(folder):
    def diff(*arguments):
        command = [sys.executable, "-m", "ablations.cli", "diff", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)

    same = diff("study.yaml", "results")
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.endswith("\nNo difference in 3 arms.\n")
    (folder / "other.yaml").write_text(STUDY.replace("coin.weight: 0.9", "coin.weight: 0.8"))
    other = diff("study.yaml", "other.yaml")
    assert other.returncode == 1
    assert "loaded: coin.weight 0.9 → 0.8; seeds 0, 1, 2 completed → missing.\n" in other.stdout
    assert other.stdout.endswith("\n2 arms are the same.\n")
    found = json.loads(diff("study.yaml", "other.yaml", "--json").stdout)
    assert [each["arm"] for each in found["changed"]] == ["loaded"]
    assert diff("study.yaml", "nothing.yaml").returncode == 2
