"""A training step as a CUDA graph: launched as one, where a small model's kernels are shorter than their launches.

A graph repeats what it has recorded, on the same memory. So batches are padded to a few shapes, each with buffers and
a graph of its own, and what changes (the rate, the number of labels) lies on the device, too. On a CPU nothing is
recorded, the same padded step is computed: tests compare it with the plain one.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming.config import Config
from ablations.naming.heads import NamingModel, Tensors
from ablations.naming.optimisation import autocast, set_rate

SWITCH = "ABLATIONS_CUDA_GRAPHS"  # 1 for on; no part of a config, for it is to change the time alone
INPUT_MULTIPLE, LABEL_MULTIPLE = 16, 32  # shapes are rounded up to these: tokens, labels
IGNORED = -100  # the label that cross-entropy passes over
WARM_UP_STEPS = 3  # before the first recording, as PyTorch's notes on CUDA graphs ask for; one before each further one


def wanted(device: torch.device) -> bool:
    """Whether steps are to be recorded on this device."""
    return device.type == "cuda" and os.environ.get(SWITCH) == "1"


@dataclass
class _Recorded:
    """Buffers of one shape, the loss and the norm that a step leaves, and its graph where there is one."""

    buffers: Tensors
    count: Tensor
    graph: Any = None
    found: tuple[Tensor, Tensor] | None = None


class GraphedSteps:
    """Optimizer steps over padded copies of the batches; recorded on a GPU, one graph for each shape.

    Whoever puts other states into the optimizer begins anew with another object: a graph writes to those it has seen.

    Args:
        model: In training.
        optimizer: Its rates become tensors on the device.
        config: The experiment's config.
        device: Where both are.
    """

    def __init__(self, model: NamingModel, optimizer: torch.optim.Optimizer, config: Config, device: torch.device):
        self._model, self._optimizer, self._config, self._device = model, optimizer, config, device
        self._by_shape: dict[tuple[int, int, int], _Recorded] = {}
        self._records = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._records else None
        for group in optimizer.param_groups if self._records else ():
            group["lr"], group["capturable"] = torch.tensor(float(group["lr"]), device=device), True

    def step(self, batch: Tensors, count: int, rate: float) -> tuple[Tensor, Tensor]:
        """As :func:`~ablations.naming.optimisation.train_step`, of which it is another way to compute.

        Args:
            batch: On the device.
            count: Losses in it: labels, or names of the kind ``set``.
            rate: Learning rate.
        """
        recorded = self._for(batch)
        self._fill(recorded, batch, count)
        set_rate(self._optimizer, rate)
        if not self._records:
            return self._compute(recorded)
        if recorded.graph is None:
            self._record(recorded)
        recorded.graph.replay()
        loss, norm = recorded.found or (recorded.count, recorded.count)
        return loss.clone(), norm.clone()

    def _for(self, batch: Tensors) -> _Recorded:
        rows, width = batch.inputs.shape
        width = min(_rounded(width, INPUT_MULTIPLE), self._config.data.input_tokens)
        names, flat = self._config.data.output_tokens, batch.labels.ndim == 1
        labels = min(_rounded(len(batch.labels), LABEL_MULTIPLE), rows * names) if flat else len(batch.places)
        key = (rows, width, labels if flat else 0)
        if key not in self._by_shape:
            new = batch.inputs.new_zeros
            self._by_shape[key] = _Recorded(
                Tensors(
                    new((rows, width)),
                    new((rows, 1, 1, width), dtype=torch.bool),
                    new((rows, names)),
                    new(labels) if flat else torch.zeros_like(batch.labels),
                    new(labels if flat else 1),
                    batch.starts,
                ),
                torch.ones((), device=self._device),
            )
        return self._by_shape[key]

    def _fill(self, recorded: _Recorded, batch: Tensors, count: int) -> None:
        buffers, special = recorded.buffers, self._model.special
        width, name_width = batch.inputs.shape[1], batch.shifted.shape[1]
        buffers.inputs.fill_(special.pad)[:, :width] = batch.inputs
        if buffers.mask is not None:
            buffers.mask.fill_(False)[..., :width] = True if batch.mask is None else batch.mask
        buffers.shifted.fill_(special.pad)[:, :name_width] = batch.shifted
        if batch.labels.ndim == 1:
            labels, wider = len(batch.labels), buffers.shifted.shape[1] - name_width
            buffers.labels.fill_(IGNORED)[:labels] = batch.labels
            buffers.places.fill_(0)[:labels] = batch.places + batch.places // name_width * wider
        else:
            buffers.labels.copy_(batch.labels)
        recorded.count.fill_(count)

    def _compute(self, recorded: _Recorded) -> tuple[Tensor, Tensor]:
        training = self._config.training
        self._model.train()
        with autocast(training, self._device):
            total, _ = self._model.loss(recorded.buffers, training.label_smoothing)
        loss = total / recorded.count
        loss.backward()  # type: ignore[no-untyped-call]
        limit = training.gradient_clip
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), limit if limit is not None else math.inf)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm.detach()

    def _record(self, recorded: _Recorded) -> None:
        """Warms up and records; weights, the optimizer's states and random numbers are as before."""
        weights = {each: each.detach().clone() for each in self._model.parameters()}
        states = {each: value.clone() for each, value in self._states()}
        random = torch.cuda.get_rng_state(self._device)
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS if not states else 1):
                self._compute(recorded)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        recorded.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded.graph, pool=self._pool):
            recorded.found = self._compute(recorded)
        with torch.no_grad():
            for each, value in weights.items():
                each.copy_(value)
            for name, state in self._states():
                state.copy_(states[name]) if name in states else state.zero_()
        torch.cuda.set_rng_state(random, self._device)

    def _states(self) -> list[tuple[tuple[int, str], Tensor]]:
        found = enumerate(self._optimizer.state.values())
        return [((index, name), value) for index, state in found for name, value in state.items()]


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
