"""Operations and attention on a CPU, by hand: beside what autograd derives of PyTorch's own."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ablations.naming import fused, grids
from ablations.naming.grids import Limits
from ablations.naming.operands import IGNORED, Dropout, Rows, Spans
from ablations.naming.packed import _rows
from ablations.naming.pulls import by_autograd, drawn

near = functools.partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
NONE = Dropout(0.0, torch.zeros(1, dtype=torch.int64), 1)


def seeded(compute):
    """What is computed from the same random numbers each time."""
    torch.manual_seed(7)
    return compute()


def spans(*sizes):
    return Spans(torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int32), max(sizes))


def one_by_one(query, key, value, asking, seen, *, causal):
    """Each sequence by itself."""
    sizes, seen_sizes = (each.starts.diff().tolist() for each in (asking, seen))
    parts = zip(query.split(sizes), key.split(seen_sizes), value.split(seen_sizes), strict=True)
    attend = functools.partial(nn.functional.scaled_dot_product_attention, is_causal=causal)
    return torch.cat([attend(*(each.transpose(0, 1) for each in part)).transpose(0, 1) for part in parts])


LENGTHS = [
    (spans(5, 1, 7), spans(5, 1, 7), False),
    (spans(6, 6), spans(6, 6), False),  # nothing to be filled up
    (spans(2, 1, 3), spans(9, 4, 6), False),
    (spans(3, 5, 1), spans(3, 5, 1), True),
]


# sequences on one grid, on several, on one each; the long ones, and all of them, by PyTorch's own kernel
LIMITS = [{}, {"MOST_FILLED": 20}, {"MOST_WEIGHTS": 0}, {"LONG": 30}, {"LONG": 0}]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize(("asking", "seen", "causal"), LENGTHS)
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_on_grids_is_that_of_each_sequence(asking, seen, causal, heads, limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(grids, name, value)
    torch.manual_seed(0)
    tokens, seen_tokens = int(asking.starts[-1]), int(seen.starts[-1])
    query = torch.randn(tokens, 2, heads, 8)[:, 1]  # heads of a joint product
    key, value = torch.randn(seen_tokens, 2, heads, 8).unbind(1)
    grad = torch.randn(tokens, heads, 8)
    targets = [torch.full_like(each, 9.0) for each in (query, key, value)]
    expected, pull_expected = by_autograd(
        functools.partial(one_by_one, asking=asking, seen=seen, causal=causal), query, key, value
    )
    out, pull = fused.attention(query, key, value, asking, seen, NONE, causal=causal)
    near(out, expected)
    pull(grad, *targets)
    for mine, own in zip(targets, pull_expected(grad), strict=True):
        near(mine, own)


@pytest.mark.parametrize(
    ("seen", "limits", "found"),
    [
        ((100,) * 6, Limits(10**6, 0, 10**5), [6]),  # nothing is filled up
        ((100,) * 6, Limits(20_000, 0, 10**5), [2, 2, 2]),  # 10,000 weights each
        ((100,) * 3, Limits(10**6, 0, 9_999), [1, 1, 1]),
        ((300, 5), Limits(50_000, 10**6, 10**5), [1, 1]),  # the first is too much for any grid
        ((20, 22, 25, 250, 256), Limits(10**6, 16_000, 10**5), [3, 2]),  # 187,000 weights would stand for nothing
        ((256, 255, 40, 39), Limits(10**6, 16_000, 10**5), [2, 2]),
        ((7,), Limits(0, 0, 0), [1]),
    ],
)
def test_sequences_of_like_length_share_a_grid(seen, limits, found):
    shared = grids.bands(seen, seen, limits)
    assert [len(each) for each in shared] == found
    assert [at for each in shared for at in each] == list(range(len(seen)))


def test_a_long_body_fills_up_no_short_ones(monkeypatch):
    each, compute, met = spans(10, 9, 160, 150), grids._by_hand, []
    monkeypatch.setattr(
        grids, "_by_hand", lambda query, *others: met.append(query.shape[:2]) or compute(query, *others)
    )
    fused.attention(*torch.randn(3, 329, 2, 8), each, each, NONE, causal=False)
    assert met == [(4, 10), (4, 160)]  # two heads of two bodies each


def test_short_names_share_a_grid_over_bodies_of_many_lengths():
    assert len(grids.bands((3, 2, 5), (20, 256, 90), Limits(10**6, 16_000, 10**5))) == 1


@pytest.mark.parametrize("causal", [False, True])
def test_no_weight_of_a_long_sequence_is_kept(causal):
    """PyTorch has a kernel that keeps all, too, and takes it where it knows no other."""
    each = spans(200, 30, 200)
    states = torch.randn(3, 430, 2, 16)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        fused.attention(*states, each, each, NONE, causal=causal)
    counts = {event.key: event.count for event in profiled.key_averages()}
    assert counts["aten::_scaled_dot_product_flash_attention_for_cpu"] == 2
    assert "aten::_scaled_dot_product_attention_math" not in counts
    assert counts["aten::_softmax"] == 1


@pytest.mark.parametrize("limits", LIMITS)
def test_attention_drops_weights_and_its_gradients_are_those_of_the_same_draw(limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(grids, name, value)
    query, key, value = torch.randn(3, 9, 1, 4)
    eyes = torch.eye(9)[:, None]  # as values: what comes out are the weights
    asking = spans(4, 5)
    share = Dropout(0.4, NONE.seed, 1)
    attend = functools.partial(fused.attention, asking=asking, seen=asking, causal=False)
    whole, _ = attend(query, key, eyes, dropout=NONE)
    taken, _ = seeded(lambda: attend(query, key, eyes, dropout=share))
    kept = taken != 0
    near(taken[kept], whole[kept] / 0.6)
    inside = whole != 0
    factors = torch.where(kept, 1 / 0.6, 0.0)[:, 0]

    def by_factors(query, key, value):
        scores = (query[:, 0] @ key[:, 0].T / 2).masked_fill(~inside[:, 0], float("-inf"))
        return ((torch.softmax(scores, 1) * factors) @ value[:, 0])[:, None]

    expected, pull_expected = by_autograd(by_factors, query, key, value)
    out, pull = seeded(lambda: attend(query, key, value, dropout=share))
    near(out, expected)
    targets, grad = [torch.empty_like(query) for _ in range(3)], torch.randn_like(query)
    pull(grad, *targets)
    for mine, own in zip(targets, pull_expected(grad), strict=True):
        near(mine, own)


@pytest.mark.parametrize("most", [grids.MOST_WEIGHTS, 4_000, 0])
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_attention_drops_as_large_a_share_as_it_is_told(share, most, monkeypatch):
    monkeypatch.setattr(grids, "MOST_WEIGHTS", most)
    each = spans(*[40] * 20)  # 32,000 weights, all alike
    query, key, ones = torch.zeros(800, 1, 8), torch.zeros(800, 1, 8), torch.eye(40).repeat(20, 1)[:, None]
    found, _ = seeded(lambda: fused.attention(query, key, ones, each, each, Dropout(share, NONE.seed, 1), causal=False))
    assert (found == 0).float().mean() == pytest.approx(share, abs=0.01)
    assert found.sum(2).mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_what_is_drawn_drops_as_large_a_share_as_it_is_told(share):
    found = seeded(lambda: drawn(torch.empty(200, 200), share))
    assert (found == 0).float().mean() == pytest.approx(share, abs=0.01)
    assert found.mean() == pytest.approx(1.0, abs=0.02)
    assert drawn(torch.empty(2), 0.0) is None


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_bias_dropout_residual_and_norm(share):
    torch.manual_seed(0)
    states, residual, grad = torch.randn(3, 11, 16)
    bias, norm = torch.randn(16), nn.LayerNorm(16)
    norm.weight.data.normal_()
    dropout = Dropout(share, NONE.seed, 1)
    kept = seeded(lambda: drawn(states, share))
    factors = torch.ones_like(states) if kept is None else kept

    def expectation(states, bias, residual, weight, shift):
        return nn.functional.layer_norm((states + bias) * factors + residual, (16,), weight, shift, norm.eps)

    expected, pull_expected = by_autograd(expectation, states, bias, residual, norm.weight, norm.bias)
    out, pull = seeded(lambda: fused.add_norm(states.clone(), bias, residual, norm, dropout))
    near(out, expected)
    to_states, to_residual, sums = pull(grad)
    to_weight, to_shift, to_bias = fused.added([sums])[0]
    for mine, own in zip((to_states, to_bias, to_residual, to_weight, to_shift), pull_expected(grad), strict=True):
        near(mine, own)


def test_bias_and_activation():
    states, grad, bias = torch.randn(11, 16), torch.randn(11, 16), torch.randn(16)
    expected, pull_expected = by_autograd(lambda states, bias: nn.functional.gelu(states + bias), states, bias)
    out, pull = fused.gelu(states.clone(), bias)
    near(out, expected)
    to_states, sums = pull(grad)
    for mine, own in zip((to_states, fused.added([sums])[0][0]), pull_expected(grad), strict=True):
        near(mine, own)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("columns", "outputs"), [(64, 50), (50, 50)])
def test_the_loss_and_its_gradient(smoothing, columns, outputs):
    torch.manual_seed(0)
    logits, labels = torch.randn(23, columns), torch.randint(0, outputs, (23,), dtype=torch.int32)
    labels[[3, 22]] = IGNORED

    def expectation(logits):
        given = logits[:, :outputs], labels.long()
        return nn.functional.cross_entropy(*given, ignore_index=IGNORED, label_smoothing=smoothing)

    expected, pull_expected = by_autograd(expectation, logits)
    loss, to_logits = fused.cross_entropy(logits.clone(), labels, outputs, smoothing)
    near(loss, expected)
    near(to_logits, pull_expected(torch.ones(()))[0])


def test_a_loss_too_great_for_a_probability_is_still_exact():
    logits = torch.zeros(1, 4)
    logits[0, 1] = 1e4
    loss, _ = fused.cross_entropy(logits, torch.tensor([2], dtype=torch.int32), 4, 0.0)
    assert loss == 1e4


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("padding", [None, 1])
@pytest.mark.parametrize("typed", [False, True])
def test_embeddings(share, padding, typed):
    torch.manual_seed(0)
    module = nn.Module()
    module.word_embeddings, module.position_embeddings = nn.Embedding(30, 16, padding), nn.Embedding(20, 16)
    if typed:
        module.token_type_embeddings = nn.Embedding(2, 16)
    module.LayerNorm = nn.LayerNorm(16)
    ids, positions = torch.tensor([4, 1, 4, 29, 7], dtype=torch.int32), torch.tensor([2, 3, 4, 2, 3], dtype=torch.int32)
    rows = Rows(*(torch.from_numpy(each.astype(np.int32)) for each in _rows(ids.numpy().astype(np.int64))))
    dropout, grad = Dropout(share, NONE.seed, 1), torch.randn(5, 16)
    kept = seeded(lambda: drawn(grad, share))
    whole = module.word_embeddings(ids) + module.position_embeddings(positions)
    whole = whole + module.token_type_embeddings(torch.zeros_like(ids)) if typed else whole
    expected = module.LayerNorm(whole) * (1.0 if kept is None else kept)
    expected.backward(grad)
    own = {name: each.grad for name, each in module.named_parameters()}
    module.zero_grad()
    to_words = torch.ones(30, 16)  # what else there is to the gradient
    out, pull = seeded(lambda: fused.embed(rows, positions, module, dropout, torch.float32, to_words))
    near(out, expected)
    with torch.no_grad():
        pull(grad)
    near(to_words - 1.0, own.pop("word_embeddings.weight"))
    for name, each in own.items():
        near(dict(module.named_parameters())[name].grad, each)
