"""What Slurm is asked for, and what it says, without any Slurm."""

import pytest

from ablations import executor_options
from ablations.executors import slurm as own
from ablations.executors._slurm_queue import Seen


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
