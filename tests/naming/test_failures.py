"""Failures planted in real trainings: seen, recorded, and answered as the policy says."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import config_of, trained

from ablations.errors import Diverged, OutOfMemory
from ablations.naming import journal, training
from ablations.naming.batches import training_order
from ablations.naming.graphs import SWITCH
from ablations.naming.updates import Update

pytestmark = pytest.mark.usefixtures("deterministic")

STEPS, EVERY, BAD = 60, 20, 45  # the batch at step 45 is bad; the last checkpoint before it is that of step 40


def policy(on_failure, **changes):
    return config_of(
        training={"max_steps": STEPS, "on_failure": on_failure, **changes}, evaluation={"every_steps": EVERY}
    )


class Plant:
    """Spoils one batch, by its samples, whenever it is met."""

    def __init__(self, kind):
        self.kind, self.rows, self.met = kind, None, 0

    def __call__(self, step, model, batch):
        if step == BAD and self.rows is None:
            self.rows = batch.rows.tolist()
        if batch.rows.tolist() != self.rows:
            return
        self.met += 1
        if self.kind == "spike":
            batch.labels[:] = np.random.default_rng(0).integers(100, 1000, batch.labels.shape)
        else:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)


def as_in_the_file(log):
    """What is left of a log once the announced steps are measured again."""
    kept = []
    for name, step, value in log:
        if name == "rewind":
            kept = [entry for entry in kept if entry[1] <= step]
        else:
            kept.append((name, step, value))
    return kept


def losses(log):
    return [(step, value) for name, step, value in as_in_the_file(log) if name == "train_loss"]


@pytest.mark.slow
def test_a_spike_is_recorded_with_its_batch_and_training_goes_on():
    events, plant = [], Plant("spike")
    _, log = trained(policy("continue"), events=events, before_step=plant)
    [event] = events
    assert (event["kind"], event["step"], event["last_step"], event["recovered"]) == ("spike", BAD, BAD, True)
    assert event["action"] == "recorded"
    assert event["loss"] == dict(losses(log))[BAD] > event["threshold"]
    assert event["gradient_norm"] == next(value for name, step, value in log if (name, step) == ("gradient_norm", BAD))
    assert event["learning_rate"] == pytest.approx(2e-3 * (1 - (BAD - 1) / STEPS))
    assert len(event["samples"]) == 16
    assert all(sample.count(":") == 2 for sample in event["samples"])  # file:line:column
    assert ("spike", BAD, event["loss"]) in log
    assert [step for step, _ in losses(log)] == list(range(1, STEPS + 1))
    assert json.loads(json.dumps(events)) == events


@pytest.mark.slow
def test_a_spike_stops_a_run_that_is_to_stop():
    events = []
    with pytest.raises(
        Diverged, match=r"step 45: loss 9\.\d+ above 7\.\d+, the most that the 20 steps before it allow"
    ):
        trained(policy("stop"), events=events, before_step=Plant("spike"))
    assert [(event["step"], event["action"]) for event in events] == [(BAD, "stopped")]


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
@pytest.mark.slow
def test_a_value_that_is_not_finite_stops_a_run(on_failure):
    events, log = [], []
    with pytest.raises(Diverged, match="step 45: loss nan"):
        trained(policy(on_failure), log=log, events=events, before_step=Plant("nan"))
    [event] = events
    assert (event["kind"], event["step"], event["loss"], event["action"]) == ("non_finite", BAD, None, "stopped")
    assert len(event["samples"]) == 16
    assert [name for name, step, _ in log if step == BAD] == ["non_finite"]


@pytest.mark.parametrize("way", ["packed", "padded"])
@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_a_failure_whose_loss_is_finite(way, monkeypatch):
    events, steps = [], []
    monkeypatch.setenv(SWITCH, way)
    clips, takes = torch.nn.utils.clip_grad_norm_, Update.take

    def overflow(parameters):
        if steps[-1] == BAD:
            next(parameters).grad.fill_(math.inf)

    def clip(parameters, limit):
        parameters = list(parameters)
        overflow(iter(parameters))
        return clips(parameters, limit)

    def take(update):
        overflow(iter(update._all))
        return takes(update)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    monkeypatch.setattr(Update, "take", take)
    with pytest.raises(Diverged, match=r"step 45: loss \d\.\d+"):
        trained(policy("continue"), events=events, before_step=lambda step, model, batch: steps.append(step))
    [event] = events
    assert (event["kind"], event["step"], event["gradient_norm"]) == ("non_finite", BAD, None)
    assert math.isfinite(event["loss"])


@pytest.mark.parametrize("kind", ["spike", "nan"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])  # losses are read as on a GPU, where failures are seen later
@pytest.mark.slow
def test_a_rollback_goes_on_as_if_the_bad_batch_had_never_been_there(kind, device, monkeypatch):
    """The reference is a training whose order lacks the bad batch and the one before it: equal to the bit."""
    monkeypatch.setitem(journal.TURNS, "cpu", journal.TURNS[device])
    events, plant = [], Plant(kind)
    outcome, log = trained(policy("rollback"), events=events, before_step=plant)
    assert plant.met == 1
    [event] = events
    assert (event["action"], event["step"], event["returned_to"]) == ("rolled back", BAD, 40)
    assert event["skipped_batches"] == [BAD - 2, BAD - 1]  # places count from 0
    assert event["skipped_samples"][1] == event["samples"]
    assert [entry for entry in as_in_the_file(log) if entry[0] == "rollback"] == [("rollback", 40, BAD)]

    def without_them(lengths, batch_samples, steps, seed):
        order = training_order(lengths, batch_samples, steps, seed)
        return (rows for place, rows in enumerate(order) if place not in event["skipped_batches"])

    monkeypatch.setattr(training, "training_order", without_them)
    expected, expected_log = trained(policy("continue"))
    assert losses(log) == losses(expected_log)
    assert outcome.scores == expected.scores
    assert outcome.cost["flops"] > expected.cost["flops"]  # what was undone was computed


@pytest.mark.slow
def test_a_batch_that_is_taken_later_comes_last(monkeypatch):
    """The reference is a training whose order ends with the bad batch and the one before it: equal to the bit."""
    events, met = [], []

    def spoil_once(step, model, batch):
        if step == BAD and not met:
            met.append(step)
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    outcome, log = trained(policy("rollback_later"), events=events, before_step=spoil_once)
    [event] = events
    late = event["postponed_batches"]
    assert (late, event["skipped_batches"], event["returned_to"]) == ([BAD - 2, BAD - 1], [], 40)
    assert event["postponed_samples"][1] == event["samples"]

    def with_them_last(lengths, batch_samples, steps, seed):
        order = list(training_order(lengths, batch_samples, STEPS, seed))
        return [rows for place, rows in enumerate(order) if place not in late] + [order[place] for place in late]

    monkeypatch.setattr(training, "training_order", with_them_last)
    expected, expected_log = trained(policy("continue"))
    assert losses(log) == losses(expected_log)
    assert outcome.scores == expected.scores


@pytest.mark.slow
def test_a_batch_that_fails_again_where_it_comes_last_is_skipped():
    """What is left is a training that skipped it at once: equal to the bit."""
    events = []
    outcome, log = trained(policy("rollback_later"), events=events, before_step=Plant("nan"))
    assert [event["step"] for event in events] == [BAD, STEPS]
    assert events[0]["postponed_batches"] == events[1]["skipped_batches"] == [BAD - 2, BAD - 1]
    assert events[1]["postponed_batches"] == []
    expected, expected_log = trained(policy("rollback"), before_step=Plant("nan"))
    assert losses(log) == losses(expected_log)
    assert outcome.scores == expected.scores


@pytest.mark.slow
def test_rollbacks_are_bounded():
    events, log = [], []

    def spoil(step, model, batch):
        if step >= BAD:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    with pytest.raises(Diverged, match=r"step 45: loss nan.*, after 2 rollbacks"):
        trained(policy("rollback", max_rollbacks=2), log=log, events=events, before_step=spoil)
    assert [event["action"] for event in events] == ["rolled back", "rolled back", "stopped"]
    skipped = [place for event in events[:2] for place in event["skipped_batches"]]
    assert skipped == [BAD - 2, BAD - 1, BAD, BAD + 1]  # the second time, those that had moved up to the same steps


@pytest.mark.slow
def test_a_loss_that_climbs_above_where_it_began_is_divergence():
    events = []

    def inflate(step, model, batch):
        with torch.no_grad():
            model.decoder.lm_head.decoder.weight.mul_(1.02)  # no jump, but no end of it

    with pytest.raises(
        Diverged, match=r"and those before it above 1\d\.\d+, to which the median of the last 20 losses"
    ):
        trained(policy("stop", max_steps=200, learning_rate=1e-5), events=events, before_step=inflate)
    [event] = events
    assert (event["kind"], event["action"]) == ("divergence", "stopped")


@pytest.mark.parametrize("cause", ["cuda", "driver", "cublas", "cpu"])
def test_a_lack_of_memory_is_an_error_of_its_own_that_says_what_to_do(cause):
    events = []

    def devour(step, model, batch):
        if step == 3:
            if cause == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if cause == "driver":
                raise torch.AcceleratorError("CUDA error: out of memory", 2)
            if cause == "cublas":
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            torch.empty(2**55)

    with pytest.raises(OutOfMemory, match=r"^step 3: out of memory on cpu, .* Lower training.batch_samples \(16\)"):
        trained(policy("continue"), events=events, before_step=devour)
    [event] = events
    assert (event["kind"], event["step"], len(event["samples"])) == ("out_of_memory", 3, 16)


def test_another_error_stays_what_it_is():
    def fail(step, model, batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        trained(policy("continue"), before_step=fail)


@pytest.mark.slow
def test_watching_changes_no_number():
    """What training computes does not depend on the policy as long as nothing happens."""
    quiet = {"learning_rate": 5e-4}
    reference, log = trained(policy("continue", **quiet))
    for on_failure in ("stop", "rollback"):
        outcome, other = trained(policy(on_failure, **quiet))
        assert (outcome.scores, losses(other)) == (reference.scores, losses(log))
