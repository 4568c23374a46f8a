"""How many seeds a question takes: power of the paired t-test and of the equivalence test, before and after the runs.

The effect that was observed is never put in for the true one: that would restate p in other words.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from ablations.analysis.paired import Floats, Ints

MOST_FURTHER_SEEDS = 200
LEAST = 3


def t_power(effect: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> Floats:
    """Power of the two-sided paired t-test.

    Source: noncentral t. statsmodels' ``TTestPower.power`` returns NaN for large effects, where the far tail
        underflows; so does
    ``nct.cdf`` here, and counts as zero.

    Args:
        effect: True mean difference / sd of the differences.
        n: Pairs.
        alpha: Two-sided level.
    """
    effect, n = np.abs(np.asarray(effect, dtype=float)), np.asarray(n, dtype=float)
    quantile = stats.t.ppf(1 - alpha / 2, n - 1)
    shift = effect * np.sqrt(n)
    near = stats.nct.sf(quantile, n - 1, shift)
    near = np.where(np.isnan(near), (shift > quantile).astype(float), near)
    return np.asarray(near + np.nan_to_num(stats.nct.cdf(-quantile, n - 1, shift)), dtype=float)


def equivalence_power(bound: ArrayLike, n: ArrayLike, alpha: float = 0.05) -> Floats:
    """Power of the two one-sided t-tests if there is no difference at all.

    The mean over the sd's sampling distribution of max(0, 2 Phi(bound sqrt(n) - t v) - 1), v = sd seen / true sd, by
    Gauss-Legendre over the range where the integrand is positive.

    Args:
        bound: Smallest effect of interest / sd of the differences.
        n: Pairs, at least 2.
        alpha: Level of each one-sided test.
    """
    bound, n = np.broadcast_arrays(np.asarray(bound, dtype=float), np.asarray(n, dtype=float))
    df = n - 1
    quantile = stats.t.ppf(1 - alpha, df)
    shift = bound * np.sqrt(n)
    low = np.sqrt(stats.chi2.ppf(1e-12, df) / df)
    high = np.maximum(low, np.minimum(shift / quantile, np.sqrt(stats.chi2.isf(1e-12, df) / df)))
    nodes, weights = _legendre()
    half = ((high - low) / 2)[..., None]
    v = (high + low)[..., None] / 2 + half * nodes
    density = stats.chi2.pdf(df[..., None] * v**2, df[..., None]) * 2 * df[..., None] * v
    positive = 2 * stats.norm.cdf(shift[..., None] - quantile[..., None] * v) - 1
    return np.asarray((weights * half * density * np.maximum(positive, 0)).sum(axis=-1), dtype=float)


@cache
def _legendre() -> tuple[Floats, Floats]:
    """Nodes and weights of the quadrature: finding them takes longer than using them."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return nodes, weights


def detectable(n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference / sd of the differences that n pairs find with this power: the design table's entry."""
    return float(brentq(lambda effect: float(t_power(effect, n, alpha)) - power, 1e-9, 1e4, xtol=1e-6))


def design_table(
    seeds: tuple[int, ...] = (3, 5, 8, 10, 20), family_size: int = 1, **options: float
) -> dict[int, float]:
    """Detectable difference / sd of the differences by number of seeds, at the first step of Holm's correction.

    Args:
        seeds: Numbers of pairs.
        family_size: Arms in the family; the level is alpha / family_size.
        **options: alpha (of the family, .05) and power (.8).
    """
    alpha = options.get("alpha", 0.05) / family_size
    return {n: detectable(n, alpha, options.get("power", 0.8)) for n in seeds}


def further_seeds(
    ratio: Floats,
    n: Ints,
    *,
    alpha: float = 0.05,
    family_size: Ints | int = 1,
    equivalence_size: Ints | int = 1,
    power: float = 0.8,
) -> Floats:
    """Further seeds until a true effect of interest would be found, and its absence shown, each with this power.

    Args:
        ratio: Smallest effect of interest / sd of the differences ``(arms,)``.
        n: Pairs there are ``(arms,)``.
        alpha: Level; two-sided alpha / family_size for the effect, one-sided alpha / equivalence_size for equivalence.
        family_size: Arms in the family of each arm, where tests for an effect are corrected.
        equivalence_size: The same, where claims of equivalence are corrected.
        power: Wanted power of both.

    Returns:
        At least 1 for each arm; NaN where more than 200 would be needed.
    """
    ratio, n, family_size, equivalence_size = np.broadcast_arrays(ratio, n, family_size, equivalence_size)
    sizes = (family_size, equivalence_size)
    low, high = np.full(ratio.shape, LEAST - 1), n + MOST_FURTHER_SEEDS  # enough is true at high, if anywhere
    resolvable = _enough(ratio, high, alpha, sizes, power)
    while (high - low > 1).any():
        middle = np.maximum(LEAST, (low + high) // 2)
        enough = _enough(ratio, middle, alpha, sizes, power)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(resolvable, np.maximum(1, high - n), np.nan)


def upper_sd(sd: Floats, n: Ints) -> Floats:
    """80 % upper confidence limit of a standard deviation from n values: sd sqrt(df / chi2_.2(df))."""
    return np.asarray(sd * np.sqrt((n - 1) / stats.chi2.ppf(0.2, n - 1)), dtype=float)


def _enough(
    ratio: Floats, n: Ints, alpha: float, sizes: tuple[Ints, Ints], power: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether n pairs have the power for both questions, each of which has a family of its own size."""
    both = np.ones(ratio.shape, dtype=bool)
    for of, family in zip((t_power, equivalence_power), sizes, strict=True):
        for size in np.unique(family):
            rows = family == size
            both[rows] &= of(ratio[rows], n[rows], alpha / size) >= power
    return both
