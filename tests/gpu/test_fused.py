"""The fused kernels beside PyTorch's own operations.

On a GPU as the tests beside this one; `TRITON_INTERPRET=1 python -m pytest tests/gpu/test_fused.py` on a CPU that has
Triton.
"""

import os

import pytest
import torch
from adamw import check_alike, check_norm, twice
from torch import nn

from ablations.naming import fused
from ablations.naming.operands import IGNORED, Dropout, Rows
from ablations.naming.optimisation import compute_repeatably
from ablations.naming.packed import _rows
from ablations.naming.stacks import Stacks
from ablations.naming.updates import Update

INTERPRETED = os.environ.get(fused.INTERPRETED) == "1"
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="there is no GPU that tests may use"
)
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
HALF = torch.bfloat16


@pytest.fixture(scope="module", autouse=True)
def repeatable():
    compute_repeatably(DEVICE)
    assert fused.kernels(DEVICE.type) is not None, "Triton could not compile: is there a C compiler?"


def near(found, expected, kind):
    error = (found.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-12)
    assert error < (1e-2 if kind is HALF else 1e-5)


def dropout_of(share, seed=5, site=1):
    return Dropout(share, torch.tensor([seed], device=DEVICE), site)


def norm_of(width):
    norm = nn.LayerNorm(width).to(DEVICE)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.3)
    return norm


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("width", [64, 512, 768])
@pytest.mark.parametrize("rows", [1, 301])
def test_fused_kernels_compute_what_pytorch_does(kind, width, rows):
    torch.manual_seed(0)
    norm, bias = norm_of(width), torch.randn(width, device=DEVICE)
    states, residual, grad = (torch.randn(rows, width, device=DEVICE).to(kind) for _ in range(3))

    def plain(states, bias, residual, weight, shift):
        whole = (states.float() + bias) + residual
        return nn.functional.layer_norm(whole, (width,), weight, shift, norm.eps).to(residual)

    def plain_gelu(states, bias):
        return nn.functional.gelu(states.float() + bias).to(states)

    inputs = states, bias, residual, norm.weight, norm.bias
    out, pull = fused.add_norm(states, bias, residual, norm, dropout_of(0.0))
    expected, pull_expected = fused.by_autograd(plain, *inputs)
    near(out, expected, kind)
    to_states, to_residual, sums = pull(grad)
    to_weight, to_shift, to_bias = fused.added([sums])[0]
    found = to_states, to_bias, to_residual, to_weight, to_shift
    for mine, other in zip(found, pull_expected(grad), strict=True):
        assert mine.dtype == other.dtype
        near(mine, other, kind)
    out, pull = fused.gelu(states, bias)
    expected, pull_expected = fused.by_autograd(plain_gelu, states, bias)
    near(out, expected, kind)
    to_states, sums = pull(grad)
    for mine, other in zip((to_states, *fused.added([sums])[0]), pull_expected(grad), strict=True):
        near(mine, other, kind)


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("shape", [(1, 5), (700, 192), (3000, 264)])
def test_sums_over_tokens_are_pytorchs(kind, shape):
    states = torch.randn(shape, device=DEVICE).to(kind)
    near(fused.added([fused.summed(states)])[0][0], states.sum(0, dtype=torch.float32), kind)


@pytest.mark.parametrize("often", [1, 3, 4, 6])
@pytest.mark.parametrize("widths", [(16, 64, 48, 8), (7, 33, 16, 5)])
def test_several_sums_are_added_at_once(often, widths):
    shapes = [(kinds, parts, widths[at % 4]) for at, (kinds, parts) in enumerate([(3, 700), (1, 1), (2, 513)] * 2)]
    several = [torch.randn(shape, device=DEVICE) for shape in shapes[:often]]
    for mine, each in zip(fused.added(several), several, strict=True):
        torch.testing.assert_close(mine, each.sum(1), rtol=1e-4, atol=1e-4)


def test_fused_dropout_drops_the_share_and_the_same_backwards():
    norm, states = nn.LayerNorm(256).to(DEVICE), torch.ones(400, 256, device=DEVICE)
    residual, bias = torch.zeros(400, 256, device=DEVICE), torch.zeros(256, device=DEVICE)

    def out_of(dropout):
        return fused.add_norm(states, bias, residual, norm, dropout)

    out, pull = out_of(dropout_of(0.3))
    kept = out > 0
    assert 0.69 < kept.float().mean() < 0.71
    assert torch.equal(out, out_of(dropout_of(0.3))[0])
    for other in (dropout_of(0.3, site=2), dropout_of(0.3, seed=6)):
        assert 0.4 < ((out_of(other)[0] > 0) == kept).float().mean() < 0.65  # .3² + .7² = .58 by chance
    assert torch.equal(pull(torch.randn_like(out))[0] != 0, kept)


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("types", [0, 2])
@pytest.mark.parametrize("padding", [None, 1])
def test_fused_embeddings_are_pytorchs(kind, types, padding, monkeypatch):
    torch.manual_seed(0)
    ids = torch.randint(0, 30, (301,), device=DEVICE, dtype=torch.int32)
    positions = (torch.arange(301, device=DEVICE) % 40).int()
    module = nn.Module()
    module.word_embeddings = nn.Embedding(50, 96, padding_idx=padding)
    module.position_embeddings = nn.Embedding(40, 96)
    if types:
        module.token_type_embeddings = nn.Embedding(types, 96)
    module.LayerNorm = norm_of(96)
    module = module.to(DEVICE)
    grad = torch.randn(301, 96, device=DEVICE).to(kind)

    rows = Rows(*(torch.from_numpy(each).int().to(DEVICE) for each in _rows(ids.cpu().numpy())))

    def found():
        module.zero_grad()
        to_words = torch.zeros_like(module.word_embeddings.weight)
        out, pull = fused.embed(rows, positions, module, dropout_of(0.0), kind, to_words)
        pull(grad)
        assert module.word_embeddings.weight.grad is None
        others = [each.grad for name, each in module.named_parameters() if not name.startswith("word")]
        return [out, to_words, *others]

    ours = found()
    if padding is not None:
        assert (ours[1][padding] == 0).all()
    with monkeypatch.context() as without:
        without.setattr(fused, "kernels", lambda _: None)
        theirs = found()
    for mine, other in zip(ours, theirs, strict=True):
        near(mine, other, kind)
    drops = rows, positions, module, dropout_of(0.3), kind, torch.zeros_like(module.word_embeddings.weight)
    out, pull = fused.embed(*drops)
    assert 0.68 < (out != 0).float().mean() < 0.72
    assert torch.equal(out, fused.embed(*drops)[0])
    module.zero_grad()
    pull(torch.ones_like(out))
    torch.testing.assert_close(module.LayerNorm.bias.grad, (out != 0).sum(0) / 0.7, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("columns", "outputs"), [(64, 50), (9024, 9001)])
def test_the_fused_loss_and_its_gradient_are_pytorchs(kind, smoothing, columns, outputs, monkeypatch):
    torch.manual_seed(0)
    logits = (3.0 * torch.randn(23, columns, device=DEVICE)).to(kind)
    labels = torch.randint(0, outputs, (23,), device=DEVICE, dtype=torch.int32)
    labels[[3, 22]] = IGNORED
    with monkeypatch.context() as without:
        without.setattr(fused, "kernels", lambda _: None)
        expected = fused.cross_entropy(logits.clone(), labels, outputs, smoothing)
    loss, to_logits = fused.cross_entropy(logits.clone(), labels, outputs, smoothing)
    torch.testing.assert_close(loss, expected[0])
    near(to_logits, expected[1], kind)
    assert (to_logits[[3, 22]] == 0).all()
    assert (to_logits[:, outputs:] == 0).all()


@pytest.mark.parametrize("kind", [torch.float32, HALF])
@pytest.mark.parametrize("limit", [None, 0.5])
def test_an_update_is_a_step_of_pytorchs_adamw(kind, limit):
    torch.manual_seed(0)
    # two stacked, one too odd for it, a table, one without decay, a table whose gradient is gathered among the stacks
    shapes = (96, 32), (31, 32), (7, 3), (50, 32), (64,), (40, 32)
    mine, other = twice(shapes, DEVICE)

    def adamw(parameters):
        decayed = [*parameters[:4], parameters[5]]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": parameters[4:5], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), fused=True)

    stacks, optimizer, plain = Stacks(kind), adamw(mine), adamw(other)
    joint, odd = stacks.stack(mine[:2], 64), stacks.stack(mine[2:3])
    gathered = stacks.gradient(mine[5])
    update = Update(optimizer, stacks, limit)
    for _ in range(3):
        stacks.refresh()
        rounds = 1e-2 if INTERPRETED and kind is HALF else 0.0  # Triton's interpreter cuts off
        torch.testing.assert_close(joint.value[:127], torch.cat(mine[:2]).to(kind), rtol=rounds, atol=0.0)
        grads = [torch.randn_like(each).to(kind) for each in other]
        joint.grad[:96], joint.grad[96:127], odd.grad[:] = grads[:3]
        assert not gathered.any()
        gathered += grads[5]
        mine[3].grad, mine[4].grad = (each.float().clone() for each in grads[3:5])
        stacks.collect()
        check_norm(update.take(), other, plain, grads, limit)
    check_alike(mine, optimizer, other, plain)
