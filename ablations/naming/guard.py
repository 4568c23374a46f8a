"""Watches training for failures: loss spikes, divergence, values that are not finite, lack of memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from ablations.errors import Diverged, OutOfMemory
from ablations.naming.config import ROLLING_BACK, Config, Training
from ablations.spikes import JOINED_GAP, WINDOW, DivergenceDetector, Reading, SpikeDetector

Log = Callable[[str, float, int], None]  # metric, value, step
IdsOf = Callable[[NDArray[np.int64]], list[str]]
Event = dict[str, Any]  # JSON-ready
NAMED_EVENTS = 100  # of a run that fails all the time, later events do without the ids of their samples
SAID = {
    "spike": "the most that the 20 steps before it allow",
    "divergence": "to which the median of the last 20 losses must not rise",
}


@dataclass(frozen=True)
class Taken:
    """An optimizer step that was taken.

    Attributes:
        step: Its number, 1-based.
        position: Place of its batch in the training order, 0-based.
        rows: The batch's samples in the training split, ``(batch,)``.
        loss: Mean loss of the batch, nats.
        norm: Norm of the gradient before clipping.
        rate: Learning rate.
    """

    step: int
    position: int
    rows: NDArray[np.int64]
    loss: float
    norm: float
    rate: float


class RollBack(Exception):
    """Asks to return to the last checkpoint and to go on without the offending batch, or to take it later.

    Attributes:
        event: What happened; whoever returns completes it.
        position: Place of the offending batch in the training order.
    """

    def __init__(self, event: Event, position: int):
        super().__init__(event["kind"])
        self.event, self.position = event, position


class Guard:
    """Judges every step and does what ``training.on_failure`` asks for.

    Steps that are too high and at most 3 apart (divergence: 20) are one event. An event is a dict: ``kind`` (spike,
    divergence, non_finite, out_of_memory), ``step`` and ``last_step``, ``loss`` (of ``step``; None if it is not
    finite), ``highest``, ``threshold``, ``gradient_norm``, ``learning_rate``, ``samples`` (ids of the batch of
    ``step``), ``recovered``, ``action`` (recorded, stopped, rolled back), after a rollback also ``returned_to`` (step),
    ``skipped_batches`` and ``postponed_batches`` (places in the training order), and ``skipped_samples`` and
    ``postponed_samples``.

    Args:
        training: Says the policy.
        events: Takes the events, in order.
        log: Called with (kind, loss, step) at each new event.
        ids_of: Gives the ids of rows of the training split.
    """

    def __init__(self, training: Training, events: list[Event], log: Log, ids_of: IdsOf):
        self._policy, self._most = training.on_failure, training.max_rollbacks
        self.events = events
        self._log, self._ids_of = log, ids_of
        self._spikes, self._divergence = SpikeDetector(), DivergenceDetector()

    @property
    def rolls_back(self) -> bool:
        """Whether checkpoints are needed to return to."""
        return self._policy in ROLLING_BACK

    @property
    def skipped(self) -> set[int]:
        """Places in the training order that are left out."""
        return {position for event in self.events for position in event.get("skipped_batches", ())}

    @property
    def postponed(self) -> set[int]:
        """Places in the training order that are taken last."""
        return {position for event in self.events for position in event.get("postponed_batches", ())}

    def set_aside(self, event: Event, batches: list[tuple[int, NDArray[np.int64]]]) -> None:
        """Has batches (place, rows) skipped or, if the policy says so and they are not late already, postponed."""
        later = self._policy == "rollback_later"
        late = self.postponed
        chosen = {
            "skipped": [each for each in batches if not later or each[0] in late],
            "postponed": [each for each in batches if later and each[0] not in late],
        }
        for what, found in chosen.items():
            event[f"{what}_batches"] = [place for place, _ in found]
            event[f"{what}_samples"] = [self._ids_of(rows) for _, rows in found]

    def state(self) -> dict[str, Any]:
        """What the next steps are judged by, as plain values."""
        return {"spikes": self._spikes.state(), "divergence": self._divergence.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Judges the next steps by that."""
        self._spikes.restore(state["spikes"])
        self._divergence.restore(state["divergence"])

    def look(self, taken: Taken) -> None:
        """Judges a step.

        Raises:
            Diverged: Training must not go on.
            RollBack: It must return to the last checkpoint.
        """
        if not (math.isfinite(taken.loss) and math.isfinite(taken.norm)):
            self._new("non_finite", taken, None, stops=True)
            return
        self._follow("spike", taken, self._spikes.add(taken.loss), JOINED_GAP)
        self._follow("divergence", taken, self._divergence.add(taken.loss), WINDOW)

    def _follow(self, kind: str, taken: Taken, reading: Reading, gap: int) -> None:
        """Opens, extends or closes the event that a reading belongs to."""
        last = next((event for event in reversed(self.events) if event["kind"] == kind), None)
        if last is not None and last["action"] != "recorded":
            last = None
        if not reading.too_high:
            if last is not None:
                last["recovered"] = True
        elif last is not None and taken.step - last["last_step"] - 1 <= gap:
            last.update(last_step=taken.step, highest=max(last["highest"], taken.loss), recovered=False)
        else:
            self._new(kind, taken, math.exp(reading.limit), stops=self._policy == "stop")

    def _new(self, kind: str, taken: Taken, threshold: float | None, *, stops: bool) -> None:
        event = self._event(kind, taken, threshold)
        self.events.append(event)
        returns = sum(each["action"] == "rolled back" for each in self.events)
        if self.rolls_back and returns < self._most:
            event["action"] = "rolled back"
            raise RollBack(event, taken.position)
        self._log(kind, taken.loss, taken.step)
        if self.rolls_back or stops:
            event["action"] = "stopped"
            _stop(taken, threshold, kind, f", after {returns} rollbacks" if self.rolls_back else "")

    def ran_out_of_memory(self, step: int, rows: NDArray[np.int64]) -> None:
        """Records that the memory did not suffice, with the batch that was being trained on, if any."""
        taken = Taken(step, 0, rows, math.nan, math.nan, math.nan)
        self.events.append(self._event("out_of_memory", taken, None) | {"action": "stopped"})

    def _event(self, kind: str, taken: Taken, threshold: float | None) -> Event:
        loss = _finite(taken.loss)
        return {
            "kind": kind,
            "step": taken.step,
            "last_step": taken.step,
            "loss": loss,
            "highest": loss,
            "threshold": threshold,
            "gradient_norm": _finite(taken.norm),
            "learning_rate": _finite(taken.rate),
            "samples": self._ids_of(taken.rows) if len(self.events) < NAMED_EVENTS else [],
            "recovered": False,
            "action": "recorded",
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stop(taken: Taken, threshold: float | None, kind: str, after: str) -> NoReturn:
    limit = f" above {threshold:.4g}, {SAID[kind]}" if kind == "spike" else ""
    limit = f" and those before it above {threshold:.4g}, {SAID[kind]}" if kind == "divergence" else limit
    seen = f"loss {taken.loss:.6g}{limit}, gradient norm {taken.norm:.4g}, learning rate {taken.rate:.3g}"
    raise Diverged(f"step {taken.step}: {seen}{after}")


NO_MEMORY = (  # in errors of no type of their own
    "can't allocate memory",  # the CPU's allocator
    "CUDA error: out of memory",  # the driver, as for graphs
    "Triton Error [CUDA]: out of memory",  # as it loads a kernel
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def ran_out(error: Exception) -> bool:
    """Whether an error says that a device's memory did not suffice."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in NO_MEMORY)


@contextlib.contextmanager
def memory_named(config: Config, device: torch.device, found: Callable[[], str]) -> Iterator[None]:
    """Turns whatever a device says when its memory does not suffice into one error that says what to do.

    Args:
        config: Its sizes are named.
        device: Its memory is named.
        found: Called when it happens; says what was being done.

    Raises:
        OutOfMemory: The memory did not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(_advice(config, device, found())) from error


def _advice(config: Config, device: torch.device, doing: str) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
    else:
        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    training, evaluation, data = config.training, config.evaluation, config.data
    used = f"{(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB"
    return (
        f"{doing}: out of memory on {device.type}, where {used} are in use. Lower training.batch_samples "
        f"({training.batch_samples}), evaluation.batch_samples ({evaluation.batch_samples}) or data.input_tokens "
        f"({data.input_tokens}) in all arms alike, or run fewer runs at a time."
    )
