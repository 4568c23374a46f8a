"""What `ablations explain` says of an arm: its change, its runs, and the way to its verdict."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from ablations.analysis.compare import compare
from ablations.errors import UnknownName
from ablations.executors.inprocess import InProcessExecutor
from ablations.explain import explain, why
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study

STUDY = """
study: coin
experiment: coin.experiment:ex
metric: heads
seeds: 3
smallest_effect: 0.05
ablations:
  loaded:
    question: Does a loaded coin fall on its head more often?
    expect: better
    set: {coin.weight: 0.9}
  short: {sweep: {coin.tosses: [40, 60]}}
  away: {set: {trouble.kind: diverge}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    (folder / "study.yaml").write_text(STUDY)
    study, store = load_study(folder / "study.yaml"), Store(folder / "results")
    variants = {variant.name: variant for variant in expand(study)}
    with InProcessExecutor() as executor:
        for key in run_keys(study):
            if key.variant != "short=60":
                executor.submit(store.prepare(key, variants[key.variant], study.experiment, threads=1)).state()
    return study, store


def test_an_arm_is_explained_by_its_change_its_runs_and_the_steps_to_its_verdict(made):
    study, store = made
    (found,) = explain(study, store, "loaded")
    assert dict(found.variant.changes) == {"coin.weight": 0.9}
    assert [run["status"] for run in found.runs] == ["completed"] * 3
    assert all(run["score"] > run["baseline"] for run in found.runs)
    assert found.verdict == "helps"
    assert found.sentence.startswith("loaded tentatively helps: heads changes by +0.457")
    assert found.why[0] == "3 pairs of runs at seeds 0, 1, 2"
    assert "so: helps: better than the baseline" in found.why
    assert found.why[-1].startswith("tentative: ")


def test_an_ablation_is_explained_variant_by_variant_and_the_baseline_without_a_verdict(made):
    study, store = made
    first, second = explain(study, store, "short")
    assert (first.variant.name, second.variant.name) == ("short=40", "short=60")
    assert {run["status"] for run in second.runs} == {"missing"}
    assert second.why[:2] == ("0 pairs of runs at seeds –", "a verdict needs 3 pairs (min_seeds)")
    (baseline,) = explain(study, store, "baseline")
    assert (baseline.verdict, baseline.why) == ("", ())
    with pytest.raises(UnknownName, match="did you mean 'loaded'"):
        explain(study, store, "loadd")


def test_diverged_runs_are_part_of_the_way(made):
    study, store = made
    (found,) = explain(study, store, "away")
    assert found.why[1] == "3 of 3 runs of the arm diverged, 0 of the baseline's"
    assert found.why[2] == "so: all failed: no run of the arm finished"


def steps(values, **rules):
    rows = [("base", seed, 0.5) for seed in range(5)] + [("arm", seed, value) for seed, value in enumerate(values)]
    frame = pd.DataFrame(rows, columns=["variant", "seed", "f1"])
    (comparison,) = compare(frame, baseline="base", metric="f1", **rules)
    return list(why(comparison, 3))


def test_each_test_is_named_with_its_level():
    # by hand: differences .1 four times and .12 once: mean .104, sd .00894, t = .104 / (.00894 / sqrt 5) = 26.0, and
    # scipy.stats.t.sf(26, 4) * 2 = 1.3e-5; interval .104 +- 2.776 * .004
    said = steps([0.6, 0.6, 0.6, 0.6, 0.62])
    assert said[1] == "mean difference +0.104, 95 % interval +0.09289 to +0.1151; better at 5 of 5 seeds"
    assert said[2] == "does it differ? p = 1.3e-05, corrected for 1 arm (holm) 1.3e-05: at most 0.05"
    assert said[3] == "is it small? no smallest_effect is declared, so that cannot be shown"
    small = steps([0.501, 0.499, 0.5, 0.502, 0.499], smallest_effect=0.05)
    assert small[2].endswith(": above 0.05")
    assert small[3].startswith("is it smaller than 0.05? p = ")
    assert small[3].endswith(": at most 0.05")
    assert small[4].startswith("so: equivalent: ")
    same = steps([0.6] * 5)
    assert same[2] == "the difference is the same at every seed, so there is nothing to test it against"


@pytest.mark.slow
def test_the_command_shows_the_whole_config_and_marks_what_differs(made):
    study, _ = made
    command = [sys.executable, "-m", "ablations.cli", "explain", "loaded"]
    done = subprocess.run(command, cwd=study.path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "study.yaml:8, set\nDoes a loaded coin fall on its head more often?\nExpected: better.\n" in done.stdout
    assert "  coin.weight 0.5 → 0.9  chance of heads\n" in done.stdout
    assert "\n* coin.weight: 0.9\n  coin.tosses: 100\n" in done.stdout
    done = subprocess.run([*command, "--json"], cwd=study.path.parent, capture_output=True, check=True)
    (found,) = json.loads(done.stdout)
    assert found["config"]["coin.weight"] == 0.9
    assert found["verdict"] == "helps"
