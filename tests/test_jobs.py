"""Stopping runs from elsewhere, and options of executors on the command line; real processes, a toy of steps."""

import os
import subprocess

import pytest
from walking import ABLATIONS, Place, check_that_nothing_was_repeated, elsewhere, on_host

from ablations import executor_options, handles, jobs, runner
from ablations.errors import UnknownName
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def cancel(place, *names, prefix=()):
    done = subprocess.run(
        [*prefix, *ABLATIONS, "cancel", *names],
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_cancel_stops_running_and_queued_runs_of_another_launcher_which_ends_and_what_was_kept_is_gone_on_from(place):
    place.write(pause_ms=20.0, seeds=2)
    launcher = place.start("--workers", "2")
    place.wait_for_steps(25)
    said = cancel(place)
    assert "2 asked to stop: a checkpoint is kept, 2 withdrawn." in said
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert out.count("interrupted") >= 4 and "cancelled" in out, out
    assert sorted(row["status"] for row in place.status().values()) == ["interrupted"] * 2 + ["missing"] * 2
    assert place.run()[0] == 0
    check_that_nothing_was_repeated(place.said_steps(), 60)


@pytest.mark.slow
def test_cancel_stops_the_named_arm_alone(place):
    place.write(pause_ms=10.0, seeds=1)
    launcher = place.start("--workers", "2")
    place.wait_for_steps(10)
    assert cancel(place, "long").startswith("long, seed 0: process")
    launcher.communicate(timeout=60)
    found = {variant: row["status"] for (variant, _), row in place.status().items()}
    assert found == {"baseline": "completed", "long": "interrupted"}
    assert cancel(place, "baseline") == "Nothing is queued or running.\n"


@pytest.mark.slow
@elsewhere
def test_a_run_on_another_host_sees_by_itself_that_it_was_cancelled(place):
    place.write(pause_ms=50.0, seeds=1)
    leases = {"PYTHONPATH": os.pathsep.join([str(place.short_leases(4)), os.environ["PYTHONPATH"]])}
    launcher = place.start("--only", "baseline", prefix=on_host("far"), environment=leases)
    place.wait_for_steps(3)
    assert "on far looks every" in cancel(place)
    launcher.communicate(timeout=60)
    assert place.status()["baseline", 0]["status"] == "interrupted"


def test_what_is_cancelled_while_it_waits_does_not_begin_and_is_asked_for_anew_by_the_next_launch(coin_study, tmp_path):
    study, store = load_study(coin_study()), Store(tmp_path / "results")
    key, variant = run_keys(study)[0], expand(study)[0]

    def submitted():
        return store.prepare(key, variant, study.experiment, threads=1)

    folder = submitted()
    assert [each.how for each in jobs.cancel(store, [key])] == ["withdrawn"]
    assert runner.run(folder) == "interrupted"
    assert store.status(key.run_id) == "missing"
    assert runner.run(submitted()) == "completed"
    assert jobs.cancel(store, [key]) == []
    assert not handles.asked_to_stop(folder)


def test_a_folder_whose_job_cannot_be_asked_shows_it_as_queued_and_says_why(coin_study, tmp_path):
    study, store = load_study(coin_study()), Store(tmp_path / "results")
    key, variant = run_keys(study)[0], expand(study)[0]
    folder = store.prepare(key, variant, study.experiment)
    handles.record(folder, "moonshot", {"job": 7})
    assert store.status(key.run_id) == "queued"
    assert key not in store.pending([key])
    shown = jobs.standing(folder)
    assert shown.state is None
    assert "unknown executor 'moonshot'" in shown.text


def test_options_typed_win_over_the_studys_and_are_checked_like_them():
    assert executor_options.options("local", {"workers": 3}).workers == 3
    assert executor_options.options("local", {"workers": 3}, ["workers=2"]).workers == 2
    assert executor_options.options("local", {"workers": 3}, ["workers=null"]).workers is None
    wrong = {
        "workers": "expected key=value, found 'workers'",
        "worker=2": "did you mean 'workers'?",
        "workers=0": "workers: expected a whole number of at least 1 or null, found 0",
    }
    for typed, words in wrong.items():
        with pytest.raises(UnknownName, match="--executor-option") as error:
            executor_options.options("local", {}, [typed])
        assert words in str(error.value)


def test_an_unknown_executor_is_named_with_its_nearest_before_anything_runs(place):
    place.write()
    code, said = place.run("--executor", "lokal")
    assert (code, said.startswith("ablations: unknown executor 'lokal'; did you mean 'local'?")) == (2, True)
    assert not place.results.exists()
