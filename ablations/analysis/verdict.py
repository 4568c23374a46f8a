"""The decision: one verdict of a closed list, the first that fits, and the flags it carries."""

from __future__ import annotations

from ablations.analysis.results import FLAGS, Comparison
from ablations.analysis.signflip import least_seeds

LEAST_SEEDS = 3  # a paired t-test on two pairs has a quantile of 12.7
STANDARD_SEEDS = 5  # 3 or 4 find only effects of several standard deviations


def decide(comparison: Comparison, *, min_seeds: int = LEAST_SEEDS) -> str:
    """The verdict on a comparison whose numbers are all there.

    Args:
        comparison: The numbers; its own verdict is ignored.
        min_seeds: Least number of pairs to assess, never below 3.
    """
    c = comparison
    pairs = max(c.n, c.itt_n)
    if pairs < max(min_seeds, LEAST_SEEDS):
        return "not_assessed"
    if not c.n_diverged and not c.baseline_diverged:
        if c.p is None:
            return "identical" if abs(c.difference or 0.0) <= _rounding(c) else "degenerate"
    elif c.n_ok == 0:
        return "all_failed"
    else:
        return "unstable"
    return _tested(c)


def _tested(c: Comparison) -> str:
    """The verdict on an arm that has a p."""
    differs = c.p_adjusted is not None and c.p_adjusted <= c.alpha
    small = c.p_tost_adjusted is not None and c.p_tost_adjusted <= c.alpha
    if differs:
        word = "helps" if (c.improvement or 0.0) > 0 else "hurts"
        return f"{word}_negligible" if small else word
    return "equivalent" if small else "inconclusive"


def _rounding(c: Comparison) -> float:
    """Size below which a difference of constant pairs is rounding."""
    return 1e-12 * max(abs(c.arm_mean or 0.0), abs(c.baseline_mean or 0.0))


def raise_flags(
    comparison: Comparison, *, provisional: bool = False, extra_look: bool = False, standard_seeds: int = STANDARD_SEEDS
) -> tuple[str, ...]:
    """The flags of a comparison that has its verdict, in the order of FLAGS."""
    c = comparison
    tested = (
        c.p is not None and c.p_adjusted is not None and c.verdict not in ("not_assessed", "unstable", "all_failed")
    )
    raised = {
        "material": c.verdict in ("helps", "hurts") and is_material(c),
        "suggestive": tested and not _at_most(c.p_adjusted, c.alpha) and _at_most(c.p, c.alpha),
        "tentative": c.verdict != "not_assessed" and max(c.n, c.itt_n) < standard_seeds,
        "depends_on_normality": tested
        and c.p_signflip_adjusted is not None
        and c.n >= least_seeds(c.first_step, c.alpha)
        and _at_most(c.p_signflip_adjusted, c.alpha) != _at_most(c.p_adjusted, c.alpha),
        "pooled_disagrees": tested
        and c.p_pooled is not None
        and _at_most(c.p_pooled, c.alpha) != _at_most(c.p_adjusted, c.alpha),
        "provisional_effect": provisional and c.smallest_effect is not None,
        "optimistic_look": extra_look,
        "failure_value_missing": bool(c.n_diverged or c.baseline_diverged) and c.failure_value is None,
        "not_resolvable": c.verdict == "inconclusive" and c.smallest_effect is not None and c.more_seeds is None,
    }
    return tuple(flag for flag in FLAGS if raised[flag])


def is_material(comparison: Comparison) -> bool:
    """Whether the whole 95 % interval lies beyond the smallest effect of interest."""
    c = comparison
    if c.smallest_effect is None or c.ci_low is None or c.ci_high is None:
        return False
    return c.ci_low >= c.smallest_effect or c.ci_high <= -c.smallest_effect


def _at_most(p: float | None, alpha: float) -> bool:
    return p is not None and p <= alpha
