"""The end of a packed step: the norm of the gradients, clipping, AdamW, and what the products take over of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ablations.naming import fused
from ablations.naming.stacks import Stacks


class Update:
    """Steps of an optimizer.

    Where there are Triton's kernels, one of them takes the step for all matrices whose gradients come from products
    alone: it reads these gradients as the products leave them, and writes the copies that the next products read. In
    PyTorch's way they would be read and written thirteen times more. All else is PyTorch's.

    Its states are those of PyTorch's optimizer, and lie where that keeps them. What is not to be seen by it: weights
    that are changed by others than it from one step to the next; whoever does that begins anew.

    Args:
        optimizer: AdamW, or another one, which then takes all steps itself.
        stacks: Of the matrices.
        apart: Parameters that get gradients in other ways than by products, too.
        limit: Of the norm; None for none.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, stacks: Stacks, apart: Iterable[nn.Parameter], limit: float | None
    ):
        self._optimizer, self._stacks = optimizer, stacks
        self._limit = limit if limit is not None else math.inf
        self._group = optimizer.param_groups[0]
        self._all = [each for group in optimizer.param_groups for each in group["params"]]
        self._grads: list[Tensor] = []
        self._kernels = fused.kernels(self._all[0].device.type)
        if self._kernels is not None and isinstance(optimizer, torch.optim.AdamW):
            self._take_over(set(self._group["params"]) - set(apart))

    def _take_over(self, parameters: set[nn.Parameter]) -> None:
        taken = self._stacks.leave(parameters)
        if not taken:
            return
        device = self._all[0].device
        self._steps = torch.zeros(len(taken), device=device)
        self._grads = [grad for _, grad, _ in taken]
        self._kinds = taken[0][1].dtype, taken[0][2].dtype
        tensors = []
        for (parameter, grad, copy), step in zip(taken, self._steps, strict=True):
            state = self._optimizer.state[parameter]
            if "step" in state:
                step.copy_(state["step"])
            state["step"] = step
            moments = [state.setdefault(name, torch.zeros_like(parameter)) for name in ("exp_avg", "exp_avg_sq")]
            tensors.append((parameter.detach(), *moments, grad, copy))
        self._places = self._kernels.places(tensors)
        self._betas = torch.tensor(self._group["betas"], dtype=torch.float64, device=device)

    def take(self) -> Tensor:
        """Clips, steps and forgets the gradients; returns their norm before clipping, a scalar on the device."""
        rest = [each.grad for each in self._all if each.grad is not None]
        norms = torch._foreach_norm(self._grads, 2, dtype=torch.float32) if self._grads else []
        norm: Tensor = torch.linalg.vector_norm(torch.stack([*norms, *torch._foreach_norm(rest)]))
        clip = (self._limit / (norm + 1e-6)).clamp(max=1.0)  # as in torch.nn.utils.clip_grad_norm_
        torch._foreach_mul_(rest, clip)
        if self._grads:
            self._take_own(clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def _take_own(self, clip: Tensor) -> None:
        """A step of those that are taken over.

        Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
        """
        self._steps += 1
        unbiased = 1.0 - self._betas ** self._steps[0].double()
        rate = torch.as_tensor(self._group["lr"], dtype=torch.float64, device=clip.device)
        factors = torch.stack([clip.double(), rate, rate / unbiased[0], unbiased[1].rsqrt()]).float()
        decay, betas, eps = self._group["weight_decay"], self._group["betas"], self._group["eps"]
        self._kernels.adamw(self._places, factors, decay, betas, eps, *self._kinds)
