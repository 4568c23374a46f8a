"""A run that was broken off and taken up again ends with the numbers of one that was not: on a CPU to the bit."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CPU, config_of, trained

from ablations import stopping
from ablations.claims import claimed
from ablations.files import read_json
from ablations.metricslog import MetricsLog
from ablations.naming import checkpoints
from ablations.naming.checkpoints import FORMAT, Checkpoints
from ablations.naming.experiment import checkpoints_of
from ablations.naming.tensorfiles import write_tensors
from ablations.plan import RunKey, Variant, config_hash
from ablations.schema import flatten
from ablations.stopping import Stopped
from ablations.store import Store, read_metrics

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


@pytest.mark.slow
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
    assert "a checkpoint is left aside: last.pt is of another run" in capsys.readouterr().err


class Hostile:
    """Leaves a trace where it is unpickled by a reader that executes what it reads."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def poisoned(folder, whole):
    """A checkpoint with the right key and a pickle that calls something."""
    file = io.BytesIO()
    torch.save({**whole, "format": FORMAT, "key": "run", "left_aside": [], "model": Hostile(folder / "touched")}, file)
    return file.getvalue()


def compressed(content):
    """The same archive with members that unpack to more than they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return file.getvalue()


def saved_twice(folder):
    """Checkpoints of steps 1 and 2 and the file of the later one."""
    checkpoints = at(folder)
    for step in (1, 2):
        checkpoints.save({"step": step, "weights": torch.arange(100.0) * step})
    return folder / "checkpoint" / "last.pt"


DAMAGES = {
    "cut": lambda content, folder: content[: len(content) // 2],
    "flipped": lambda content, folder: flipped(content, len(content) // 2),
    "text": lambda content, folder: b"no checkpoint",
    "empty": lambda content, folder: b"",
    "compressed": lambda content, folder: compressed(content),
    "poisoned": lambda content, folder: poisoned(folder, {"step": 9}),
    "old pickle": lambda content, folder: pickle.dumps(Hostile(folder / "touched")),
}


def flipped(content, place, count=64):
    return content[:place] + bytes(each ^ 255 for each in content[place : place + count]) + content[place + count :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_in_the_place_of_a_damaged_or_poisoned_checkpoint_the_one_before_it_is_taken_and_that_is_said(
    tmp_path, capsys, damage
):
    file = saved_twice(tmp_path)
    file.write_bytes(DAMAGES[damage](file.read_bytes(), tmp_path))
    checkpoints = at(tmp_path)
    state = checkpoints.load()
    assert (state["step"], state["weights"].tolist()) == (1, list(range(100)))
    assert "a checkpoint is left aside: last.pt is unreadable" in capsys.readouterr().err
    assert [each.partition(" (")[0] for each in checkpoints.left_aside] == ["last.pt: unreadable"]
    assert not (tmp_path / "touched").exists()


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_sound_one_before_it(tmp_path):
    file = saved_twice(tmp_path)
    file.write_bytes(b"no checkpoint")
    at(tmp_path).load()
    assert at(tmp_path).load()["step"] == 1  # whoever is killed before the next one is written finds it again
    checkpoints = at(tmp_path)
    checkpoints.load()
    checkpoints.save({"step": 3})
    file.write_bytes(b"again")
    assert at(tmp_path).load()["step"] == 1


def test_what_was_left_aside_is_remembered_by_the_attempts_that_follow(tmp_path):
    saved_twice(tmp_path).write_bytes(b"no checkpoint")
    checkpoints = at(tmp_path)
    checkpoints.load()
    checkpoints.save({"step": 3})
    later = at(tmp_path)
    assert later.load()["step"] == 3
    assert later.left_aside == checkpoints.left_aside != []


def test_whoever_is_killed_between_two_renames_goes_on_from_the_checkpoint_before(tmp_path):
    saved_twice(tmp_path).unlink()
    checkpoints = at(tmp_path)
    assert (checkpoints.load()["step"], checkpoints.left_aside) == (1, [])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_wherever_a_bit_is_flipped_or_the_file_is_cut_a_checkpoint_is_whole_or_left_aside(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = saved_twice(folder)
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del content[place:]
        file.write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()):
            state = at(folder).load()
        assert state["weights"].tolist() == [each * state["step"] for each in range(100)]


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_poisoned_one_and_ends_as_an_unbroken_one(tmp_path, capsys):
    expected, _ = trained(CONFIG)
    broken(CONFIG, tmp_path, 27)
    file = tmp_path / "checkpoint" / "last.pt"
    file.write_bytes(poisoned(tmp_path, torch.load(file, weights_only=True)))
    outcome, _ = trained(CONFIG, checkpoints=at(tmp_path))
    assert (outcome.resumed_at, outcome.scores) == ([10], expected.scores)
    assert "a checkpoint is left aside: last.pt is unreadable" in capsys.readouterr().err
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
def test_where_both_checkpoints_are_damaged_a_run_starts_from_scratch(tmp_path):
    broken(CONFIG, tmp_path, 27)
    for file in (tmp_path / "checkpoint").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    checkpoints = at(tmp_path)
    outcome, _ = trained(CONFIG, checkpoints=checkpoints)
    assert outcome.resumed_at == []
    assert [each.partition(":")[0] for each in checkpoints.left_aside] == ["last.pt", "previous.pt"]


def test_a_full_disk_leaves_the_run_going_and_able_to_return_and_the_files_to_whoever_resumes_it(
    tmp_path, monkeypatch, capsys
):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    checkpoints = at(tmp_path)
    checkpoints.save({"step": 1})
    monkeypatch.setattr(torch, "save", full)
    checkpoints.save({"step": 2, "weights": [torch.ones(2)]})
    assert checkpoints.load()["step"] == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "checkpoint").iterdir()] == ["last.pt"]
    assert at(tmp_path).load()["step"] == 1


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
    assert step >= (50 if sent == signal.SIGKILL else 150)  # the last validation, or the step at which it was stopped
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


@pytest.mark.parametrize(("stop", "small", "large"), [(38, [10, 20, 30, 38], [10, 30, 38]), (20, [10, 20], [10, 20])])
@pytest.mark.slow
def test_large_checkpoints_are_written_as_seldom_as_pays_and_whenever_a_run_is_to_stop(
    stop, small, large, tmp_path, monkeypatch
):
    now, written = [0.0], []

    def slowly(path, state, keep):
        now[0] += 2.0
        written.append(state["step"])
        write_tensors(path, state, keep)

    def hook(step, model, batch):
        now[0] += 1.0
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(checkpoints, "write_tensors", slowly)
    with contextlib.suppress(Stopped), stopping.noted(), stopping.heeded():
        trained(CONFIG, checkpoints=at(tmp_path), before_step=hook)
    assert written == small, "small ones are written at each validation"
    written.clear()
    monkeypatch.setattr(checkpoints, "LARGE", 0)
    with contextlib.suppress(Stopped), stopping.noted(), stopping.heeded():
        trained(CONFIG, checkpoints=at(tmp_path / "large"), before_step=hook)
    assert written == large, "at step 20 ten seconds had gone, of which two are more than a tenth"
    monkeypatch.undo()
    outcome, _ = trained(CONFIG, checkpoints=at(tmp_path / "large"))
    assert outcome.resumed_at == [stop]
    assert outcome.scores == trained(CONFIG)[0].scores
