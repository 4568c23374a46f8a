"""What Slurm is asked for, and what it says, without any Slurm."""

import json
import os

import pytest
from walking import Place

from ablations import executor_options, handles, jobs
from ablations.errors import AblationsError
from ablations.executors import _slurm_queue
from ablations.executors import slurm as own
from ablations.executors._slurm_queue import Queue, Seen
from ablations.executors.base import Unreachable, Work
from ablations.plan import RunKey
from ablations.store import FORMAT, RECORDED, Store


def test_options_become_parameters_of_sbatch():
    given = {"partition": "gpu", "gpus": 2, "time": "1-12", "memory": "16G", "sbatch": ["--qos=high", "--exclusive"]}
    assert executor_options.options("slurm", given, ["cpus=4"]).parameters() == {
        "partition": "gpu", "time": "1-12", "mem": "16G", "cpus-per-task": 4, "gpus-per-node": 2,
        "signal": "B:USR1@120", "requeue": True, "qos": "high", "exclusive": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time": "tomorrow"}, "time: expected text such as \"4:00:00\", found 'tomorrow'"),
        ({"memory": "16 GB"}, "memory: expected text such as 16G, found '16 GB'"),
        ({"sbatch": ["qos=high"]}, "sbatch: expected --name or --name=value, found 'qos=high'"),
        ({"sbatch": ["--mem=4G"]}, "sbatch: --mem has an option of its own: memory"),
        ({"sbatch": ["--array=0-3"]}, "sbatch: --array is not for a study to set"),
        ({"gpu": 1}, "gpu: unknown option of slurm 'gpu'; did you mean 'gpus'?"),
    ],
)
def test_options_that_slurm_or_we_would_misunderstand_are_refused(given, words):
    (found,) = [f"{key}: {message}" for key, message in executor_options.problems("slurm", given)]
    assert found.startswith(words)


def test_a_run_may_see_gpus_only_where_some_may_have_been_granted():
    assert not own.Options().grants_gpus
    assert own.Options(gpus=1).grants_gpus
    assert own.Options(sbatch=["--gres=gpu:a100:1"]).grants_gpus


@pytest.mark.parametrize(
    ("word", "reason", "printed", "kind"),
    [
        ("OUT_OF_MEMORY", "0:125", "", "memory"),
        ("FAILED", "0:9", "slurmstepd: error: StepId=6.batch exceeded memory limit (3 > 2), being killed", "memory"),
        ("FAILED", "0:9", "slurmstepd: error: Detected 1 oom_kill event in StepId=6.batch.", "memory"),
        ("FAILED", "0:9", "", "lost"),
        ("NODE_FAIL", "", "", "lost"),
        ("TIMEOUT", "0:0", "", "lost"),
        ("CANCELLED", "0:0", "", "stopped"),
        ("", "it is in Slurm's queue no more", "", "lost"),
    ],
)
def test_a_job_without_last_words_ended_as_slurm_says(word, reason, printed, kind):
    assert own.ending_of(Seen(word, reason), printed).kind == kind


@pytest.mark.parametrize(
    ("word", "state"),
    [("PENDING", "queued"), ("REQUEUE_HOLD", "queued"), ("COMPLETING", "running"), ("PREEMPTED", "ended")],
)
def test_slurms_words_for_states(word, state):
    assert Seen(word, "").state == state


def test_whoever_leaves_waits_until_slurm_has_everything(tmp_path, monkeypatch):
    answers = iter([Unreachable("sbatch: timed out"), "17"])

    def submit_array(folder, count, at_once, options):
        answer = next(answers)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    monkeypatch.setattr(own, "submit_array", submit_array)
    monkeypatch.setattr(own, "AGAIN_S", 0.0)
    monkeypatch.setattr(own, "WORDS_EVERY_S", 0.01)
    monkeypatch.setattr(own.slurm, "configured", lambda name: "")
    monkeypatch.setattr(own.Batch, "id", lambda self: self._id)
    said = []
    executor = own.SlurmExecutor(own.Options(), "coin", 2, said.append)
    folders = [tmp_path / "results" / "runs" / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
        executor.submit(folder)
    assert executor.leave() == 0
    assert said[0].startswith("Slurm does not answer; trying again")
    assert said[1].startswith("Slurm has 2 runs as job 17, coin-")
    assert [handles.submitted(folder).handle["task"] for folder in folders] == [0, 1]


@pytest.mark.parametrize("adopted", [False, True])
def test_a_job_of_another_process_waits_until_the_queue_was_seen_after_it_was_submitted(adopted, tmp_path, monkeypatch):
    asked, listed = [], []
    queue = Queue()
    monkeypatch.setattr(own.slurm, "queue", lambda: queue)
    monkeypatch.setattr(_slurm_queue, "ask", lambda *command: asked.append(command) or "\n".join(listed))
    run_dir, folder = tmp_path / "results" / "runs" / "a", tmp_path / "results" / "slurm" / "coin-1"
    run_dir.mkdir(parents=True)
    queue.look()  # before it was submitted: nothing is listed
    folder.mkdir(parents=True)
    (folder / "job-17").touch()
    handles.record(run_dir, "slurm", {"batch": "coin-1", "task": 0})
    listed.append("17_0|17|coin-1|PENDING|Priority")
    if adopted:
        job = own.SlurmJob(run_dir)
        assert job.adopt()
    else:
        job = own.SlurmExecutor.attach(run_dir, handles.submitted(run_dir).handle)
        assert len(asked) == 2, "what was seen before says nothing of it"
    assert job.state() == "queued"
    listed.clear()
    queue.began -= 100.0
    queue.look()
    assert job.state() == "ended"


def test_a_handle_that_has_been_replaced_meanwhile_is_not_forgotten(tmp_path, monkeypatch):
    store, key = Store(tmp_path / "results"), RunKey("baseline", 0, "c" * 64)
    run_dir = store.run_dir(key.run_id)
    run_dir.mkdir(parents=True)

    def attached(folder):
        handles.record(folder, "slurm", {"batch": "new", "task": 1})

    monkeypatch.setattr(jobs.executors, "attached", attached)
    jobs.settle(store, [key])
    assert handles.submitted(run_dir) is None, "without a handle nobody is asked"
    handles.record(run_dir, "slurm", {"batch": "old", "task": 1})
    jobs.settle(store, [key])
    assert handles.submitted(run_dir).handle["batch"] == "new"


def test_what_another_launch_has_had_completed_meanwhile_is_not_submitted(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "submit_array", lambda folder, count, at_once, options: "17")
    monkeypatch.setattr(own.slurm, "configured", lambda name: "")
    monkeypatch.setattr(own.Batch, "id", lambda self: self._id)
    said = []
    executor = own.SlurmExecutor(own.Options(), "coin", 2, said.append)
    submitted = []
    for name, status in (("a", "completed"), ("b", "interrupted"), ("c", None)):
        folder = tmp_path / "results" / "runs" / name
        folder.mkdir(parents=True)
        record = {key: kind() for key, kind in RECORDED.items()} | {"format": FORMAT, "status": status}
        if status is not None:
            (folder / "record.json").write_text(json.dumps(record))
        submitted.append(executor.submit(folder))
    executor.advance()
    assert said[0].startswith("Slurm has 2 runs as job 17")
    assert (submitted[0].state(), submitted[0].ending()) == ("ended", None)
    assert [bool(handles.submitted(job.run_dir)) for job in submitted] == [False, True, True]


@pytest.mark.parametrize("absent", ["sbatch", "srun"])
def test_a_machine_with_a_part_of_slurm_alone_is_told_what_it_lacks(absent, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr(own.shutil, "which", lambda name: None if name == absent else f"/bin/{name}")
    monkeypatch.setattr(own.SlurmExecutor, "__init__", lambda self, *_: None)
    with pytest.raises(AblationsError, match=f"needs sbatch and srun .*: no {absent} here"):
        own.SlurmExecutor.start(own.Options(), Work("walk", "walking:ex", tmp_path, 1, 1, print))


SBATCH = """#!/bin/sh
sed -n 's/.*--job-name=//p' "$1" >>{folder}/names
echo "Submitted batch job 17"
"""
SQUEUE = """#!/bin/sh
[ ! -f {folder}/names ] || for task in 0 1; do echo "17_$task|17|$(cat {folder}/names)|PENDING|Resources"; done
"""


@pytest.mark.slow
def test_a_launch_that_detaches_says_what_it_has_submitted_and_how_to_come_back_and_submits_nothing_twice(tmp_path):
    place = Place(tmp_path).write(seeds=1)
    programs = {"sbatch": SBATCH, "squeue": SQUEUE, "srun": "#!/bin/sh\n"}
    programs |= {"scontrol": "#!/bin/sh\necho 'MaxArraySize = 1001'\n", "sacct": "#!/bin/sh\n"}
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text.format(folder=tmp_path))
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])}
    command = ("--executor", "slurm", "--results", "other", "--detach")
    code, said = place.run(*command, environment=environment)
    assert code == 0, said
    assert "\nSlurm has 2 runs as job 17, walk-" in said
    assert said.endswith(
        "\n2 runs submitted.\n… 2 queued\n"
        "ablations status --results other shows how they stand, ablations cancel --results other stops them.\n"
        "The same command again submits what is due by then; without --detach it follows what runs.\n"
    )
    code, said = place.run(*command, environment=environment)
    assert (code, "\n0 runs submitted.\n… 2 queued\n" in said) == (0, True), said
    assert len((tmp_path / "names").read_text().splitlines()) == 1
    assert place.run("--detach")[0] == 2  # on this machine they would end
