"""What only a GPU uses, on the CPU: batches put together from a resident split, and steps over padded buffers."""

import copy

import numpy as np
import pytest
import torch
from tiny import CPU, config_of

from ablations.naming.batches import fixed_widths, make_batch
from ablations.naming.data import load_data
from ablations.naming.experiment import cache_dir
from ablations.naming.graphs import GraphedSteps
from ablations.naming.model import model_for
from ablations.naming.optimisation import make_optimizer, train_step
from ablations.naming.resident import ResidentSplit

ROWS = [np.array(rows) for rows in ([3, 1, 4, 15, 9, 2], [6, 5, 35, 8, 97, 93], [0, 7, 70, 71, 72, 73])]


@pytest.fixture(scope="module")
def data():
    return load_data(config_of(), cache_dir())


def batch_of(data, config, rows):
    return make_batch(data.train, rows, data.specials.pad, data.specials.bos, fixed_widths(config))


@pytest.mark.parametrize("padding", ["dynamic", "maximum"])
def test_a_batch_put_together_on_the_device_is_the_one_that_is_sent_there(data, padding):
    config = config_of(training={"padding": padding})
    model, resident = model_for(config, data, 0), ResidentSplit(data.train, data.specials, CPU)
    alike = np.flatnonzero(np.diff(data.train.input_offsets) == 24)[:4]  # none of them is padded
    for rows in (*ROWS, alike):
        batch = batch_of(data, config, rows)
        sent, made = model.tensors(batch, CPU), resident.tensors(batch)
        for name, expected, found in zip(sent._fields, sent, made, strict=True):
            assert (expected is None) == (found is None), name
            assert expected is None or (found.dtype == expected.dtype and torch.equal(found, expected)), name
    assert resident.tensors(batch_of(data, config_of(), alike)).mask is None


@pytest.mark.parametrize("kind", ["sequence", "parallel", "set"])
def test_steps_over_padded_buffers_are_the_plain_steps(data, kind):
    config = config_of(decoder={"kind": kind})
    plain = model_for(config, data, 0)
    padded = copy.deepcopy(plain)
    optimizers = [make_optimizer(model, config.training, CPU) for model in (plain, padded)]
    steps = GraphedSteps(padded, optimizers[1], config, CPU)
    for rate, rows in zip((1e-3, 1e-3, 5e-4), ROWS, strict=True):
        tensors = plain.tensors(batch_of(data, config, rows), CPU)
        expected = train_step(plain, optimizers[0], tensors, rate, config, CPU)
        found = steps.step(tensors, len(tensors.labels), rate)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, value in padded.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-3, msg=name)
