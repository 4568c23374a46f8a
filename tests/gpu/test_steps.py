"""What a GPU computes: fused kernels, packed and recorded steps, and that all of it repeats to the bit.

`ABLATIONS_TEST_GPU=1 python -m pytest tests/gpu` on a machine with a GPU; elsewhere they are skipped.
"""

import copy
import os

import numpy as np
import pytest
import torch
from tiny import CPU, config_of
from torch import nn

from ablations.naming import fused
from ablations.naming.batches import fixed_widths, make_batch
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
HALF = torch.bfloat16
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


def near(found, expected, kind, message=""):
    error = (found.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-12)
    assert error < (1e-2 if kind is HALF else 1e-5), (message, float(error))


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("width", [64, 512, 768])
def test_fused_kernels_compute_what_pytorch_does(kind, width):
    assert fused.kernels("cuda") is not None, "Triton could not compile: is there a C compiler?"
    torch.manual_seed(0)
    norm = nn.LayerNorm(width).to(GPU)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    inputs = {
        "states": torch.randn(301, width, device=GPU).to(kind),
        "residual": torch.randn(301, width, device=GPU).to(kind),
        "bias": torch.randn(width, device=GPU),
    }
    grad, seed = torch.randn(301, width, device=GPU).to(kind), torch.tensor([5], device=GPU)

    def found(add_norm, gelu):
        leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
        norm.zero_grad()
        out = add_norm(leaves["states"], leaves["bias"], leaves["residual"])
        (gelu(out, leaves["bias"]) * grad).sum().backward()
        return [out, *(each.grad for each in (*leaves.values(), norm.weight, norm.bias))]

    def plain(states, bias, residual):
        whole = (states.float() + bias) + residual
        return nn.functional.layer_norm(whole, (width,), norm.weight, norm.bias, norm.eps).to(residual)

    ours = found(lambda s, b, r: fused.add_norm(s, b, r, norm, 0.0, seed, 1), fused.gelu)
    theirs = found(plain, lambda s, b: nn.functional.gelu(s.float() + b).to(s))
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        near(mine, other, kind, index)


def test_fused_dropout_drops_the_share_and_the_same_backwards():
    norm = nn.LayerNorm(256).to(GPU)
    states = torch.ones(400, 256, device=GPU, requires_grad=True)
    residual, bias, seed = (
        torch.zeros(400, 256, device=GPU),
        torch.zeros(256, device=GPU),
        torch.tensor([3], device=GPU),
    )
    out = fused.add_norm(states, bias, residual, norm, 0.3, seed, 1)
    kept = out > 0
    assert 0.69 < kept.float().mean() < 0.71
    assert torch.equal(out, fused.add_norm(states, bias, residual, norm, 0.3, seed, 1))
    for other in (fused.add_norm(states, bias, residual, norm, 0.3, seed, 2),
                  fused.add_norm(states, bias, residual, norm, 0.3, seed + 1, 1)):  # fmt: skip
        assert 0.4 < ((other > 0) == kept).float().mean() < 0.65  # .3² + .7² = .58 by chance
    (out * torch.randn_like(out)).sum().backward()
    assert torch.equal(states.grad != 0, kept)


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
        found = steps.step(batch, 1e-3, 1)
        torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=1e-3)
        torch.testing.assert_close(found[1], expected[1], rtol=10 * rtol, atol=1e-2)
    assert steps.facts["recorded_shapes"] > 0


def outcome(data, config, monkeypatch, way):
    monkeypatch.setenv(SWITCH, way)
    log = []
    found = train(config, data, 0, GPU, lambda name, value, step: log.append((name, step, value)))
    return found, [each for each in log if each[0] not in ("tokens_per_s", "elapsed")]


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
