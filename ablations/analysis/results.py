"""What an analysis returns: one Comparison per arm and metric, one Conclusion per arm."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Seed = int | str
Direction = Literal["max", "min"]
Expectation = Literal["better", "worse", "same"]
Outcome = Literal["confirmed", "refuted", "undecided"]

VERDICTS: dict[str, str] = {
    "not_assessed": "fewer paired seeds than the least a test needs",
    "identical": "the same values as the baseline on every seed",
    "degenerate": "the same non-zero difference on every seed",
    "all_failed": "no run of the arm finished",
    "unstable": "a run of the arm or of the baseline diverged",
    "helps_negligible": "better than the baseline, by less than the smallest effect of interest",
    "hurts_negligible": "worse than the baseline, by less than the smallest effect of interest",
    "helps": "better than the baseline",
    "hurts": "worse than the baseline",
    "equivalent": "any difference is smaller than the smallest effect of interest",
    "inconclusive": "no detectable effect",
}
"""The closed list of verdicts, in the order in which they are tried; the first that fits is given."""

FLAGS: dict[str, str] = {
    "material": "the whole 95 % interval lies beyond the smallest effect of interest",
    "suggestive": "significant alone, not after the correction for the family",
    "tentative": "fewer seeds than is standard (5): 3 or 4",
    "depends_on_normality": "the exact sign-flip test does not agree with the t-test",
    "pooled_disagrees": "the pooled-variance analysis does not agree",
    "provisional_effect": "the smallest effect of interest was derived from the data",
    "optimistic_look": "more looks at the data than were declared",
    "failure_value_missing": "runs diverged and no failure value was declared",
    "not_resolvable": "more than 200 further seeds would be needed",
}
"""The closed list of flags: what a verdict has to say about itself."""

POOLED_HIDDEN: dict[str, str] = {
    "one_arm": "the family has one tested arm, which has nothing to share a variance with",
    "few_seeds": "fewer than 3 seeds are shared by all tested arms",
    "no_variance": "the runs do not vary",
    "noisy_arm": "the residual sd of one arm is over twice that of the median arm",
    "unequal_spread": "the residual variances of the arms differ (Brown-Forsythe p < 0.1)",
}
"""Why there is no pooled-variance p; the first that holds."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against the baseline on one metric, paired by seed.

    Differences are ``arm - baseline`` in the metric's unit, so their sign does not depend on the direction of the
    metric; ``better``, ``improvement`` and the verdict do. ``None`` stands for whatever is not defined, and p is None
    whenever no test was made.

    Attributes:
        arm: Name of the arm.
        baseline: Name of the baseline.
        metric: Name of the metric.
        direction: "max" if more is better, else "min".
        alpha: Level of each decision (the declared alpha divided by the declared looks).
        family: Family of tests the arm belongs to.
        family_size: Number of planned arms in the family; the correction counts all of them.
        correction: Correction over the family: "holm" or "none".
        power: Power that ``more_seeds`` is counted for.
        look: Which of the declared looks at the data this is, from 1, where that is known.
        looks: Number of declared looks.
        seeds: Seeds at which arm and baseline both completed, in the declared order.
        unpaired_arm: Seeds at which the arm completed and its run is not used: the baseline's is lost, or diverged
            without a failure value.
        unpaired_baseline: The same of the baseline's runs.
        differences: ``arm - baseline`` for each of ``seeds``.
        n: Number of ``seeds``; mean, sd, t and intervals are over these.
        n_planned: Planned runs of the arm.
        n_ok: Runs of the arm that completed.
        n_diverged: Runs of the arm that diverged: an outcome, not missing data.
        n_lost: Runs of the arm that have no outcome (crashed, interrupted, still running, not started).
        baseline_ok: Runs of the baseline that completed.
        baseline_diverged: Runs of the baseline that diverged.
        baseline_lost: Runs of the baseline that have no outcome.
        arm_mean: Mean over the completed runs of the arm, paired or not.
        arm_sd: Their standard deviation (ddof 1).
        baseline_mean: Mean over the completed runs of the baseline, paired or not.
        baseline_sd: Their standard deviation (ddof 1).
        difference: Mean of ``differences``.
        sd_difference: Standard deviation of ``differences`` (ddof 1).
        se: Standard error of ``difference``.
        df: Degrees of freedom.
        t: Paired t statistic.
        ci_low: Lower end of the 95 % paired-t interval.
        ci_high: Upper end of the 95 % paired-t interval.
        ci90_low: Lower end of the 90 % paired-t interval.
        ci90_high: Upper end of the 90 % paired-t interval.
        p: Two-sided paired t-test; None where the t-test is not valid.
        p_adjusted: The p that entered the family (t, or sign-flip where runs diverged), corrected; None where the arm
            could not be tested.
        p_signflip: Sign-flip test; over all outcomes with the failure value where runs diverged.
        p_signflip_adjusted: The same, corrected over the family.
        p_tost: Two one-sided tests against ``smallest_effect``.
        p_tost_adjusted: The same after the declared correction of equivalence claims (by default none).
        p_pooled: Pooled-variance, Dunnett-style p; a sensitivity column; None where its assumptions fail.
        pooled_hidden: Why a tested arm has none, one of POOLED_HIDDEN; else None.
        smallest_effect: Smallest effect of interest, in the metric's unit.
        smallest_bound: delta*: the smallest bound on the size of the effect that the data rule out.
        g_z: Standardised mean difference of the pairs with Hedges' correction, signed like ``difference``.
        better: Number of the n seeds at which the arm is better.
        r: Correlation between baseline and arm over the seeds.
        more_seeds: Further seeds for the declared power at the sd seen; inconclusive arms only.
        more_seeds_safe: The same at the 80 % upper limit of the sd.
        band_low: Lower end of the 95 % prediction band of one run of the baseline; at one paired seed only.
        band_high: Upper end of that band.
        in_band: Whether the arm's one run lies in that band.
        welch_difference: Difference of the means where no seed is shared, for information.
        welch_low: Lower end of its 95 % Welch interval.
        welch_high: Upper end of its 95 % Welch interval.
        failure_value: Value that a diverged run counts as.
        failure_low: Lower 95 % Clopper-Pearson limit of the arm's share of diverged runs.
        failure_high: Upper limit of that share.
        p_mcnemar: Exact McNemar test of divergence, arm against baseline.
        itt_n: Pairs of outcomes, diverged runs included.
        itt_difference: Mean difference with the failure value in place of diverged runs.
        verdict: One of VERDICTS.
        flags: Those of FLAGS that hold, in that order.
    """

    arm: str
    baseline: str
    metric: str
    direction: Direction
    alpha: float
    family: str
    family_size: int
    correction: str = "holm"
    power: float = 0.8
    look: int | None = None
    looks: int = 1
    seeds: tuple[Seed, ...]
    unpaired_arm: tuple[Seed, ...]
    unpaired_baseline: tuple[Seed, ...]
    differences: tuple[float, ...]
    n: int
    n_planned: int
    n_ok: int
    n_diverged: int
    n_lost: int
    baseline_ok: int
    baseline_diverged: int
    baseline_lost: int
    arm_mean: float | None = None
    arm_sd: float | None = None
    baseline_mean: float | None = None
    baseline_sd: float | None = None
    difference: float | None = None
    sd_difference: float | None = None
    se: float | None = None
    df: int | None = None
    t: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci90_low: float | None = None
    ci90_high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_signflip: float | None = None
    p_signflip_adjusted: float | None = None
    p_tost: float | None = None
    p_tost_adjusted: float | None = None
    p_pooled: float | None = None
    pooled_hidden: str | None = None
    smallest_effect: float | None = None
    smallest_bound: float | None = None
    g_z: float | None = None
    better: int = 0
    r: float | None = None
    more_seeds: int | None = None
    more_seeds_safe: int | None = None
    band_low: float | None = None
    band_high: float | None = None
    in_band: bool | None = None
    welch_difference: float | None = None
    welch_low: float | None = None
    welch_high: float | None = None
    failure_value: float | None = None
    failure_low: float | None = None
    failure_high: float | None = None
    p_mcnemar: float | None = None
    itt_n: int = 0
    itt_difference: float | None = None
    verdict: str = "not_assessed"
    flags: tuple[str, ...] = ()

    @property
    def improvement(self) -> float | None:
        """The difference turned so that more is better."""
        if self.difference is None:
            return None
        return self.difference if self.direction == "max" else -self.difference

    @property
    def first_step(self) -> int:
        """What alpha is divided by for the smallest p of the family: its size under Holm's correction, else 1."""
        return 1 if self.correction == "none" else self.family_size

    def as_dict(self) -> dict[str, Any]:
        """Plain values under the attributes' names, fit for JSON (tuples become lists, non-finite numbers None)."""
        return {name: _plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What is concluded about one arm; ``reporting.prose`` words it.

    Attributes:
        arm: Name of the arm.
        verdict: Verdict of the comparison on the primary metric, one of VERDICTS.
        flags: Flags of that comparison.
        comparisons: The comparisons cited; the first is the one on the primary metric.
        expected: What the study declared before the runs, if anything.
        expectation: What became of it; None if nothing was declared, which makes the arm exploratory.
        best_of: Of the arm with the largest improvement, the number of arms it can be picked from, which makes its
            figure optimistic; 0 for all others.
    """

    arm: str
    verdict: str
    flags: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    expected: Expectation | None = None
    expectation: Outcome | None = None
    best_of: int = 0

    @property
    def primary(self) -> Comparison:
        """The comparison on the primary metric."""
        return self.comparisons[0]

    @property
    def exploratory(self) -> bool:
        """Whether nothing was declared about the arm before the runs."""
        return self.expected is None


def _plain(value: Any) -> Any:
    """Turns tuples into lists and non-finite numbers into None."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
