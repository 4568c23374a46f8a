"""What a GPU computes: packed and recorded steps, and that all of it repeats to the bit.

`ABLATIONS_TEST_GPU=1 python -m pytest tests/gpu` on a machine with a GPU; elsewhere they are skipped.
"""

import copy
import os

import numpy as np
import pytest
import torch
from tiny import CPU, config_of

from ablations.naming.batches import fixed_widths, make_batch
from ablations.naming.checkpoints import Checkpoints
from ablations.naming.cost import Cost
from ablations.naming.data import load_data
from ablations.naming.evaluation import evaluate
from ablations.naming.experiment import cache_dir
from ablations.naming.graphs import SWITCH, WORTH, PackedSteps, Scorer
from ablations.naming.model import model_for
from ablations.naming.optimisation import compute_repeatably, make_optimizer, train_step
from ablations.naming.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that tests may use")
GPU = torch.device("cuda")
CLOCKS = ("tokens_per_s", "elapsed")  # values that no training repeats
WIDER = {"model": {"hidden": 64}, "encoder": {"heads": 4}, "decoder": {"heads": 2}}
DROPS = {
    "model": {"hidden": 64},
    "encoder": {"heads": 4, "dropout": 0.1, "attention_dropout": 0.1},
    "decoder": {"heads": 2, "dropout": 0.1, "attention_dropout": 0.1},
}


@pytest.fixture(scope="module", autouse=True)
def repeatable():
    compute_repeatably(GPU)


@pytest.fixture(scope="module")
def data():
    return load_data(config_of(), cache_dir())


@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 2e-4), ("bf16", 2e-2)])
def test_packed_steps_are_the_plain_steps(data, precision, rtol, monkeypatch):
    monkeypatch.setenv(SWITCH, "graphs")
    config = config_of(**WIDER, training={"precision": precision})
    plain = model_for(config, data, 0).to(GPU)
    other = copy.deepcopy(plain)
    optimizers = [make_optimizer(model, config.training, GPU) for model in (plain, other)]
    steps = PackedSteps(other, optimizers[1], config, GPU)
    order = np.arange(16 * 8).reshape(8, 16)
    for rows in (*order, *order[:2]):
        batch = make_batch(data.train, rows, data.specials.pad, data.specials.bos, fixed_widths(config))
        expected = train_step(plain, optimizers[0], plain.tensors(batch, GPU), 1e-3, config, GPU)
        found = steps.step(steps.pack(batch), 1e-3, 1)
        torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=1e-3)
        torch.testing.assert_close(found[1], expected[1], rtol=10 * rtol, atol=1e-2)
    assert steps.facts["recorded_shapes"] > 0


def outcome(data, config, monkeypatch, way, **options):
    monkeypatch.setenv(SWITCH, way)
    log = []
    found = train(config, data, 0, GPU, lambda name, value, step: log.append((name, step, value)), **options)
    return found, [each for each in log if each[0] not in CLOCKS]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["sequence", "parallel", "set"])
def test_a_training_with_dropout_repeats_to_the_bit(data, precision, kind, monkeypatch):
    changes = {**DROPS, "decoder": DROPS["decoder"] | {"kind": kind}}
    config = config_of(**changes, training={"precision": precision, "max_steps": 40})
    first, log = outcome(data, config, monkeypatch, "graphs")
    second, again = outcome(data, config, monkeypatch, "graphs")
    assert log == again
    assert first.scores == second.scores
    assert first.test == second.test
    if kind == "sequence":
        plain, unrecorded = outcome(data, config, monkeypatch, "packed")
        assert unrecorded == log, "a recorded step must be the step itself"
        assert plain.scores == first.scores


def broken_at(step):
    def hook(now, model, batch):
        if now == step:
            raise InterruptedError

    return hook


def test_a_training_that_was_broken_off_ends_with_the_numbers_of_an_unbroken_one(data, tmp_path, monkeypatch):
    config = config_of(**DROPS, training={"max_steps": 40}, evaluation={"every_steps": 10})
    expected, expected_log = outcome(data, config, monkeypatch, "graphs")
    checkpoints = Checkpoints(tmp_path / "last.pt", "run")
    with pytest.raises(InterruptedError):
        train(config, data, 0, GPU, lambda *_: None, checkpoints=checkpoints, before_step=broken_at(25))
    log = []
    found = train(
        config, data, 0, GPU, lambda name, value, step: log.append((name, step, value)), checkpoints=checkpoints
    )
    assert found.resumed_at == [20]
    assert found.scores == expected.scores
    behind = [each for each in expected_log if each[1] > 20]
    assert [each for each in log if each[1] > 20 and each[0] not in CLOCKS] == behind


def test_a_training_that_returns_to_a_checkpoint_goes_on_recorded_as_it_does_unrecorded(data, monkeypatch):
    config = config_of(**DROPS, training={"max_steps": 40, "on_failure": "rollback"}, evaluation={"every_steps": 10})
    found = []
    for each in ("graphs", "packed"):
        met = []

        def spoil(step, model, batch, met=met):
            if step == 25 and not met:
                met.append(step)
                with torch.no_grad():
                    model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))

        events = []
        result, log = outcome(data, config, monkeypatch, each, before_step=spoil, events=events)
        assert [(event["action"], event["returned_to"]) for event in events] == [("rolled back", 20)]
        found.append((result.scores, log))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["sequence", "parallel", "set"])
def test_a_recorded_score_is_that_of_the_weights_as_they_are(data, kind, monkeypatch):
    monkeypatch.setenv(SWITCH, "graphs")
    config = config_of(**{**WIDER, "decoder": {"heads": 2, "kind": kind}}, evaluation={"batch_samples": 16})
    model = model_for(config, data, 0).to(GPU)
    recorded = Scorer(model, config, GPU, times=WORTH)
    for scale in (1.0, 0.9, 0.9):
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(scale)
        expected = evaluate(model, data, data.validation, config, GPU, Cost())
        assert evaluate(model, data, data.validation, config, GPU, Cost(), recorded) == expected
    assert len(recorded._recorded) == 4


def test_a_gpu_scores_as_the_cpu_does(data, monkeypatch):
    config = config_of(**WIDER, training={"precision": "fp32", "max_steps": 40})
    ours, _ = outcome(data, config, monkeypatch, "graphs")
    cpu = train(config, data, 0, CPU, lambda *_: None)
    assert ours.scores["test_loss"] == pytest.approx(cpu.scores["test_loss"], rel=5e-3)
    assert os.environ[SWITCH] == "graphs"
