"""Would the ranking of a short run have survived the long one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablations.analysis.curves import Curve, Run
from ablations.analysis.paired import Floats, paired_t
from ablations.analysis.results import Direction, Seed

LEAST_ARMS = 3
Decision = str  # "better", "worse" or "open"


@dataclass(frozen=True)
class Early:
    """The ranking at one early step against that at the end.

    Attributes:
        step: The early step.
        seeds: Seeds at which three variants or more can be ranked.
        correlations: Spearman's rank correlation with the end, one for each seed ``(seeds,)``.
        same_best: Seeds at which the best variant is the best at the end, too.
        ranks: Rank of each variant's mean at the step, 1 the best; in the order given.
        decisions: Of each arm: ``better`` or ``worse`` than the baseline where the 95 % paired-t interval at the step
            lies on one side of zero, else ``open``.
    """

    step: float
    seeds: tuple[Seed, ...]
    correlations: tuple[float, ...]
    same_best: int
    ranks: Mapping[str, int]
    decisions: Mapping[str, Decision]


@dataclass(frozen=True)
class Ranking:
    """Early rankings of a metric against the last values of all runs.

    Attributes:
        early: From the first step that all runs have to the end of the shortest run.
        ranks: Rank of each variant's mean at the end of its runs, however long they are.
        decisions: Of each arm, likewise at the end.
    """

    early: tuple[Early, ...]
    ranks: Mapping[str, int]
    decisions: Mapping[str, Decision]

    def changed(self, early: Early) -> list[str]:
        """Arms of which the early step would have had something else decided than the end, in the order given."""
        return [arm for arm, decision in self.decisions.items() if early.decisions.get(arm) != decision]


def ranking(
    curves: Mapping[Run, Curve], *, baseline: str, direction: Direction = "max", most: int = 8
) -> Ranking | None:
    """Ranks the variants at early steps and at the end of their runs, seed by seed.

    The correlations say how far the order of a short run is that of a long one, and their spread over seeds how far
    that itself is luck. Where all runs are equally long the last step is the end, and left out.

    Args:
        curves: One curve per completed run.
        baseline: Name of the baseline.
        direction: "max" if more is better.
        most: Early steps to look at, at most.

    Returns:
        None with fewer than three variants, or without an early step that all runs share.
    """
    variants = list(dict.fromkeys(variant for variant, _ in curves))
    if len(variants) < LEAST_ARMS or baseline not in variants:
        return None
    steps = _steps(curves, most)
    if not steps:
        return None
    sign = 1.0 if direction == "max" else -1.0
    seeds = sorted({seed for _, seed in curves}, key=str)
    end = np.array([[sign * _end(curves.get((name, seed))) for seed in seeds] for name in variants])
    others = [name for name in variants if name != baseline]
    base = variants.index(baseline)
    early = [_early(curves, step, end, variants, seeds, base, sign) for step in steps]
    ranks, decisions = _ranks(variants, end), _decisions(others, np.delete(end, base, 0), end[base])
    return Ranking(tuple(early), ranks, decisions)


def _steps(curves: Mapping[Run, Curve], most: int) -> list[float]:
    """Steps recorded within the span that all runs have, evenly thinned; not the end of runs that are equally long."""
    start = max(float(curve.x[0]) for curve in curves.values())
    ends = [float(curve.x[-1]) for curve in curves.values()]
    limit = min(ends)
    recorded = np.unique(np.concatenate([curve.x for curve in curves.values()]))
    inside = recorded[(recorded >= start) & (recorded <= limit)]
    if min(ends) == max(ends):
        inside = inside[inside < limit]
    if not inside.size:
        return []
    chosen = np.unique(np.linspace(0, inside.size - 1, min(most, inside.size)).round().astype(int))
    return [float(each) for each in inside[chosen]]


def _early(
    curves: Mapping[Run, Curve],
    step: float,
    end: Floats,
    variants: Sequence[str],
    seeds: Sequence[Seed],
    base: int,
    sign: float,
) -> Early:
    at = np.array([[sign * _at(curves.get((name, seed)), step) for seed in seeds] for name in variants])
    correlations, kept, same = [], [], 0
    for column, seed in enumerate(seeds):
        there = np.isfinite(at[:, column]) & np.isfinite(end[:, column])
        short, long = at[there, column], end[there, column]
        if there.sum() < LEAST_ARMS or np.ptp(short) == 0 or np.ptp(long) == 0:
            continue
        kept.append(seed)
        correlations.append(float(stats.spearmanr(short, long).statistic))
        same += int(short.argmax() == long.argmax())
    others = [name for place, name in enumerate(variants) if place != base]
    return Early(
        step=step,
        seeds=tuple(kept),
        correlations=tuple(correlations),
        same_best=same,
        ranks=_ranks(variants, at),
        decisions=_decisions(others, np.delete(at, base, 0), at[base]),
    )


def _ranks(variants: Sequence[str], values: Floats) -> dict[str, int]:
    """Rank of each row's mean, 1 the largest, over the seeds at which all rows have a value, or else over its own."""
    complete = values[:, np.isfinite(values).all(axis=0)]
    used = complete if complete.size else values
    means = np.nanmean(used, axis=1)
    return {name: int(rank) for name, rank in zip(variants, stats.rankdata(-means, method="min"), strict=True)}


def _decisions(arms: Sequence[str], values: Floats, baseline: Floats) -> dict[str, Decision]:
    found = paired_t(values, baseline)
    return {
        arm: "better" if low > 0 else "worse" if high < 0 else "open"
        for arm, low, high in zip(arms, found.low, found.high, strict=True)
    }


def _at(curve: Curve | None, step: float) -> float:
    return float(curve.at(np.array(step))) if curve else float("nan")


def _end(curve: Curve | None) -> float:
    return float(curve.y[-1]) if curve else float("nan")
