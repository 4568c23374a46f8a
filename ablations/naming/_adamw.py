# ruff: noqa: PLR0913, PLR0917  # kernels take pointers, sizes and switches one by one
"""Triton's kernels for ``updates.py``: steps of AdamW.

Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

SIZE = 1024  # of a block of parameters


@triton.jit
def _step(values, means, squares, grads, copies, at, inside, factors, decay, beta1, beta2, eps, COPIES: tl.constexpr):
    clip, rate, size, unbiased = tl.load(factors), tl.load(factors + 1), tl.load(factors + 2), tl.load(factors + 3)
    grad = tl.load(grads + at, mask=inside, other=0.0).to(tl.float32) * clip
    mean = tl.load(means + at, mask=inside, other=0.0)
    square = tl.load(squares + at, mask=inside, other=0.0)
    value = tl.load(values + at, mask=inside, other=0.0)
    mean = beta1 * mean + (1.0 - beta1) * grad
    square = beta2 * square + (1.0 - beta2) * grad * grad
    value -= rate * decay * value
    value -= size * mean / (tl.sqrt(square) * unbiased + eps)
    tl.store(means + at, mean, mask=inside)
    tl.store(squares + at, square, mask=inside)
    tl.store(values + at, value, mask=inside)
    if COPIES:
        tl.store(copies + at, value, mask=inside & (copies.to(tl.int64) != 0))


@triton.jit
def _adamw(places, factors, decay, beta1, beta2, eps, KIND: tl.constexpr, SIZE: tl.constexpr):
    place = places + tl.program_id(0).to(tl.int64) * 6
    values = tl.multiple_of(tl.load(place).to(tl.pointer_type(tl.float32)), 16)
    means = tl.multiple_of(tl.load(place + 1).to(tl.pointer_type(tl.float32)), 16)
    squares = tl.multiple_of(tl.load(place + 2).to(tl.pointer_type(tl.float32)), 16)
    grads = tl.multiple_of(tl.load(place + 3).to(tl.pointer_type(KIND)), 16)
    copies = tl.multiple_of(tl.load(place + 4).to(tl.pointer_type(KIND)), 16)
    at = tl.arange(0, SIZE)
    inside = at < tl.multiple_of(tl.load(place + 5), 16)
    _step(values, means, squares, grads, copies, at, inside, factors, decay, beta1, beta2, eps, True)


@triton.jit
def _adamw_of(
    values, means, squares, grads, factors, size, decay, beta1, beta2, eps, SIZE: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    _step(values, means, squares, grads, values, at, at < size, factors, decay, beta1, beta2, eps, False)


def places(tensors: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]]) -> Tensor:
    """Where :func:`adamw` finds what it works on, ``(blocks, 6)``: five addresses and a size, for each block.

    Args:
        tensors: Of each parameter its values, both of its moments, its gradients and the copy of its values, if there
            is one; numbers in each that 16 divides.
    """
    found = []
    for each in tensors:
        size = each[0].numel()
        starts = np.arange(0, size, SIZE)
        columns = [0 * starts if part is None else part.data_ptr() + starts * part.element_size() for part in each]
        found.append(np.stack([*columns, np.minimum(SIZE, size - starts)], axis=1))
    return torch.from_numpy(np.concatenate(found)).to(tensors[0][0].device)


def adamw(
    places: Tensor, factors: Tensor, decay: float, betas: tuple[float, float], eps: float, kind: torch.dtype
) -> None:
    """A step of AdamW, and the copies in the precision of the products.

    Args:
        places: See :func:`places`.
        factors: Of the gradients, the rate, that over the bias of the first moment, one over the root of that of the
            second; on the device.
        decay: Of the weights.
        betas: Of the moments.
        eps: Added to the root of the second moment.
        kind: Precision of gradients and copies.
    """
    kinds = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    _adamw[(len(places),)](places, factors, decay, *betas, eps, KIND=kinds[kind], SIZE=SIZE)


def adamw_of(
    values: Tensor, means: Tensor, squares: Tensor, grads: Tensor, factors: Tensor, decay: float,
    betas: tuple[float, float], eps: float,
) -> None:  # fmt: skip
    """As :func:`adamw`, of one parameter whose gradients are in float32 and which has no copy."""
    size = values.numel()
    grid = (triton.cdiv(size, SIZE),)
    _adamw_of[grid](values, means, squares, grads, factors, size, decay, *betas, eps, SIZE=SIZE)


def try_out(device: str) -> None:
    """Runs each kernel once.

    Raises:
        Exception: Whatever keeps Triton from it.
    """
    values, means, squares, grads, copies, factors = torch.zeros(6, 16, device=device)
    rule = 0.0, (0.9, 0.999), 1e-8
    adamw(places([(values, means, squares, grads, copies)]), factors, *rule, torch.float32)
    adamw_of(values, means, squares, grads, factors, *rule)
