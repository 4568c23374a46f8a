"""What a run costs: operations, tokens, seconds, memory."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from ablations.naming.batches import Batch
from ablations.naming.model import parameter_count

PARTS = ("training", "evaluation", "checkpoints", "test")


@dataclass
class Cost:
    """Running totals of one run; steps that a rollback undid count too: they were computed."""

    flops: float = 0.0
    training_flops: float = 0.0
    tokens: int = 0
    samples: int = 0
    peak_memory_mb: float = 0.0  # of processes whose work was taken over
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @contextlib.contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Adds the wall time of its block to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def add_step(self, batch: Batch, flops: float) -> None:
        """Counts one optimizer step over a batch."""
        self.flops += flops
        self.training_flops += flops
        self.tokens += int(batch.mask.sum() + batch.real.sum())
        self.samples += len(batch.rows)

    def state(self) -> dict[str, Any]:
        """The totals as plain values."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from these totals."""
        self.__dict__.update(state)

    def take_training(self, state: dict[str, Any]) -> None:
        """Adds what another run's training cost, without its scores, from that run's totals."""
        self.flops += state["training_flops"]
        for name in ("training_flops", "tokens", "samples"):
            setattr(self, name, getattr(self, name) + state[name])
        self.seconds["training"] += state["seconds"]["training"]
        self.peak_memory_mb = max(self.peak_memory_mb, state["peak_memory_mb"])

    def totals(self, model: nn.Module, steps: int, device: torch.device) -> dict[str, float]:
        """What the record says of a run's cost.

        Args:
            model: Its parameters are counted.
            steps: Optimizer steps of the run.
            device: Its memory is reported where it counts it.
        """
        training_s = self.seconds["training"]
        totals = {
            "parameters": parameter_count(model),
            "flops": self.flops,
            "steps": steps,
            "samples_per_s": self.samples / training_s,
            "tokens_per_s": self.tokens / training_s,
        }
        if device.type == "cuda" or self.peak_memory_mb:
            totals["peak_memory_mb"] = max(self.peak_memory_mb, peak_memory_mb(device))
        if device.type == "cuda":
            totals["peak_reserved_mb"] = torch.cuda.max_memory_reserved(device) / 2**20
        return totals | {f"seconds_{part}": value for part, value in self.seconds.items()}


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that this process has held so far: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
