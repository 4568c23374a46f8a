"""Steps over real tokens alone, beside those of Transformers' modules; those that a GPU takes, too, on the CPU."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from adamw import check_alike, check_norm, twice
from tiny import CPU, config_of, trained

from ablations.errors import AblationsError
from ablations.naming import graphs
from ablations.naming.batches import fixed_widths, make_batch
from ablations.naming.data import load_data
from ablations.naming.experiment import cache_dir
from ablations.naming.graphs import SWITCH, PackedSteps, _asks_nothing_back, _rounded, arithmetic, steps_for
from ablations.naming.model import model_for
from ablations.naming.optimisation import make_optimizer, train_step
from ablations.naming.packed import _rows, _spans, is_known, pack
from ablations.naming.stacks import Stacks
from ablations.naming.updates import Update

ROWS = [np.array(rows) for rows in ([3, 1, 4, 15, 9, 2], [6, 5, 35, 8, 97, 93], [0, 7, 70])]


@pytest.fixture(scope="module")
def data():
    return load_data(config_of(), cache_dir())


def batch_of(data, config, rows):
    return make_batch(data.train, rows, data.specials.pad, data.specials.bos, fixed_widths(config))


def filling(model, config):
    """Steps that fill batches up, as on a GPU."""
    return PackedSteps(model, make_optimizer(model, config.training, CPU), config, CPU, fills=True)


@pytest.mark.parametrize("fills", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"padding": "maximum", "label_smoothing": 0.1, "gradient_clip": 0.5, "weight_decay": 0.1}},
        {"model": {"tie_embeddings": True, "share_embeddings": True}},
        {"model": {"tie_embeddings": False, "share_embeddings": False}, "decoder": {"layers": 2, "heads": 2}},
        {"model": {"hidden": 36}, "encoder": {"heads": 3}, "decoder": {"heads": 12}},  # heads of widths 12 and 3
    ],
)
def test_packed_steps_are_the_plain_steps(data, changes, fills):
    config = config_of(**changes)
    plain = model_for(config, data, 0)
    assert is_known(plain)
    other = copy.deepcopy(plain)
    optimizers = [make_optimizer(model, config.training, CPU) for model in (plain, other)]
    steps = PackedSteps(other, optimizers[1], config, CPU, fills=fills)
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
    steps = filling(model, config)
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
    steps = filling(model, config)
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
    steps = filling(model, config)
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
    with pytest.raises(AblationsError, match="ABLATIONS_STEPS: unknown way 'graph'; did you mean 'graphs'"):
        steps_for(model, optimizer, config, gpu)


def test_a_cpu_takes_its_steps_without_padding_where_it_knows_the_model_and_computes_in_full_precision(
    data, monkeypatch
):
    def steps(**changes):
        config = config_of(**changes)
        model = model_for(config, data, 0)
        return steps_for(model, make_optimizer(model, config.training, CPU), config, CPU)

    found = steps()
    assert found.facts == {"tokens": "packed", "recorded_shapes": 0, "fused_by": None}
    assert trained(config_of())[0].model["training_steps"] == found.facts
    assert steps(training={"precision": "bf16"}) is None
    assert steps(training={"padding": "maximum"}) is None
    assert steps(decoder={"kind": "set"}) is None
    assert arithmetic(CPU) == "cpu, packed"
    monkeypatch.setenv(SWITCH, "padded")
    assert steps() is None
    assert arithmetic(CPU) == "cpu, padded"


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_cpus_update_is_a_step_of_pytorchs_adamw(limit, frozen):
    torch.manual_seed(0)
    # alone in a stack, two in one, one outside of them, one without decay; the frozen one has no gradient
    shapes = (96, 32), (31, 32), (7, 32), (50, 32), (64,)
    mine, other = twice(shapes)
    for parameters in (mine, other):
        parameters[3].requires_grad_(not frozen)

    def adamw(parameters):
        groups = [{"params": parameters[:4], "weight_decay": 0.1}, {"params": parameters[4:], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), fused=True)

    stacks, optimizer, plain = Stacks(torch.float32), adamw(mine), adamw(other)
    alone, joint = stacks.stack(mine[:1]), stacks.stack(mine[1:3])
    assert alone.value.data_ptr() == mine[0].data_ptr()
    for interrupted in (False, False, True):
        if interrupted:  # the states are the optimizer's: whoever begins anew goes on from them
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        update = Update(optimizer, stacks, limit)
        stacks.refresh()
        torch.testing.assert_close(joint.value, torch.cat(mine[1:3]), rtol=0, atol=0)
        grads = [torch.randn_like(each) for each in other]
        alone.grad[:], joint.grad[:31], joint.grad[31:] = grads[:3]
        for each, grad in zip(mine[3:], grads[3:], strict=True):
            each.grad = grad.clone() if each.requires_grad else None
        stacks.collect()
        check_norm(update.take(), other, plain, grads, limit)
        assert optimizer.grad_scale is None  # whoever takes its next step himself is not clipped by the last norm
    check_alike(mine, optimizer, other, plain)


@pytest.mark.parametrize("kind", ["sequence", "parallel", "set"])
def test_operations_are_those_of_real_tokens_whichever_way_they_are_computed(data, kind, monkeypatch):
    def counted(**training):
        outcome, _ = trained(config_of(decoder={"kind": kind}, training={"max_steps": 3, **training}))
        return outcome.cost["flops"]

    real = counted()
    monkeypatch.setenv(SWITCH, "padded")
    assert counted() == real
    assert counted(padding="maximum") > real
    config = config_of(decoder={"kind": kind})
    model, batch = model_for(config, data, 0), batch_of(data, config, ROWS[0])
    whole = dataclasses.replace(batch, mask=np.ones_like(batch.mask), real=np.ones_like(batch.real))
    assert model.real_flops(whole) == pytest.approx(model.loss_flops(whole))
    assert model.real_flops(batch) < model.loss_flops(batch)


def test_only_scoring_that_reads_nothing_back_is_recorded(data):
    for kind in ("sequence", "parallel", "set"):
        assert _asks_nothing_back(model_for(config_of(decoder={"kind": kind}), data, 0))
    model = model_for(config_of(), data, 0)
    model.cache = False
    assert not _asks_nothing_back(model)
    model.cache, model.encoder.config.model_type = True, "longformer"
    assert not _asks_nothing_back(model)


@pytest.mark.parametrize("at", ["give", "collect", "take"])
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
    plain, broken = (filling(each, config) for each in models)
    breaks = {"give": broken._loss._sums, "collect": broken._loss.stacks, "take": broken._update}[at]

    def full():
        raise error

    batch, tokens, names = batch_of(data, config, ROWS[0]), 4 * broken._multiple, 60
    packed = pack(batch, models[1].special, broken._first, tokens, names, broken._sequences)
    buffer = torch.from_numpy(np.insert(packed, 0, 1))
    broken._pool, broken.records = None, True
    with monkeypatch.context() as broken_off:
        broken_off.setattr(graphs, "_captured", lambda pool, device, compute: compute())
        broken_off.setattr(breaks, at, full)
        assert broken._record(buffer, (tokens, names, broken._sequences)) is None
    assert (broken.facts["recorded_shapes"], broken.records) == (0, False)
    torch.testing.assert_close(
        broken.step(broken.pack(batch), 1e-3, 1), plain.step(plain.pack(batch), 1e-3, 1), rtol=0, atol=0
    )
    for mine, own in zip(*(each.parameters() for each in models), strict=True):
        assert torch.equal(mine, own)
