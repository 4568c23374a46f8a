"""What adaptive seeds claim, find and save, by simulation: ``python benchmarks/adaptive_seeds.py --studies 2000``.

Every study has a baseline and ten arms that share the seeds' effects; a run's own noise has an sd of 1, and 1 is the
smallest effect of interest. "null": no arm differs. "mixed": four do not, two differ by 0.5, two by 1.5, one by 3 and
one by 6. "large": four do not, six differ by 3 to 8. The same values are judged with 12 seeds for every arm, with 5,
and in rounds of several kinds.

claims: share of studies with a false claim: that an arm without an effect differs, that one differs in the other
direction, or that a difference of the smallest effect of interest or more is smaller. found: share of the arms with an
effect that are said to differ. equiv.: share of the arms without one that are said to be equivalent. cover: share of
95 % intervals, each at the look that settled its arm, that hold the true difference. runs: as a share of those that
12 seeds for every arm take.

With 2,000 studies and normal noise (standard error of claims: 0.005 at most)::

    arms              rounds   claims    found   equiv.    cover     runs
    null                  12    0.048        –    0.492    0.947    1.000
    null                   5    0.045        –    0.088    0.953    0.417
    null              5/9/12    0.041        –    0.209    0.945    0.973
    null                5/12    0.046        –    0.287    0.944    0.980
    null         5/7/9/11/12    0.029        –    0.136    0.945    0.977
    mixed                 12    0.030    0.563    0.490    0.946    1.000
    mixed                  5    0.038    0.270    0.090    0.954    0.417
    mixed             5/9/12    0.029    0.498    0.206    0.942    0.896
    mixed               5/12    0.030    0.517    0.288    0.942    0.919
    mixed        5/7/9/11/12    0.017    0.471    0.137    0.943    0.894
    large                 12    0.043    1.000    0.494    0.949    1.000
    large                  5    0.044    0.819    0.090    0.950    0.417
    large             5/9/12    0.038    1.000    0.213    0.946    0.742
    large               5/12    0.041    1.000    0.291    0.946    0.769
    large        5/7/9/11/12    0.037    0.999    0.140    0.947    0.731

With heavy tails claims are fewer still (0.015 to 0.033) and intervals cover 0.950 to 0.962. More than three looks
save next to nothing more, and each costs power: hence the default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablations.analysis.compare import Rules
from ablations.analysis.paired import Floats
from ablations.analysis.results import Comparison
from ablations.analysis.rounds import take_looks
from ablations.analysis.table import OK, RunTable

PLANS = ((12,), (5,), (5, 9, 12), (5, 12), (5, 7, 9, 11, 12))
EFFECTS = {
    "null": (0.0,) * 10,
    "mixed": (0.0, 0.0, 0.0, 0.0, 0.5, -0.5, 1.5, -1.5, 3.0, -6.0),
    "large": (0.0, 0.0, 0.0, 0.0, 3.0, -3.0, 4.0, -5.0, 6.0, -8.0),
}
SMALLEST = 1.0
DIFFERS = ("helps", "hurts", "helps_negligible", "hurts_negligible")
SMALL = ("equivalent", "helps_negligible", "hurts_negligible")


@dataclass
class Tally:
    """What a simulation found; all but ``studies`` and ``arms`` are counts over these."""

    studies: int = 0
    arms: int = 0
    false_claims: int = 0
    with_effect: int = 0
    found: int = 0
    without: int = 0
    equivalent: int = 0
    intervals: int = 0
    covered: int = 0
    runs: int = 0

    def add(self, comparisons: tuple[Comparison, ...], effects: tuple[float, ...], runs: int) -> None:
        """Counts one study."""
        false = False
        for comparison, effect in zip(comparisons, effects, strict=True):
            false |= comparison.verdict in DIFFERS and (effect == 0 or (comparison.improvement or 0.0) * effect < 0)
            false |= comparison.verdict in SMALL and abs(effect) >= SMALLEST
            self.with_effect += effect != 0
            self.found += effect != 0 and comparison.verdict in DIFFERS
            self.without += effect == 0
            self.equivalent += effect == 0 and comparison.verdict == "equivalent"
            if comparison.ci_low is not None and comparison.ci_high is not None:
                self.intervals += 1
                self.covered += comparison.ci_low <= effect <= comparison.ci_high
        self.studies += 1
        self.arms += len(effects)
        self.false_claims += false
        self.runs += runs

    def share(self, part: str, whole: str) -> float:
        """One count over another."""
        return getattr(self, part) / max(1, getattr(self, whole))


def simulate(
    plans: Sequence[tuple[int, ...]],
    studies: int,
    rng: np.random.Generator,
    effects: tuple[float, ...],
    *,
    heavy: bool = False,
    smallest: float | None = SMALLEST,
) -> list[Tally]:
    """Judges the same studies by each of several plans.

    Args:
        plans: Seeds of an open arm after each round; a fixed number of seeds is one round.
        studies: How many.
        rng: Of all randomness.
        effects: The true difference of each arm.
        heavy: Whether the noise has heavy tails (t with 3 degrees of freedom) instead of a normal one's.
        smallest: Smallest effect of interest that the studies declare.
    """
    seeds = max(rounds[-1] for rounds in plans)
    tallies = [Tally() for _ in plans]
    for _ in range(studies):
        shape = (1 + len(effects), seeds)
        noise = rng.standard_t(3, size=shape) / np.sqrt(3) if heavy else rng.normal(size=shape)
        table = _table(noise + rng.normal(size=seeds) + np.array([0.0, *effects])[:, None])
        for rounds, tally in zip(plans, tallies, strict=True):
            rules = Rules(smallest_effect=smallest, looks=len(rounds))
            course = take_looks(table, table.planned, rounds, "score", rules)
            taken = [rounds[at] * len(look.settled) for at, look in enumerate(course.looks)]
            last = rounds[len(course.looks) - 1]  # the baseline's, and those of what is open
            tally.add(course.comparisons, effects, sum(taken) + last * (1 + len(course.looks[-1].open)))
    return tallies


def _table(values: Floats) -> RunTable:
    arms = ("baseline", *(f"arm {row}" for row in range(1, len(values))))
    outcomes = np.full(values.shape, OK, dtype=np.int8)
    return RunTable(arms, tuple(range(values.shape[1])), values, outcomes, np.ones(values.shape, dtype=bool))


def main() -> None:
    """Prints the shares for several plans of rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'arms':8}{'noise':8}{'rounds':>16}{'claims':>9}{'found':>9}{'equiv.':>9}{'cover':>9}{'runs':>9}")
    for name, effects in EFFECTS.items():
        for noise in ("normal", "t(3)"):
            tallies = simulate(PLANS, options.studies, rng, effects, heavy=noise != "normal")
            most = tallies[0].runs
            for rounds, tally in zip(PLANS, tallies, strict=True):
                print(
                    f"{name:8}{noise:8}{'/'.join(map(str, rounds)):>16}"
                    f"{tally.share('false_claims', 'studies'):9.3f}{tally.share('found', 'with_effect'):9.3f}"
                    f"{tally.share('equivalent', 'without'):9.3f}{tally.share('covered', 'intervals'):9.3f}"
                    f"{tally.runs / most:9.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
