"""The steps that a GPU takes, on the CPU: over real tokens alone, beside those of Transformers' modules."""

import copy

import numpy as np
import pytest
import torch
from tiny import CPU, config_of

from ablations.naming.batches import fixed_widths, make_batch
from ablations.naming.data import load_data
from ablations.naming.experiment import cache_dir
from ablations.naming.graphs import PackedSteps
from ablations.naming.model import model_for
from ablations.naming.optimisation import make_optimizer, train_step
from ablations.naming.packed import is_known

ROWS = [np.array(rows) for rows in ([3, 1, 4, 15, 9, 2], [6, 5, 35, 8, 97, 93], [0, 7, 70])]


@pytest.fixture(scope="module")
def data():
    return load_data(config_of(), cache_dir())


def batch_of(data, config, rows):
    return make_batch(data.train, rows, data.specials.pad, data.specials.bos, fixed_widths(config))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"padding": "maximum", "label_smoothing": 0.1, "gradient_clip": 0.5, "weight_decay": 0.1}},
        {"model": {"tie_embeddings": True, "share_embeddings": True}},
        {"model": {"tie_embeddings": False, "share_embeddings": False}, "decoder": {"layers": 2, "heads": 2}},
    ],
)
def test_packed_steps_are_the_plain_steps(data, changes):
    config = config_of(**changes)
    plain = model_for(config, data, 0)
    assert is_known(plain)
    other = copy.deepcopy(plain)
    optimizers = [make_optimizer(model, config.training, CPU) for model in (plain, other)]
    steps = PackedSteps(other, optimizers[1], config, CPU)
    for rate, rows in zip((1e-3, 1e-3, 5e-4), ROWS, strict=True):
        batch = batch_of(data, config, rows)
        expected = train_step(plain, optimizers[0], plain.tensors(batch, CPU), rate, config, CPU)
        torch.testing.assert_close(steps.step(batch, rate, 1), expected, rtol=1e-4, atol=1e-5)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-3, msg=name)


def test_gradients_of_a_packed_step_are_those_of_a_plain_one(data):
    config = config_of()
    model, batch = model_for(config, data, 0), batch_of(data, config, ROWS[0])
    found = []
    steps = PackedSteps(model, torch.optim.SGD(model.parameters(), lr=0.0), config, CPU)
    steps._optimizer.zero_grad = lambda **_: None
    steps.step(batch, 0.0, 1)
    found = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    total, count = model.loss(model.tensors(batch, CPU))
    (total / count).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.gradient_clip or float("inf"))
    assert norm > 0
    for name, each in model.named_parameters():
        torch.testing.assert_close(found[name], each.grad, rtol=1e-4, atol=1e-6, msg=name)
