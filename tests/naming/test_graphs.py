"""The steps that a GPU takes, on the CPU: over real tokens alone, beside those of Transformers' modules."""

import copy

import numpy as np
import pytest
import torch
from tiny import CPU, config_of

from ablations.errors import AblationsError
from ablations.naming import graphs
from ablations.naming.batches import fixed_widths, make_batch
from ablations.naming.data import load_data
from ablations.naming.experiment import cache_dir
from ablations.naming.graphs import SWITCH, PackedSteps, _asks_nothing_back, _rounded, steps_for
from ablations.naming.model import model_for
from ablations.naming.optimisation import make_optimizer, train_step
from ablations.naming.packed import _rows, _spans, is_known, pack

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
        torch.testing.assert_close(steps.step(steps.pack(batch), rate, 1), expected, rtol=1e-4, atol=1e-5)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-3, msg=name)


def test_gradients_of_a_packed_step_are_those_of_a_plain_one(data):
    config = config_of()
    model, batch = model_for(config, data, 0), batch_of(data, config, ROWS[0])
    found = []
    steps = PackedSteps(model, torch.optim.SGD(model.parameters(), lr=0.0), config, CPU)
    steps._optimizer.zero_grad = lambda **_: None
    steps.step(steps.pack(batch), 0.0, 1)
    found = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    total, count = model.loss(model.tensors(batch, CPU))
    (total / count).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.gradient_clip or float("inf"))
    assert norm > 0
    for name, each in model.named_parameters():
        torch.testing.assert_close(found[name], each.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("samples", [1, 5, 16, 64, 127, 256])
@pytest.mark.parametrize("tokens", [2, 24, 100, 512])
def test_no_sequence_of_fillers_is_longer_than_attention_is_told(data, samples, tokens):
    config = config_of(training={"batch_samples": samples}, data={"input_tokens": tokens})
    model = model_for(config, data, 0)
    steps = PackedSteps(model, make_optimizer(model, config.training, CPU), config, CPU)
    for multiple, longest in ((steps._multiple, steps._longest), (steps._name_multiple, steps._longest_name)):
        for fillers in {steps._sequences - samples, steps._sequences - 1}:  # whole batches, and one of a single sample
            worst = (1 - fillers) % multiple  # one more token than fits: a whole multiple of fillers more
            for real in {0, multiple // 3, *(max(0, worst + each) for each in (-1, 0, 1))}:
                ends = _spans(np.ones((1, real), dtype=bool), _rounded(real + fillers, multiple), fillers)[1]
                lengths = np.diff(ends)[1:]
                assert len(lengths) == fillers
                assert 1 <= lengths.min() <= lengths.max() <= longest


def test_a_batch_of_whole_bodies_is_filled_up_by_no_more_than_fillers_need(data):
    config = config_of(training={"batch_samples": 256}, data={"input_tokens": 24})
    model = model_for(config, data, 0)
    steps = PackedSteps(model, make_optimizer(model, config.training, CPU), config, CPU)
    whole = np.flatnonzero(data.train.input_lengths_uncut >= 24)
    packed = steps.pack(batch_of(data, config, np.resize(whole, 256)))
    real = steps._sequences + 256 * 23
    assert real <= packed.tokens == _rounded(real, 64) < _rounded(real, steps._multiple)
    loss, norm = steps.step(packed, 1e-3, 1)
    assert torch.isfinite(loss)
    assert norm > 0


def test_the_last_batch_of_an_epoch_has_as_many_sequences_as_whole_ones(data):
    config = config_of(training={"batch_samples": 6})
    model = model_for(config, data, 0)
    steps = PackedSteps(model, make_optimizer(model, config.training, CPU), config, CPU)
    whole, last = (steps.pack(batch_of(data, config, rows)) for rows in (ROWS[0], ROWS[0][:2]))
    sizes = [len(each.host) - 4 * (each.tokens + each.name_tokens) - each.name_tokens for each in (whole, last)]
    assert sizes[0] == sizes[1]  # what is left: the seed, and where sequences begin
    assert last.tokens <= whole.tokens


def test_each_row_that_is_taken_is_named_once():
    ids, each, slots = _rows(np.array([7, 3, 7, 0, 3, 3]))
    taken = each[each >= 0]
    assert sorted(taken) == [0, 3, 7]
    assert (each[len(taken) :] == -1).all()
    assert (each[slots] == ids).all()


def test_who_asks_for_padding_gets_it_and_a_way_that_is_none_is_refused(data, monkeypatch):
    gpu, config = torch.device("cuda"), config_of(training={"padding": "maximum"})
    model = model_for(config, data, 0)
    optimizer = make_optimizer(model, config.training, CPU)
    assert steps_for(model, optimizer, config, gpu) is None
    monkeypatch.setenv(SWITCH, "graph")
    with pytest.raises(AblationsError, match="ABLATIONS_GPU_STEPS: unknown way 'graph'; did you mean 'graphs'"):
        steps_for(model, optimizer, config, gpu)


def test_only_scoring_that_reads_nothing_back_is_recorded(data):
    for kind in ("sequence", "parallel", "set"):
        assert _asks_nothing_back(model_for(config_of(decoder={"kind": kind}), data, 0))
    model = model_for(config_of(), data, 0)
    model.cache = False
    assert not _asks_nothing_back(model)
    model.cache, model.encoder.config.model_type = True, "longformer"
    assert not _asks_nothing_back(model)


@pytest.mark.parametrize("at", ["give", "collect", "step"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
)
def test_a_step_whose_recording_finds_no_memory_leaves_nothing_behind(data, monkeypatch, at, error):
    config = config_of(training={"batch_samples": 6})
    models = [model_for(config, data, 0) for _ in range(2)]
    plain, broken = (PackedSteps(each, make_optimizer(each, config.training, CPU), config, CPU) for each in models)
    breaks = {"give": broken._loss._sums, "collect": broken._loss.stacks, "step": broken._optimizer}[at]

    def full():
        raise error

    batch, tokens, names = batch_of(data, config, ROWS[0]), 4 * broken._multiple, 60
    packed = pack(batch, models[1].special, broken._first, tokens, names, broken._sequences)
    buffer = torch.from_numpy(np.insert(packed, 0, 1))
    broken._pool, broken.records = None, True
    with monkeypatch.context() as broken_off:
        broken_off.setattr(graphs, "_captured", lambda pool, device, compute: compute())
        broken_off.setattr(breaks, at, full)
        assert broken._record(buffer, tokens, names) is None
    assert (broken.facts["recorded_shapes"], broken.records) == (0, False)
    torch.testing.assert_close(
        broken.step(broken.pack(batch), 1e-3, 1), plain.step(plain.pack(batch), 1e-3, 1), rtol=0, atol=0
    )
    for mine, own in zip(*(each.parameters() for each in models), strict=True):
        assert torch.equal(mine, own)
