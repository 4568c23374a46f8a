"""The values of steps on their way from the device to the log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablations.naming.guard import Guard, Log, Taken

TURNS = {"cpu": (1, 0), "cuda": (10, 1)}  # steps whose losses are read at once, and how many such turns later


@dataclass(frozen=True)
class Unread:
    """A step whose loss and gradient norm still lie on the device.

    Attributes:
        step: Which it is, from 1 on.
        position: Of its batch in the training order.
        rows: Of the training split.
        loss: A scalar.
        norm: Of the gradient before clipping, a scalar.
        rate: Learning rate.
        tokens: Of bodies and names, without padding.
    """

    step: int
    position: int
    rows: NDArray[np.int64]
    loss: Tensor
    norm: Tensor
    rate: float
    tokens: int


class _Mark:
    """A moment; on a GPU, the one at which it gets there."""

    def __init__(self, device: torch.device):
        self._time = time.perf_counter()
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Until the device has got there."""
        if self._event is not None:
            self._event.synchronize()

    def since(self, other: _Mark) -> float:
        """Seconds, when the device has got to both."""
        if self._event is not None and other._event is not None:
            return float(other._event.elapsed_time(self._event)) / 1e3
        return self._time - other._time


class _Turn:
    """Steps whose values are on their way to the host."""

    def __init__(self, steps: list[Unread], begun: _Mark, device: torch.device):
        self.steps = steps
        values = torch.stack([torch.stack([each.loss, each.norm.to(each.loss)]) for each in steps])
        self._values = values
        if device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
        self.begun, self.end = begun, _Mark(device)

    def read(self) -> list[tuple[float, float]]:
        """Loss and norm of each step; waits for them."""
        self.end.wait()
        return [(loss, norm) for loss, norm in self._values.tolist()]


class Journal:
    """Logs the steps' values and has them judged, a few steps at a time where reading makes the device wait.

    There such a turn is read when the next one is full: by then the device has copied it and has other work.
    """

    def __init__(self, log: Log, guard: Guard, device: torch.device):
        self._log, self._guard, self._device = log, guard, device
        self._every, self._late = TURNS.get(device.type, (1, 0))
        self._steps: list[Unread] = []
        self._turns: list[_Turn] = []
        self._begun = _Mark(device)

    def add(self, step: Unread) -> None:
        """Takes a step."""
        self._steps.append(step)

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next turn."""
        return len(self._steps) >= self._every

    def turn(self) -> None:
        """Ends a turn, and writes this one or, where reading waits, the one before.

        Raises:
            Diverged: Training must not go on.
            RollBack: It must return to the last checkpoint.
        """
        self._end_turn()
        self._write(until=self._late)

    def flush(self) -> None:
        """Writes all that it holds.

        Raises:
            Diverged: Training must not go on.
            RollBack: It must return to the last checkpoint.
        """
        if self._steps:
            self._end_turn()
        self._write(until=0)

    def _end_turn(self) -> None:
        self._turns.append(_Turn(self._steps, self._begun, self._device))
        self._steps, self._begun = [], self._turns[-1].end

    def _write(self, until: int) -> None:
        """Writes turns until so many are left."""
        while len(self._turns) > until:
            turn = self._turns.pop(0)
            for each, (loss, norm) in zip(turn.steps, turn.read(), strict=True):
                if math.isfinite(loss) and math.isfinite(norm):
                    self._log("train_loss", loss, each.step)
                    self._log("gradient_norm", norm, each.step)
                    self._log("learning_rate", each.rate, each.step)
                self._guard.look(Taken(each.step, each.position, each.rows, loss, norm, each.rate))
            tokens = sum(each.tokens for each in turn.steps)
            self._log("tokens_per_s", tokens / turn.end.since(turn.begun), turn.steps[-1].step)

    def drop(self) -> None:
        """Forgets what it holds: those steps are undone."""
        self._steps, self._turns = [], []
        self.restart_clock()

    def restart_clock(self) -> None:
        """Counts tokens per second from now on: what lay between was no training."""
        self._begun = _Mark(self._device)
