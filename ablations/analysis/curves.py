"""Learning curves as a few numbers per run, compared over seeds: never point by point.

The abscissa is whatever column is asked for: steps, seconds or FLOPs. Nothing is extrapolated: curves are compared up
to the smallest budget that all runs have, so leave out the runs that did not complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ablations.analysis.compare import compare
from ablations.analysis.paired import Floats
from ablations.analysis.results import Comparison, Direction, Seed
from ablations.analysis.signflip import sign_flip
from ablations.errors import AblationsError, MissingRuns, one_of

Run = tuple[str, Seed]
SCALARS = ("at_budget", "area")


@dataclass(frozen=True)
class Curve:
    """A metric over time.

    Attributes:
        x: Steps, seconds or FLOPs, strictly ascending ``(points,)``.
        y: The metric; finite.
    """

    x: Floats
    y: Floats

    def at(self, x: Floats) -> Floats:
        """The metric at ``x`` by linear interpolation; NaN outside of what was recorded."""
        return np.asarray(np.interp(x, self.x, self.y, left=np.nan, right=np.nan), dtype=float)


@dataclass(frozen=True)
class Race:
    """Time to a target value, arm against baseline.

    Attributes:
        arm: Name of the arm.
        n: Seeds that both have.
        reached_arm: Seeds at which the arm reached the target.
        reached_baseline: Seeds at which the baseline did.
        median_arm: Median time of the arm; None if half its seeds or more did not reach the target.
        median_baseline: That of the baseline.
        p: Sign-flip test on the ranks of the times, a target not reached ranking last; None below 3 seeds, or if no
            seed differs.
    """

    arm: str
    n: int
    reached_arm: int
    reached_baseline: int
    median_arm: float | None
    median_baseline: float | None
    p: float | None


def read_curves(frame: pd.DataFrame, metric: str, *, x: str = "step") -> dict[Run, Curve]:
    """One curve per run that has the metric; points that are not finite are left out, of two at one x the later stays.

    Args:
        frame: Columns variant, seed, metric, value and ``x``, in the order recorded.
        metric: The metric.
        x: Column of the abscissa.

    Raises:
        AblationsError: If a column or the metric is missing.
    """
    for name in ("variant", "seed", "metric", "value", x):
        if name not in frame:
            raise AblationsError(f"the table of curves: {one_of('column', name, frame.columns)}")
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        raise AblationsError(f"the table of curves: {one_of('metric', metric, frame['metric'].unique())}")
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=float)) & np.isfinite(rows[x].to_numpy(dtype=float))]
    rows = rows.drop_duplicates(["variant", "seed", x], keep="last").sort_values(x, kind="stable")
    return {
        (str(variant), seed): Curve(run[x].to_numpy(dtype=float), run["value"].to_numpy(dtype=float))
        for (variant, seed), run in rows.groupby(["variant", "seed"], sort=False)
    }


def common_span(curves: Iterable[Curve]) -> tuple[float, float]:
    """Where all curves have been recorded: from the latest start to the smallest budget.

    Raises:
        MissingRuns: If there is no curve, or no such span.
    """
    ends = [(float(curve.x[0]), float(curve.x[-1])) for curve in curves if curve.x.size]
    if not ends:
        raise MissingRuns("there is no learning curve")
    start, budget = max(first for first, _ in ends), min(last for _, last in ends)
    if start >= budget:
        raise MissingRuns(f"the learning curves have no common span: one starts at {start:g}, one ends at {budget:g}")
    return start, budget


def area(curve: Curve, start: float, budget: float) -> float:
    """Mean height of a curve between two abscissae (its normalised area), by the trapezoidal rule."""
    inside = (curve.x > start) & (curve.x < budget)
    x = np.concatenate([[start], curve.x[inside], [budget]])
    return float(np.trapezoid(curve.at(x), x) / (budget - start))


def time_to(curve: Curve, target: float, direction: Direction = "max") -> float | None:
    """First x at which the curve reaches a target, by linear interpolation; None if it never does."""
    sign = 1.0 if direction == "max" else -1.0
    height = sign * (curve.y - target)
    reached = np.flatnonzero(height >= 0)
    if not reached.size:
        return None
    i = int(reached[0])
    if i == 0:
        return float(curve.x[0])
    share = -height[i - 1] / (height[i] - height[i - 1])
    return float(curve.x[i - 1] + share * (curve.x[i] - curve.x[i - 1]))


def scalars(curves: Mapping[Run, Curve]) -> pd.DataFrame:
    """Value at the smallest common budget and normalised area of each run: columns variant, seed, metric, value."""
    start, budget = common_span(curves.values())
    rows = []
    for (variant, seed), curve in curves.items():
        rows.append((variant, seed, "at_budget", float(curve.at(np.array(budget)))))
        rows.append((variant, seed, "area", area(curve, start, budget)))
    return pd.DataFrame(rows, columns=["variant", "seed", "metric", "value"])


def compare_curves(
    curves: Mapping[Run, Curve], *, baseline: str, direction: Direction = "max", **rules: object
) -> dict[str, list[Comparison]]:
    """Paired comparisons of ``at_budget`` and ``area``, each a family of its own; exploratory.

    Args:
        curves: One curve per run.
        baseline: Name of the baseline.
        direction: "max" if more is better.
        **rules: Further options of ``compare``.
    """
    frame = scalars(curves)
    return {
        name: compare(frame, baseline=baseline, metric=name, direction=direction, **rules)  # type: ignore[arg-type]
        for name in SCALARS
    }


def race(curves: Mapping[Run, Curve], target: float, *, baseline: str, direction: Direction = "max") -> list[Race]:
    """Compares the times to a target; runs that never reach it rank last, and are never left out.

    Args:
        curves: One curve per run.
        target: Value of the metric to reach.
        baseline: Name of the baseline.
        direction: "max" if more is better.
    """
    times = {run: time_to(curve, target, direction) for run, curve in curves.items()}
    found = []
    for arm in dict.fromkeys(variant for variant, _ in curves if variant != baseline):
        seeds = [seed for variant, seed in curves if variant == arm and (baseline, seed) in curves]
        pairs = np.array([[_or_never(times[arm, seed]), _or_never(times[baseline, seed])] for seed in seeds])
        pairs = pairs.reshape(-1, 2)
        reached = np.isfinite(pairs).sum(axis=0)
        found.append(
            Race(
                arm,
                len(seeds),
                int(reached[0]),
                int(reached[1]),
                _median(pairs[:, 0]),
                _median(pairs[:, 1]),
                _rank_p(pairs),
            )
        )
    return found


def band(curves: Iterable[Curve], grid: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean of the runs at each point of the grid, and its pointwise 95 % t band ``(points,)``; NaN below 2 runs.

    Not a band for the curve as a whole, and not a bootstrap, which covers 75 % at 3 seeds.
    """
    values = np.array([curve.at(grid) for curve in curves])
    n = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.where(n > 0, n, np.nan)
    square = np.nansum((values - mean) ** 2, axis=0) / np.where(n > 1, n - 1, np.nan)
    half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * np.sqrt(square / np.maximum(n, 1))
    return mean, mean - half, mean + half


def _or_never(time: float | None) -> float:
    return np.inf if time is None else time


def _median(times: Floats) -> float | None:
    """The median time, None if it is one of those that were never reached."""
    middle = float(np.sort(times)[times.size // 2]) if times.size else np.inf
    return float(np.median(times)) if np.isfinite(middle) else None


def _rank_p(pairs: Floats) -> float | None:
    """Sign-flip p of the differences of ranks; ``(n, 2)``, infinite times rank last together."""
    if len(pairs) < 3:
        return None
    ranks = stats.rankdata(pairs.ravel()).reshape(pairs.shape)
    differences = ranks[:, 0] - ranks[:, 1]
    return float(sign_flip(differences[None])[0]) if differences.any() else None
