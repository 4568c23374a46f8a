"""What the fused operations of ``fused.py`` are told besides tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

IGNORED = -100  # the label that cross-entropy passes over


@dataclass(frozen=True)
class Dropout:
    """How much is dropped, and by which random numbers.

    Attributes:
        share: Probability, 0 to 1.
        seed: Of the step, int64, ``(1,)``, on the device.
        site: Which of the step's dropouts this is: each draws other numbers.
    """

    share: float
    seed: Tensor
    site: int


@dataclass(frozen=True)
class Spans:
    """Where sequences begin, and the end, ``(sequences + 1,)`` int32, and the most tokens that one has."""

    starts: Tensor
    longest: int
