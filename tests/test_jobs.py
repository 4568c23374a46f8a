"""Stopping runs from elsewhere, and options of executors on the command line; real processes, a toy of steps."""

import io
import json
import os
import signal
import subprocess
from typing import ClassVar

import pytest
from rich.console import Console
from walking import ABLATIONS, Place, check_that_nothing_was_repeated, elsewhere, on_host

from ablations import claims, commands, executor_options, executors, handles, jobs, runner, stopping
from ablations.chosen import Chosen, choose_executor
from ablations.commands import cancel_runs
from ablations.console import PlainWatcher
from ablations.errors import UnknownName
from ablations.executors import _slurm_queue
from ablations.executors.base import Ending, Executor, Job
from ablations.launch import Remaining, launch
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
    place.hold(10)
    launcher = place.start("--workers", "2")
    place.wait_for_steps(2 * 10)
    said = cancel(place)
    assert "2 asked to stop: a checkpoint is kept, 2 withdrawn." in said
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert out.count("interrupted") >= 4 and "cancelled" in out, out
    assert sorted(row["status"] for row in place.status().values()) == ["interrupted"] * 2 + ["missing"] * 2
    place.release()
    assert place.run()[0] == 0
    check_that_nothing_was_repeated(place.said_steps(), 60)


@pytest.mark.slow
def test_cancel_stops_the_named_arm_alone(place):
    place.write(seeds=1)
    place.hold(10)
    launcher = place.start("--workers", "2")
    place.wait_for_steps(2 * 10)
    assert cancel(place, "long").startswith("long, seed 0: process")
    place.release()
    launcher.communicate(timeout=60)
    found = {variant: row["status"] for (variant, _), row in place.status().items()}
    assert found == {"baseline": "completed", "long": "interrupted"}
    assert cancel(place, "baseline") == "Nothing is queued or running.\n"


@pytest.mark.slow
@elsewhere
def test_a_run_on_another_host_sees_by_itself_that_it_was_cancelled(place):
    place.write(seeds=1)
    place.hold(3)
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


def test_where_slurm_cannot_be_asked_status_says_what_was_recorded(coin_study, tmp_path, monkeypatch):
    study, store = load_study(coin_study()), Store(tmp_path / "results")
    key, variant = run_keys(study)[0], expand(study)[0]
    folder = store.prepare(key, variant, study.experiment)
    handles.record(folder, "slurm", {"batch": "coin-1", "task": 3})
    (store.root / "slurm" / "coin-1").mkdir(parents=True)
    (store.root / "slurm" / "coin-1" / "job-17").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_slurm_queue, "queue", _slurm_queue.Queue)
    shown = jobs.standing(folder)
    assert shown.state is None
    assert shown.text.startswith("slurm, submitted 20")
    assert "squeue is not on this machine" in shown.text
    assert store.status(key.run_id) == "queued"
    (found,) = jobs.cancel(store, [key])  # and then it may be run elsewhere
    assert found.text.startswith("it will end itself when it begins or looks; slurm: squeue is not on this machine")
    assert (store.status(key.run_id), handles.asked_to_stop(folder)) == ("missing", True)


SHARING = """
study: shared
metric: test_f1
seeds: 1
baseline: {training.max_steps: 9000, training.schedule: constant}
ablations:
  longer: {set: {training.max_steps: 18000}}
"""


class Moon(Executor):
    """An executor whose jobs outlast everybody; a test says how they stand, and what is submitted runs at once."""

    outlasts = True
    endings: ClassVar = {}
    submitted: ClassVar = []
    left: ClassVar = []

    @classmethod
    def start(cls, options, work):
        return cls()

    def submit(self, run_dir):
        handles.record(run_dir, "moon", {})
        Moon.submitted.append(run_dir.name)
        runner.run(run_dir)
        Moon.endings[run_dir.name] = None
        return self.attach(run_dir, {})

    def leave(self):
        Moon.left.append(self)
        return 0

    @classmethod
    def attach(cls, run_dir, handle):
        return MoonJob(run_dir)

    def close(self):
        pass


class MoonJob(Job):
    def state(self):
        return "ended" if self.run_dir.name in Moon.endings else "queued"

    def ending(self):
        return Moon.endings.get(self.run_dir.name)

    def cancel(self):
        Moon.endings[self.run_dir.name] = Ending("stopped", "withdrawn")


@pytest.fixture
def moon(monkeypatch):
    """Handles of jobs on the moon are known."""
    kind = executors.executor_class
    monkeypatch.setattr(executors, "executor_class", lambda name: Moon if name == "moon" else kind(name))
    monkeypatch.setattr(Moon, "endings", {})
    monkeypatch.setattr(Moon, "submitted", [])
    monkeypatch.setattr(Moon, "left", [])


@pytest.fixture
def six(coin_study, tmp_path):
    """A study of six runs of milliseconds, all queued on the moon: the study, the store and their keys."""
    study, store = load_study(coin_study()), Store(tmp_path / "results")
    variants = {variant.name: variant for variant in expand(study)}
    for key in run_keys(study):
        folder = store.prepare(key, variants[key.variant], study.experiment, metric=study.metric)
        handles.record(folder, "moon", {})
    return study, store, run_keys(study)


def test_how_jobs_ended_while_nobody_watched_is_recorded_and_their_handles_are_gone(moon, six):
    _, store, keys = six
    folders = [store.run_dir(key.run_id) for key in keys]
    for folder in folders[:2]:
        (folder / "claim.json").write_text(json.dumps({**claims.own_claim(), "process_start": "0"}))  # a dead process
    Moon.endings[folders[0].name] = Ending("memory", "it took too much")
    Moon.endings[folders[1].name] = Ending("lost", "its node failed")
    Moon.endings[folders[2].name] = None
    jobs.settle(store, keys)
    statuses = [store.status(key.run_id) for key in keys]
    assert statuses == ["failed", "interrupted", "missing", "queued", "queued", "queued"]
    assert store.read_record(keys[0].run_id)["error"]["type"] == "OutOfMemory"
    assert [handles.submitted(folder) is not None for folder in folders] == [False] * 3 + [True] * 3
    assert store.unsettled(keys) == keys[1:]


def test_a_launch_follows_jobs_that_others_submitted_and_submits_what_has_come_to_nothing(moon, six):
    study, store, keys = six
    Moon.endings |= {key.run_id: Ending("lost", "gone") for key in keys[1:]}
    variants = {variant.name: variant for variant in expand(study)}
    remaining = Remaining(dict.fromkeys(variants), 1)

    class Elsewhere(PlainWatcher):
        def tick(self, snapshot):
            if snapshot.ended == 5 and keys[0].run_id not in Moon.endings:  # what others submitted runs only now
                runner.run(store.run_dir(keys[0].run_id))
                Moon.endings[keys[0].run_id] = None

    watching = Elsewhere(Console(file=io.StringIO()), study.metric)
    ends = launch(store, Moon(), keys, variants, study.experiment, remaining, watching, metric=study.metric)
    assert [end.status for end in ends] == ["completed"] * 6
    assert ends[-1].key == keys[0]
    assert Moon.submitted == [key.run_id for key in keys[1:]]
    assert len(list(store.root.glob("sacred/*/run.json"))) == 6


class Slow(Moon):
    """What is submitted there stays queued."""

    def submit(self, run_dir):
        handles.record(run_dir, "moon", {})
        Moon.submitted.append(run_dir.name)
        return self.attach(run_dir, {})


def detached(study, store, kind=Slow):
    out = Console(file=io.StringIO(), width=200)
    done = commands.run_study(study, store, out, None, Chosen(kind, None, detach=True), retry=False)
    return done, out.file.getvalue()


def test_a_launch_that_detaches_submits_what_nobody_has_and_leaves_it(moon, six):
    study, store, keys = six
    for key in keys[:4]:  # the others are queued already
        handles.forget(store.run_dir(key.run_id))
    done, said = detached(study, store)
    assert (done, len(Moon.left)) == (False, 1)
    assert Moon.submitted == [key.run_id for key in keys[:4]]
    assert "4 runs submitted.\n… 6 queued\n" in said
    assert "waiting for them" not in said
    done, said = detached(study, store)
    assert len(Moon.submitted) == 4
    assert "0 runs submitted.\n… 6 queued\n" in said
    for key in keys:  # lost, or done while nobody watched
        Moon.endings[key.run_id] = Ending("lost", "gone")
    runner.run(store.run_dir(keys[0].run_id))
    done, said = detached(study, store, Moon)
    assert Moon.submitted[4:] == [key.run_id for key in keys[1:]]
    assert detached(study, store)[0]  # nothing is left to do


def test_what_a_launch_that_detaches_submits_waits_for_no_other_run(moon, tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text(SHARING)
    study, store = load_study(tmp_path / "study.yaml"), Store(tmp_path / "results")
    monkeypatch.setattr(commands, "_prepare", lambda *arguments: None)
    _, said = detached(study, store)
    assert len(Moon.submitted) == 2
    assert "begins with the training of another" not in said
    told = [json.loads((store.run_dir(run) / "job.json").read_text())["settings"] for run in Moon.submitted]
    assert not any({"keeps", "takes_over"} & set(each) for each in told)


def test_only_runs_that_outlast_their_launch_can_be_left(coin_study, monkeypatch):
    study = load_study(coin_study())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UnknownName, match="executor local would end with whoever leaves them; ray and slurm know it"):
        choose_executor(study, "local", (), None, detach=True)
    with pytest.raises(UnknownName, match="with these options, runs of executor ray would end"):
        choose_executor(study, "ray", (), None, detach=True)
    assert choose_executor(study, "ray", ("address=10.0.0.7:6379",), None, detach=True).detach
    assert choose_executor(study, "slurm", (), None, detach=True).detach


def test_a_queued_job_that_is_cancelled_is_withdrawn_and_shown_as_missing(moon, six):
    study, store, keys = six
    out = io.StringIO()
    cancel_runs(study, store, ["loaded"], Console(file=out, width=200))
    assert "3 withdrawn." in out.getvalue()
    assert [store.status(key.run_id) for key in keys] == ["queued", "missing"] * 3


def test_a_run_that_was_told_to_stop_is_not_told_again_by_the_note_in_its_folder():
    with pytest.raises(stopping.Stopped), stopping.noted(), stopping.heeded(), stopping.at_safe_points() as wanted:
        os.kill(os.getpid(), signal.SIGTERM)
        runner._stop_unless_told()  # a second signal would raise here
        assert wanted()
        stopping.stop()


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
