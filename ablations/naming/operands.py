"""What the fused operations of ``fused.py`` are told besides tensors."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor

from ablations.naming.grids import Sequences

IGNORED = -100  # the label that cross-entropy passes over
AT_ONCE = 4  # sums that one kernel adds


@dataclass(frozen=True)
class Dropout:
    """How much is dropped, and by which random numbers.

    Attributes:
        share: Probability, 0 to below 1.
        seed: Of the step, int64, ``(1,)``, on the device.
        site: Which of the step's dropouts this is: each draws other numbers.
    """

    share: float
    seed: Tensor
    site: int


@dataclass(frozen=True)
class Rows:
    """Which rows of a table tokens take.

    Attributes:
        ids: The row of each token, ``(tokens,)``, int32.
        each: Every row that is taken, once, and -1 behind them, likewise.
        slots: Where in ``each`` a token's row is, likewise.
    """

    ids: Tensor
    each: Tensor
    slots: Tensor


@dataclass(frozen=True)
class Spans:
    """Sequences, one after the other.

    Attributes:
        starts: Where each begins, and the end, ``(sequences + 1,)``, int32.
        longest: None has more tokens.
        numbers: By which attention to them draws, by place in a sequence (``fused.numbers``); None: it makes them.
    """

    starts: Tensor
    longest: int
    numbers: Tensor | None = None

    @functools.cached_property
    def sequences(self) -> Sequences:
        """The same read back, for a CPU: a GPU would wait."""
        return Sequences(self.starts)
