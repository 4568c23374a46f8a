"""A run that was broken off and taken up again ends with the numbers of one that was not: on a CPU to the bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from tiny import CPU, config_of, trained

from ablations.naming.checkpoints import Checkpoints
from ablations.naming.experiment import checkpoints_of
from ablations.plan import RunKey, Variant, config_hash
from ablations.runner import MetricsLog
from ablations.schema import flatten
from ablations.store import Store, claimed, read_json, read_metrics

pytestmark = pytest.mark.usefixtures("deterministic")

CONFIG = config_of(
    decoder={"dropout": 0.1}, training={"max_steps": 40}, evaluation={"every_steps": 10, "train_samples": 30}
)


class Broken(Exception):
    """The end of an attempt."""


def breaking(at):
    def hook(step, model, batch):
        if step == at:
            raise Broken

    return hook


def at(folder, key="run"):
    return Checkpoints(folder / "checkpoint" / "last.pt", key)


def broken(config, folder, step, log=None):
    with pytest.raises(Broken):
        trained(config, log=log, checkpoints=at(folder), before_step=breaking(step))


def in_a_file(log):
    """The log as the runner keeps it: what is announced to be measured again is dropped."""
    kept = []
    for name, step, value in log:
        if name == "rewind":
            kept = [entry for entry in kept if entry[1] <= step]
        else:
            kept.append((name, step, value))
    return [entry for entry in kept if entry[0] != "steps"]


def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(tmp_path):
    expected, expected_log = trained(CONFIG)
    log = []
    broken(CONFIG, tmp_path, 17, log)
    broken(CONFIG, tmp_path, 35, log)
    outcome, log = trained(CONFIG, log=log, checkpoints=at(tmp_path))
    assert outcome.resumed_at == [10, 30]
    assert outcome.scores == expected.scores
    assert outcome.selected_step == expected.selected_step
    assert outcome.test.predictions == expected.test.predictions
    assert in_a_file(log) == in_a_file(expected_log)
    assert {name: outcome.cost[name] for name in ("flops", "parameters", "steps")} == {
        name: expected.cost[name] for name in ("flops", "parameters", "steps")
    }


@pytest.mark.slow
def test_a_run_that_rolls_back_is_resumed_with_what_it_has_skipped(tmp_path):
    config = config_of(training={"max_steps": 40, "on_failure": "rollback"}, evaluation={"every_steps": 10})
    bad = []

    def spoil(step, model, batch):
        if step == 25 and not bad:
            bad.append(batch.rows.tolist())
        if batch.rows.tolist() in bad:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))

    events, unbroken = [], []
    expected, _ = trained(config, before_step=spoil, events=unbroken)

    def spoil_and_break(step, model, batch):
        spoil(step, model, batch)
        if step == 28:
            raise Broken

    with pytest.raises(Broken):
        trained(config, checkpoints=at(tmp_path), before_step=spoil_and_break)
    outcome, _ = trained(config, checkpoints=at(tmp_path), before_step=spoil, events=events)
    assert outcome.resumed_at == [20]
    assert outcome.scores == expected.scores
    assert [event["action"] for event in events] == ["rolled back"]
    assert events == unbroken


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_left_aside(tmp_path, capsys):
    broken(CONFIG, tmp_path, 17)
    outcome, _ = trained(CONFIG, checkpoints=at(tmp_path, "other"))
    assert outcome.resumed_at == []
    assert "a checkpoint is left aside: it is of another run" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
@pytest.mark.slow
def test_a_damaged_checkpoint_is_left_aside(tmp_path, capsys, damage):
    broken(CONFIG, tmp_path, 17)
    file = tmp_path / "checkpoint" / "last.pt"
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes(each ^ 255 for each in content[middle : middle + 64]) + content[middle + 64 :]
    file.write_bytes({"cut": content[:middle], "flipped": flipped, "text": b"no checkpoint", "empty": b""}[damage])
    outcome, _ = trained(CONFIG, checkpoints=at(tmp_path))
    assert outcome.resumed_at == []
    assert "a checkpoint is left aside: it is unreadable" in capsys.readouterr().err


def test_a_checkpoint_that_runs_code_is_not_loaded(tmp_path):
    """A pickle can call anything; only tensors and plain values are taken."""

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    file = tmp_path / "last.pt"
    torch.save({"format": 1, "key": "run", "model": Hostile()}, file)
    assert Checkpoints(file, "run").load() is None
    assert not (tmp_path / "touched").exists()


def test_a_full_disk_leaves_the_run_going_and_able_to_return(tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    checkpoints = at(tmp_path)
    checkpoints.save({"step": 1})
    monkeypatch.setattr(torch, "save", full)
    checkpoints.save({"step": 2, "weights": [torch.ones(2)]})
    assert checkpoints.load()["step"] == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_what_is_kept_in_memory_does_not_change_with_the_model(tmp_path):
    weights, checkpoints = torch.ones(3), Checkpoints()
    checkpoints.save({"weights": {"a": weights}})
    weights.zero_()
    checkpoints.load()["weights"]["a"].zero_()
    assert checkpoints.load()["weights"]["a"].tolist() == [1.0, 1.0, 1.0]
    assert not checkpoints.lasting


def test_a_run_outside_a_folder_writes_no_file(monkeypatch):
    monkeypatch.delenv("ABLATIONS_RUN_KEY", raising=False)
    assert not checkpoints_of(CPU, "data").lasting


@pytest.fixture
def folder(tmp_path):
    """A run's folder while the run is claimed."""
    with claimed(tmp_path):
        yield tmp_path


def test_a_log_goes_on_where_the_checkpoint_was_made(folder):
    with MetricsLog(folder) as log:
        for step in range(1, 6):
            log.add("loss", 1 / step, step)
    first = read_metrics(folder / "metrics.jsonl")
    with MetricsLog(folder) as log:
        log.add("steps", 6, 0)
        log.add("rewind", 3, 3)
        for step in range(4, 7):
            log.add("loss", 1 / step, step)
    entries = read_metrics(folder / "metrics.jsonl")
    assert [(name, step, value) for name, step, value, _ in entries] == [
        ("loss", step, 1 / step) for step in range(1, 7)
    ]
    assert entries[:3] == first[:3]
    assert entries[3][3] >= first[2][3]  # seconds go on from those of the checkpoint
    assert json.loads((folder / "progress.json").read_text())["step"] == 6


def test_a_log_of_an_attempt_from_scratch_begins_anew(folder):
    for values in ([1.0, 2.0], [3.0]):
        with MetricsLog(folder) as log:
            for step, value in enumerate(values):
                log.add("loss", value, step)
    assert [value for _, _, value, _ in read_metrics(folder / "metrics.jsonl")] == [3.0]
    with MetricsLog(folder):
        pass  # failed before its first value
    assert read_metrics(folder / "metrics.jsonl") == []


EXPERIMENT = "ablations.naming.experiment:ex"


def prepared(store, seed=0, training=()):
    config = config_of(
        decoder={"dropout": 0.1},
        training={"max_steps": 600, **dict(training)},
        evaluation={"every_steps": 50, "train_samples": 30},
    )
    flat = flatten(dataclasses.asdict(config))
    hashed = config_hash(EXPERIMENT, flat)
    variant = Variant(name="baseline", ablation=None, group="", changes={}, config=flat, config_hash=hashed, label="")
    return store.prepare(RunKey("baseline", seed, hashed), variant, EXPERIMENT, threads=1)


def started(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "ablations.runner", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def curves(folder):
    entries = read_metrics(folder / "metrics.jsonl")
    return [(name, step, value) for name, step, value, _ in entries if name != "tokens_per_s"]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_started_again_and_ends_with_the_scores_of_an_unbroken_one(tmp_path, sent):
    unbroken, store = prepared(Store(tmp_path / "unbroken")), Store(tmp_path / "killed")
    with started(unbroken) as process:
        assert process.wait(120) == 0, process.stdout.read().decode()
    folder = prepared(store)
    with started(folder) as process:
        until = time.monotonic() + 120
        while (read_json(folder / "progress.json") or {"step": 0})["step"] < 150:
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, sent)
        process.wait(60)
    assert store.status(folder.name) == "interrupted"
    assert (folder / "checkpoint" / "last.pt").exists()

    prepared(store)
    with started(folder) as process:
        said = process.stdout.read().decode()
        assert process.wait(120) == 0, said
    assert "left aside" not in said
    first, again = (json.loads((each / "record.json").read_text()) for each in (unbroken, folder))
    assert first["info"]["resumed_at"] == []
    [step] = again["info"]["resumed_at"]
    assert step >= 50
    assert again["scores"] == first["scores"]
    assert again["attempt"] == 2
    assert curves(folder) == curves(unbroken)  # each step once, and no step missing
    assert (folder / "test_examples.jsonl.gz").read_bytes() == (unbroken / "test_examples.jsonl.gz").read_bytes()
    assert not (folder / "checkpoint").exists()


@pytest.mark.slow
def test_a_diverged_run_keeps_its_events_and_no_checkpoint(tmp_path):
    folder = prepared(Store(tmp_path), training={"learning_rate": 9.0, "gradient_clip": None, "on_failure": "stop"})
    with started(folder) as process:
        assert process.wait(120) == 1, process.stdout.read().decode()
    record = json.loads((folder / "record.json").read_text())
    assert (record["status"], record["scores"]) == ("diverged", {})
    [event] = record["info"]["events"]
    assert event["action"] == "stopped"
    assert event["kind"] in ("spike", "divergence", "non_finite")
    assert f"step {event['step']}: loss" in record["error"]["message"]
    assert (event["kind"], event["step"]) in [(name, step) for name, step, _ in curves(folder)]
    assert not (folder / "checkpoint").exists()
