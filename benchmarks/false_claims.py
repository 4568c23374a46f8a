"""How often the analysis claims what is not so, by simulation: ``python benchmarks/false_claims.py --studies 5000``.

The tests simulate the numbers alone, many studies at once, and check that whole comparisons hold the same numbers.

Every study has a baseline and ten arms that share the seeds' effects. Without any true difference, the share of studies
with a claim must stay at or under alpha, and 95 % intervals must cover zero in 95 % of arms. With a true difference of
just the smallest effect of interest, the share of arms called equivalent must stay at or under alpha.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ablations.analysis.compare import Rules, compare_table
from ablations.analysis.family import adjust
from ablations.analysis.paired import Floats, paired_t
from ablations.analysis.table import DIVERGED, OK, RunTable

Noise = Callable[[np.random.Generator, tuple[int, int]], Floats]


@dataclass(frozen=True)
class Rates:
    """What a simulation found.

    Attributes:
        false_claims: Share of studies in which any arm differs, by p or by verdict.
        coverage: Share of 95 % intervals that hold the true difference.
        false_equivalence: Share of arms with a true difference of the smallest effect of interest that are called
            equivalent.
        pooled_claims: Share of studies in which the pooled column would claim a difference; NaN where not computed.
    """

    false_claims: float
    coverage: float
    false_equivalence: float
    pooled_claims: float


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(size=shape)


def heavy_tails(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def one_noisy_arm(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    noise = rng.normal(size=shape)
    noise[1] *= 4
    return noise


def simulate(
    seeds: int, studies: int, rng: np.random.Generator, *, noise: Noise = normal, arms: int = 10, diverging: float = 0.0
) -> Rates:
    """Compares ``studies`` studies without true differences, and a quarter as many with one of the smallest effect of
    interest.

    Args:
        seeds: Seeds of each study.
        studies: How many.
        rng: Of all randomness.
        noise: Noise of the runs ``(1 + arms, seeds)`` about the seeds' effects.
        arms: Arms of each study.
        diverging: Chance that a run diverges, in every arm alike; it then counts as -10.
    """
    rules = Rules(failure_value=-10.0)
    effect = 1.5
    claims, pooled, covered, intervals, equivalent, assessed = 0, 0, 0, 0, 0, 0
    for study in range(studies):
        values = noise(rng, (1 + arms, seeds)) + rng.normal(size=seeds)
        failed = rng.random(values.shape) < diverging
        found = compare_table(table_of(values, failed), "score", rules)
        claims += any(c.p_adjusted is not None and c.p_adjusted <= c.alpha for c in found)
        pooled += any(c.p_pooled is not None and c.p_pooled <= c.alpha for c in found)
        with_interval = [c for c in found if c.ci_low is not None and c.ci_high is not None and c.n > 2]
        intervals += len(with_interval)
        covered += sum(c.ci_low <= 0 <= c.ci_high for c in with_interval)  # type: ignore[operator]
        if study % 4:  # the costlier question has ten answers in every study
            continue
        values[1:] += effect
        found = compare_table(table_of(values, failed), "score", Rules(smallest_effect=effect, failure_value=-10.0))
        tested = [c for c in found if c.p_tost is not None]
        assessed += len(tested)
        equivalent += sum(c.verdict in ("equivalent", "helps_negligible", "hurts_negligible") for c in tested)
    return Rates(claims / studies, covered / max(1, intervals), equivalent / max(1, assessed), pooled / studies)


def simulate_numbers(seeds: int, studies: int, rng: np.random.Generator, *, arms: int = 10) -> Rates:
    """The same for normal noise, all studies at once: from the paired tests and their correction, without the rest.

    Args:
        seeds: Seeds of each study.
        studies: How many.
        rng: Of all randomness.
        arms: Arms of each study.
    """
    effect, alpha = 1.5, Rules().alpha
    values = rng.normal(size=(studies, 1 + arms, seeds)) + rng.normal(size=(studies, 1, seeds))
    differences = (values[:, 1:] - values[:, :1]).reshape(-1, seeds)
    families = np.repeat(np.arange(studies), arms)
    null = paired_t(differences, np.zeros(seeds), alpha=alpha)
    different = paired_t(differences + effect, np.zeros(seeds), smallest_effect=effect, alpha=alpha)
    claimed = (adjust(null.p, families) <= alpha).reshape(studies, arms).any(axis=1)
    covered = (null.low <= 0) & (null.high >= 0)
    return Rates(float(claimed.mean()), float(covered.mean()), float((different.p_tost <= alpha).mean()), float("nan"))


def table_of(values: Floats, failed: np.ndarray) -> RunTable:
    outcomes = np.where(failed, DIVERGED, OK).astype(np.int8)
    arms = ("baseline", *(f"arm {row}" for row in range(1, len(values))))
    return RunTable(
        arms, tuple(range(values.shape[1])), np.where(failed, np.nan, values), outcomes, np.ones(values.shape, bool)
    )


def main() -> None:
    """Prints the rates for each kind of noise and number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'noise':24}{'seeds':>6}{'claims':>9}{'cover':>9}{'equiv.':>9}{'pooled':>9}")
    for name, noise, diverging in (
        ("normal", normal, 0.0),
        ("heavy tails (t, df 3)", heavy_tails, 0.0),
        ("one arm with 4 x the sd", one_noisy_arm, 0.0),
        ("normal, 10 % diverge", normal, 0.1),
    ):
        for seeds in (3, 5, 10):
            rates = simulate(seeds, options.studies, rng, noise=noise, diverging=diverging)
            print(
                f"{name:24}{seeds:6}{rates.false_claims:9.3f}{rates.coverage:9.3f}{rates.false_equivalence:9.3f}"
                f"{rates.pooled_claims:9.3f}"
            )


if __name__ == "__main__":
    main()
