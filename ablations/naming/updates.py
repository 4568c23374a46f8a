"""The end of a packed step: the norm of the gradients, clipping, AdamW, and what the products take over of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ablations.naming import fused
from ablations.naming.stacks import Stacks, is_even

MOMENTS = "exp_avg", "exp_avg_sq"  # of AdamW, in the states of PyTorch's optimizer


class Update:
    """Steps of an optimizer.

    Where there are Triton's kernels, one of them takes the step for all matrices whose gradients lie in stacks: it
    reads them as the products leave them, and writes the copies that the next products read. So it does for other
    tables, from the gradients that the parameters have. Biases and the like are left to PyTorch; on a CPU all are, and
    its kernel clips, too.

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
        is_adamw, device = isinstance(optimizer, torch.optim.AdamW), self._all[0].device.type
        self._kernel_clips = is_adamw and device == "cpu" and bool(optimizer.defaults["fused"])
        if is_adamw and fused.kernels(device) is not None:
            self._take_over()

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
        self._steps = torch.zeros(len(own), device=device)
        self._betas = torch.tensor(self._group["betas"], dtype=torch.float64, device=device)
        for parameter, step in zip(own, self._steps, strict=True):
            state = self._optimizer.state[parameter]
            if "step" in state:
                step.copy_(state["step"])
            state["step"] = step
            for name in MOMENTS:
                state.setdefault(name, torch.zeros_like(parameter))
        self._tables = [(each, *self._moments(each)) for each in tables]
        if taken:
            self._grads = [grad for _, grad, _ in taken]
            self._kind = taken[0][1].dtype
            blocks = [(each.detach(), *self._moments(each), grad, copy) for each, grad, copy in taken]
            self._places = self._kernels.places(blocks)

    def _moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        first, second = (self._optimizer.state[parameter][name] for name in MOMENTS)
        return first, second

    def take(self) -> Tensor:
        """Clips, steps and forgets the gradients; returns their norm before clipping, a scalar on the device."""
        rest = [each.grad for each in self._all if each.grad is not None]
        norms = torch._foreach_norm(self._grads, 2, dtype=torch.float32) if self._grads else []
        norm: Tensor = torch.linalg.vector_norm(torch.stack([*norms, *torch._foreach_norm(rest)]))
        clip = (self._limit / (norm + 1e-6)).clamp(max=1.0)  # as in torch.nn.utils.clip_grad_norm_
        if self._grads or self._tables:
            self._take_own(clip)
        if self._kernel_clips:
            self._optimizer.grad_scale = 1.0 / clip  # type: ignore[attr-defined]  # by which it divides gradients
        else:
            torch._foreach_mul_([each.grad for each in self._all if each.grad is not None], clip)
        self._optimizer.step()
        if self._kernel_clips:
            self._optimizer.grad_scale = None  # type: ignore[attr-defined]
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
