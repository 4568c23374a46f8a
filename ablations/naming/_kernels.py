# ruff: noqa: PLR0913, PLR0917  # kernels take pointers, sizes and switches one by one
"""Triton's kernels for ``fused.py``. Sums over tokens are made in a fixed order: the same numbers at every run."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PROGRAMS = 1056  # that share the rows of a backward pass: eight for each multiprocessor of an H100
ROWS = 8  # of each of them at least
COLUMNS = 1024  # of a block of the activation


@triton.jit
def _mixed(number):
    """A hash of 32 bits to 32 bits (Wellons 2018, "Prospecting for hash functions": lowbias32)."""
    number = number ^ (number >> 16)
    number = number * 0x7FEB352D
    number = number ^ (number >> 15)
    number = number * 0x846CA68B
    return number ^ (number >> 16)


@triton.jit
def _kept(seed, site, place, dropout):
    """Which places are kept: a hash under two keys stands for a random number. Philox would take longer than it all."""
    key = _mixed(_mixed(tl.load(seed).to(tl.uint32)) + site)
    number = _mixed(_mixed(place.to(tl.uint32) ^ key) ^ _mixed(key))
    return (number >> 8).to(tl.float32) * (1.0 / 16777216.0) >= dropout


@triton.jit(do_not_specialize=["site"])
def _add_norm(
    states, bias, residual, weight, shift, out, whole, mean_out, scale_out, seed, site, dropout, eps, width,
    HAS_DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    place = row * width + at
    value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + at, mask=inside, other=0.0)
    if HAS_DROPOUT:
        value = tl.where(_kept(seed, site, place, dropout), value / (1.0 - dropout), 0.0)
    value += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(value, 0) / width
    centred = tl.where(inside, value - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
    normed = centred * scale * tl.load(weight + at, mask=inside, other=0.0) + tl.load(
        shift + at, mask=inside, other=0.0
    )
    tl.store(out + place, normed, mask=inside)
    tl.store(whole + place, value, mask=inside)
    tl.store(mean_out + row, mean)
    tl.store(scale_out + row, scale)


@triton.jit(do_not_specialize=["site", "rows"])
def _add_norm_backward(
    given, whole, mean_in, scale_in, weight, to_states, to_residual, sums, seed, site, dropout, rows, width,
    HAS_DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    gain = tl.load(weight + at, mask=inside, other=0.0)
    to_weight = tl.zeros([BLOCK], tl.float32)
    to_shift = tl.zeros([BLOCK], tl.float32)
    to_bias = tl.zeros([BLOCK], tl.float32)
    for row in range(program, rows, programs):
        place = tl.cast(row, tl.int64) * width + at
        grad = tl.load(given + place, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(whole + place, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(scale_in + row)
        normed = tl.where(inside, (value - tl.load(mean_in + row)) * scale, 0.0)
        scaled = grad * gain
        along = tl.sum(normed * scaled, 0) / width
        level = tl.sum(scaled, 0) / width
        found = (scaled - (normed * along + level)) * scale
        tl.store(to_residual + place, found, mask=inside)
        if HAS_DROPOUT:
            found = tl.where(_kept(seed, site, place, dropout), found / (1.0 - dropout), 0.0)
            tl.store(to_states + place, found, mask=inside)
        to_weight += grad * normed
        to_shift += grad
        to_bias += tl.where(inside, found, 0.0)
    tl.store(sums + program * width + at, to_weight, mask=inside)
    tl.store(sums + (programs + program) * width + at, to_shift, mask=inside)
    tl.store(sums + (2 * programs + program) * width + at, to_bias, mask=inside)


@triton.jit
def _gelu(states, bias, out, width, BLOCK: tl.constexpr):
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    place = tl.program_id(0).to(tl.int64) * width + at
    value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + at, mask=inside, other=0.0)
    tl.store(out + place, value * 0.5 * (1.0 + tl.erf(value * 0.7071067811865476)), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _gelu_backward(given, states, bias, to_states, sums, rows, width, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    added = tl.load(bias + at, mask=inside, other=0.0)
    to_bias = tl.zeros([BLOCK], tl.float32)
    for row in range(program, rows, programs):
        place = tl.cast(row, tl.int64) * width + at
        value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32) + added
        grad = tl.load(given + place, mask=inside, other=0.0).to(tl.float32)
        below = 0.5 * (1.0 + tl.erf(value * 0.7071067811865476))
        found = grad * (below + value * 0.3989422804014327 * tl.exp(-0.5 * value * value))
        tl.store(to_states + place, found, mask=inside)
        to_bias += found
    tl.store(sums + program * width + at, to_bias, mask=inside)


def _programs(rows: int) -> int:
    return max(1, min(PROGRAMS, rows // ROWS))


class AddNorm(torch.autograd.Function):
    """See :func:`ablations.naming.fused.add_norm`."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, eps: float,
        dropout: float, seed: Tensor, site: int,
    ) -> Tensor:  # fmt: skip
        rows, width = states.shape
        out, whole = torch.empty_like(residual), torch.empty_like(residual)
        mean, scale = (torch.empty(rows, device=states.device, dtype=torch.float32) for _ in range(2))
        _add_norm[(rows,)](
            states, bias, residual, weight, shift, out, whole, mean, scale, seed, site, dropout, eps, width,
            HAS_DROPOUT=dropout > 0.0, BLOCK=triton.next_power_of_2(width),
        )  # fmt: skip
        ctx.save_for_backward(whole, mean, scale, weight, seed)
        ctx.dropout, ctx.site, ctx.kind = dropout, site, states.dtype
        return out

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Any:  # type: ignore[override]
        whole, mean, scale, weight, seed = ctx.saved_tensors
        rows, width = whole.shape
        given = given.contiguous()
        programs = _programs(rows)
        to_residual = torch.empty_like(whole)
        drops = ctx.dropout > 0.0
        to_states = torch.empty_like(whole, dtype=ctx.kind) if drops else to_residual
        sums = torch.empty(3, programs, width, device=whole.device, dtype=torch.float32)
        _add_norm_backward[(programs,)](
            given, whole, mean, scale, weight, to_states, to_residual, sums, seed, ctx.site, ctx.dropout, rows, width,
            HAS_DROPOUT=drops, BLOCK=triton.next_power_of_2(width),
        )  # fmt: skip
        to_weight, to_shift, to_bias = sums.sum(1)
        return to_states.to(ctx.kind), to_bias, to_residual, to_weight, to_shift, None, None, None, None


class Gelu(torch.autograd.Function):
    """See :func:`ablations.naming.fused.gelu`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, bias: Tensor) -> Tensor:
        out = torch.empty_like(states)
        rows, width = states.shape
        block = min(COLUMNS, triton.next_power_of_2(width))
        _gelu[(rows, triton.cdiv(width, block))](states, bias, out, width, BLOCK=block)
        ctx.save_for_backward(states, bias)
        return out

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Any:  # type: ignore[override]
        states, bias = ctx.saved_tensors
        rows, width = states.shape
        programs = _programs(rows)
        to_states = torch.empty_like(states)
        sums = torch.empty(programs, width, device=states.device, dtype=torch.float32)
        block = min(COLUMNS, triton.next_power_of_2(width))
        _gelu_backward[(programs, triton.cdiv(width, block))](
            given.contiguous(), states, bias, to_states, sums, rows, width, BLOCK=block
        )
        return to_states, sums.sum(0)


def try_out(device: str) -> None:
    """Runs each kernel once.

    Raises:
        Exception: Whatever keeps Triton from it.
    """
    with torch.enable_grad():
        states = torch.ones(2, 16, device=device, requires_grad=True)
        bias = torch.zeros(16, device=device, requires_grad=True)
        seed = torch.zeros(1, dtype=torch.int64, device=device)
        Gelu.apply(AddNorm.apply(states, bias, states, bias, bias, 1e-5, 0.1, seed, 0), bias).sum().backward()
