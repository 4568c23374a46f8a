"""Training over real tokens alone (``layers.py``); on a GPU such steps, and scores, are recorded as CUDA graphs.

A graph repeats what it has recorded, on the same memory. So batches are filled up to a few shapes, each with a buffer
and a graph of its own, and what changes (the rate, the seed of dropout) lies on the device, too. The first step of all
is taken without a graph, which warms up what steps need; of every shape the first one after it is recorded. On a CPU
nothing is recorded, and nothing filled up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ablations.errors import AblationsError, one_of
from ablations.naming import fused
from ablations.naming.batches import Batch
from ablations.naming.bodies import FAMILY, first_position
from ablations.naming.config import Config
from ablations.naming.data import Split
from ablations.naming.guard import ran_out
from ablations.naming.heads import NamingModel, Scored, SequenceModel, Tensors
from ablations.naming.layers import PackedLoss
from ablations.naming.optimisation import autocast, is_half, set_rate
from ablations.naming.packed import Packed, fits, pack
from ablations.naming.updates import Update

SWITCH = "ABLATIONS_STEPS"
WAYS = ("graphs", "packed", "padded")  # the default; the same without recording; Transformers' modules by autograd
SHAPES = 32  # of the bodies' tokens at most: with more there is less to fill up, with fewer less to record
LONG_NAME = 16  # tokens: shorter ones cost as much in attention
FEWEST_TOKENS = 64  # to a multiple of which bodies are filled up at least
WORTH = 3  # scorings of a split: with fewer, recording takes longer than it spares
MOST_BATCHES = 128  # whose scoring is recorded: each holds a graph of thousands of kernels

T = TypeVar("T")


def steps_for(
    model: NamingModel, optimizer: torch.optim.Optimizer, config: Config, device: torch.device
) -> PackedSteps | None:
    """How a run's steps are taken without padding; None for the plain way, which is also that of those who ask for it.

    A CPU takes the plain way in bf16, too.
    """
    asks_for_padding = way(device) == "padded" or config.training.padding == "maximum"
    if asks_for_padding or not fits(model, device) or (device.type == "cpu" and is_half(config.training, device)):
        return None
    return PackedSteps(model, optimizer, config, device)


def way(device: torch.device) -> str:
    """Which of ``WAYS`` is taken on a device: one that is no GPU records nothing.

    Raises:
        AblationsError: The environment asks for another one.
    """
    found = os.environ.get(SWITCH) or WAYS[0]
    if found not in WAYS:
        raise AblationsError(f"{SWITCH}: {one_of('way', found, WAYS)}")
    return "packed" if found == "graphs" and device.type != "cuda" else found


def arithmetic(device: torch.device) -> str:
    """What parts runs whose work is not to be continued by each other: recording changes no number, all else may."""
    steps = "padded" if way(device) == "padded" else "packed"
    fused_by = f", fused {fused.kernels(device.type) is not None}" if device.type == "cuda" else ""
    return f"{device.type}, {steps}{fused_by}"


@dataclass(frozen=True)
class PackedBatch:
    """A batch in one array: room for a seed, and what :func:`~ablations.naming.packed.pack` makes.

    Attributes:
        host: In memory that a GPU reads by itself.
        tokens: Of the bodies, fillers included.
        name_tokens: Of the names, likewise.
        sequences: Of both, likewise.
    """

    host: Tensor
    tokens: int
    name_tokens: int
    sequences: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """What a graph is recorded for."""
        return self.tokens, self.name_tokens, self.sequences


@dataclass(frozen=True)
class _Recorded:
    """The buffer of one shape, its graph, and the loss and the norm that a step leaves."""

    buffer: Tensor
    graph: Any
    found: tuple[Tensor, Tensor]


class PackedSteps:
    """Optimizer steps over packed batches; recorded on a GPU, one graph for each shape.

    Whoever puts other states into the optimizer begins anew with another object: a graph writes to those it has seen.

    Args:
        model: In training.
        optimizer: Its rate becomes a tensor on a GPU.
        config: The experiment's config.
        device: Where both are.
        fills: Whether batches are filled up to few shapes; by default on a GPU.
    """

    def __init__(
        self,
        model: NamingModel,
        optimizer: torch.optim.Optimizer,
        config: Config,
        device: torch.device,
        *,
        fills: bool | None = None,
    ):
        self._model, self._optimizer, self._config, self._device = model, optimizer, config, device
        self._on_gpu = device.type == "cuda"
        self._fills = self._on_gpu if fills is None else fills
        half = is_half(config.training, device)
        self._loss = PackedLoss(model, config, torch.bfloat16 if half else torch.float32)
        self._update = Update(optimizer, self._loss.stacks, config.training.gradient_clip)
        self._first, samples = first_position(model.encoder), config.training.batch_samples
        self._multiple = max(FEWEST_TOKENS, samples * config.data.input_tokens // SHAPES)
        self._name_multiple = 2 * samples
        self._longest = max(2, config.data.input_tokens)
        self._longest_name = max(LONG_NAME, config.data.output_tokens)
        fillers = max(  # so many that none is longer than a body, or a name
            -(-(self._multiple - 1) // (self._longest - 1)), -(-(self._name_multiple - 1) // (self._longest_name - 1))
        )
        self._sequences = samples + fillers  # the last batch of an epoch has fewer samples, and the more fillers
        self._most = _rounded(samples * self._longest + fillers, FEWEST_TOKENS)
        self._by_shape: dict[tuple[int, int, int], _Recorded] = {}
        self.records, self._is_warm = way(device) == "graphs", False
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
            "recorded_shapes": len(self._by_shape),
            "fused_by": f"triton {kernels.triton.__version__}" if kernels is not None else None,
        }

    def pack(self, batch: Batch) -> PackedBatch:
        """A padded batch as :meth:`step` takes it."""
        tokens, name_tokens, sequences = int(batch.mask.sum()), int(batch.real.sum()), len(batch.rows)
        if self._fills:
            fillers, sequences = self._sequences - sequences, self._sequences
            tokens = min(_rounded(tokens + fillers, self._multiple), self._most)
            name_tokens = _rounded(name_tokens + fillers, self._name_multiple)
        packed = pack(batch, self._model.special, self._first, tokens, name_tokens, sequences)
        host = torch.from_numpy(np.insert(packed, 0, 0))
        return PackedBatch(host.pin_memory() if self._on_gpu else host, tokens, name_tokens, sequences)

    def step(self, batch: PackedBatch, rate: float, seed: int) -> tuple[Tensor, Tensor]:
        """As :func:`~ablations.naming.optimisation.train_step`, of which it is another way to compute.

        Args:
            batch: On the host; one that is given again is overwritten while it may still be read.
            rate: Learning rate.
            seed: Of dropout, 0 to 2**31 - 1.
        """
        batch.host[0] = seed
        if not self._on_gpu:
            set_rate(self._optimizer, rate)
            return self._compute(batch.host, batch.shape)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            set_rate(self._optimizer, rate)
            found = self._on_stream(batch.host, batch.shape)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return found

    def _on_stream(self, host: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        recorded = self._by_shape.get(shape)
        if recorded is None and self.records and self._is_warm:
            recorded = self._record(torch.empty_like(host, device=self._device), shape)
        self._is_warm = True
        if recorded is None:
            return self._compute(host.to(self._device, non_blocking=True), shape)
        recorded.buffer.copy_(host, non_blocking=True)
        recorded.graph.replay()
        loss, norm = recorded.found
        return loss.clone(), norm.clone()

    def _record(self, buffer: Tensor, shape: tuple[int, int, int]) -> _Recorded | None:
        """Records a step; where there is no memory for it, this one and all further shapes go on without."""
        try:
            graph, found = _captured(self._pool, self._device, lambda: self._compute(buffer, shape))
        except RuntimeError as error:
            if not ran_out(error):
                raise
            self.records = False
            self._optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            return None
        recorded = self._by_shape[shape] = _Recorded(buffer, graph, found)
        return recorded

    def _compute(self, buffer: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        self._loss.stacks.refresh()
        self._loss.seed.copy_(buffer[:1])
        batch = Packed.of(buffer[1:], *shape)
        loss = self._loss.backward(batch, self._longest, self._longest_name, self._config.training.label_smoothing)
        return loss, self._update.take()


class Scorer:
    """Scores the batches of splits; on a GPU each is recorded as one graph when it is met for the first time.

    Args:
        model: Its weights may change, its shape may not.
        config: The experiment's config.
        device: Where it is.
        times: How often each batch will be scored, as far as is known.
    """

    def __init__(self, model: NamingModel, config: Config, device: torch.device, *, times: int = 1):
        self._model, self._config, self._device = model, config, device
        self._records = way(device) == "graphs" and times >= WORTH and _asks_nothing_back(model)
        self._recorded: dict[tuple[int, int], tuple[Any, Scored, Split, Tensors]] = {}
        self._is_warm = False
        if self._records:
            self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]

    def score(self, split: Split, index: int, batch: Batch) -> Scored:
        """Losses and names of a batch; what it returns is overwritten when the same batch is scored again.

        Args:
            split: Where it is from.
            index: Which of the split's batches it is: the same samples each time.
            batch: Padded; on the host.
        """
        key = id(split), index
        if key not in self._recorded:
            tensors = self._model.tensors(batch, self._device)
            if not self._records or len(self._recorded) == MOST_BATCHES or not self._record(key, split, tensors):
                return self._compute(tensors)
        graph, scored, _, _ = self._recorded[key]
        graph.replay()
        return scored

    def _record(self, key: tuple[int, int], split: Split, tensors: Tensors) -> bool:
        """Records a batch; returns whether there was memory for it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._model.asks = False
        try:
            with torch.cuda.stream(self._stream):
                if not self._is_warm:
                    self._compute(tensors)
                    self._is_warm = True
                graph, scored = _captured(self._pool, self._device, lambda: self._compute(tensors))
        except RuntimeError as error:
            if not ran_out(error):
                raise
            self._records = False
            torch.cuda.empty_cache()
            return False
        finally:
            self._model.asks = True
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._recorded[key] = graph, scored, split, tensors  # kept: the graph reads them, and the key is an id
        return True

    def _compute(self, tensors: Tensors) -> Scored:
        with torch.inference_mode(), autocast(self._config.training, self._device):
            return self._model.score(tensors, self._config.data.output_tokens)


def _asks_nothing_back(model: NamingModel) -> bool:
    """Whether scoring is known to read nothing back, and to be the same under a recording, in all of Transformers 5."""
    regenerates = isinstance(model, SequenceModel) and not model.cache
    return model.encoder.config.model_type in FAMILY and not regenerates


def _captured(pool: Any, device: torch.device, compute: Callable[[], T]) -> tuple[Any, T]:
    """A graph of what is computed, and where it leaves what it finds.

    The cache is emptied first where a capture may want its memory, for it cannot do so itself. Kernels may be loaded
    meanwhile, which stricter captures refuse.
    """
    if torch.cuda.mem_get_info(device)[0] < torch.cuda.memory_reserved(device):
        torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(pool, "relaxed")
    try:
        found = compute()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # it is broken off: the first error says why
            graph.capture_end()
        raise
    graph.capture_end()
    return graph, found


def _rounded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
