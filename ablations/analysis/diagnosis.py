"""What can be wrong with a training run, seen in its curves: overfitting, a gap that is not memorising, spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablations.analysis.curves import Curve
from ablations.analysis.paired import Floats
from ablations.spikes import JOINED_GAP, WINDOW, SpikeDetector

OVERFITTING_PERCENT = 5.0


@dataclass(frozen=True)
class Overfitting:
    """Whether one run overfitted.

    Attributes:
        generalisation_loss: 100 (validation loss at the end / its minimum - 1), %.
        best_x: Where the validation loss was least.
        train_falling: Whether the training loss was still falling at the end.
        overfitted: Generalisation loss of 5 % or more while the training loss still fell.
        metric_drop: Best value of the metric - its value at the end (turned so that a loss is positive); None without
            it. A rising loss need not mean a falling metric.
    """

    generalisation_loss: float
    best_x: float
    train_falling: bool
    overfitted: bool
    metric_drop: float | None


@dataclass(frozen=True)
class Gap:
    """Validation - training loss, measured alike: evaluation mode, the same loss, a fixed subset of the training data.

    Attributes:
        at_start: The gap at the first common point.
        at_end: The gap at the last common point.
        from_start: Whether half the final gap or more was there from the start: no memorising then, but the split, the
            loss's definition, dropout, label smoothing or teacher forcing.
    """

    at_start: float
    at_end: float
    from_start: bool


@dataclass(frozen=True)
class Spike:
    """A sudden rise of a training loss.

    Attributes:
        start: Index of the first value that is too high.
        end: Index of the last one.
        height: Highest value / the median before it.
        recovered: Whether the loss came back before the curve ended.
    """

    start: int
    end: int
    height: float
    recovered: bool


@dataclass(frozen=True)
class Spikes:
    """The spikes of one run.

    Attributes:
        spikes: In order.
        diverged: Whether a value is not finite, or the median of the last window lies above that of the first.
    """

    spikes: tuple[Spike, ...]
    diverged: bool


def overfitting(validation: Curve, train: Curve, metric: Curve | None = None, *, metric_sign: int = 1) -> Overfitting:
    """Looks for overfitting in the losses of one run.

    Source: generalisation loss, Prechelt 1998, section 2.2, with the minimum over the whole run.

    Args:
        validation: Validation loss, positive.
        train: Training loss.
        metric: The metric on the validation set.
        metric_sign: 1 if more of the metric is better, -1 if less.
    """
    best = int(np.argmin(validation.y))
    loss = float(100 * (validation.y[-1] / validation.y[best] - 1))
    falling = _falling(train.y)
    drop = None
    if metric is not None:
        turned = metric_sign * metric.y
        drop = float(turned.max() - turned[-1])
    return Overfitting(loss, float(validation.x[best]), falling, loss >= OVERFITTING_PERCENT and falling, drop)


def gap(validation: Curve, train: Curve) -> Gap | None:
    """The gap between two losses that were measured alike, at the ends of their common span; None without one."""
    start, end = max(validation.x[0], train.x[0]), min(validation.x[-1], train.x[-1])
    if start >= end:
        return None
    ends = np.array([start, end])
    first, last = validation.at(ends) - train.at(ends)
    return Gap(float(first), float(last), bool(last > 0 and first >= last / 2))


def find_spikes(loss: Floats) -> Spikes:
    """Finds spikes in a training loss, one value per step.

    The rule is that of :class:`~ablations.spikes.SpikeDetector`. Events up to 3 values apart are one.

    Args:
        loss: Positive; values that are not finite mean divergence ``(steps,)``.
    """
    finite = np.isfinite(loss)
    logs = np.log(np.maximum(loss[finite], np.finfo(float).tiny))
    detector = SpikeDetector()
    readings = [detector.add(float(value)) for value in loss[finite]]
    events = _joined([index for index, reading in enumerate(readings) if reading.too_high])
    where = np.flatnonzero(finite)
    spikes = tuple(
        Spike(
            start=int(where[first]),
            end=int(where[last]),
            height=float(np.exp(logs[first : last + 1].max() - readings[first].before)),
            recovered=last < len(logs) - 1,
        )
        for first, last in events
    )
    window = min(WINDOW, len(logs) // 2)
    rose = window > 0 and float(np.median(logs[-window:])) > float(np.median(logs[:window]))
    return Spikes(spikes, bool(not finite.all() or rose))


def _joined(indices: list[int]) -> list[tuple[int, int]]:
    """First and last index of each event; gaps of up to 3 values do not part one."""
    events: list[tuple[int, int]] = []
    for index in indices:
        if events and index - events[-1][1] - 1 <= JOINED_GAP:
            events[-1] = (events[-1][0], index)
        else:
            events.append((index, index))
    return events


def _falling(loss: Floats) -> bool:
    """Whether the last quarter of a curve lies below the quarter before it, by their means."""
    quarter = max(1, len(loss) // 4)
    return len(loss) > 1 and float(loss[-quarter:].mean()) < float(loss[-2 * quarter : -quarter].mean())
