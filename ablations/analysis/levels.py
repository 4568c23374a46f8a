"""A parameter at several levels: is there a trend, does it bend, and up to which level does it go on?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ablations.analysis.compare import BASELINE, study_table
from ablations.analysis.family import adjust
from ablations.analysis.paired import NEGLIGIBLE, Floats
from ablations.analysis.results import Direction, Seed
from ablations.analysis.table import DIVERGED, OK, RunTable
from ablations.errors import AblationsError, one_of

if TYPE_CHECKING:
    from ablations.study import Ablation, Study

Scale = Literal["log2", "linear"]


@dataclass(frozen=True)
class Estimate:
    """Mean of one number per seed, with its one-sample t-test.

    Attributes:
        value: The mean.
        low: Lower end of the 95 % interval; None without a test.
        high: Upper end of the 95 % interval; None without a test.
        p: Two-sided p; None with fewer than 3 seeds or if all seeds agree to the last digit.
        n: Seeds.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    n: int


@dataclass(frozen=True)
class Step:
    """The difference between two neighbouring levels.

    Attributes:
        lower: The lower level.
        upper: The upper level.
        difference: Metric at the upper - at the lower level, over the seeds that both have; None without such a seed.
        p_adjusted: p of the paired t-test after Holm's correction over the steps; None without a test.
    """

    lower: float
    upper: float
    difference: Estimate | None
    p_adjusted: float | None


@dataclass(frozen=True)
class Trend:
    """What the levels of one parameter do to a metric; exploratory, a family of its own.

    Attributes:
        parameter: Name of the parameter.
        metric: Name of the metric.
        direction: "max" if more of the metric is better.
        alpha: Level of each decision.
        scale: "log2" or "linear": what the slope is per unit of.
        levels: The levels, ascending.
        means: Mean of the metric at each level, over the completed runs; NaN where there is none.
        slope: Slope per seed, by least squares over all levels; None without a seed complete at all levels.
        curvature: Quadratic coefficient per seed; None with fewer than 3 levels.
        p_page: Page's test for a trend in either direction, diverged runs ranking last; None with fewer than 3 levels.
        page_n: Seeds in Page's test.
        steps: Neighbouring levels.
    """

    parameter: str
    metric: str
    direction: Direction
    alpha: float
    scale: Scale
    levels: tuple[float, ...]
    means: tuple[float, ...]
    slope: Estimate | None
    curvature: Estimate | None
    p_page: float | None
    page_n: int
    steps: tuple[Step, ...]


def trend(
    table: RunTable,
    levels: Mapping[str, float],
    *,
    parameter: str,
    metric: str,
    direction: Direction = "max",
    scale: Scale | None = None,
    alpha: float = 0.05,
) -> Trend:
    """Tests for a trend over the levels of one parameter.

    Source: slopes per seed, Rogosa & Saner 1995 (the unit is the seed, so runs of a seed need not be independent); Page
    1963, scipy ``page_trend_test``, twice the smaller one-sided p.

    Args:
        table: All runs on the metric.
        levels: The level of each arm; the baseline may be one of them.
        parameter: Name of the parameter.
        metric: Name of the metric.
        direction: "max" if more of the metric is better.
        scale: Scale of the levels; by default log2 if all are positive.
        alpha: Level of each decision.

    Raises:
        AblationsError: If an arm is unknown, two arms have one level, there are fewer than two levels, or the scale
            cannot hold them.
    """
    arms, x = _order(table, levels)
    scale = scale or ("log2" if x.min() > 0 else "linear")
    if scale == "log2" and x.min() <= 0:
        raise AblationsError(f"levels of {parameter!r} on a log2 scale must be positive, not {x.min():g}")
    values = table.values[arms]
    complete = values[:, np.isfinite(values).all(axis=0)]
    position = np.log2(x) if scale == "log2" else x
    page, page_n = _page(values, table.outcomes[arms], direction)
    return Trend(
        parameter=parameter,
        metric=metric,
        direction=direction,
        alpha=alpha,
        scale=scale,
        levels=tuple(x.tolist()),
        means=tuple(float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else float("nan") for row in values),
        slope=_coefficient(position, complete, 1),
        curvature=_coefficient(position, complete, 2) if len(x) > 2 else None,
        p_page=page,
        page_n=page_n,
        steps=_steps(x, values),
    )


def trends_study(scores: pd.DataFrame, study: Study) -> dict[str, Trend]:
    """Trends of the primary metric, by ablation, for each sweep of one number that has three levels or more.

    The baseline is a level of its own where the sweep changes nothing else.

    Args:
        scores: What ``Store.read_scores`` returns.
        study: The study as loaded.
    """
    table = study_table(scores, study, study.metric)
    found = {}
    for ablation in study.ablations:
        levels = swept_levels(study, ablation)
        if len(levels) > 2:
            found[ablation.name] = trend(
                table,
                levels,
                parameter=next(iter(ablation.axes)),
                metric=study.metric,
                direction=cast("Direction", study.direction),
                alpha=study.alpha,
            )
    return found


def swept_levels(study: Study, ablation: Ablation) -> dict[str, float]:
    """The number that each variant of a sweep sets, the baseline's among them; empty for sweeps of anything else."""
    if len(ablation.axes) != 1:
        return {}
    key = next(iter(ablation.axes))
    levels = {level.name: level.changes.get(key) for level in ablation.levels}
    if all(set(level.changes) == {key} for level in ablation.levels):
        levels = {BASELINE: study.baseline.get(key)} | levels
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in levels.values()):
        return {}
    return {name: float(value) for name, value in levels.items() if value is not None}


def estimate(values: Floats) -> Estimate | None:
    """Mean and one-sample t-test of one number per seed ``(n,)``; None without a seed."""
    n = values.size
    if n == 0:
        return None
    mean = float(values.mean())
    if n < 3 or values.std(ddof=1) <= NEGLIGIBLE * np.abs(values).max():
        return Estimate(mean, None, None, None, n)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(0.95)
    return Estimate(mean, float(interval.low), float(interval.high), float(test.pvalue), n)


def _order(table: RunTable, levels: Mapping[str, float]) -> tuple[list[int], Floats]:
    """Rows of the table by ascending level, and the levels."""
    unknown = [arm for arm in levels if arm not in table.arms]
    if unknown:
        raise AblationsError(one_of("variant", unknown[0], table.arms))
    ordered = sorted(levels, key=lambda arm: levels[arm])
    x = np.array([levels[arm] for arm in ordered], dtype=float)
    if len(x) < 2 or (np.diff(x) == 0).any():
        raise AblationsError(f"a trend needs two levels or more, each once, not {', '.join(f'{v:g}' for v in x)}")
    return [table.arms.index(arm) for arm in ordered], x


def _coefficient(x: Floats, values: Floats, degree: int) -> Estimate | None:
    """The leading coefficient of a polynomial fitted to each seed's ``(levels, seeds)``."""
    if values.shape[1] == 0:
        return None
    return estimate(np.polynomial.polynomial.polyfit(x, values, degree)[degree])


def _page(values: Floats, outcomes: NDArray[np.int8], direction: Direction) -> tuple[float | None, int]:
    """Two-sided Page p over the seeds with an outcome at every level, and their number; diverged runs rank last."""
    seeds = ((outcomes == OK) | (outcomes == DIVERGED)).all(axis=0)
    if len(values) < 3 or seeds.sum() < 2:
        return None, int(seeds.sum())
    turned = values[:, seeds] if direction == "max" else -values[:, seeds]
    ranks = stats.rankdata(np.where(np.isfinite(turned), turned, -np.inf), axis=0).T
    if np.ptp(ranks, axis=1).max() == 0:
        return None, int(seeds.sum())
    up, down = (stats.page_trend_test(order, ranked=True).pvalue for order in (ranks, len(values) + 1 - ranks))
    return float(min(1.0, 2 * min(up, down))), int(seeds.sum())


def _steps(x: Floats, values: Floats) -> tuple[Step, ...]:
    """Paired comparisons of neighbouring levels, corrected together."""
    differences = [estimate(d[np.isfinite(d)]) for d in np.diff(values, axis=0)]
    p = np.array([np.nan if d is None or d.p is None else d.p for d in differences])
    adjusted = adjust(p, ["steps"] * len(p))
    return tuple(
        Step(float(low), float(high), difference, None if np.isnan(corrected) else float(corrected))
        for low, high, difference, corrected in zip(x[:-1], x[1:], differences, adjusted, strict=True)
    )


def complete_seeds(table: RunTable, arms: list[str]) -> tuple[Floats, tuple[Seed, ...]]:
    """Values ``(arms, n)`` at the seeds where all of the arms completed, and those seeds.

    Raises:
        AblationsError: If an arm is unknown.
    """
    for arm in arms:
        if arm not in table.arms:
            raise AblationsError(one_of("variant", arm, table.arms))
    values = table.values[[table.arms.index(arm) for arm in arms]]
    there = np.asarray(np.isfinite(values).all(axis=0))
    return values[:, there], tuple(seed for seed, use in zip(table.seeds, there, strict=True) if use)
