"""Searches: what is proposed, what is run, what is kept, and what is chosen."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from ablations import runner
from ablations.errors import AblationsError
from ablations.executors.inprocess import InProcessExecutor
from ablations.executors.local import LocalExecutor
from ablations.plan import RunKey, expand, run_keys
from ablations.search import Pruner, make_trials
from ablations.store import Store
from ablations.study import load_study
from ablations.trials import best, ledger_path, read_trials, settled, trial_runs, trial_table, trials_of

HILL = """
study: hill
experiment: hill.experiment:ex
metric: test_height
seeds: 2
ablations:
  higher: {set: {place.zone: high}}
  tuned:
    search:
      space:
        place.x: {low: 0.0, high: 1.0}
        place.zone: {choices: [low, high, void]}
      trials: 10
"""


@pytest.fixture
def hill(tmp_path):
    """Loads the study of a search with some text replaced; its store and its search's ablation along."""

    def load(*changes, results="results"):
        text = HILL
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        study = load_study(path)
        return study, study.ablations[-1], Store(tmp_path / results)

    return load


def runs_of(study, store, executor=None, stop_after=None, retry=False):
    """Runs a round in this process; counts what it runs, and is interrupted after so many."""
    ran = []

    def run(trials):
        inner = executor or InProcessExecutor()
        watched = trials.watched(inner)
        jobs = []
        for key in trials.keys:
            if stop_after is not None and len(ran) == stop_after:
                raise KeyboardInterrupt
            ran.append(key.run_id)
            variant = trials.variants[key.variant]
            folder = store.prepare(key, variant, study.experiment, threads=1, metric="validation_height", retry=retry)
            jobs.append(watched.submit(folder))
            if executor is None:
                assert jobs[-1].state() == "ended"
        while {job.state() for job in jobs} != {"ended"}:
            time.sleep(0.05)

    return run, ran


def made(study, ablation, store, **options):
    run, ran = runs_of(study, store, **options)
    return make_trials(study, ablation, store, run), ran


@pytest.mark.slow
def test_trials_are_runs_like_all_others_on_a_seed_of_their_own(hill):
    study, tuned, store = hill()
    trials, ran = made(study, tuned, store)
    assert [trial.number for trial in trials] == list(range(10))
    assert len(ran) == sum(trial.state != "impossible" for trial in trials)
    for trial in trials:
        if trial.state == "completed":
            record = store.read_record(trial.run_id)
            assert (record["seed"], record["variant"]) == (1000, f"tuned=trial-{trial.number}")
            assert {key: record["config"][key] for key in trial.values} == trial.values
            assert record["scores"]["validation_height"] == trial.value
    assert {trial.run_id for trial in trials} == trial_runs(study, store)
    assert not trial_runs(study, store) & {key.run_id for key in run_keys(study)}


@pytest.mark.slow
def test_what_diverges_or_does_not_fit_together_is_kept_and_not_chosen(hill):
    study, tuned, store = hill(
        ("trials: 10", "trials: 40"), ("low: 0.0", "low: 0.8"), ("trials:", "sampler: random\n      trials:")
    )
    trials, _ = made(study, tuned, store)
    states = {trial.state for trial in trials}
    assert states == {"completed", "diverged", "impossible"}
    impossible = [trial for trial in trials if trial.state == "impossible"]
    assert all(trial.values["place.zone"] == "high" and trial.values["place.x"] > 0.9 for trial in impossible)
    assert {trial.cause for trial in impossible} == {"place.x: the high ground ends at 0.9"}
    assert all(trial.values["place.zone"] == "void" for trial in trials if trial.state == "diverged")
    table = trial_table(study, tuned, store)
    assert list(table.columns) == ["number", "run_id", "state", "value", "place.x", "place.zone"]
    assert table["value"].notna().sum() == sum(trial.state == "completed" for trial in trials)


@pytest.mark.slow
def test_the_best_values_become_the_variant_and_are_run_on_the_studys_seeds(hill):
    study, tuned, store = hill()
    trials, _ = made(study, tuned, store)
    winner = best(trials, tuned.search)
    assert winner.value == max(trial.value for trial in trials if trial.value is not None)
    variant = expand(settled(study, store))[-1]
    assert variant.waits_for == ""
    assert {key: variant.config[key] for key in winner.values} == winner.values
    assert variant.label.endswith("(best of 10 trials by validation_height)")
    keys = [key for key in run_keys(settled(study, store)) if key.variant == "tuned"]
    assert [key.seed for key in keys] == [0, 1]
    assert store.pending(keys) == keys  # the trial's own run does not count


def test_until_then_the_variant_is_missing_and_says_why(hill):
    study, tuned, store = hill()
    runs = store.read_runs(settled(study, store)).set_index("variant")
    assert set(runs.loc["tuned", "status"]) == {"missing"}
    assert set(runs.loc["tuned", "error"]) == {"its search has not begun"}
    with pytest.raises(KeyboardInterrupt):
        made(study, tuned, store, stop_after=6)
    runs = store.read_runs(settled(study, store)).set_index("variant")
    assert set(runs.loc["tuned", "error"]) == {"its search has ended 4 of 10 trials"}
    scores = store.read_scores(settled(study, store))
    assert scores[scores["variant"] == "tuned"]["value"].isna().all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(hill, sampler):
    change = ("trials:", f"sampler: {sampler}\n      pruner: median\n      trials:")
    whole, _ = made(*hill(change, results="whole"))
    study, tuned, store = hill(change)
    with pytest.raises(KeyboardInterrupt):
        made(study, tuned, store, stop_after=6)
    trials, ran = made(study, tuned, store)
    assert trials == whole
    assert len(ran) == sum(trial.state != "impossible" for trial in whole) - 6
    ledger_path(study, tuned, store).unlink()  # the records alone tell the same
    assert made(study, tuned, store) == (whole, [])


@pytest.mark.slow
def test_a_search_may_be_given_more_trials(hill):
    whole, _ = made(*hill(results="whole"))
    study, tuned, store = hill(("trials: 10", "trials: 6"))
    first, _ = made(study, tuned, store)
    assert expand(settled(study, store))[-1].waits_for == ""
    study, tuned, store = hill()
    assert expand(settled(study, store))[-1].waits_for == "its search has ended 6 of 10 trials"
    trials, _ = made(study, tuned, store)
    assert trials[:6] == first
    assert trials == whole
    study, tuned, store = hill(("trials: 10", "trials: 6"))
    assert trials_of(study, tuned, store) == first


def test_a_ledger_that_optuna_would_not_write_again_is_refused(hill):
    study, tuned, store = hill()
    made(study, tuned, store)
    path = ledger_path(study, tuned, store)
    ledger = json.loads(path.read_text())
    ledger["trials"][2]["values"]["place.x"] = 0.123
    path.write_text(json.dumps(ledger))
    with pytest.raises(AblationsError, match=r"trial 2 is not what this Optuna \(.*\) proposes: use the one"):
        made(study, tuned, store)


def test_failed_trials_are_passed_over_and_repeated_on_request(hill, monkeypatch):
    study, tuned, store = hill()
    attempt = runner._attempt

    def fails(run_dir, job):
        outcome = attempt(run_dir, job)
        failed = {
            "status": "failed",
            "error": {"type": "OSError", "message": "disk full", "traceback": ""},
            "scores": {},
        }
        return outcome | failed if job["variant"] in ("tuned=trial-5", "tuned=trial-6") else outcome

    monkeypatch.setattr(runner, "_attempt", fails)
    trials, _ = made(study, tuned, store)
    assert [(trial.number, trial.cause) for trial in trials if trial.state == "failed"] == [
        (5, "OSError: disk full"), (6, "OSError: disk full"),
    ]  # fmt: skip
    monkeypatch.undo()
    run, ran = runs_of(study, store)
    assert make_trials(study, tuned, store, run) == trials
    assert ran == []
    again = make_trials(study, tuned, store, runs_of(study, store, retry=True)[0], retry=True)
    assert {trial.state for trial in again} <= {"completed", "diverged", "impossible"}
    assert again[:4] == trials[:4]  # the round before


def test_a_trial_is_stopped_by_what_earlier_rounds_show(hill):
    _, tuned, _ = hill(("trials:", "pruner: median\n      trials:"))
    pruner = Pruner(tuned.search)
    done = [trial(number, 0.1 * number) for number in range(5)]  # the median pruner lets five pass
    assert pruner.until_stopped(4, ((1, 0.0), (2, 0.0))) == (((1, 0.0), (2, 0.0)), False)
    pruner.learn(done)
    middling = ((1, 0.1), (2, 0.2))  # trial 2's curve: the median
    assert pruner.until_stopped(5, middling) == (middling, False)
    assert pruner.until_stopped(6, ((1, 0.1), (2, 0.15))) == (((1, 0.1), (2, 0.15)), True)
    assert pruner.until_stopped(7, ((1, 0.0), (2, 0.9))) == (((1, 0.0),), True)


def trial(number, end, steps=2):
    from ablations.trials import Trial

    curve = tuple((step, end * step / steps) for step in range(1, steps + 1))
    return Trial(number, f"run-{number}", {}, "completed", end, curve)


def test_hyperband_decides_the_same_in_whatever_order_a_round_ends(hill):
    _, tuned, _ = hill(("trials:", "pruner: hyperband\n      trials:"))
    search = tuned.search
    early = [trial(number, 0.1 * number, steps=9) for number in range(16)]
    curves = [tuple((step, 0.03 * number * step) for step in range(1, 10)) for number in range(8)]
    found = []
    for order in (range(8), reversed(range(8))):
        pruner = Pruner(search)
        pruner.learn(early[:8])  # tells how long a trial is
        pruner.learn(early[8:])  # what the next ones are compared with
        found.append({16 + place: pruner.until_stopped(16 + place, curves[place]) for place in order})
    assert found[0] == found[1]
    assert {stopped for _, stopped in found[0].values()} == {True, False}


def test_a_run_that_a_search_gave_up_is_run_whole_where_it_is_planned(hill):
    study, _, store = hill()
    variant = expand(study)[0]
    key = RunKey("baseline", 0, variant.config_hash)
    folder = store.prepare(key, variant, study.experiment, threads=1)
    runner.run(folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"status": "pruned", "scores": {}}))
    assert store.status(key.run_id) == "pruned"
    assert store.pending([key, key]) == [key]
    assert store.read_scores(study).query("variant == 'baseline' and seed == 0")["value"].isna().all()


def test_values_that_are_the_baselines_share_its_runs(hill):
    study, tuned, store = hill(("high: 1.0", "high: 0.9"), ("choices: [low, high, void]", "choices: [low, void]"))
    trials, _ = made(study, tuned, store)
    path = ledger_path(study, tuned, store)
    ledger = json.loads(path.read_text())
    for each in ledger["trials"]:
        each |= {"values": {"place.x": 0.9, "place.zone": "low"}}
    path.write_text(json.dumps(ledger))
    found = settled(study, store)
    assert expand(found)[-1].label == "no change (best of 10 trials by validation_height)"
    keys = run_keys(found)
    assert len(keys) == 6
    assert len(store.pending(keys)) == 4  # a run each, whoever asks for it
    assert len(trials) == 10


def test_a_search_in_which_nothing_completes_says_so(hill):
    study, tuned, store = hill(("choices: [low, high, void]", "choices: [void, high]"), ("low: 0.0", "low: 0.95"))
    made(study, tuned, store)
    waiting = expand(settled(study, store))[-1]
    assert waiting.waits_for == "its search found nothing: none of its 10 trials completed"


def test_a_ledger_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "ledger.json"
    path.write_text('{"format": 2, "trials": []}')
    with pytest.raises(AblationsError, match="a ledger of format 2, this version reads up to 1"):
        read_trials(path)


def test_an_objective_to_make_small_is_made_small(hill):
    study, tuned, store = hill()
    trials, _ = made(study, tuned, store)
    small = best(trials, replace(tuned.search, direction="min"))
    assert small.value == min(trial.value for trial in trials if trial.value is not None)


@pytest.mark.slow
def test_a_trial_that_promises_little_is_stopped_while_it_runs_whatever_the_number_of_workers(hill):
    change = ("seeds: 2", "seeds: 2\nbaseline: {look.seconds: 0.4}"), ("trials:", "pruner: median\n      trials:")
    found = []
    for workers in (1, 4):
        study, tuned, store = hill(*change, results=f"results-{workers}")
        with LocalExecutor(workers, 1) as executor:
            trials, _ = made(study, tuned, store, executor=executor)
        found.append(trials)
        pruned = [trial for trial in trials if trial.state == "pruned"]
        records = [store.read_record(trial.run_id) for trial in pruned]
        stopped = [record for record in records if record["status"] == "pruned"]
        assert stopped  # the others had made their way before their values were read
        assert {record["status"] for record in records} <= {"pruned", "completed"}
        assert all(record["error"] is None and record["scores"] == {} for record in stopped)
        assert all(record["seconds"] < 2.0 for record in stopped)  # five looks of 0.4 s
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_command_searches_between_the_known_arms_and_the_found_one(tmp_path):
    (tmp_path / "study.yaml").write_text(textwrap.dedent(HILL), encoding="utf-8")
    command = [sys.executable, "-m", "ablations.cli"]
    planned = subprocess.run([*command, "plan"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "tuned: 10 trials of its search come first." in planned
    done = subprocess.run(
        [*command, "run"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert done.index("higher, seed 1") < done.index("tuned=trial-0, seed 1000") < done.index("tuned, seed 0")
    assert "(best of 10 trials by" in done
    assert "All runs have completed." in done
    again = subprocess.run([*command, "run"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "6 runs, 0 to run." in again
    assert "trial" not in again


@pytest.mark.slow
def test_reading_what_a_search_found_needs_no_optuna(hill, tmp_path):
    made(*hill())
    code = (
        "import sys; sys.argv = ['ablations', 'plan']\n"
        "from ablations.cli import main\n"
        "try: main()\n"
        "finally: print('HEAVY', {'optuna', 'torch', 'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "best of 10" in done.stdout
    assert "HEAVY set()" in done.stdout, done.stdout + done.stderr
