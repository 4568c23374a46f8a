"""The sign-flip test: if arm and baseline are exchangeable, each difference may as well have had the other sign."""

from __future__ import annotations

import math

import numpy as np

from ablations.analysis.paired import Floats

EXACT_UP_TO = 14  # pairs: 8,192 sign patterns, the other half mirrors them
SAMPLES = 99_999
CELLS = 4_000_000  # of the matrix patterns x arms held at a time: 32 MB


def sign_flip(differences: Floats, *, seed: int = 0) -> Floats:
    """Two-sided p of the sign-flip test on the mean, for each row.

    Exact up to 14 pairs: the share of all 2^n sign patterns whose mean is at least as far from zero, equal to scipy's
    ``permutation_test`` with ``permutation_type="samples"``, for all rows at once. Beyond, 99,999 random patterns and
    (1 + hits) / (1 + patterns), which keeps the level.

    Source: Fisher 1935; Phipson & Smyth 2010 for the sampled p.

    Args:
        differences: ``(arms, n)``, complete.
        seed: Of the random patterns beyond 14 pairs.
    """
    k, n = differences.shape
    if n == 0:
        return np.ones(k)
    exact = n <= EXACT_UP_TO
    signs = _half_of_all_signs(n) if exact else _random_signs(n, seed)
    seen = np.abs(differences.sum(axis=1))
    seen = seen - 1e-12 * np.abs(differences).sum(axis=1)  # ties are ties in spite of rounding
    hits = np.zeros(k)
    step = max(1, CELLS // len(signs))
    for start in range(0, k, step):
        rows = slice(start, start + step)
        hits[rows] = (np.abs(signs @ differences[rows].T) >= seen[rows]).sum(axis=0)
    return hits / len(signs) if exact else (1 + hits) / (1 + len(signs))


def floor(n: int) -> float:
    """The least p that n pairs can reach: 2^(1-n)."""
    return float(2.0 ** (1 - n))


def least_seeds(family_size: int, alpha: float = 0.05) -> int:
    """Pairs from which on the sign-flip test can pass Holm's first step: n >= 1 + log2(m / alpha)."""
    return math.ceil(1 + math.log2(family_size / alpha) - 1e-12)


def _half_of_all_signs(n: int) -> Floats:
    """All sign patterns whose last sign is +, ``(2^(n-1), n)``."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def _random_signs(n: int, seed: int) -> Floats:
    """Random sign patterns ``(SAMPLES, n)``."""
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(SAMPLES, n))
    return np.asarray(signs, dtype=np.float64)
