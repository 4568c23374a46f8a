"""Small sums over a context that several parts of a report show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ablations.analysis.compare import compare
from ablations.plan import seeds_of
from ablations.reporting.context import Context
from ablations.reporting.text import decimals_for, defined


def figures(values: Iterable[Any]) -> list[float]:
    """What is a finite number among values that may be missing."""
    out = []
    for value in values:
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            out.append(number)
    return out


def mean(values: Iterable[Any]) -> float | None:
    """Mean of what is there; None where nothing is."""
    known = figures(values)
    return math.fsum(known) / len(known) if known else None


def deviation(values: Iterable[Any]) -> float | None:
    """Standard deviation (ddof 1) of what is there; None below two values."""
    known = figures(values)
    if len(known) < 2:
        return None
    centre = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in known) / (len(known) - 1))


def half_interval(values: Iterable[Any]) -> float | None:
    """Half the 95 % t interval of the mean: t(.975, n - 1) s / sqrt n; None below two values."""
    known = figures(values)
    spread = deviation(known)
    if spread is None:
        return None
    from scipy import stats

    return float(stats.t.ppf(0.975, len(known) - 1)) * spread / math.sqrt(len(known))


def scores_of(ctx: Context, variant: str, metric: str) -> list[float]:
    """A variant's values of a metric, one per completed run, by seed."""
    return list(ctx.values.get((variant, metric), ()))


def column_of(ctx: Context, variant: str, column: str) -> list[float]:
    """A variant's values of a column of the runs table, completed runs only."""
    return figures(run[column] for run in ctx.completed_runs[variant])


def seconds_of(ctx: Context, variant: str) -> list[float]:
    """Training time of each completed run, whole run time where an experiment does not say."""
    return column_of(ctx, variant, timed(ctx, variant))


def timed(ctx: Context, variant: str) -> str:
    """Column of the runs that :func:`seconds_of` reads."""
    return "seconds_training" if column_of(ctx, variant, "seconds_training") else "seconds"


def table_decimals(ctx: Context) -> int:
    """Decimals of the primary metric, the same in every table and figure."""
    halves = [
        (each.ci_high - each.ci_low) / 2
        for each in ctx.comparisons
        if each.n > 2 and each.ci_low is not None and each.ci_high is not None
    ]
    if not halves:
        halves = [abs(each.difference) for each in ctx.comparisons if each.difference]
    return decimals_for(halves, fewest=2 if _small(ctx) else 0, most=5)


def best_variants(ctx: Context) -> frozenset[str]:
    """The variant with the best mean, and all that a paired test cannot tell from it.

    Paired t-tests against the best, Holm over all; what is best is chosen after the runs, so this is a reading aid and
    no verdict. Empty where too few seeds are shared to test anything.
    """
    means = {each.name: mean(scores_of(ctx, each.name, ctx.study.metric)) for each in ctx.variants}
    known = {name: value for name, value in means.items() if value is not None}
    if len(known) < 2:
        return frozenset()
    sign = 1 if ctx.study.direction == "max" else -1
    best = max(known, key=lambda name: sign * known[name])
    found = compare(
        ctx.scores[ctx.scores["variant"].isin(list(known))],
        baseline=best,
        metric=ctx.study.metric,
        planned={name: seeds_of(ctx.study, name) for name in known},
        direction=ctx.study.direction,
        alpha=ctx.study.alpha,
        min_seeds=ctx.study.min_seeds,
    )
    if not any(each.p_adjusted is not None for each in found):
        return frozenset()
    alike = {each.arm for each in found if each.p_adjusted is not None and each.p_adjusted > ctx.study.alpha}
    return frozenset({best} | alike)


def _small(ctx: Context) -> bool:
    values = [each.baseline_mean for each in ctx.comparisons if defined(each.baseline_mean)]
    return not values or abs(values[0] or 0) < 10
