"""Metrics of one predicted name against the true one; a new metric is one decorated function.

All take the words of both names and return a value for one sample; a run's score is the mean over samples. Unless a
metric says otherwise, words are compared as *sets* (reference study): a repeated word counts once, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Words = Sequence[str]


@dataclass(frozen=True)
class Metric:
    """A named per-sample measure.

    Attributes:
        name: As it appears behind ``validation_`` and ``test_``.
        direction: ``max`` where more is better, else ``min``.
        help: One line: what it is.
        of: Takes the true and the predicted words; returns the value of one sample.
    """

    name: str
    direction: str
    help: str
    of: Callable[[Words, Words], float]


METRICS: dict[str, Metric] = {}


def metric(direction: str = "max") -> Callable[[Callable[[Words, Words], float]], Callable[[Words, Words], float]]:
    """Registers a per-sample function under its own name, its docstring's first line as help."""

    def register(of: Callable[[Words, Words], float]) -> Callable[[Words, Words], float]:
        METRICS[of.__name__] = Metric(of.__name__, direction, (of.__doc__ or "").partition("\n")[0], of)
        return of

    return register


@metric()
def precision(true: Words, predicted: Words) -> float:
    """Share of the predicted words that are true; 0 where nothing is predicted."""
    words = set(predicted)
    return len(words & set(true)) / len(words) if words else 0.0


@metric()
def recall(true: Words, predicted: Words) -> float:
    """Share of the true words that are predicted."""
    words = set(true)
    return len(words & set(predicted)) / len(words) if words else 0.0


@metric()
def f1(true: Words, predicted: Words) -> float:
    """Harmonic mean of a sample's precision and recall; 0 where both are."""
    common = len(set(true) & set(predicted))
    return 2 * common / (len(set(true)) + len(set(predicted))) if common else 0.0


@metric()
def f1_multiset(true: Words, predicted: Words) -> float:
    """As f1, a repeated word counted as often as it occurs."""
    common = (Counter(true) & Counter(predicted)).total()
    return 2 * common / (len(true) + len(predicted)) if common else 0.0


@metric()
def exact(true: Words, predicted: Words) -> float:
    """1 where all words are predicted in their order, else 0."""
    return float(list(true) == list(predicted))


def score(true: Sequence[Words], predicted: Sequence[Words]) -> dict[str, list[float]]:
    """Every metric of every sample, by metric name."""
    return {each.name: [each.of(t, p) for t, p in zip(true, predicted, strict=True)] for each in METRICS.values()}
