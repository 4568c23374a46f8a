"""What every executor must do; a new file in ablations/executors/ is found and tested here."""

import json
import os
import signal
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from ablations import executor_options
from ablations.executors import attached, executor_class
from ablations.executors.base import Ending, Work
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study

SETTINGS = {"local": {"workers": 2}, "ray": {"gpus": 0.5}, "slurm": {"memory": "400M", "time": "5"}}
CLUSTERS = {"ray": "ray_cluster", "slurm": "slurm"}  # fixtures that bring up what an executor submits to


def executor_of(name, root=Path("results")):
    kind, options = executor_class(name), executor_options.options(name, SETTINGS.get(name, {}))
    at_once, threads = kind.shares(options, None, 6)
    return kind.start(options, Work("coin", "coin.experiment:ex", root, at_once, threads, print))


def param(name):
    return pytest.param(name, marks=[pytest.mark.slow] if executor_class(name).outlasts else [])


@pytest.fixture(params=map(param, executor_options.names()))
def executor(request, tmp_path):
    if request.param in CLUSTERS:
        request.getfixturevalue(CLUSTERS[request.param])
    with executor_of(request.param, tmp_path / "results") as made:
        yield made


@pytest.fixture
def folders(coin_study, tmp_path):
    def prepare(more=""):
        study, store = load_study(coin_study(more)), Store(tmp_path / "results")
        variants = {variant.name: variant for variant in expand(study)}
        keys = run_keys(study)
        return store, [store.prepare(key, variants[key.variant], study.experiment, threads=3) for key in keys]

    return prepare


def wait(jobs, seconds=120):
    until = time.monotonic() + seconds
    while any(job.state() != "ended" for job in jobs):
        assert time.monotonic() < until, [job.state() for job in jobs]
        time.sleep(0.02)


def enough(executor, submitted):
    """One seed an arm where a run takes seconds to begin, else all."""
    return submitted[: len(submitted) // 3] if executor.outlasts else submitted


@pytest.mark.slow
def test_every_submitted_folder_is_run_once(executor, folders):
    store, submitted = folders()
    submitted = enough(executor, submitted)
    wait([executor.submit(folder) for folder in submitted])
    assert {store.status(folder.name) for folder in submitted} == {"completed"}
    assert len(list(store.root.glob("sacred/*/run.json"))) == len(submitted)


@pytest.mark.slow
def test_a_failed_run_stops_none_of_the_others(executor, folders):
    store, submitted = folders("bad: {set: {trouble.kind: error}}")
    submitted = enough(executor, submitted)
    wait([executor.submit(folder) for folder in submitted])
    seeds = len(submitted) // 3
    assert sorted(store.status(folder.name) for folder in submitted) == ["completed"] * 2 * seeds + ["failed"] * seeds


def test_a_job_that_has_ended_can_be_cancelled_to_no_effect(executor, folders):
    store, submitted = folders()
    job = executor.submit(submitted[0])
    wait([job])
    job.cancel()
    assert (job.state(), store.status(submitted[0].name)) == ("ended", "completed")


def test_of_jobs_that_are_cancelled_while_they_wait_none_starts(executor, folders):
    store, submitted = folders("slow: {set: {trouble.kind: sleep}}")
    slow = [folder for folder in submitted if store_variant(folder) == "slow"]
    jobs = [executor.submit(folder) for folder in slow]  # local runs two of them at a time
    for job in reversed(jobs):
        job.cancel()
    wait(jobs)
    assert store.status(slow[2].name) == "missing"
    assert {store.status(folder.name) for folder in slow} <= {"missing", "interrupted"}


def test_jobs_that_outlast_whoever_submitted_them_are_found_again_and_cancelled_by_another(executor, folders):
    if not executor.outlasts:
        pytest.skip("its jobs end with whoever submitted them")
    store, submitted = folders("slow: {set: {trouble.kind: sleep}}")
    slow = [folder for folder in submitted if store_variant(folder) == "slow"]
    with executor:
        jobs = [executor.submit(folder) for folder in (submitted[0], slow[0])]
        assert {job.state() for job in jobs} <= {"queued", "running"}
    again = [attached(job.run_dir) for job in jobs]
    wait(again[:1])
    assert store.status(submitted[0].name) == "completed"
    until = time.monotonic() + 120
    while not (slow[0] / "progress.json").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert again[1].state() == "running"
    again[1].cancel()
    wait(again[1:])
    assert store.status(slow[0].name) in ("interrupted", "queued")
    assert again[1].ending().kind == "stopped"


def test_a_killed_process_frees_its_slot_and_says_how_it_ended(folders):
    store, submitted = folders("bad: {set: {trouble.kind: kill}}")
    with executor_of("local") as executor:
        jobs = [executor.submit(folder) for folder in submitted]
        wait(jobs)
        endings = {store.status(job.run_dir.name): job.ending() for job in jobs}
    assert endings == {"completed": None, "interrupted": Ending("lost", "killed by SIGKILL")}


@pytest.mark.slow
def test_runs_whose_server_is_killed_at_once_go_on_and_are_told_from_lost_ones(folders):
    store, submitted = folders("slow: {set: {trouble.kind: sleep}}")
    slow = [folder for folder in submitted if store_variant(folder) == "slow"]
    with executor_of("local") as executor:
        jobs = [executor.submit(folder) for folder in (slow[0], submitted[0], submitted[1])]
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        wait(jobs[1:])
        assert [store.status(folder.name) for folder in submitted[:2]] == ["completed"] * 2
        assert jobs[0].state() == "running"
        jobs[0].cancel()
        wait(jobs[:1])
    assert store.status(slow[0].name) == "interrupted"
    attempts = [json.loads((job.run_dir / "job.json").read_text())["attempt"] for job in jobs]
    assert attempts == [1, 1, 1]


def test_cancelling_ends_a_running_job_and_keeps_a_queued_one_from_starting(folders):
    store, submitted = folders("slow: {set: {trouble.kind: sleep}}")
    slow = [folder for folder in submitted if store_variant(folder) == "slow"]
    with executor_of("local") as executor:
        jobs = [executor.submit(folder) for folder in slow]
        until = time.monotonic() + 120
        while not all((folder / "progress.json").exists() for folder in slow[:2]) and time.monotonic() < until:
            time.sleep(0.02)
        assert [job.state() for job in jobs] == ["running", "running", "queued"]
        for job in jobs:
            job.cancel()
        wait(jobs)
    assert [store.status(folder.name) for folder in slow] == ["interrupted", "interrupted", "missing"]


def test_what_a_run_prints_is_in_its_log(folders):
    _, submitted = folders("bad: {set: {trouble.kind: error}}")
    bad = next(folder for folder in submitted if store_variant(folder) == "bad")
    with executor_of("local") as executor:
        wait([executor.submit(bad)])
    assert "the coin stood on its edge" in (bad / "log.txt").read_text()


def test_each_run_sees_the_gpu_of_its_slot_and_its_share_of_threads(folders):
    from ablations.executors.local import LocalExecutor

    _, submitted = folders()
    with LocalExecutor(workers=2, threads=1, gpus=["5", "GPU-1a2b"], experiment="coin.experiment:ex") as executor:
        wait([executor.submit(folder) for folder in submitted])
    seen = [(folder / "log.txt").read_text().split("seen: ")[1].split() for folder in submitted]
    assert {gpu for gpu, _ in seen} == {"5", "GPU-1a2b"}
    assert {threads for _, threads in seen} == {"3"}


def test_a_run_that_somebody_else_has_is_left_to_them(folders):
    from ablations.claims import claimed

    store, submitted = folders()
    with executor_of("local") as executor, claimed(submitted[0]):
        job = executor.submit(submitted[0])
        wait([job])
        assert job.ending() == Ending("held", "left to the process that runs it already")
        assert store.status(submitted[0].name) == "running"
        assert "Traceback" not in (submitted[0] / "log.txt").read_text()


def store_variant(folder):
    return json.loads((folder / "job.json").read_text())["variant"]
