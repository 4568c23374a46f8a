"""The wording of what stands behind a verdict: other test sets, other tests, the choice of the best, the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablations.analysis.examples import ExampleInterval
from ablations.analysis.importance import Share
from ablations.analysis.results import POOLED_HIDDEN, Comparison
from ablations.analysis.selection import Pick
from ablations.analysis.signflip import floor, least_seeds
from ablations.reporting.prose import number, p_value, rounded_up

NEGLIGIBLE = ("equivalent", "helps_negligible", "hurts_negligible")
CLAIMS = ("helps", "hurts", *NEGLIGIBLE)


def holds(comparison: Comparison, wider: ExampleInterval) -> bool:
    """Whether what the verdict claims on this test set is also what the interval over seeds and examples shows.

    A difference must lie on one side of zero, a negligible one within the smallest effect of interest.
    """
    c = comparison
    one_side = wider.low > 0 or wider.high < 0
    small = c.smallest_effect is not None and wider.bound < c.smallest_effect
    if c.verdict in ("helps", "hurts"):
        return one_side
    return small and (one_side or c.verdict == "equivalent")


def wider_sentence(
    comparison: Comparison,
    wider: ExampleInterval,
    *,
    decimals: int,
    metric: str,
    unit: str = "",
    label: str | None = None,
) -> str:
    """Words what is left of an arm's claim on other test sets; empty where all of it is.

    Args:
        comparison: The arm on this test set.
        wider: Its interval over seeds and examples.
        decimals: Of the figures.
        metric: Name of the metric for readers.
        unit: Its unit.
        label: Name of the arm for readers; by default its own.
    """
    c = comparison
    if c.verdict not in CLAIMS or holds(c, wider):
        return ""
    after = f" {unit}" if unit else ""
    low, high = (number(each, decimals, sign=True) + after for each in (wider.low, wider.high))
    figures = f"95 % interval {low} to {high}; {wider.n} seeds, {wider.examples} examples"
    here = {"helps": "helps", "hurts": "hurts"}.get(c.verdict, f"changes {metric} negligibly")
    start = f"{label or c.arm} {here} on this test set; on test sets like this one"
    if c.verdict in NEGLIGIBLE and wider.bound >= (c.smallest_effect or 0.0):
        bound = rounded_up(wider.bound, decimals) + after
        return (
            f"{start} only a change larger than {bound} is ruled out, and {c.smallest_effect:g}{after} is of interest "
            f"({figures})."
        )
    return f"{start} {metric} may as well not change ({figures})."


def summary_sentence(comparisons: Sequence[Comparison], wider: Mapping[str, ExampleInterval]) -> str:
    """How many claims the intervals over seeds and examples bear out."""
    claims = [each for each in comparisons if each.verdict in CLAIMS and each.arm in wider]
    if not claims:
        return "No arm with scores by example has a claim that other test sets could bear out or not."
    kept = sum(holds(each, wider[each.arm]) for each in claims)
    arms = "arm that has" if len(claims) == 1 else "arms that have"
    return f"Of {len(claims)} {arms} a claim on this test set, {kept} would keep it on test sets like this one."


def pick_sentence(found: Pick, *, decimals: int, metric: str, unit: str = "", label: str | None = None) -> str:
    """Words what picking the best arm after the runs promises; ``label`` is the arm's name for readers."""
    after = f" {unit}" if unit else ""
    seen, held = (number(each, decimals, sign=True) + after for each in (found.difference, found.held_out))
    name = label or found.arm
    return (
        f"Optimistic (best of {found.candidates}): picked as the best of {found.candidates} arms, {name} changes "
        f"{metric} by {seen} on the {found.n} seeds that it was picked on. Picked on all seeds but one and read on "
        f"that one, the pick changes it by {held} (mean of {found.n} readings; the same arm in {found.same} of them). "
        "What a chosen arm is worth, runs of it on fresh seeds tell."
    )


def pooled_sentence(comparisons: Sequence[Comparison]) -> str:
    """Why arms have no pooled-variance p; empty where none lacks it."""
    hidden = [each for each in comparisons if each.pooled_hidden]
    reasons = dict.fromkeys(POOLED_HIDDEN[str(each.pooled_hidden)] for each in hidden)
    if not reasons:
        return ""
    whose = "" if len(hidden) == len([each for each in comparisons if each.p is not None]) else " for some arms"
    return f"The pooled-variance column is empty{whose}: {'; '.join(reasons)}."


def floor_sentence(n: int, first_step: int, alpha: float) -> str:
    """What the sign-flip test cannot say with so few seeds; empty where it can.

    Args:
        n: Pairs.
        first_step: What alpha is divided by for the smallest p of a family.
        alpha: Level of the family.
    """
    needed = least_seeds(first_step, alpha)
    if n >= needed:
        return ""
    at = "" if first_step == 1 else f" at the first step of Holm's correction for {first_step} arms"
    return (
        f"With {n} seeds the sign-flip test cannot go below p = {floor(n):.3g}; to be significant{at} takes {needed} "
        "seeds."
    )


def families_words(sizes: Mapping[str, int]) -> str:
    """What a correction counts: the arms of the one family, or of each."""
    if len(sizes) < 2:
        return _arms(next(iter(sizes.values()), 0))
    *most, last = (f"{name} ({_arms(size)})" for name, size in sizes.items())
    return f"the arms of each family: {', '.join(most)} and {last}"


def _arms(n: int) -> str:
    return {0: "no arms", 1: "1 arm"}.get(n, f"{n} arms")


def stable_sentence(arms: int, runs: int, upper: float) -> str:
    """What the absence of failures allows."""
    who = "The other arm" if arms == 1 else f"The other {arms} arms"
    return f"{who} had no diverged run: 0 of {runs} still allows a rate of up to {100 * upper:.0f} %."


def power_sentence(
    seeds: int,
    first_step: int,
    effect: float,
    *,
    power: float,
    sd: float | None,
    decimals: int,
    unit: str = "",
    family: str = "",
) -> str:
    """What a number of seeds can find.

    Args:
        seeds: Seeds of each arm.
        first_step: What alpha is divided by for the smallest p of the family.
        effect: Detectable difference / sd of the differences.
        power: With which it is found.
        sd: Median sd of the differences seen; None before the runs.
        decimals: Of the difference.
        unit: Of the metric.
        family: Name of the family, where the study has several.
    """
    arms = "" if first_step == 1 else f" and {first_step} arms at the first step of Holm's correction"
    text = (
        f"Design{f' of the family {family}' if family else ''}: with {seeds} seeds{arms}, a paired t-test finds a true "
        f"difference of {effect:.2f} times the sd of the differences with {100 * power:.3g} % power"
    )
    if sd is None:
        return f"{text}."
    after = f" {unit}" if unit else ""
    return f"{text}: {number(effect * sd, decimals)}{after} at the median sd seen, {number(sd, decimals)}{after}."


def share_sentence(found: Share, runs: int) -> str:
    """Words a factor's or an interaction's share of the variance over a grid."""
    name, f = " with ".join(found.factors), f"F({found.df}, {found.df_error}) = {found.f:.1f}"
    what = f"{name} accounts for" if len(found.factors) == 1 else f"The interaction of {name} accounts for"
    share = max(0.0, found.omega2)
    return (
        f"{what} {100 * share:.0f} % of the variance of {runs} runs (omega squared; partial eta squared "
        f"{number(found.partial_eta2, 2)}; {f}, {p_value(found.p)})."
    )
