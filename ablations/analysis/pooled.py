"""A second opinion: all arms share one residual variance. More power at few seeds, wrong where one arm is noisier;
never the primary analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablations.analysis.paired import NEGLIGIBLE, Floats

HETEROGENEOUS_P = 0.1
HETEROGENEOUS_RATIO = 2.0


@dataclass(frozen=True)
class Pooled:
    """The second opinion, or why there is none.

    Attributes:
        p: Dunnett-style p of each arm ``(m,)``; None where it would mislead.
        hidden: Why, one of ``results.POOLED_HIDDEN``; None where there is a p.
    """

    p: Floats | None
    hidden: str | None


def pooled_p(values: Floats, *, family_size: int | None = None) -> Pooled:
    """Dunnett-style p of each arm against the first row, with the residual variance of arms + seeds.

    Source: Dunnett 1955, in a randomised block design: df = m (n - 1), correlation 1/2 between the comparisons.

    Args:
        values: Complete ``(1 + m, n)``, the baseline first, one column per seed.
        family_size: Planned comparisons, where more were planned than tested.

    Returns:
        No p where it would mislead: fewer than 2 arms or 3 seeds, no variance, one arm whose residual sd is over twice
        that of the median arm, or Brown-Forsythe p < .1 on the residuals.
    """
    arms, n = values.shape
    if arms < 3:
        return Pooled(None, "one_arm")
    if n < 3:
        return Pooled(None, "few_seeds")
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    df = (arms - 1) * (n - 1)
    mean_square = float((residuals**2).sum() / df)
    if mean_square <= (NEGLIGIBLE * np.abs(values).max()) ** 2:
        return Pooled(None, "no_variance")
    unequal = heterogeneous(residuals)
    if unequal:
        return Pooled(None, unequal)
    t = (values[1:] - values[0]).mean(axis=1) / np.sqrt(2 * mean_square / n)
    return Pooled(dunnett_p(np.abs(t), family_size or arms - 1, df), None)


def heterogeneous(residuals: Floats) -> str | None:
    """How the arms' residuals ``(arms, n)`` differ too much in spread to be pooled; None where they do not.

    Source: Brown & Forsythe 1974, scipy ``levene(center="median")``.
    """
    sd = residuals.std(axis=1, ddof=1)
    if sd.max() > HETEROGENEOUS_RATIO * np.median(sd):
        return "noisy_arm"
    return "unequal_spread" if float(stats.levene(*residuals, center="median").pvalue) < HETEROGENEOUS_P else None


def dunnett_p(t: Floats, comparisons: int, df: int) -> Floats:
    """P(max |T_i| >= t) of equicorrelated (1/2) t variables, two-sided: T_i = (Z_i - Z_0) / sqrt(2) / v.

    By quadrature over Z_0 and v = sqrt(chi2_df / df): deterministic, where scipy's ``dunnett`` samples.

    Args:
        t: Observed |t| ``(k,)``.
        comparisons: Number of variables.
        df: Degrees of freedom.
    """
    nodes, weights = np.polynomial.legendre.leggauss(48)
    low, high = np.sqrt(stats.chi2.ppf(1e-12, df) / df), np.sqrt(stats.chi2.isf(1e-12, df) / df)
    v = (low + high) / 2 + (high - low) / 2 * nodes
    weight_v = weights * (high - low) / 2 * stats.chi2.pdf(df * v**2, df) * 2 * df * v
    z = 8 * nodes
    weight_z = weights * 8 * stats.norm.pdf(z)
    reach = np.sqrt(2) * t[:, None, None] * v[:, None]
    inside = (stats.norm.cdf(reach + z) - stats.norm.cdf(z - reach)) ** comparisons
    return np.asarray(np.clip(1 - np.einsum("kvz,v,z->k", inside, weight_v, weight_z), 0, 1), dtype=float)
