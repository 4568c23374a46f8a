"""Runs on a real Ray cluster whose machines are pretended, in a network of its own; real losses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from walking import ABLATIONS, Place, check_that_nothing_was_repeated, kill

from ablations import executor_options, handles
from ablations.claims import process_start
from ablations.errors import AblationsError, UnknownName
from ablations.executors import ray as on_ray
from ablations.executors.base import Work
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def started(tmp_path, said=print, **options):
    work = Work("coin", "coin.experiment:ex", tmp_path / "results", 9, 3, said)
    return on_ray.RayExecutor.start(executor_options.options("ray", options), work)


def prepared(path, tmp_path):
    study, store = load_study(path), Store(tmp_path / "results")
    variants = {variant.name: variant for variant in expand(study)}
    return store, [store.prepare(key, variants[key.variant], study.experiment, threads=3) for key in run_keys(study)]


def until(is_so, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def keepers():
    """The processes of actors that keep runs."""
    return [each for each in psutil.process_iter(["cmdline"]) if "ray::Keeper" in " ".join(each.info["cmdline"] or ())]


# -- what it takes, and what it says --------------------------------------------------------------------------


def test_runs_that_ask_for_half_a_gpu_share_one_and_end_or_never_begin_when_they_are_cancelled(
    coin_study, tmp_path, ray_cluster
):
    store, folders = prepared(coin_study("slow: {set: {trouble.kind: sleep}}"), tmp_path)
    slow = [folder for folder in folders if json.loads((folder / "job.json").read_text())["variant"] == "slow"]
    said = []
    with started(tmp_path, said.append, address=ray_cluster.address, cpus=2, gpus=0.5) as executor:
        jobs = [executor.submit(folder) for folder in slow]
        until(lambda: sum((folder / "progress.json").exists() for folder in slow) == 2)
        assert sorted(job.state() for job in jobs) == ["queued", "running", "running"]
        seen = [path.read_text().split("seen: ")[1].split() for path in tmp_path.glob("results/runs/*/log.txt")]
        for job in jobs:
            job.cancel()
        until(lambda: all(job.state() == "ended" for job in jobs))
    for folder in slow:
        handles.forget(folder)  # as whoever launches does
    assert seen == [["0", "3"]] * 2  # the GPU, and the threads that the folder names
    assert sorted(store.status(folder.name) for folder in slow) == ["interrupted", "interrupted", "missing"]
    assert said == [
        f"Ray cluster at {ray_cluster.address}, machines that fit: 1; a run takes 2 CPU, 0.5 GPU; 2 fit at a time."
    ]


def test_what_no_machine_has_is_said_at_once_with_what_they_have(tmp_path, ray_cluster):
    began = time.monotonic()
    with pytest.raises(AblationsError) as error:
        started(tmp_path, address=ray_cluster.address, gpus=3, memory_gb=1, resources=["licence=1"])
    words = str(error.value)
    assert "a run asks for 1 CPU, 3 GPU, 1 GB memory, 1 licence, and no machine of the cluster has that:" in words
    assert ": 4 CPU, 2 GPU, " in words
    assert time.monotonic() - began < 20


def test_what_no_machine_has_any_more_is_lost_with_what_they_have(coin_study, tmp_path, ray_cluster, monkeypatch):
    monkeypatch.setattr(on_ray, "GRACE_S", 0.0)
    monkeypatch.setattr(on_ray, "LOOK_EVERY_S", 0.0)
    _, folders = prepared(coin_study(), tmp_path)
    with started(tmp_path, address=ray_cluster.address) as executor:
        executor._asked["licence"] = 1.0  # as if the machine that had it were gone
        job = executor.submit(folders[0])
        until(lambda: job.state() == "ended", 20)
    assert job.ending().kind == "lost"
    assert "a run asks for 1 CPU, 1 GPU, 1 licence, and no machine of the cluster has that:" in job.ending().text


def test_a_machine_that_does_not_see_the_results_is_named_before_anything_runs(tmp_path, ray_cluster):
    hidden = tmp_path / "results"
    hidden.mkdir()
    ray = Path(sys.executable).parent / "ray"
    start = f"{ray} start --block --address={ray_cluster.address} --num-cpus=1 --resources='{{\"blind\": 1}}'"
    start += f" --object-store-memory={ray_cluster.OBJECTS_BYTES}"
    command = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {hidden} && exec {start}"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as machine:
        try:
            until(lambda: blind_error(tmp_path, ray_cluster.address) is not None)
            error = blind_error(tmp_path, ray_cluster.address)
        finally:
            os.killpg(machine.pid, signal.SIGTERM)
    assert f"every machine that runs must see the folder of results {hidden}" in error
    assert f"does not see what was written to {hidden} (No such file or directory)" in error


def blind_error(tmp_path, address):
    """What is said of the machine that sees nothing, None while there is none."""
    with pytest.raises(AblationsError) as error:
        started(tmp_path, address=address, gpus=0, resources=["blind=1"])
    return None if "no machine of the cluster has that" in str(error.value) else str(error.value)


def test_an_address_where_nothing_answers_is_said_at_once(lonely_network, tmp_path):
    began = time.monotonic()
    with pytest.raises(AblationsError, match=r"nothing answers at 127.0.0.1:1: .*refused; expected host:port"):
        started(tmp_path, address="127.0.0.1:1")
    assert time.monotonic() - began < 10


def test_without_ray_the_extra_that_brings_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AblationsError, match=r"pip install 'ablations\[ray\]'"):
        started(tmp_path, address="127.0.0.1:1")


def test_options_that_ray_would_refuse_are_refused_before_anything_runs():
    wrong = {
        "gpus=1.5": "gpus: expected a whole number or a part of one GPU, found 1.5",
        "resources=licence": "resources: expected name=amount, found 'licence'",
        "address=ray://head:10001": "address: expected host:port, auto or local, found 'ray://head:10001'",
    }
    for typed, words in wrong.items():
        with pytest.raises(UnknownName) as error:
            executor_options.options("ray", {}, [typed])
        assert words in str(error.value)


# -- losses ---------------------------------------------------------------------------------------------------


def on(cluster, *options):
    typed = [f"address={cluster.address}", "variables=WALK_LEDGER", *options]
    return ["--executor", "ray", *(text for option in typed for text in ("-x", option))]


def processes(place):
    """Those that have said something of their steps."""
    return {process for said in place.said_steps().values() for process, *_ in said}


def test_a_run_whose_worker_and_then_whose_machine_is_lost_goes_on_from_its_checkpoints(place, ray_cluster):
    place.write(pause_ms=20.0, seeds=1)
    place.hold(20)
    doomed = ray_cluster.add(doomed=1)
    launcher = place.start("--only", "baseline", *on(ray_cluster, "resources=doomed=1"))
    place.wait_for_steps(15)
    keepers()[0].kill()
    until(lambda: len(processes(place)) == 2)
    ray_cluster.kill(doomed)
    until(lambda: not any(map(process_start, processes(place))))  # it notices by itself; released, it would go on
    place.release()
    spare = ray_cluster.add(doomed=1)
    said, _ = launcher.communicate(timeout=240)
    ray_cluster.kill(spare)
    assert launcher.returncode == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert [record["attempt"] for record in place.records().values()] == [3]


def test_runs_go_on_without_their_launcher_and_can_be_followed_or_cancelled_by_another(place, ray_cluster):
    place.write("quick: {set: {walk.pause_ms: 1.0, walk.size: 3.0}}", pause_ms=20.0, seeds=1)
    place.hold(10)
    launcher = place.start("--only", "quick", *on(ray_cluster, "gpus=2"))
    place.wait_for_steps(10)
    kill(launcher.pid)
    launcher.communicate(timeout=240)
    place.hold(20)
    place.wait_for_steps(20)
    standing = {variant: row["status"] for (variant, _), row in place.status().items()}
    assert standing == {"baseline": "running", "long": "missing", "quick": "queued"}
    done = subprocess.run(
        [*ABLATIONS, "cancel", "quick"], cwd=place.folder, capture_output=True, text=True, timeout=240, check=True
    )
    assert "1 withdrawn" in done.stdout
    place.release()
    code, said = place.run("--only", "quick", *on(ray_cluster, "gpus=0.5"))
    assert code == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert [record["attempt"] for record in place.records().values()] == [1, 1]


def test_a_launch_that_detaches_leaves_what_the_cluster_has_and_says_what_waits_for_its_turn(place, ray_cluster):
    place.write(pause_ms=20.0, seeds=1)
    place.hold(10)
    code, said = place.run("--detach", *on(ray_cluster, "workers=1"))
    assert code == 0, said
    assert "1 run submitted.\n1 not: they wait for their turn" in said
    place.wait_for_steps(10)
    assert [row["status"] for row in place.status().values()] == ["running", "missing"]
    code, said = place.run("--detach", *on(ray_cluster))
    assert (code, "1 run submitted.\n" in said) == (0, True), said
    place.release()
    code, said = place.run(*on(ray_cluster))
    assert code == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)


def test_a_cluster_of_this_machine_is_seen_by_it_alone_stops_with_checkpoints_and_leaves_nothing_behind(
    place, lonely_network
):
    place.write("slow: {set: {walk.pause_ms: 60.0, walk.size: 3.0}}", seeds=1)
    parent = Path("/tmp") / f"r{os.getpid()}"  # sockets below it have a short name
    parent.mkdir()
    own = {"TMPDIR": str(parent), "RAY_ADDRESS": ""}
    try:
        launcher = place.start("--executor", "ray", "--workers", "2", "-x", "variables=WALK_LEDGER", environment=own)
        until(lambda: place.said_steps()["3.0", "0"] and len(place.records()) == 2)
        place.hold(0)
        listening = {each.laddr.ip for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        launcher.send_signal(signal.SIGTERM)
        said, _ = launcher.communicate(timeout=240)
        assert launcher.returncode == 130, said
        assert list(parent.iterdir()) == []
    finally:
        shutil.rmtree(parent)
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert sorted(row["status"] for row in place.status().values()) == ["completed", "completed", "interrupted"]
    place.release()
    code, said = place.run()  # begun there, gone on with here
    assert code == 0, said
    check_that_nothing_was_repeated(place.said_steps(), 60)
