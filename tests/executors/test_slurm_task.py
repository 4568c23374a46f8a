"""What minds a run on a node, without any Slurm: real processes and signals, and a ``scontrol`` of the test's own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from walking import Place, check_that_nothing_was_repeated

from ablations import claims, handles
from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import load_study

pytestmark = pytest.mark.slow


class Node:
    """A run's folder, the batch it is in, and the program that minds it."""

    def __init__(self, folder, more="", gpus=0, pause_ms=20.0):
        self.place = Place(folder).write(more, seeds=1, pause_ms=pause_ms)
        study, store = load_study(folder / "study.yaml"), Store(folder / "results")
        self.store, self.key = store, run_keys(study)[-1]
        variants = {variant.name: variant for variant in expand(study)}
        self.run_dir = store.prepare(self.key, variants[self.key.variant], study.experiment, metric="position")
        self.batch = folder / "results" / "slurm" / "walk-1"
        self.batch.mkdir(parents=True)
        content = {"format": 1, "runs": [self.run_dir.name], "gpus": gpus, "may_see_gpus": bool(gpus)}
        (self.batch / "batch.json").write_text(json.dumps(content))
        self.asked = folder / "asked.txt"
        self.scontrol = folder / "bin" / "scontrol"
        self.scontrol.parent.mkdir()
        self.answer('kill -TERM "$PPID"')  # as Slurm ends a job that it puts back

    def answer(self, then):
        self.scontrol.write_text(f'#!/bin/sh\necho "$@" >>{self.asked}\n{then}\n')
        self.scontrol.chmod(0o755)

    def begin(self, **environment):
        path = os.pathsep.join([str(self.scontrol.parent), os.environ["PATH"]])
        told = {
            "PATH": path,
            "WALK_LEDGER": str(self.place.ledger),
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "0",
        }
        command = [sys.executable, "-m", "ablations.executors._slurm_task", str(self.batch)]
        return subprocess.Popen(
            command,
            env={**os.environ, **told, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process):
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def last_words(self):
        path = self.batch / "0.json"
        return json.loads(path.read_text()) if path.exists() else None


def test_at_its_time_limit_a_run_keeps_a_checkpoint_and_asks_to_go_back_into_the_queue_and_goes_on(tmp_path):
    node = Node(tmp_path)
    process = node.begin()
    node.place.wait_for_steps(15)
    process.send_signal(signal.SIGUSR1)
    assert node.finish(process)[0] == 130
    assert node.asked.read_text() == "requeue 7_0\n"
    assert node.last_words is None
    assert node.store.status(node.key.run_id) == "interrupted"
    assert node.finish(node.begin(SLURM_RESTART_COUNT="1"))[0] == 0
    assert node.last_words == {"format": 1, "kind": None, "text": ""}
    check_that_nothing_was_repeated(node.place.said_steps(), 60)


def test_however_often_slurm_says_it_a_run_is_told_once_and_reaches_its_next_safe_point(tmp_path):
    node = Node(tmp_path, pause_ms=400.0)
    process = node.begin()
    node.place.wait_for_steps(2)
    for sent in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        process.send_signal(sent)
        time.sleep(0.05)
    assert node.finish(process)[0] == 130
    (entries,) = node.place.said_steps().values()
    assert entries[-1][1] == "keeps"
    assert not node.asked.exists()  # Slurm, which preempts, puts it back itself
    assert node.last_words is None


def test_where_slurm_does_not_put_it_back_it_says_so_to_whoever_watches(tmp_path):
    node = Node(tmp_path)
    node.answer("echo Requeue is off >&2; exit 1")
    process = node.begin()
    node.place.wait_for_steps(15)
    process.send_signal(signal.SIGUSR1)
    assert node.finish(process)[0] == 130
    assert node.last_words["kind"] == "unfinished"
    assert "Requeue is off" in node.last_words["text"]


def test_while_the_controller_is_away_it_is_asked_again_to_put_the_run_back(tmp_path):
    node = Node(tmp_path)
    away = "Unexpected message received for job 7_0"  # Slurm 22.05 says so of an array when nothing answers
    node.answer(f'[ "$(wc -l <{node.asked})" = 1 ] && {{ echo {away} >&2; exit 1; }}; kill -TERM "$PPID"')
    process = node.begin()
    node.place.wait_for_steps(15)
    process.send_signal(signal.SIGUSR1)
    code, said = node.finish(process)
    assert (code, node.last_words) == (130, None)
    assert node.asked.read_text() == "requeue 7_0\n" * 2
    assert f"is asked again (scontrol: {away})" in said


def test_where_slurm_heard_it_although_its_answer_was_lost_it_is_put_back_once(tmp_path):
    node = Node(tmp_path)
    answers = '[ "$(wc -l <{0})" = 1 ] && {{ echo Zero Bytes were transmitted or received >&2; exit 1; }}'
    node.answer(answers.format(node.asked) + "; echo Job is pending execution for job 7_0 >&2; exit 1")
    process = node.begin()
    node.place.wait_for_steps(15)
    process.send_signal(signal.SIGUSR1)
    until = time.monotonic() + 60
    while not node.asked.exists() or len(node.asked.read_text().splitlines()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(2)
    assert process.poll() is None  # it waits for Slurm to take it off its node
    process.send_signal(signal.SIGTERM)
    assert node.finish(process)[0] == 130
    assert node.last_words is None


def test_a_run_that_is_preempted_before_it_can_heed_it_is_left_to_slurm(tmp_path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ablations.plan' and 'ablations.runner' in sys.orig_argv:\n"
        f"            open({str(slow / 'begun')!r}, 'w').close()\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    node = Node(tmp_path)
    process = node.begin(PYTHONPATH=os.pathsep.join([str(slow), os.environ["PYTHONPATH"]]))
    until = time.monotonic() + 60
    while not (slow / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert node.finish(process)[0] == 130
    assert (node.place.count(), node.last_words) == (0, None)


def test_a_run_that_gets_no_further_within_its_time_limit_does_not_go_round_for_ever(tmp_path):
    node = Node(tmp_path, "stuck: {set: {trouble.kind: linger, walk.every_steps: 60}}")
    process = node.begin()
    node.place.wait_for_steps(30)
    time.sleep(0.5)  # it lingers in its thirtieth step, and no checkpoint is ever kept
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    child = claims.read_json(node.run_dir / "claim.json")["pid"]
    os.kill(child, signal.SIGINT)
    assert node.finish(process)[0] == 130
    assert node.last_words["kind"] == "stuck"
    assert not node.asked.exists()


def test_a_run_that_is_killed_is_recorded_on_its_node_though_nobody_watches(tmp_path):
    node = Node(tmp_path, "dies: {set: {trouble.kind: segfault}}")
    assert node.finish(node.begin())[0] == 128 + signal.SIGSEGV
    assert node.store.read_record(node.key.run_id)["error"]["type"] == "Crashed"
    assert node.last_words["kind"] == "crashed"


def test_a_run_whose_old_process_still_lives_is_not_begun_until_that_has_ended(tmp_path):
    node = Node(tmp_path)
    with claims.claimed(node.run_dir):
        process = node.begin()
        time.sleep(2)
        assert process.poll() is None
        assert node.place.count() == 0
    assert node.finish(process)[0] == 0
    check_that_nothing_was_repeated(node.place.said_steps(), 60)


def test_a_job_whose_gpu_is_not_named_goes_back_rather_than_share_one_and_one_without_gpus_sees_none(tmp_path):
    devices = tmp_path / "devices"
    devices.mkdir()
    environment = {"WALK_DEVICES": str(devices), "SLURMD_NODENAME": "n1"}
    node = Node(tmp_path, gpus=1, pause_ms=0.0)
    assert node.finish(node.begin(**environment))[0] == 130
    assert (node.place.count(), node.asked.read_text()) == (0, "requeue 7_0\n")
    assert node.finish(node.begin(**environment, CUDA_VISIBLE_DEVICES="3"))[0] == 0
    (tmp_path / "other").mkdir()
    other = Node(tmp_path / "other", pause_ms=0.0)
    assert other.finish(other.begin(**environment))[0] == 0
    assert sorted(path.name for path in devices.iterdir()) == ["n1-gpu-3", "n1-gpu-none"]


def test_a_run_that_was_cancelled_while_it_was_queued_does_not_begin(tmp_path):
    node = Node(tmp_path)
    handles.ask_to_stop(node.run_dir)
    assert node.finish(node.begin())[0] == 130
    assert (node.place.count(), node.last_words["kind"]) == (0, "stopped")
