"""The t-tests in other words: how probable it is that the difference matters, given a flat prior."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from ablations.analysis.results import Comparison


@dataclass(frozen=True)
class Posterior:
    """Probabilities of the true difference, turned so that more is better; they sum to 1.

    Attributes:
        better: P(difference > smallest effect of interest).
        same: P(|difference| < smallest effect of interest).
        worse: P(difference < -smallest effect of interest).
    """

    better: float
    same: float
    worse: float


def posterior(comparison: Comparison) -> Posterior | None:
    """Posterior t with n - 1 degrees of freedom about the difference, flat in the mean and in log sd.

    ``better`` and ``worse`` are the two one-sided p of TOST: the same numbers, not a second source of evidence.

    Source: Benavoli et al. 2017, section 3, without their correction for overlapping training sets, which a fixed split
    does not have.

    Returns:
        None without a smallest effect of interest or without a test (failures, too few seeds, constant differences).
    """
    c = comparison
    if c.smallest_effect is None or c.p is None or c.df is None or c.improvement is None or not c.se:
        return None
    belief = stats.t(c.df, loc=c.improvement, scale=c.se)
    better, worse = float(belief.sf(c.smallest_effect)), float(belief.cdf(-c.smallest_effect))
    return Posterior(better, float(belief.cdf(c.smallest_effect)) - worse, worse)
