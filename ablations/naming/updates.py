"""The end of a packed step: the norm of the gradients, clipping, AdamW, and what the products take over of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming import fused
from ablations.naming.stacks import Stacks, is_even

MOMENTS = "exp_avg", "exp_avg_sq"  # of AdamW, in the states of PyTorch's optimizer


class Update:
    """Steps of an optimizer.

    Where there are Triton's kernels, one of them takes the step for all matrices whose gradients lie in stacks: it
    reads them as the products leave them, and writes the copies that the next products read. So it does for other
    tables, from the gradients that the parameters have. Biases and the like are left to PyTorch. On a CPU PyTorch's
    kernel is asked directly, which spares a twentieth of a small model's step.

    Its states are those of PyTorch's optimizer, and lie where that keeps them. What is not to be seen by it: weights
    that are changed by others than it from one step to the next; whoever does that begins anew.

    Args:
        optimizer: AdamW, or another one, which then takes all steps itself.
        stacks: Of the matrices.
        limit: Of the norm; None for none.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, stacks: Stacks, limit: float | None):
        self._optimizer, self._stacks = optimizer, stacks
        self._limit = limit if limit is not None else math.inf
        self._group = optimizer.param_groups[0]
        self._all = [each for group in optimizer.param_groups for each in group["params"]]
        self._grads: list[Tensor] = []
        self._tables: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._kinds = list[_Kind]()
        if not isinstance(optimizer, torch.optim.AdamW):
            return
        if fused.kernels(self._all[0].device.type) is not None:
            self._take_over()
        elif self._all[0].device.type == "cpu":
            self._steps = self._prepare_states(self._all)
            self._kinds = [_Kind(group, optimizer.state) for group in optimizer.param_groups if group["params"]]

    def _take_over(self) -> None:
        parameters, device = self._group["params"], self._all[0].device
        from ablations.naming import _adamw

        self._kernels = _adamw
        taken = self._stacks.leave(parameters)
        left = {each for each, _, _ in taken}
        tables = [each for each in parameters if each not in left and is_even(each)]
        own = [*(each for each, _, _ in taken), *tables]
        if not own:
            return
        self._steps = self._prepare_states(own)
        self._betas = torch.tensor(self._group["betas"], dtype=torch.float64, device=device)
        self._tables = [(each, *self._moments(each)) for each in tables]
        if taken:
            self._grads = [grad for _, grad, _ in taken]
            self._kind = taken[0][1].dtype
            blocks = [(each.detach(), *self._moments(each), grad, copy) for each, grad, copy in taken]
            self._places = self._kernels.places(blocks)

    def _prepare_states(self, parameters: list[nn.Parameter]) -> Tensor:
        """Sees that all have states; returns their numbers of steps, which are views of it from now on."""
        steps = torch.zeros(len(parameters), device=parameters[0].device)
        for parameter, step in zip(parameters, steps, strict=True):
            state = self._optimizer.state[parameter]
            if "step" in state:
                step.copy_(state["step"])
            state["step"] = step
            for name in MOMENTS:
                state.setdefault(name, torch.zeros_like(parameter))
        return steps

    def _moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        first, second = (self._optimizer.state[parameter][name] for name in MOMENTS)
        return first, second

    def take(self) -> Tensor:
        """Clips, steps and forgets the gradients; returns their norm before clipping, a scalar on the device."""
        rest = [each.grad for each in self._all if each.grad is not None]
        norms = torch._foreach_norm(self._grads, 2, dtype=torch.float32) if self._grads else []
        norm: Tensor = torch.linalg.vector_norm(torch.stack([*norms, *torch._foreach_norm(rest)]))
        clip = (self._limit / (norm + 1e-6)).clamp(max=1.0)  # as in torch.nn.utils.clip_grad_norm_
        if self._kinds:
            self._steps += 1
            for kind in self._kinds:
                kind.step(1.0 / clip)
            self._optimizer.zero_grad(set_to_none=True)
            return norm
        if self._grads or self._tables:
            self._take_own(clip)
        torch._foreach_mul_([each.grad for each in self._all if each.grad is not None], clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def _take_own(self, clip: Tensor) -> None:
        """A step of those that are taken over."""
        self._steps += 1
        unbiased = 1.0 - self._betas ** self._steps[0].double()
        rate = torch.as_tensor(self._group["lr"], dtype=torch.float64, device=clip.device)
        factors = torch.stack([clip.double(), rate, rate / unbiased[0], unbiased[1].rsqrt()]).float()
        rule = self._group["weight_decay"], self._group["betas"], self._group["eps"]
        if self._grads:
            self._kernels.adamw(self._places, factors, *rule, self._kind)
        for table, mean, square in self._tables:
            if table.grad is not None:
                self._kernels.adamw_of(table.detach(), mean, square, table.grad, factors, *rule)
                table.grad = None


class _Kind:
    """A group of AdamW's parameters on a CPU."""

    def __init__(self, group: dict[str, Any], states: Mapping[Tensor, Any]):
        self._group = group
        self._tensors = [(each, *(states[each][name] for name in (*MOMENTS, "step"))) for each in group["params"]]

    def step(self, divisor: Tensor) -> None:
        """A step by gradients over a divisor, for those that have gradients."""
        group, (beta1, beta2) = self._group, self._group["betas"]
        taken = [(each[0], each[0].grad, *each[1:]) for each in self._tensors if each[0].grad is not None]
        if not taken:
            return
        parameters, grads, means, squares, steps = map(list, zip(*taken, strict=True))
        torch._fused_adamw_(
            parameters, grads, means, squares, [], steps, lr=group["lr"], beta1=beta1, beta2=beta2, eps=group["eps"],
            weight_decay=group["weight_decay"], amsgrad=False, maximize=False, grad_scale=divisor,
        )  # fmt: skip
