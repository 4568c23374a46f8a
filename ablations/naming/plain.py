# ruff: noqa: PLR0913, PLR0917  # as the kernels whose place they take
"""What ``_kernels.py`` computes, by PyTorch's own operations: for a CPU, and a GPU without Triton.

For what each function takes and returns see ``fused.py``. Dropout draws from PyTorch's own generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ablations.naming.operands import IGNORED, Dropout
from ablations.naming.pulls import Pulls, drawn

to_norm = torch.ops.aten.native_layer_norm_backward
ALL = [True, True, True]  # gradients by what is normalised, the weight and the bias


def embed(
    ids: Tensor, positions: Tensor, words: Tensor, places: Tensor, extra: Tensor | None, weight: Tensor, shift: Tensor,
    eps: float, dropout: Dropout, kind: torch.dtype,
) -> tuple[Tensor, Pulls]:  # fmt: skip
    """See :func:`ablations.naming.fused.embed`; the pull's first is the gradient by the sum of the rows."""
    whole = nn.functional.embedding(ids, words).add_(nn.functional.embedding(positions, places))
    if extra is not None:
        whole += extra
    out, mean, scale = torch.native_layer_norm(whole, weight.shape, weight, shift, eps)
    kept = drawn(out, dropout.share)
    if kept is not None:
        out *= kept

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        given = given.float() if kept is None else given * kept
        to_sum, *others = to_norm(given, whole, weight.shape, mean, scale, weight, shift, ALL)
        return to_sum, torch.stack([*others, to_sum.sum(0)])[:, None]

    return out.to(kind), pull


def add_norm(
    states: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, eps: float, dropout: Dropout
) -> tuple[Tensor, Pulls]:
    """See :func:`ablations.naming.fused.add_norm`."""
    kind, own_kind = states.dtype, residual.dtype
    whole = states.float().add_(bias)
    kept = drawn(whole, dropout.share)
    if kept is not None:
        whole *= kept
    whole += residual
    out, mean, scale = torch.native_layer_norm(whole, weight.shape, weight, shift, eps)

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        to_whole, *others = to_norm(given.float(), whole, weight.shape, mean, scale, weight, shift, ALL)
        to_sum = to_whole if kept is None else to_whole * kept
        return to_sum.to(kind), to_whole.to(own_kind), torch.stack([*others, to_sum.sum(0)])[:, None]

    return out.to(own_kind), pull


def gelu(states: Tensor, bias: Tensor) -> tuple[Tensor, Pulls]:
    """See :func:`ablations.naming.fused.gelu`."""
    kind, whole = states.dtype, states.float().add_(bias)

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        to_whole = torch.ops.aten.gelu_backward(given.float(), whole)
        return to_whole.to(kind), to_whole.sum(0)[None, None]

    return nn.functional.gelu(whole).to(kind), pull


def cross_entropy(logits: Tensor, labels: Tensor, outputs: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """See :func:`ablations.naming.fused.cross_entropy`."""
    real = labels != IGNORED
    weight, at = (real / real.sum())[:, None], labels.clamp(min=0).long()
    rows = torch.arange(len(at), device=at.device)
    logs = torch.log_softmax(logits[:, :outputs].float(), 1)
    losses = (smoothing - 1) * logs[rows, at][:, None]
    if smoothing:
        losses -= smoothing * logs.mean(1, keepdim=True)
    to_logits = logs.exp_()
    if smoothing:
        to_logits -= smoothing / outputs
    to_logits[rows, at] += smoothing - 1
    to_logits *= weight
    if logits.shape[1] > outputs:
        to_logits = nn.functional.pad(to_logits, (0, logits.shape[1] - outputs))
    return (losses * weight).sum(), to_logits.to(logits)


def summed(states: Tensor) -> Tensor:
    """See :func:`ablations.naming.fused.summed`."""
    return states.sum(0, dtype=torch.float32)[None, None]


def added(several: Sequence[Tensor]) -> list[Tensor]:
    """See :func:`ablations.naming.fused.added`."""
    return [each.sum(1) for each in several]
