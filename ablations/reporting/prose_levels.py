"""The wording of trends over levels and of combinations. Exploratory by nature, so never a verdict."""

from __future__ import annotations

import math
from itertools import groupby

from ablations.analysis.additivity import Interaction
from ablations.analysis.levels import Estimate, Step, Trend
from ablations.reporting.prose import number, p_value

UNUSUAL_PARTS = 4  # from here on an interaction is usually inconclusive


def trend_sentence(trend: Trend, *, metric: str | None = None, unit: str = "", parameter: str | None = None) -> str:
    """Words a trend: its slope, its bend, and the levels between which a step can be seen.

    Args:
        trend: The numbers.
        metric: Name of the metric for readers.
        unit: Its unit.
        parameter: Name of the parameter for readers.
    """
    name, over = metric or trend.metric, parameter or trend.parameter
    parts = [_slope(trend, name, over, unit), _bend(trend), _steps(trend), "Exploratory."]
    return " ".join(part for part in parts if part)


def interaction_sentence(
    interaction: Interaction, *, metric: str = "the metric", alpha: float = 0.05, unit: str = ""
) -> str:
    """Words a combination against the sum of its parts.

    Args:
        interaction: The numbers.
        metric: Name of the metric for readers.
        alpha: Level of the decision.
        unit: Unit of the metric.
    """
    found, combined, summed = interaction.interaction, interaction.combined, interaction.summed
    k, name = len(interaction.parts), interaction.combination
    if found is None or combined is None or summed is None:
        return f"{name}: no seed has the baseline, all {k} parts and the combination."
    decimals = _decimals(found)
    figures = f"{_signed(combined.value, decimals, unit)} against {_signed(summed.value, decimals, unit)}"
    start = f"{name} changes {metric} by {figures} for the sum of its {k} parts"
    if found.p is None:
        how = f"n = {found.n} seeds" if found.n < 3 else f"the same at each of {found.n} seeds"
        return f"{start}: a gap of {_signed(found.value, decimals, unit)}, {how}; not a test. Exploratory."
    said = "an interaction" if found.p <= alpha else "no detectable interaction"
    test = f"paired t-test, n = {found.n} seeds, {_p(found, alpha)}"
    text = f"{start}: {said}, {_estimate(found, decimals, unit)}; {test})."
    if interaction.p_tost is not None and interaction.p_tost <= alpha:
        text += (
            f" It is smaller than the smallest interaction of interest, {interaction.smallest_effect:g} "
            f"(two one-sided paired t-tests, {p_value(interaction.p_tost, alpha)})."
        )
    text += (
        f" With {k} parts the sd of an interaction is {interaction.sd_factor:.2g} times that of a run, against 1.4 for "
        "a simple difference."
    )
    if k >= UNUSUAL_PARTS:
        text += " So many parts are usually inconclusive; arms that leave one part out of the combination say more."
    return f"{text}{_on_logits(interaction, alpha)} Exploratory."


def _slope(trend: Trend, metric: str, parameter: str, unit: str) -> str:
    slope = trend.slope
    page = ""
    if trend.p_page is not None:
        page = f"; Page's trend test, n = {trend.page_n}, {p_value(trend.p_page, trend.alpha)}"
    if slope is None:
        return f"No seed is complete at all levels of {parameter}, so {metric} has no slope{page}."
    per = "per doubling" if trend.scale == "log2" else f"per unit of {parameter}"
    decimals = _decimals(slope)
    if slope.p is None:
        figures = f"{_signed(slope.value, decimals, unit)} {per}, n = {slope.n} seeds"
        return f"{metric} over {parameter}: {figures}; not a test{page}."
    said = f"{metric} {'rises' if slope.value > 0 else 'falls'} with {parameter}"
    if slope.p > trend.alpha:
        said = f"No detectable trend of {metric} over {parameter}"
    figures = f"{_estimate(slope, decimals, unit, per)}; one-sample t-test on the seeds' slopes, n = {slope.n} seeds"
    return f"{said}: {figures}, {_p(slope, trend.alpha)}{page})."


def _bend(trend: Trend) -> str:
    bend = trend.curvature
    if bend is None or bend.p is None or bend.p > trend.alpha:
        return ""
    side = "upwards" if bend.value > 0 else "downwards"
    test = f"t-test on the seeds' quadratic coefficients, n = {bend.n} seeds, {_p(bend, trend.alpha)}"
    return f"It bends {side} ({test})."


def _steps(trend: Trend) -> str:
    """Neighbouring steps that can be seen, joined where they go the same way; then those that cannot."""
    if len(trend.steps) < 2:
        return ""
    said, unseen = [], []
    for side, group in groupby(trend.steps, key=lambda step: _side(step, trend.alpha)):
        steps = list(group)
        span = f"from {steps[0].lower:g} to {steps[-1].upper:g}"
        if side:
            said.append(f"{'rises' if side > 0 else 'falls'} {span}")
        else:
            unseen += [f"{step.lower:g} to {step.upper:g}" for step in steps]
    corrected = f"paired t-tests after Holm's correction for {len(trend.steps)} steps"
    if not said:
        return f"No single step between neighbouring levels is detectable ({corrected})."
    rest = f"; no detectable step {_listed(unseen)}" if unseen else ""
    return f"Step by step it {_listed(said)}{rest} ({corrected})."


def _side(step: Step, alpha: float) -> int:
    """1 for a rise that can be seen, -1 for a fall, else 0."""
    if step.difference is None or step.p_adjusted is None or step.p_adjusted > alpha:
        return 0
    return 1 if step.difference.value > 0 else -1


def _on_logits(interaction: Interaction, alpha: float) -> str:
    logit = interaction.logit
    if logit is None or logit.p is None:
        return ""
    said = "it remains" if logit.p <= alpha else "it is not detectable"
    return f" On the logit scale, where a ceiling does not count, {said} ({_p(logit, alpha)})."


def _estimate(found: Estimate, decimals: int, unit: str, per: str = "") -> str:
    """A figure and its interval, the bracket left open for the test."""
    low, high = (number(value or 0.0, decimals, sign=True) for value in (found.low, found.high))
    return f"{_signed(found.value, decimals, unit)}{f' {per}' if per else ''} (95 % interval {low} to {high}"


def _signed(value: float, decimals: int, unit: str) -> str:
    return number(value, decimals, sign=True) + (f" {unit}" if unit else "")


def _p(found: Estimate, alpha: float) -> str:
    return p_value(1.0 if found.p is None else found.p, alpha)


def _decimals(found: Estimate) -> int:
    """Two digits of the interval's half width, or three of the figure."""
    if found.low is not None and found.high is not None:
        return _digits((found.high - found.low) / 2, 2)
    return _digits(abs(found.value), 3)


def _digits(size: float, significant: int) -> int:
    return 3 if size == 0 else min(8, max(0, significant - 1 - math.floor(math.log10(size))))


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
