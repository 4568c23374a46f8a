"""How a verdict looks everywhere: a sign that needs no colour, a colour that needs no sign; its words are prose's."""

from __future__ import annotations

from dataclasses import dataclass

from ablations.analysis.results import Comparison, Conclusion
from ablations.reporting.prose import verdict_words


@dataclass(frozen=True)
class Look:
    """Appearance of a verdict.

    Attributes:
        sign: One character that the fonts of the PDF and of the figures both have.
        colour: good, bad, same or open.
        heading: Over the sentences of the arms that have it.
        marker: matplotlib's marker.
        filled: Whether the marker is filled.
    """

    sign: str
    colour: str
    heading: str
    marker: str
    filled: bool


LOOKS: dict[str, Look] = {
    "helps": Look("▲", "good", "Better than the baseline", "^", True),
    "hurts": Look("▼", "bad", "Worse than the baseline", "v", True),
    "helps_negligible": Look("△", "same", "Better, but by less than what is of interest", "^", False),
    "hurts_negligible": Look("▽", "same", "Worse, but by less than what is of interest", "v", False),
    "equivalent": Look("≈", "same", "Equivalent to the baseline", "s", True),
    "inconclusive": Look("?", "open", "No detectable effect", "o", False),
    "unstable": Look("!", "bad", "Unstable", "D", False),
    "all_failed": Look("×", "bad", "Failed", "X", True),
    "identical": Look("=", "open", "Identical to the baseline", "s", False),
    "degenerate": Look("≠", "open", "The same difference on every seed", "s", False),
    "not_assessed": Look("·", "open", "Not assessed", "o", False),
}
"""In the order in which a report shows them."""


def look_of(comparison: Comparison) -> Look:
    """Appearance of a comparison's verdict."""
    return LOOKS[comparison.verdict]


def verdict_cell(conclusion: Conclusion) -> str:
    """Sign and words of a verdict, Markdown."""
    return f"{LOOKS[conclusion.verdict].sign}\u00a0{verdict_words(conclusion)}"
