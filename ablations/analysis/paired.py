"""Paired comparison of many arms with one baseline at once.

Arms have holes where runs were lost. Rows of the same number of pairs are packed together, so that scipy and
statsmodels see plain matrices: their own handling of NaN goes row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEGLIGIBLE = 1e-12  # of the largest value: below it, a spread or a difference is rounding


@dataclass(frozen=True)
class Paired:
    """Paired statistics of each arm; every attribute has shape ``(arms,)``, NaN where not defined.

    Attributes:
        difference: Mean of arm - baseline.
        sd: Standard deviation of the differences (ddof 1).
        se: Standard error of the mean difference.
        t: Paired t statistic.
        p: Two-sided p of the paired t-test; NaN if constant (scipy would say 0.0 or NaN).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        low90: Lower end of the 90 % interval.
        high90: Upper end of the 90 % interval.
        p_tost: Two one-sided tests against the smallest effect.
        bound: |difference| + t(1-alpha, n-1) se.
        g_z: Standardised difference with Hedges' correction.
        r: Correlation between arm and baseline.
    """

    difference: Floats
    sd: Floats
    se: Floats
    t: Floats
    p: Floats
    low: Floats
    high: Floats
    low90: Floats
    high90: Floats
    p_tost: Floats
    bound: Floats
    g_z: Floats
    r: Floats


def pairs_by_count(arms: Floats, baseline: Floats) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Packs rows that have the same number of pairs.

    Args:
        arms: ``(arms, seeds)``, NaN where there is no value.
        baseline: ``(seeds,)`` likewise.

    Yields:
        Indices of the rows ``(k,)``, and their pairs ``(k, n)`` of arm and baseline, for each n > 0.
    """
    base = np.broadcast_to(baseline, arms.shape)
    mask = np.isfinite(arms) & np.isfinite(base)
    counts = mask.sum(axis=1)
    for n in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == n)
        yield rows, arms[rows][mask[rows]].reshape(-1, n), base[rows][mask[rows]].reshape(-1, n)


def paired_t(arms: Floats, baseline: Floats, *, smallest_effect: float | None = None, alpha: float = 0.05) -> Paired:
    """Compares each row of ``arms`` with ``baseline`` over the seeds that both have.

    Source: paired t and its interval: scipy ``ttest_rel``. Equivalence: Schuirmann 1987, statsmodels ``ttost_paired``.
    Hedges' correction: Hedges 1981, eq. 6e, with n - 1 degrees of freedom.

    Args:
        arms: ``(arms, seeds)``, NaN where there is no value.
        baseline: ``(seeds,)`` likewise.
        smallest_effect: Smallest effect of interest, in the metric's unit, > 0.
        alpha: One-sided level of ``bound``.
    """
    out = {field.name: np.full(arms.shape[0], np.nan) for field in fields(Paired)}
    for rows, x, y in pairs_by_count(arms, baseline):
        for name, column in _one_count(x, y, smallest_effect, alpha).items():
            out[name][rows] = column
    return Paired(**out)


def _one_count(x: Floats, y: Floats, smallest_effect: float | None, alpha: float) -> dict[str, Floats]:
    """The statistics of ``(k, n)`` pairs that are complete."""
    k, n = x.shape
    d = x - y
    mean = d.mean(axis=1)
    found = {"difference": mean}
    if n == 1:
        return found
    sd = d.std(axis=1, ddof=1)
    scale = np.maximum(np.abs(x).max(axis=1), np.abs(y).max(axis=1))
    constant = sd <= NEGLIGIBLE * scale
    se = sd / np.sqrt(n)
    found |= {"sd": sd, "se": se}
    live = np.flatnonzero(~constant)
    if not live.size:
        return found
    test = stats.ttest_rel(x[live], y[live], axis=1)
    ci95, ci90 = test.confidence_interval(0.95), test.confidence_interval(0.90)
    quantile = stats.t.ppf(1 - alpha, n - 1)
    columns = {
        "t": test.statistic,
        "p": test.pvalue,
        "low": ci95.low,
        "high": ci95.high,
        "low90": ci90.low,
        "high90": ci90.high,
        "bound": np.abs(mean[live]) + quantile * se[live],
    }
    if smallest_effect is not None:
        columns["p_tost"] = tost(x[live], y[live], smallest_effect)
    if n > 2:
        columns["g_z"] = mean[live] / sd[live] * (1 - 3 / (4 * (n - 1) - 1))
        columns["r"] = _correlation(x[live], y[live])
    for name, column in columns.items():
        found[name] = np.full(k, np.nan)
        found[name][live] = column
    return found


def tost(x: Floats, y: Floats, smallest_effect: float) -> Floats:
    """p of two one-sided paired t-tests for each row of ``(k, n)`` pairs.

    Source: Schuirmann 1987; statsmodels ``ttost_paired`` (which wants one column per test).
    """
    from statsmodels.stats.weightstats import DescrStatsW

    both = DescrStatsW((x - y).T)  # ttost_paired does this, but reduces several columns to one p
    _, above, _ = both.ttest_mean(-smallest_effect, "larger")
    _, below, _ = both.ttest_mean(smallest_effect, "smaller")
    return np.atleast_1d(np.maximum(above, below)).astype(float)


def _correlation(x: Floats, y: Floats) -> Floats:
    """Pearson's r of each row; NaN where one side does not vary."""
    cx, cy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((cx**2).sum(axis=1) * (cy**2).sum(axis=1))
    flat = scale <= NEGLIGIBLE * np.maximum(np.abs(x).max(axis=1), np.abs(y).max(axis=1)) ** 2
    return np.where(flat, np.nan, (cx * cy).sum(axis=1) / np.where(flat, 1.0, scale))
