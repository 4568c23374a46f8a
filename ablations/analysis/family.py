"""Correction over a family of tests that was fixed before the runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablations.analysis.paired import Floats
from ablations.errors import AblationsError, one_of

CORRECTIONS = ("holm", "none")


def adjust(p: Floats, families: Sequence[str], method: str = "holm") -> Floats:
    """Corrects p within each family; every planned test counts.

    A test that could not be made (NaN) enters as p = 1, and comes back as NaN.

    Source: Holm 1979. The figures are those of statsmodels' ``multipletests``, which is not called because it collects
    the interpreter's garbage at each call (seen: 60 ms, nine tenths of the time of a comparison).

    Args:
        p: One p per planned test ``(tests,)``.
        families: The family of each test.
        method: "holm" or "none".

    Raises:
        AblationsError: If the method is unknown.
    """
    if method not in CORRECTIONS:
        raise AblationsError(one_of("correction", method, CORRECTIONS))
    if method == "none":
        return p.copy()
    complete = np.where(np.isnan(p), 1.0, p)
    adjusted = np.full(p.shape, np.nan)
    _, group = np.unique(np.asarray(families), return_inverse=True)
    for rows in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        adjusted[rows] = _holm(complete[rows])
    adjusted[np.isnan(p)] = np.nan
    return adjusted


def _holm(p: Floats) -> Floats:
    """Holm's step-down p of one family."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
