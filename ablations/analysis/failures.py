"""Diverged runs are outcomes: their share, and whether it differs from the baseline's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@lru_cache(maxsize=4096)
def share_of_failures(failed: int, runs: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval of a share; 0 of 5 still allows 52 %.

    Source: Clopper & Pearson 1934; scipy ``binomtest``.
    """
    interval = stats.binomtest(failed, runs).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def mcnemar(arm_failed: NDArray[np.bool_], baseline_failed: NDArray[np.bool_]) -> float:
    """Exact McNemar p: whether arm and baseline fail equally often, over the seeds where both have an outcome ``(n,)``.

    Source: McNemar 1947; statsmodels ``mcnemar(exact=True)``.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar

    only_arm = int((arm_failed & ~baseline_failed).sum())
    only_baseline = int((~arm_failed & baseline_failed).sum())
    if only_arm + only_baseline == 0:
        return 1.0  # statsmodels divides by zero here in some releases
    return float(exact_mcnemar([[0, only_arm], [only_baseline, 0]], exact=True).pvalue)
