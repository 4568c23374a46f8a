"""How far a difference holds beyond the test set: the examples are a sample as much as the seeds are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln

from ablations.analysis.paired import Floats
from ablations.analysis.table import COMPLETED_WORDS, Checkpoint, Columns, check_columns, measured
from ablations.errors import AblationsError, MissingRuns, one_of


@dataclass(frozen=True)
class ExampleInterval:
    """A mean difference with the uncertainty of seeds and of test examples.

    Attributes:
        arm: Name of the arm.
        n: Seeds.
        examples: Test examples.
        difference: Mean of arm - baseline.
        se: Standard error over new seeds and new examples.
        se_seeds: Standard error over new seeds alone, on this test set.
        df: Satterthwaite's degrees of freedom of ``se``.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    arm: str
    n: int
    examples: int
    difference: float
    se: float
    se_seeds: float
    df: float
    low: float
    high: float

    @property
    def bound(self) -> float:
        """delta* over seeds and examples: the smallest bound on the size of the effect that is not ruled out at 5 %,
        one-sided each way."""
        return abs(self.difference) + _half(0.95, self.se, self.se_seeds, self.df, self.n)


def compare_examples(
    frame: pd.DataFrame,
    *,
    baseline: str,
    metric: str,
    columns: Columns | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[ExampleInterval]:
    """Intervals over seeds and examples for every arm of a long table of scores per example.

    Runs that lack an example, or did not complete, are left out; arms with fewer than two paired seeds have no
    interval.

    Args:
        frame: One row per run and example: columns variant, seed, example, value, and optionally metric, status and
            step (the last one of a run counts).
        baseline: Name of the baseline.
        metric: The metric; its value on a set is the mean over the examples.
        columns: The names of the columns.
        checkpoint: Counts, instead of the last step of a run, the one at which another metric is best.

    Raises:
        AblationsError: If a column is missing, or the runs share fewer than two examples.
        MissingRuns: If the baseline is not in the table.
    """
    columns = columns or Columns()
    cube, arms = _cube(frame, metric, columns, checkpoint)
    if baseline not in arms:
        raise MissingRuns(f"no run of the baseline: {one_of('variant', baseline, arms)}")
    complete = np.asarray(np.isfinite(cube).all(axis=2))
    base = arms.index(baseline)
    found = []
    for row, arm in enumerate(arms):
        paired = complete[row] & complete[base]
        if row != base and paired.sum() > 1:
            found.append(seed_by_example(cube[row, paired] - cube[base, paired], arm=arm))
    return found


def seed_by_example(differences: Floats, *, arm: str = "") -> ExampleInterval:
    """Interval of the mean of a seeds x examples table of differences, both of them random.

    SE^2 = (MS_seed + MS_example - MS_residual) / (n M), but at least MS_seed / (n M).

    Source: two-way random-effects analysis of variance without replication; Satterthwaite 1946 for the degrees of
    freedom. Deviation: the interval is never narrower than that of the seeds alone, which more degrees of freedom
    would make it where the examples vary little; what holds on more test sets cannot be surer.

    Args:
        differences: ``(n, M)``, n and M at least 2.
        arm: Name of the arm.

    Raises:
        AblationsError: If there are fewer than 2 seeds or 2 examples.
    """
    n, m = differences.shape
    if n < 2 or m < 2:
        raise AblationsError(f"an interval over seeds and examples needs 2 of each, not {n} and {m}")
    mean = float(differences.mean())
    by_seed, by_example = differences.mean(axis=1), differences.mean(axis=0)
    seeds = m * float(((by_seed - mean) ** 2).sum()) / (n - 1)
    examples = n * float(((by_example - mean) ** 2).sum()) / (m - 1)
    residual = float(((differences - by_seed[:, None] - by_example + mean) ** 2).sum()) / ((n - 1) * (m - 1))
    square, df = seeds + examples - residual, float(n - 1)
    if square > seeds:
        df = square**2 / (seeds**2 / (n - 1) + examples**2 / (m - 1) + residual**2 / ((n - 1) * (m - 1)))
    square = max(square, seeds)
    return _interval(arm, (n, m), mean, (square / (n * m), seeds / (n * m)), df)


def bootstrap_examples(
    arm_counts: Floats,
    baseline_counts: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> ExampleInterval:
    """The same for a metric that is no mean over examples, but a function of counts summed over them (F1 of a corpus).

    SE^2 = s^2 / n + the bootstrap variance over examples of the difference of the seeds' means: conservative, since the
    first term holds some of the examples' variance already. Examples are drawn once for all seeds and both arms.

    Args:
        arm_counts: Counts per seed and example ``(n, M, counts)``.
        baseline_counts: The same of the baseline, the same seeds and examples.
        statistic: The metric of summed counts ``(..., counts) -> (...)``.
        rng: Of the resampling.
        resamples: How many.

    Returns:
        The interval, without the arm's name.
    """
    n, m, _ = arm_counts.shape
    by_seed = statistic(arm_counts.sum(axis=1)) - statistic(baseline_counts.sum(axis=1))
    drawn = np.empty(resamples)
    for start in range(0, resamples, 100):  # 100 x 5,000 weights are 4 MB
        size = min(100, resamples - start)
        weights = rng.multinomial(m, np.full(m, 1 / m), size=size).astype(float)
        sums = [np.einsum("bm,nmc->bnc", weights, counts, optimize=True) for counts in (arm_counts, baseline_counts)]
        drawn[start : start + size] = (statistic(sums[0]) - statistic(sums[1])).mean(axis=1)
    seeds, examples = float(by_seed.var(ddof=1)) / n, float(drawn.var(ddof=1))
    df = (seeds + examples) ** 2 / (seeds**2 / (n - 1) + examples**2 / (m - 1)) if seeds + examples else float(n - 1)
    return _interval("", (n, m), float(by_seed.mean()), (seeds + examples, seeds), df)


def resampled_splits(differences: Floats, test_share: float) -> tuple[float, float]:
    """Corrected t and p where every seed has a train/test split of its own, so that training sets overlap.

    se = s sqrt(1/n + n_test / n_train). Not for a fixed split, where it would be too wide.

    Source: Nadeau & Bengio 2003, eq. 9.

    Args:
        differences: One per split ``(n,)``.
        test_share: n_test / n_train.
    """
    n = differences.size
    se = differences.std(ddof=1) * np.sqrt(1 / n + test_share)
    t = float(differences.mean() / se)
    return t, float(2 * stats.t.sf(abs(t), n - 1))


def expected_best(values: Floats, n: int) -> float:
    """Expected best (largest) of n tuning runs, from N >= n runs: sum of v_(i) C(i-1, n-1) / C(N, n), unbiased.

    Source: Tang et al. 2020. Dodge et al. 2019 give the form for drawing with replacement, which is biased.

    Raises:
        AblationsError: If there are fewer than n runs.
    """
    if not 1 <= n <= values.size:
        raise AblationsError(f"the expected best of {n} runs needs at least {n} runs; there are {values.size}")
    rank = np.arange(n, values.size + 1)  # C(i-1, n-1) = 0 below n
    chance = gammaln(rank) - gammaln(n) - gammaln(rank - n + 1)  # logarithms: C(1999, 899) overflows
    weight = np.exp(chance - chance.max())
    return float((np.sort(values)[n - 1 :] * weight).sum() / weight.sum())


def _half(quantile: float, se: float, se_seeds: float, df: float, n: int) -> float:
    """Half width of an interval, at least that of the seeds alone."""
    return max(float(stats.t.ppf(quantile, df)) * se, float(stats.t.ppf(quantile, n - 1)) * se_seeds)


def _interval(
    arm: str, shape: tuple[int, int], mean: float, squares: tuple[float, float], df: float
) -> ExampleInterval:
    se, se_seeds = (float(np.sqrt(square)) for square in squares)
    half = _half(0.975, se, se_seeds, df, shape[0])
    return ExampleInterval(arm, *shape, mean, se, se_seeds, df, mean - half, mean + half)


def _cube(
    frame: pd.DataFrame, metric: str, columns: Columns, checkpoint: Checkpoint | None
) -> tuple[Floats, list[str]]:
    """Scores ``(arms, seeds, examples)``, NaN where there is none, and the names of the arms.

    Raises:
        AblationsError: If a column is missing or a run has an example twice.
    """
    if columns.example not in frame:
        raise AblationsError(f"the table of examples: {one_of('column', columns.example, frame.columns)}")
    frame, value = check_columns(frame, metric, columns)
    rows = measured(frame, metric, value, columns, checkpoint)
    if columns.status in rows:
        rows = rows[rows[columns.status].astype(str).str.lower().isin(COMPLETED_WORDS)]
    keys = [columns.variant, columns.seed, columns.example]
    codes, labels = zip(*(pd.factorize(rows[key]) for key in keys), strict=True)
    shape = tuple(len(label) for label in labels)
    if len(labels[2]) < 2:
        raise AblationsError(f"the table of examples has {len(labels[2])} examples of {metric!r}; 2 are needed")
    cube = np.full(shape, np.nan)
    cube.ravel()[np.ravel_multi_index(codes, shape)] = rows[value].to_numpy(dtype=float)
    return cube, [str(arm) for arm in labels[0]]
