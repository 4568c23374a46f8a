"""One run from its folder to its record, with a real Sacred experiment."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ablations import runner
from ablations.errors import AblationsError
from ablations.plan import expand, run_keys
from ablations.store import Store, read_metrics
from ablations.study import load_study


@pytest.fixture
def prepared(coin_study, tmp_path):
    """Prepares the first run of an ablation and returns its folder."""

    def prepare(trouble="none"):
        more = "" if trouble == "none" else f"trouble: {{set: {{trouble.kind: {trouble}}}}}"
        study = load_study(coin_study(more))
        store, variant = Store(tmp_path / "results"), expand(study)[-1]
        key = next(key for key in run_keys(study) if key.variant == variant.name)
        return store.prepare(key, variant, study.experiment, threads=1)

    return prepare


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def in_a_process(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "ablations.runner", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_a_run_ends_with_a_record_of_its_scores_and_where_they_come_from(prepared):
    folder = prepared()
    assert runner.run(folder) == "completed"
    record = record_of(folder)
    assert 0.8 < record["scores"]["heads"] < 1  # a coin of weight 0.9, tossed 100 times
    assert "note" not in record["scores"]  # text is no score
    assert record["config"]["coin.weight"] == 0.9
    assert record["environment"]["packages"]["sacred"] == "0.8.7"
    assert len(record["code"]["package_hash"]) == 64
    assert record["info"]["cost"]["peak_memory_mb"] > 1
    assert not (folder / "claim.json").exists()


def test_sacred_keeps_its_own_record_beside_ours(prepared):
    folder = prepared()
    runner.run(folder)
    sacred_dir = folder.parent.parent / record_of(folder)["sacred"]
    assert json.loads((sacred_dir / "run.json").read_text())["status"] == "COMPLETED"
    config = json.loads((sacred_dir / "config.json").read_text())
    assert (config["coin"]["weight"], config["seed"]) == (0.9, 0)


def test_every_value_is_in_our_log_and_in_sacreds(prepared):
    folder = prepared()
    runner.run(folder)
    ours = [(step, value) for metric, step, value, _ in read_metrics(folder / "metrics.jsonl") if metric == "share"]
    sacred_dir = folder.parent.parent / record_of(folder)["sacred"]
    theirs = json.loads((sacred_dir / "metrics.json").read_text())["share"]
    assert len(ours) == 100
    assert ours == list(zip(theirs["steps"], theirs["values"], strict=True))


def test_the_same_config_and_seed_give_the_same_scores(prepared, tmp_path):
    folder = prepared()
    runner.run(folder)
    first = record_of(folder)["scores"]
    (folder / "record.json").unlink()
    runner.run(folder)
    assert record_of(folder)["scores"] == first
    assert record_of(folder)["attempt"] == 2


def test_an_error_becomes_a_failed_record_with_its_traceback(prepared):
    folder = prepared("error")
    assert runner.run(folder) == "failed"
    error = record_of(folder)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "the coin stood on its edge")
    assert "_stumble" in error["traceback"]
    assert record_of(folder)["scores"] == {}


def test_an_error_that_acts_on_terminals_or_has_no_end_is_recorded_as_text():
    described = runner._described(ValueError("\x1b[31mred\x1b[0m \u202eturned\n\tsecond line" + "x" * 100_000))
    first, second = described["message"].split("\n")
    assert first == r"\x1b[31mred\x1b[0m \u202eturned"
    assert second.startswith("    second linexxx")
    assert len(second) < 2001
    assert "\x1b" not in described["traceback"]
    assert described["traceback"].endswith("x\n")


def test_divergence_is_an_outcome_of_its_own(prepared):
    folder = prepared("diverge")
    assert runner.run(folder) == "diverged"
    assert record_of(folder)["error"]["message"] == "step 10: the coin rolled away"


def test_a_score_that_is_not_a_number_is_recorded_as_null_not_as_zero(prepared):
    folder = prepared("nan")
    assert runner.run(folder) == "completed"
    assert record_of(folder)["scores"]["entropy"] is None
    assert "NaN" not in (folder / "record.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_run_is_interrupted_and_never_running_for_ever(prepared, sent):
    folder = prepared("sleep")
    with in_a_process(folder) as process:
        wait_for(folder / "progress.json")
        process.send_signal(sent)
        assert process.wait(30) == 130
    record = record_of(folder)
    assert (record["status"], record["error"]["message"]) == ("interrupted", sent.name)
    sacred_run = json.loads((folder.parent.parent / record["sacred"] / "run.json").read_text())
    assert sacred_run["status"] == "INTERRUPTED"


@pytest.mark.slow
def test_a_killed_run_is_interrupted_and_runs_again(prepared, tmp_path, monkeypatch):
    folder = prepared("sleep")
    store = Store(tmp_path / "results")
    with in_a_process(folder) as process:
        wait_for(folder / "progress.json")
        assert store.status(folder.name) == "running"
        process.kill()
    assert store.status(folder.name) == "interrupted"
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert runner.run(folder) == "completed"
    assert record_of(folder)["attempt"] == 2


def test_an_outcome_stays_unless_it_is_a_failure_to_be_retried(prepared):
    folder = prepared("error")
    job = json.loads((folder / "job.json").read_text())
    assert runner.run(folder) == runner.run(folder) == "failed"
    assert record_of(folder)["attempt"] == 1
    job["settings"]["retry"] = True
    (folder / "job.json").write_text(json.dumps(job))
    runner.run(folder)
    assert record_of(folder)["attempt"] == 2
    assert json.loads((folder / "record-a1.json").read_text())["status"] == "failed"


def test_a_completed_run_is_not_run_again_even_on_request(prepared):
    folder = prepared()
    runner.run(folder)
    before = (folder / "record.json").read_bytes()
    job = json.loads((folder / "job.json").read_text())
    job["settings"]["retry"] = True
    (folder / "job.json").write_text(json.dumps(job))
    assert runner.run(folder) == "completed"
    assert (folder / "record.json").read_bytes() == before


@pytest.mark.parametrize(
    ("metric", "found"), [("tails", "found only entropy, heads"), ("entropy", "found nan"), ("heads", None)]
)
def test_a_run_without_the_metric_that_decides_has_no_result(prepared, metric, found):
    folder = prepared("nan")
    job = json.loads((folder / "job.json").read_text())
    job["settings"]["metric"] = metric
    (folder / "job.json").write_text(json.dumps(job))
    assert runner.run(folder) == ("failed" if found else "completed")
    assert found is None or found in record_of(folder)["error"]["message"]


def test_an_experiment_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(AblationsError, match=r"unknown experiment 'exx'; did you mean 'ex'\?"):
        runner.load_experiment("coin.experiment:exx")
    with pytest.raises(AblationsError, match=r"coin\.experimint cannot be imported"):
        runner.load_experiment("coin.experimint:ex")


@pytest.mark.slow
def test_a_run_that_somebody_else_runs_is_left_to_them(prepared):
    folder = prepared("sleep")
    with in_a_process(folder) as owner:
        wait_for(folder / "progress.json")
        with in_a_process(folder) as second:
            said = second.stdout.read().decode()
            assert second.wait(30) == 2
        assert f"is run by process {owner.pid}" in said
        owner.terminate()


@pytest.mark.parametrize("moment", ["before it starts its heartbeat", "where it swallows all exceptions"])
def test_a_run_that_is_asked_to_stop_while_sacred_begins_it_is_interrupted(prepared, monkeypatch, moment):
    from sacred.config import custom_containers
    from sacred.run import IntervalTimer, Run

    def start_heartbeat(run):
        run._stop_heartbeat_event, run._heartbeat = IntervalTimer.create(run._emit_heartbeat, run.beat_interval)
        os.kill(os.getpid(), signal.SIGTERM)  # a thread that never started cannot be joined
        run._heartbeat.start()

    def is_different(old, new):
        try:
            os.kill(os.getpid(), signals.pop())
        except BaseException:
            return False
        return False

    folder, signals = prepared(), [signal.SIGTERM]
    if moment == "before it starts its heartbeat":
        monkeypatch.setattr(Run, "_start_heartbeat", start_heartbeat)
    else:
        monkeypatch.setattr(custom_containers, "is_different", is_different)
    assert runner.run(folder) == "interrupted"
    assert record_of(folder)["error"]["type"] == "Stopped"


def test_no_environment_variable_reaches_a_record(prepared, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t-value")
    folder = prepared("error")
    runner.run(folder)
    written = [path for path in folder.parent.parent.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if b"s3cr3t-value" in path.read_bytes()]


def test_the_hash_of_the_code_changes_with_any_source_and_with_nothing_else(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("x = 1")
    first = runner.tree_hash(tmp_path / "pkg")
    (tmp_path / "pkg" / "notes.txt").write_text("no source")
    assert runner.tree_hash(tmp_path / "pkg") == first
    (tmp_path / "pkg" / "a.py").write_text("x = 2")
    assert runner.tree_hash(tmp_path / "pkg") != first


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear within {seconds} s; {os.listdir(path.parent)}"
        time.sleep(0.02)
