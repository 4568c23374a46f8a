"""Pulls: what takes the gradient of the loss by a result to those by the inputs; and what dropout draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pulls = Callable[[Tensor], tuple[Tensor, ...]]


def drawn(states: Tensor, dropout: float) -> Tensor | None:
    """By what dropout multiplies each number; None where it drops none.

    Args:
        states: Numbers of any shape.
        dropout: The share to drop, 0 to below 1.
    """
    return torch.empty_like(states).bernoulli_(1 - dropout).div_(1 - dropout) if dropout else None


def by_autograd(compute: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Pulls]:
    """What a function computes of its inputs, and its pull, as PyTorch derives it."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    with torch.enable_grad():
        out = compute(*leaves)
    return out.detach(), lambda given: torch.autograd.grad(out, leaves, given)
