"""Attention over packed sequences, by kernels: compared with plain softmax attention, sequence by sequence.

`TRITON_INTERPRET=1 python -m pytest tests/gpu/test_attention.py` where Triton is installed, or with
`ABLATIONS_TEST_GPU=1` in its place on a machine with a GPU; elsewhere they are skipped.
"""

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_GPU = torch.cuda.is_available() and not INTERPRETED
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or not (INTERPRETED or HAS_GPU), reason="no Triton that tests may use"
)
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
KINDS = [torch.bfloat16, torch.float16] if HAS_GPU else [torch.float32, torch.float16]
NEAR = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
SITE = 7
UINT = np.uint32


def kernels() -> Any:
    from ablations.naming import _attention

    return _attention


@dataclass
class Problem:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    given: torch.Tensor
    asking: torch.Tensor
    seen: torch.Tensor
    dropout: float
    causal: bool
    seed: torch.Tensor

    def spans(self) -> tuple:
        return self.asking, self.seen, int(self.asking.diff().max()), int(self.seen.diff().max())


def problem(sizes, seen_sizes, heads, width, *, dropout=0.0, causal=False, kind=torch.float32, seed=5) -> Problem:
    """Query, key and value are views of a joint product where they are equally many."""
    made = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=made).to(DEVICE, kind)

    tokens, seen = sum(sizes), sum(seen_sizes)
    if sizes == seen_sizes:
        query, key, value = random(tokens, 3, heads, width).unbind(1)
    else:
        query = random(tokens, heads, width)
        key, value = random(seen, 2, heads, width).unbind(1)
    starts = [torch.tensor([0, *each], dtype=torch.int32).cumsum(0).int().to(DEVICE) for each in (sizes, seen_sizes)]
    number = torch.tensor([seed], dtype=torch.int64, device=DEVICE)
    return Problem(query, key, value, random(tokens, heads, width), *starts, dropout, causal, number)


def by_kernels(case: Problem) -> list[torch.Tensor]:
    """Output, log-sum-exp, gradients; the latter are views as well, of what held NaN before."""
    common = (*case.spans(), case.dropout, case.seed, SITE, kernels().numbers(case.seed, case.spans()[-1]))
    out, lse = kernels().forward(case.query, case.key, case.value, *common, causal=case.causal)
    if len(case.query) == len(case.key):
        grads = list(torch.full_like(case.query, torch.nan)[:, None].repeat(1, 3, 1, 1).unbind(1))
    else:
        pair = torch.full_like(case.key, torch.nan)[:, None].repeat(1, 2, 1, 1).unbind(1)
        grads = [torch.full_like(case.query, torch.nan), *pair]
    kernels().backward(
        case.given, case.query, case.key, case.value, out, lse, *common, *grads, causal=case.causal
    )  # fmt: skip
    return [out, lse, *grads]


def mixed(number):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = (number ^ (number >> UINT(shift))) * UINT(factor)
    return number ^ (number >> UINT(16))


def kept(seed: int, site: int, head: int, heads: int, rows, columns, dropout: float) -> torch.Tensor:
    """Which weights of queries at ``rows`` over keys at ``columns`` (in the batch, in their sequence) are kept."""

    def numbers(places, key):
        return mixed(mixed(np.asarray(places).astype(UINT) ^ key) ^ mixed(key)) | UINT(1)

    key = mixed(np.array([seed], UINT))
    own = numbers(np.asarray(rows) * heads + head, mixed(key + UINT(site)))
    product = own[:, None] * numbers(columns, mixed(key ^ UINT(0x9E3779B9)))[None, :]
    return torch.from_numpy(product.view(np.int32) >= round(dropout * 2**32) - 2**31).to(DEVICE)


def plainly(case: Problem) -> list[torch.Tensor]:
    """The same in float64."""
    leaves = [each.double().clone().requires_grad_() for each in (case.query, case.key, case.value)]
    heads, width = case.query.shape[1:]
    found, sums = [], []
    for sequence in range(len(case.asking) - 1):
        rows, columns = (slice(*each[sequence : sequence + 2].tolist()) for each in (case.asking, case.seen))
        query, key, value = (
            each[at].transpose(0, 1) for each, at in zip(leaves, (rows, columns, columns), strict=True)
        )
        scores = query @ key.transpose(1, 2) / width**0.5
        if case.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        weights = scores.softmax(-1)
        if case.dropout:
            places = np.arange(rows.start, rows.stop), np.arange(columns.stop - columns.start)
            masks = [kept(case.seed.item(), SITE, head, heads, *places, case.dropout) for head in range(heads)]
            weights = weights * torch.stack(masks) / (1.0 - case.dropout)
        found.append((weights @ value).transpose(0, 1))
        sums.append(scores.logsumexp(-1))
    out = torch.cat(found)
    (out * case.given.double()).sum().backward()
    return [out.detach(), torch.cat(sums, 1).detach(), *(each.grad for each in leaves)]


def near(found, expected, kind):
    names = ("output", "log-sum-exp", "query", "key", "value")
    for name, mine, other in zip(names, found, expected, strict=True):
        assert mine.isfinite().all(), name
        error = (mine.double() - other).norm() / other.norm().clamp_min(1e-12)
        assert error < NEAR[kind], (name, float(error))


SHAPES = {
    "themselves": {"sizes": [70, 1, 128, 33], "heads": 2, "width": 64},
    "longer": {"sizes": [200, 64, 130], "heads": 2, "width": 32},
    "causal": {"sizes": [3, 12, 1, 7], "heads": 2, "width": 192, "causal": True},
    "causal and longer": {"sizes": [150, 64, 1], "heads": 1, "width": 64, "causal": True},
    "others": {"sizes": [3, 12, 5], "seen_sizes": [140, 17, 64], "heads": 2, "width": 64},
    "more than the others": {"sizes": [140, 17, 64], "seen_sizes": [3, 12, 5], "heads": 1, "width": 64},
    "odd width": {"sizes": [20, 40], "heads": 3, "width": 24},
    "narrow": {"sizes": [20, 40], "heads": 2, "width": 8},
    "wide": {"sizes": [20, 70], "heads": 1, "width": 256},
    "wide, causal and longer": {"sizes": [150, 40], "heads": 1, "width": 80, "causal": True},
    "longest": {"sizes": [300, 40, 257], "heads": 1, "width": 16},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_compute_softmax_attention_and_its_gradients(shape, dropout, kind):
    sizes = SHAPES[shape]
    case = problem(**{"seen_sizes": sizes["sizes"], **sizes}, dropout=dropout, kind=kind)
    near(by_kernels(case), plainly(case), kind)


def test_scores_of_any_size_give_finite_numbers():
    for factor in (-60.0, 60.0):
        case = problem([70, 20], [70, 20], 1, 32, dropout=0.1, kind=KINDS[0])
        case.query = case.key * factor  # each sees itself alone, or all but itself
        assert all(each.isfinite().all() for each in by_kernels(case))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_results_repeat_to_the_bit(dropout):
    case = problem([70, 128, 33], [70, 128, 33], 2, 64, dropout=dropout, kind=KINDS[0])
    for mine, other in zip(by_kernels(case), by_kernels(case), strict=True):
        assert torch.equal(mine, other)


def test_what_is_dropped_does_not_depend_on_what_is_behind():
    first = by_kernels(problem([40, 20], [40, 20], 2, 32, dropout=0.3))
    case = problem([40, 20, 30], [40, 20, 30], 2, 32, dropout=0.3)
    expected = problem([40, 20], [40, 20], 2, 32, dropout=0.3)
    for name in ("query", "key", "value", "given"):
        getattr(case, name)[:60] = getattr(expected, name)
    torch.testing.assert_close(by_kernels(case)[0][:60], first[0])


def test_all_is_dropped_where_that_is_asked_for():
    out, _, *grads = by_kernels(problem([40, 20], [40, 20], 1, 32, dropout=1.0))
    assert not any(each.any() for each in (out, *grads))


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_the_share_is_dropped_and_masks_are_as_unlike_as_by_chance(dropout):
    at = np.arange(512)
    keys = [(seed, site, head) for seed in (0, 1, 2) for site in (1, 2) for head in (0, 1)]
    masks = [kept(seed, site, head, 12, at, at, dropout) for seed, site, head in keys]
    spread = (dropout * (1 - dropout)) ** 0.5
    normed = torch.stack([(each.double() - (1 - dropout)) / spread for each in masks])
    assert (normed.mean((1, 2)).abs() < 5 / 512).all()
    alike = normed.flatten(1) @ normed.flatten(1).T / 512
    assert (alike - alike.diag().diag()).abs().max() < 5
    for each in normed:
        for matrix in (each, each.T):
            pairs = (matrix @ matrix.T / 512**0.5)[np.triu_indices(512, 1)]
            assert 0.97 < pairs.var() < 1.03  # of rows, which all differ in the factor between their numbers
        for down, aside in ((1, 1), (64, 1), (3, 128)):
            two = each * each.roll(down, 0)
            assert (two * two.roll(aside, 1)).mean().abs() < 5 / 512


def test_a_gpu_without_room_for_the_blocks_is_found_out(monkeypatch):
    def full(*_, **__):
        raise OutOfResources(106_000, 101_376, "shared memory")

    from triton.runtime.errors import OutOfResources

    attends = kernels()
    sizes = DEVICE, torch.float16, 16, 33, 65, False
    attends.launches.cache_clear()
    assert attends.launches(*sizes)
    attends.launches.cache_clear()
    with monkeypatch.context() as small:
        small.setattr(attends, "backward", full)
        assert not attends.launches(*sizes)
    attends.launches.cache_clear()
