"""Arms against the baseline at equal steps, time or compute: one number a run, tested over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ablations.analysis.curves import Curve, Run, area, common_span
from ablations.analysis.family import adjust
from ablations.analysis.paired import Floats, paired_t
from ablations.errors import MissingRuns


@dataclass(frozen=True)
class Budget:
    """An arm against the baseline over the span that all their curves have in common; exploratory.

    Attributes:
        arm: Name of the arm.
        n: Seeds that both have.
        budget: Where the shortest of their curves ends: steps, seconds or FLOPs.
        difference: Mean of arm - baseline at the budget.
        low: Lower end of its 95 % paired-t interval; None without a test.
        high: Upper end.
        p: Two-sided paired t-test, after Holm's correction over all arms given; None without a test.
        area: Mean of arm - baseline in normalised area, the mean height of the curve.
        area_low: Lower end of its 95 % paired-t interval; None without a test.
        area_high: Upper end.
    """

    arm: str
    n: int
    budget: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    area: float
    area_low: float | None
    area_high: float | None


def at_equal_budget(curves: Mapping[Run, Curve], *, baseline: str) -> list[Budget]:
    """Compares each arm with the baseline at the end of the shorter of the two.

    The budget is each pair's own: a short arm does not cut the comparison of the others short.

    Args:
        curves: One curve per completed run.
        baseline: Name of the baseline.

    Returns:
        One for each arm that shares seeds and a span with the baseline, in the order of ``curves``.
    """
    seeds = [seed for variant, seed in curves if variant == baseline]
    arms, budgets, at_end, areas = [], [], [], []
    for arm in dict.fromkeys(variant for variant, _ in curves if variant != baseline):
        shared = [seed for seed in seeds if (arm, seed) in curves]
        try:
            start, budget = common_span(curves[name, seed] for name in (arm, baseline) for seed in shared)
        except MissingRuns:
            continue
        arms.append(arm)
        budgets.append(budget)
        pair = [[curves.get((name, seed)) if seed in shared else None for seed in seeds] for name in (arm, baseline)]
        at_end.append([[_at(curve, budget) for curve in row] for row in pair])
        areas.append([[area(curve, start, budget) if curve else np.nan for curve in row] for row in pair])
    if not arms:
        return []
    ends, heights = np.array(at_end), np.array(areas)  # (arms, 2, seeds)
    found, mean = paired_t(ends[:, 0], ends[:, 1]), paired_t(heights[:, 0], heights[:, 1])
    adjusted = adjust(found.p, ["one"] * len(arms))
    counts = np.isfinite(ends).all(axis=1).sum(axis=1)
    return [
        Budget(
            arm=arm,
            n=int(counts[at]),
            budget=budgets[at],
            difference=float(found.difference[at]),
            low=_known(found.low[at]),
            high=_known(found.high[at]),
            p=_known(adjusted[at]),
            area=float(mean.difference[at]),
            area_low=_known(mean.low[at]),
            area_high=_known(mean.high[at]),
        )
        for at, arm in enumerate(arms)
    ]


def common_target(curves: Mapping[Run, Curve], *, baseline: str, direction: str) -> float | None:
    """What every run of the baseline reaches at some point: the worst of their best values; None without a run."""
    sign = 1.0 if direction == "max" else -1.0
    best = [float((sign * curve.y).max()) for (variant, _), curve in curves.items() if variant == baseline]
    return sign * min(best) if best else None


def _at(curve: Curve | None, budget: float) -> float:
    return float(curve.at(np.array(budget))) if curve else float("nan")


def _known(value: np.float64 | Floats) -> float | None:
    return float(value) if np.isfinite(value) else None
