"""When a training loss is too high, or has left for good: the one rule for running trainings and finished curves.

The stdlib alone, so that an experiment can ask after each step. Source: method.md §9.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WINDOW, LEAST_WINDOW = 20, 10
LEAST_RISE = math.log(1.2)
JOINED_GAP = 3


@dataclass(frozen=True)
class Reading:
    """A loss held against those before it.

    Attributes:
        before: Median of those it is held against, natural logarithm; NaN while there are too few.
        limit: What the logarithm may reach; infinite while there are too few.
        too_high: Whether it lies above the limit.
    """

    before: float
    limit: float
    too_high: bool


class SpikeDetector:
    """Takes one loss after the other and says which are too high.

    A value is too high if its logarithm exceeds the median of the last 20 values that were not (at least 10), by more
    than 6 robust standard deviations (1.4826 MAD) and by more than log 1.2.

    Simulated with this rule: .02, .15 and .17 false alarms per 1,000 steps at 5, 10 and 20 % noise; a rise to 2.5 times
    over 5 steps is found in 1.00, .98 and .35 of the cases.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, loss: float) -> Reading:
        """Judges a finite loss; one that is not too high joins those that the next are held against."""
        value = math.log(max(loss, sys.float_info.min))
        before, limit = math.nan, math.inf
        if len(self._recent) >= LEAST_WINDOW:
            before = _median(self._recent)
            limit = before + max(6 * 1.4826 * _median(abs(each - before) for each in self._recent), LEAST_RISE)
        if value <= limit:
            self._recent.append(value)
        return Reading(before, limit, value > limit)

    def state(self) -> dict[str, Any]:
        """What it remembers, as plain values."""
        return {"recent": list(self._recent)}

    def restore(self, state: dict[str, Any]) -> None:
        """Remembers that instead."""
        self._recent = deque(state["recent"], maxlen=WINDOW)


class DivergenceDetector:
    """Takes one loss after the other and says while the last 20 lie above the first 20, by their medians.

    A finished curve is asked once, and any rise counts (method.md §9). A running training is asked after every step,
    where a loss that stands still would cross that line by noise alone (simulated: in 99 % of runs of 1,000 steps).
    Here the logarithm must rise by more than log 1.2, the least of a spike, and by more than 3 robust standard
    deviations of the first 20 losses (7 standard errors of a difference of two such medians). A training that explodes
    within the first 20 steps is known by the very first loss, which no update has touched: twice that is too high.
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=WINDOW)

    def add(self, loss: float) -> Reading:
        """Judges a finite loss together with the 19 before it; nothing is too high among the first 40."""
        value = math.log(max(loss, sys.float_info.min))
        if len(self._first) < WINDOW:
            self._first.append(value)
            return Reading(math.nan, math.inf, False)
        self._last.append(value)
        if len(self._last) < WINDOW:
            return Reading(math.nan, math.inf, False)
        began = _median(self._first)
        spread = 1.4826 * _median(abs(each - began) for each in self._first)
        limit = min(began + max(3 * spread, LEAST_RISE), self._first[0] + math.log(2))
        return Reading(began, limit, _median(self._last) > limit)

    def state(self) -> dict[str, Any]:
        """What it remembers, as plain values."""
        return {"first": list(self._first), "last": list(self._last)}

    def restore(self, state: dict[str, Any]) -> None:
        """Remembers that instead."""
        self._first, self._last = list(state["first"]), deque(state["last"], maxlen=WINDOW)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)  # statistics.median is slower on twenty values
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
