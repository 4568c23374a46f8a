"""Studies on a real Slurm of one host, on which all is inflicted that a cluster inflicts; all at the same time."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest
from walking import ABLATIONS, Place, check_that_nothing_was_repeated

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
SLURM = ("--executor", "slurm")
STEPS = 60


def option(**options):
    return [part for key, value in options.items() for part in ("-x", f"{key}={value}")]


def walked(size, seed):
    """Where a walk ends, from its definition."""
    return sum(random.Random(f"{seed}:{step}").gauss(0, size) for step in range(1, STEPS + 1))


def eventually(found, seconds=120):
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    return value


def begun(place):
    """How often each task was begun, over all batches: {(batch, task): times}."""
    outs = place.results.glob("slurm/*/*.out")
    return {(path.parent.name, path.stem): path.read_text().count("== begins") for path in outs}


def printed(place):
    """What Slurm printed of each run, one text for each time that it was submitted: {run: texts}."""
    texts = defaultdict(list)
    for path in place.results.glob("slurm/*/batch.json"):
        for task, run in enumerate(json.loads(path.read_text())["runs"]):
            out = path.with_name(f"{task}.out")
            texts[run].append(out.read_text() if out.exists() else "")
    return texts


def check_that_each_was_submitted_once(place):
    """Or once more for each time that its own task has said that Slurm did not take it back."""
    for run, texts in printed(place).items():
        refused = [text for text in texts if "could not be put back into the queue" in text]
        assert len(texts) <= 1 + len(refused), "\n".join([f"{run} was submitted {len(texts)} times:", *texts])


@pytest.fixture(scope="module")
def storm(slurm, tmp_path_factory):
    """A study whose launcher is killed, which loses a node, whose controller is restarted and killed, and which is
    preempted."""
    place = Place(tmp_path_factory.mktemp("storm")).write(pause_ms=50.0)
    place.hold(30)  # until all that has happened
    devices = place.folder / "devices"
    devices.mkdir()
    arguments = (*SLURM, *option(gpus=1, memory="400M", time=30, at_once=5))
    environment = {"WALK_DEVICES": str(devices)}
    place.first = place.start(*arguments, environment=environment)
    eventually(lambda: {" on n1,", " on n2,"} <= nodes(place) and place.count() > 100)
    place.first.kill()
    place.first.communicate()
    slurm.lose("n2")
    place.seen = eventually(lambda: with_states(place, "queued", "running"))
    slurm.restart_controller()
    slurm.crash_controller()
    place.second = place.start(*arguments, environment=environment)
    urgent = ("sbatch", "--parsable", "--partition=urgent", "--nodelist=n1", "--cpus-per-task=4", "--output=/dev/null")
    place.urgent = slurm.ask(*urgent, "--wrap=sleep 2").strip()
    eventually(lambda: "COMPLETED" in slurm.ask("squeue", "--states=all", "-h", "-o%T", "-j", place.urgent))
    slurm.restore("n2")
    place.release()
    yield place
    for launcher in (place.first, place.second):
        launcher.kill()


def nodes(place):
    """Where something has begun."""
    outs = [path.read_text() for path in place.results.glob("slurm/*/*.out")]
    return {f" on {node}," for node in ("n1", "n2") if any(f" on {node}," in text for text in outs)}


def with_states(place, *states):
    rows = place.status()
    return rows if set(states) <= {row["status"] for row in rows.values()} else None


@pytest.fixture(scope="module")
def limited(slurm, tmp_path_factory):
    """A study whose runs need more time than Slurm grants them at once."""
    place = Place(tmp_path_factory.mktemp("limited")).write(seeds=1, pause_ms=50.0)
    place.hold(20)
    place.launcher = place.start(*SLURM, *option(memory="400M", time=1, warn_s=15), "--only", "baseline")
    yield place
    place.launcher.kill()


@pytest.fixture(scope="module")
def causes(slurm, tmp_path_factory):
    """A study in which each run fails in its own way, on a machine without ``sacct``."""
    place = Place(tmp_path_factory.mktemp("causes"))
    kinds = ("error", "segfault", "sigkill", "greed")
    place.write("".join(f"{kind}: {{set: {{trouble.kind: {kind}}}}}\n" for kind in kinds), seeds=1)
    stub = place.folder / "bin" / "sacct"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2; exit 1\n")
    stub.chmod(0o755)
    path = os.pathsep.join([str(stub.parent), os.environ["PATH"]])
    place.launcher = place.start(*SLURM, *option(memory="400M", time=5), environment={"PATH": path})
    yield place
    place.launcher.kill()


@pytest.fixture(scope="module", autouse=True)
def at_once(limited, storm, causes):
    """They share the cluster, and go on while the first tests run; nothing is lost or forgotten of the last one."""


def said(launcher, code):
    out, _ = launcher.communicate(timeout=240)
    assert launcher.returncode == code, out
    return out


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_cancel_withdraws_what_is_queued_and_has_what_runs_keep_a_checkpoint_and_leaving_the_launcher_stops_nothing(
    slurm, place
):
    place.write(pause_ms=20.0, seeds=1)
    place.hold(10)
    launcher = place.start(*SLURM, *option(memory="400M", at_once=1))
    place.wait_for_steps(10, 120)
    launcher.send_signal(signal.SIGINT)
    out = said(launcher, 130)
    assert "goes on by itself" in out
    assert "keeps a checkpoint first" not in out
    place.hold(20)
    place.wait_for_steps(20)
    done = subprocess.run([*ABLATIONS, "cancel"], cwd=place.folder, capture_output=True, text=True, check=True)
    assert "1 asked to stop: a checkpoint is kept, 1 withdrawn." in done.stdout
    eventually(lambda: {row["status"] for row in place.status().values()} == {"interrupted", "missing"})
    (steps,) = place.said_steps().values()
    assert steps[-1][1] == "keeps"


def test_a_launch_that_detaches_submits_each_run_once_and_leaves_and_the_same_command_without_it_follows_them(
    slurm, place
):
    place.write(pause_ms=20.0, seeds=1)
    place.hold(10)
    arguments = (*SLURM, *option(memory="400M", time=5))
    for submitted in ("2 runs submitted.", "0 runs submitted."):
        code, out = place.run(*arguments, "--detach")
        assert code == 0, out
        assert submitted in out
        assert "ablations status shows how they stand, ablations cancel stops them." in out
    assert {row["status"] for row in place.status().values()} <= {"queued", "running"}
    place.wait_for_steps(10)
    place.release()
    code, out = place.run(*arguments)
    assert code == 0, out
    assert list(begun(place).values()) == [1, 1]
    check_that_nothing_was_repeated(place.said_steps(), STEPS)


def test_two_launchers_that_start_at_once_submit_each_run_once(slurm, place):
    place.write(seeds=2)
    launchers = [place.start(*SLURM, *option(memory="400M", time=5)) for _ in range(2)]
    for launcher in launchers:
        said(launcher, 0)
    assert sorted(begun(place).values()) == [1] * 4
    check_that_nothing_was_repeated(place.said_steps(), STEPS)


def test_what_slurm_refuses_is_said_in_its_words_and_nothing_stays_queued(slurm, place):
    place.write(seeds=1)
    (shown,) = re.findall(r"^ablations run (--executor slurm .+)$", PAGE.read_text(), flags=re.M)
    code, out = place.run(*shlex.split(shown))  # there is no partition of that name
    assert code == 3
    assert "invalid partition" in out.lower()
    assert {row["status"] for row in place.status().values()} == {"missing"}


def test_a_study_survives_its_launcher_its_controller_a_preemption_and_a_lost_node_with_the_table_of_an_unbroken_one(
    storm,
):
    assert "queued already" in said(storm.second, 0)
    expected = {
        (arm, seed): walked(size, seed) for arm, size in (("baseline", 1.0), ("long", 2.0)) for seed in range(3)
    }
    found = {key: record["scores"]["position"] for key, record in storm.records().items()}
    assert found == pytest.approx(expected, abs=1e-12)
    assert {row["status"] for row in storm.status().values()} == {"completed"}


def test_what_was_preempted_or_lost_goes_on_from_its_checkpoint_and_no_two_processes_ever_take_turns(storm):
    said_steps = storm.said_steps()
    assert len(said_steps) == 6
    check_that_nothing_was_repeated(said_steps, STEPS)


def test_a_second_launcher_takes_up_what_the_first_one_has_submitted(storm):
    check_that_each_was_submitted_once(storm)
    assert len(printed(storm)) == 6
    texts = [text for texts in printed(storm).values() for text in texts]
    earlier = [attempt for text in texts for attempt in text.split("== begins")[1:-1]]
    assert any("DUE TO PREEMPTION" in attempt for attempt in earlier)  # Slurm itself began these again
    assert any(" on n2," in attempt and "CANCELLED" not in attempt for attempt in earlier), earlier


def test_while_nobody_watches_status_shows_what_is_queued_and_what_runs(storm):
    states = [row["status"] for row in storm.seen.values()]
    assert states.count("queued") >= 1
    assert states.count("running") >= 1
    waiting = next(row for row in storm.seen.values() if row["status"] == "queued")
    assert waiting["progress"].startswith("slurm ")


def test_no_two_runs_ever_share_a_gpu(storm):
    used = sorted(path.name for path in (storm.folder / "devices").iterdir())
    assert set(used) <= {
        "n1-gpu-0",
        "n1-gpu-1",
        "n2-gpu-0",
        "n2-gpu-1",
    }  # each was held by one run at a time, or it failed
    assert len(used) >= 3


def test_a_run_that_is_told_of_its_time_limit_keeps_a_checkpoint_goes_back_into_the_queue_and_ends(limited):
    eventually(lambda: "its time was up" in "".join(*printed(limited).values()))
    limited.release()
    said(limited.launcher, 0)
    check_that_each_was_submitted_once(limited)
    assert sum(begun(limited).values()) >= 2
    check_that_nothing_was_repeated(limited.said_steps(), STEPS)
    assert limited.scores() == {("baseline", 0): {"position": pytest.approx(walked(1.0, 0), abs=1e-12)}}


def test_each_cause_is_told_apart_without_accounts_and_their_lack_is_said_at_the_start(causes):
    out = said(causes.launcher, 1)
    begin = out.index("Slurm keeps no accounts that can be asked (sacct: Slurm accounting storage is disabled)")
    assert begin < out.index("Slurm has")
    found = {arm: (row["status"], row["cause"]) for (arm, _), row in causes.status().items()}
    assert found["baseline"] == found["long"] == ("completed", None)
    assert found["error"] == ("failed", "ValueError: the walker fell")
    assert found["segfault"] == ("failed", "Crashed: crash in native code: killed by SIGSEGV")
    assert found["sigkill"] == ("interrupted", "Lost: killed by SIGKILL")
    assert found["greed"][0] == "failed"
    assert found["greed"][1].startswith("OutOfMemory: Slurm killed it for taking more memory than it was granted")
    records = [path.name for path in causes.results.glob("runs/*/record*.json")]
    assert len(records) == 6 + 2  # the lost one was tried three times
