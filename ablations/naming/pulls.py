"""Gradients: what takes that of the loss by a result to those by the inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pulls = Callable[[Tensor], tuple[Tensor, ...]]


def by_autograd(compute: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Pulls]:
    """What a function computes of its inputs, and its pull, as PyTorch derives it."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    with torch.enable_grad():
        out = compute(*leaves)
    return out.detach(), lambda given: torch.autograd.grad(out, leaves, given)
