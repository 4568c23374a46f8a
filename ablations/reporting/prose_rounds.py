"""The wording of looks: when an arm was settled, and at which level."""

from __future__ import annotations

from ablations.analysis.results import Comparison
from ablations.analysis.rounds import is_settled


def look_sentence(comparison: Comparison) -> str:
    """At which of the declared looks an arm was settled or left open; empty where there was but one."""
    c = comparison
    if c.look is None or c.looks < 2 or c.look > c.looks:
        return ""
    look, level = f"look {c.look} (of {c.looks}", f"each at level {level_shown(c):g})"
    if is_settled(c):
        if c.verdict == "not_assessed":
            return f"It has taken no more seeds since {look}): without a result, more of them tell nothing."
        return f"Settled at {look}, {level}."
    if c.look == c.looks:
        return f"Still open after the last look (of {c.looks}, {level}."
    return f"Open at {look}, {level}."


def level_shown(comparison: Comparison) -> float:
    """The level of a comparison as sentences and tables print it."""
    return float(f"{comparison.alpha:.3g}")
