"""The wording of what lies behind the scores: test examples, learning curves, trouble while training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablations.analysis.curves import Race
from ablations.analysis.diagnosis import Overfitting, Spikes
from ablations.analysis.examples import ExampleInterval
from ablations.reporting.prose import number, p_value


def examples_sentence(found: ExampleInterval, *, metric: str, unit: str = "") -> str:
    """Words an interval over seeds and test examples; no test, so no claim."""
    half = (found.high - found.low) / 2
    decimals = 3 if half <= 0 else min(8, max(0, 1 - math.floor(math.log10(half))))
    low, value, high = (number(x, decimals, sign=True) for x in (found.low, found.difference, found.high))
    figure = f"{value} {unit}" if unit else value
    return (
        f"On test sets like this one, over new examples as well as new seeds, {found.arm} changes {metric} by {figure} "
        f"(95 % interval {low} to {high}; two-way random effects, n = {found.n} seeds, {found.examples} examples)."
    )


def race_sentence(found: Race, *, target: str, unit: str, alpha: float = 0.05) -> str:
    """Words the time to a target, arm against baseline.

    Args:
        found: The numbers.
        target: The target in words, such as "F1 0.20".
        unit: What time is counted in, such as "steps".
        alpha: Level of the decision.
    """
    reached = (
        f"{found.arm} reaches {target} at {found.reached_arm} of {found.n} seeds{_median(found.median_arm, unit)}, the "
        f"baseline at {found.reached_baseline} of {found.n}{_median(found.median_baseline, unit)}"
    )
    if found.p is None:
        return f"{reached}; not a test. Exploratory."
    said = "the times differ" if found.p <= alpha else "no detectable difference in time"
    test = f"sign-flip test on ranks, a target not reached ranking last, n = {found.n} seeds, {p_value(found.p, alpha)}"
    return f"{reached}: {said} ({test}). Exploratory."


def overfitting_sentence(arm: str, runs: Sequence[Overfitting], *, metric: str) -> str:
    """Words how many runs of an arm overfitted, where their losses were least, and whether the metric fell with it."""
    over = [run for run in runs if run.overfitted]
    if not over:
        return f"{arm}: none of {len(runs)} runs overfitted (validation loss 5 % or more above its minimum at the end)."
    steps = sorted(run.best_x for run in over)
    span = f"step {steps[0]:g}" if steps[0] == steps[-1] else f"steps {steps[0]:g} to {steps[-1]:g}"
    worst = max(run.generalisation_loss for run in over)
    text = (
        f"{arm}: {len(over)} of {len(runs)} runs overfitted: their validation loss ended up to {worst:.0f} % above its "
        f"minimum, reached at {span}, while the training loss still fell."
    )
    drops = [run.metric_drop for run in over if run.metric_drop is not None]
    if not drops:
        return text
    if max(drops) == 0:
        return f"{text} {metric} did not fall with it."
    return f"{text} {metric} ended {number(max(drops), 3)} or less below its best."


def spikes_sentence(arm: str, runs: Sequence[Spikes]) -> str:
    """Words the spikes of an arm's training losses; empty where there is nothing to say."""
    spiking = [run for run in runs if run.spikes]
    diverged = sum(run.diverged for run in runs)
    parts = []
    if spiking:
        events = [spike for run in spiking for spike in run.spikes]
        lasting = sum(not spike.recovered for spike in events)
        count = "1 spike" if len(events) == 1 else f"{len(events)} spikes"
        highest = max(spike.height for spike in events)
        text = (
            f"{count} of the training loss in {len(spiking)} of {len(runs)} runs, up to {highest:.1f} times its level"
        )
        parts.append(f"{text}, {lasting} of them not recovered from" if lasting else text)
    if diverged:
        parts.append(f"{diverged} of {len(runs)} runs ended above where they started, or not finite")
    return f"{arm}: {'; '.join(parts)}." if parts else ""


def _median(time: float | None, unit: str) -> str:
    return "" if time is None else f" (median {time:.4g} {unit})"
