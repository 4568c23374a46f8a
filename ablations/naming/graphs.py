"""Steps and scores on a GPU: training over real tokens alone (``packed.py``), both recorded as CUDA graphs.

A graph repeats what it has recorded, on the same memory. So batches are filled up to a few shapes, each with a buffer
and a graph of its own, and what changes (the rate, the seed of dropout) lies on the device, too. The first step of a
shape is taken without a graph, which warms up what it needs, the second one is recorded. On a CPU nothing is recorded,
the same steps are computed: tests compare them with the plain ones.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablations.naming import fused
from ablations.naming.batches import Batch
from ablations.naming.config import Config
from ablations.naming.data import Split
from ablations.naming.heads import NamingModel, Scored, Tensors
from ablations.naming.optimisation import autocast, set_rate
from ablations.naming.packed import IGNORED, Packed, PackedLoss, first_position, fits, pack

SWITCH = "ABLATIONS_GPU_STEPS"  # graphs, or packed: without recording, or padded: Transformers' modules under autocast
SHAPES = 32  # of the bodies' tokens at most: with more there is less to fill up, with fewer less to record
FEWEST_TOKENS = 64  # to a multiple of which bodies are filled up at least


def steps_for(
    model: NamingModel, optimizer: torch.optim.Optimizer, config: Config, device: torch.device
) -> PackedSteps | None:
    """How a run's steps are taken on a GPU; None for the plain way."""
    if os.environ.get(SWITCH) == "padded" or not fits(model, device):
        return None
    return PackedSteps(model, optimizer, config, device)


@dataclass
class _Recorded:
    """The buffer of one shape, its graph, and the loss and the norm that a step leaves."""

    buffer: Tensor
    graph: Any = None
    found: tuple[Tensor, Tensor] | None = None


class PackedSteps:
    """Optimizer steps over packed batches; recorded on a GPU, one graph for each shape.

    Whoever puts other states into the optimizer begins anew with another object: a graph writes to those it has seen.

    Args:
        model: In training.
        optimizer: Its rate becomes a tensor on a GPU.
        config: The experiment's config.
        device: Where both are.
    """

    def __init__(self, model: NamingModel, optimizer: torch.optim.Optimizer, config: Config, device: torch.device):
        self._model, self._optimizer, self._config, self._device = model, optimizer, config, device
        with autocast(config.training, device):
            half = torch.is_autocast_enabled(device.type)
        self._loss = PackedLoss(model, config, torch.bfloat16 if half else torch.float32)
        self._first, self._samples = first_position(model), config.training.batch_samples
        self._multiple = max(FEWEST_TOKENS, self._samples * config.data.input_tokens // SHAPES)
        self._longest = max(2, config.data.input_tokens)
        self._fillers = -(-(self._multiple - 1) // (self._longest - 1))  # so many that none is longer than a body
        self._by_shape: dict[tuple[int, int], _Recorded] = {}
        self._on_gpu = device.type == "cuda"
        self.records = self._on_gpu and os.environ.get(SWITCH) != "packed"
        if self._on_gpu:
            self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
            rate = torch.zeros((), device=device)
            for group in optimizer.param_groups:
                group["lr"], group["capturable"] = rate, True

    @property
    def facts(self) -> dict[str, Any]:
        """How steps are computed, for the record (JSON-ready)."""
        kernels = fused.kernels(self._device.type)
        return {
            "tokens": "packed",
            "recorded_shapes": sum(each.graph is not None for each in self._by_shape.values()),
            "fused_by": f"triton {kernels.triton.__version__}" if kernels is not None else None,
        }

    def step(self, batch: Batch, rate: float, seed: int) -> tuple[Tensor, Tensor]:
        """As :func:`~ablations.naming.optimisation.train_step`, of which it is another way to compute.

        Args:
            batch: Padded; on the host.
            rate: Learning rate.
            seed: Of dropout, 0 to 2**31 - 1.
        """
        fillers = self._fillers
        tokens = _rounded(int(batch.mask.sum()) + fillers, self._multiple)
        name_tokens = _rounded(int(batch.real.sum()) + fillers, 2 * self._samples)
        packed = pack(batch, self._model.special, self._first, tokens, name_tokens, fillers)
        host = torch.from_numpy(np.concatenate([[seed], packed], dtype=np.int32))
        if not self._on_gpu:
            set_rate(self._optimizer, rate)
            return self._compute(host, len(batch.rows), tokens, name_tokens)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            set_rate(self._optimizer, rate)
            found = self._on_stream(host.pin_memory(), len(batch.rows), tokens, name_tokens)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return found

    def _on_stream(self, host: Tensor, samples: int, tokens: int, name_tokens: int) -> tuple[Tensor, Tensor]:
        recorded = self._by_shape.get((tokens, name_tokens))
        if recorded is None or not self.records or samples != self._samples:
            if samples == self._samples:
                self._by_shape[tokens, name_tokens] = _Recorded(torch.empty_like(host, device=self._device))
            return self._compute(host.to(self._device, non_blocking=True), samples, tokens, name_tokens)
        recorded.buffer.copy_(host, non_blocking=True)
        if recorded.graph is None:
            recorded.graph = torch.cuda.CUDAGraph()
            recorded.graph.capture_begin(self._pool, "thread_local")  # torch.cuda.graph would empty the cache each time
            try:
                recorded.found = self._compute(recorded.buffer, samples, tokens, name_tokens)
            finally:
                recorded.graph.capture_end()
        recorded.graph.replay()
        if recorded.found is None:
            raise RuntimeError("a step was recorded without what it leaves")
        loss, norm = recorded.found
        return loss.clone(), norm.clone()

    def _compute(self, buffer: Tensor, samples: int, tokens: int, name_tokens: int) -> tuple[Tensor, Tensor]:
        training, data = self._config.training, self._config.data
        self._model.train()
        self._loss.stacks.refresh()
        self._loss.seed.copy_(buffer[:1])
        batch = Packed.of(buffer[1:], samples + self._fillers, tokens, name_tokens)
        longest_name = max(data.output_tokens, 2 * self._samples // self._fillers + 1)
        total = self._loss.total(batch, self._longest, longest_name, training.label_smoothing)
        loss = total / (batch.labels != IGNORED).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self._loss.stacks.collect()
        limit = training.gradient_clip
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), limit if limit is not None else math.inf)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm.detach()


class Scorer:
    """Scores the batches of splits; on a GPU each is recorded as one graph when it is met for the first time.

    What a graph finds can differ by a rounding from what is computed without one, so scores that are to be compared
    with each other all come from graphs.

    Args:
        model: Its weights may change, its shape may not.
        config: The experiment's config.
        device: Where it is.
        again: Whether the same batches will be scored again: nothing else is worth recording.
    """

    def __init__(self, model: NamingModel, config: Config, device: torch.device, *, again: bool):
        self._model, self._config, self._device = model, config, device
        self._records = again and device.type == "cuda" and os.environ.get(SWITCH) not in ("packed", "padded")
        self._recorded: dict[tuple[int, int], tuple[Any, Scored, Split, Tensors]] = {}
        if self._records:
            self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]

    def score(self, split: Split, index: int, batch: Batch) -> Scored:
        """Losses and names of a batch; what it returns is overwritten when the same batch is scored again.

        Args:
            split: Where it is from.
            index: Which of the split's batches it is: the same samples each time.
            batch: Padded; on the host.
        """
        if not self._records:
            return self._compute(self._model.tensors(batch, self._device))
        key = id(split), index
        if key not in self._recorded:
            tensors = self._model.tensors(batch, self._device)
            self._recorded[key] = (
                *self._record(tensors),
                split,
                tensors,
            )  # kept: the graph reads them, the key is an id
        graph, scored, _, _ = self._recorded[key]
        graph.replay()
        return scored

    def _record(self, tensors: Tensors) -> tuple[Any, Scored]:
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._compute(tensors)  # warms up what it needs
            graph.capture_begin(self._pool, "thread_local")
            try:
                scored = self._compute(tensors)
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return graph, scored

    def _compute(self, tensors: Tensors) -> Scored:
        with torch.inference_mode(), autocast(self._config.training, self._device):
            return self._model.score(tensors, self._config.data.output_tokens)


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
