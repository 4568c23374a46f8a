"""Signals sent to real processes: once, twice, and while an outcome is being written."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from walking import check_that_nothing_was_repeated

from ablations import stopping
from ablations.files import read_json
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study


def started(folder, place, *prefix):
    """One run in a process of its own, as by hand."""
    environment = {**os.environ, "WALK_LEDGER": str(place.ledger)}
    command = [*prefix, sys.executable, "-m", "ablations.runner", str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def prepared(place, **study):
    """The folder of the baseline's first run."""
    place.write(**study)
    loaded, store = load_study(place.folder / "study.yaml"), Store(place.results)
    return store.prepare(run_keys(loaded)[0], expand(loaded)[0], loaded.experiment, threads=1)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_keeps_a_checkpoint_of_its_last_step_and_is_interrupted(place, sent):
    folder = prepared(place, pause_ms=30)
    with started(folder, place) as process:
        place.wait_for_steps(5)
        process.send_signal(sent)
        assert process.wait(30) == 130
    record = read_json(folder / "record.json")
    assert (record["status"], record["error"]["message"]) == ("interrupted", sent.name)
    [entries] = place.said_steps().values()
    (_, took, last), (_, kept, at) = entries[-2:]
    assert (took, kept, last) == ("takes", "keeps", at)
    sacred = json.loads((place.results / record["sacred"] / "run.json").read_text())
    assert sacred["status"] == "INTERRUPTED"
    assert not (folder / "claim.json").exists()
    with started(folder, place) as process:
        assert process.wait(60) == 0
    check_that_nothing_was_repeated(place.said_steps(), 60)


@pytest.mark.slow
def test_a_run_that_is_asked_twice_stops_at_once_and_is_interrupted(place):
    folder = prepared(place, more="")
    job = read_json(folder / "job.json")
    job["config"]["trouble.kind"] = "linger"  # a minute in the middle, without a safe point
    (folder / "job.json").write_text(json.dumps(job))
    with started(folder, place) as process:
        place.wait_for_steps(30 + 2)  # its middle, with two checkpoints: no safe point before it lingers
        process.terminate()
        time.sleep(0.5)
        assert process.poll() is None  # it waits for a safe point
        process.terminate()
        assert process.wait(20) == 130
    assert read_json(folder / "record.json")["status"] == "interrupted"


@pytest.mark.slow
def test_a_launcher_that_is_asked_once_says_how_to_go_on_and_what_it_ran_is_not_repeated(place, unbroken):
    place.write(pause_ms=30)
    place.hold(10)
    launcher = place.start()
    place.wait_for_steps(10)
    os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does
    said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "Stopping: what runs keeps a checkpoint first. Once more, and it stops at once." in said
    assert "Stopped. What has ended is kept" in said
    assert {row["status"] for row in place.status().values()} == {"interrupted", "missing"}
    stopped_at = {entries[-1][1] for entries in place.said_steps().values()}
    assert stopped_at == {"keeps"}
    place.release()
    assert place.run()[0] == 0
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken


@pytest.mark.slow
def test_a_launcher_that_is_asked_twice_ends_at_once_and_leaves_no_run_behind(place):
    place.write(more="stuck: {set: {trouble.kind: linger}}", seeds=1)
    launcher = place.start("--only", "stuck", "--workers", "3")
    place.wait_for_steps(66 + 32)  # the baseline to its end with 6 checkpoints, the other to its middle with 2
    time.sleep(1)
    began = time.monotonic()
    os.kill(launcher.pid, signal.SIGINT)
    time.sleep(1)
    assert launcher.poll() is None  # it waits for the run
    os.kill(launcher.pid, signal.SIGTERM)
    launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert time.monotonic() - began < 30  # the run would have gone on for a minute
    assert place.claims() == []
    assert place.status()["stuck", 0]["status"] == "interrupted"


@pytest.mark.slow
def test_a_hangup_does_not_stop_what_was_started_to_ignore_it(place):
    folder = prepared(place, pause_ms=10)
    with started(folder, place, "nohup") as process:
        place.wait_for_steps(5)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


def send(signum=signal.SIGTERM):
    os.kill(os.getpid(), signum)


def test_a_signal_while_an_outcome_is_written_waits_until_it_is():
    written = []
    with pytest.raises(stopping.Stopped, match="SIGTERM"), stopping.noted():
        send()
        send()
        written.append("whole")
    assert written == ["whole"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_before_the_experiment_begins_stops_it_at_its_beginning():
    with stopping.noted(), pytest.raises(stopping.Stopped):
        send()
        with stopping.heeded():
            raise AssertionError("it was not stopped")


def test_without_safe_points_every_signal_stops_at_once_also_in_the_cleaning_up():
    with stopping.noted(), pytest.raises(stopping.Stopped, match="SIGINT"), stopping.heeded():
        try:
            send()
        finally:
            send(signal.SIGINT)


def test_a_signal_after_the_last_safe_point_stops_the_run_there():
    with (
        stopping.noted(),
        pytest.raises(stopping.Stopped),
        stopping.heeded(),
        stopping.at_safe_points() as wanted,
    ):
        assert not wanted()
        send()
        assert wanted()


def test_outside_of_a_run_nothing_waits_for_safe_points():
    with stopping.at_safe_points() as wanted:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert not wanted()
