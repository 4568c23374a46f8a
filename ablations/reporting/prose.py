"""The wording of conclusions: a sentence or a paragraph an arm, from the numbers of its comparison and nothing else.

A sentence names the test and the number of seeds. An arm without a significant difference has "no detectable effect",
never "no effect".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ablations.analysis.results import Comparison, Conclusion
from ablations.analysis.signflip import floor
from ablations.reporting.prose_rounds import look_sentence

SCOPE = (
    "Intervals and tests cover the variation between seeds, on this test set; they do not speak about other test sets."
)
WIDER_SCOPE = (
    "Tests, and intervals unless they say otherwise, cover the variation between seeds, on this test set. Intervals "
    "over seeds and examples also speak about test sets like this one; they are no tests."
)
"""Instead of SCOPE, where scores per test example are there."""

ROUNDING = 1e-12  # a figure below it is zero

VERDICT_WORDS = {
    "not_assessed": "not assessed",
    "identical": "identical to the baseline",
    "degenerate": "same difference on every seed",
    "all_failed": "all runs failed",
    "unstable": "unstable",
    "helps_negligible": "helps, negligibly",
    "hurts_negligible": "hurts, negligibly",
    "helps": "helps",
    "hurts": "hurts",
    "equivalent": "equivalent",
    "inconclusive": "no detectable effect",
}
"""Each verdict in the words of a table."""


def sentence(conclusion: Conclusion, *, label: str | None = None, unit: str = "", metric: str | None = None) -> str:
    """Words a conclusion.

    Args:
        conclusion: What is concluded.
        label: Name of the arm for readers; by default its own name.
        unit: Unit of the metric, put after figures.
        metric: Name of the metric for readers; by default its own name.

    Returns:
        Plain text, one paragraph. Spaces inside figures are ordinary ones.
    """
    words = _words(conclusion, label, unit, metric)
    said = _CORE[conclusion.verdict](words)
    parts = [*said, *_remarks(words), picked(conclusion), expectation(conclusion)]
    return " ".join(part for part in parts if part)


def brief(conclusion: Conclusion, *, label: str | None = None, unit: str = "", metric: str | None = None) -> str:
    """Words a conclusion in one sentence: the verdict with its test, and the marks that change its weight.

    For arguments and text see :func:`sentence`.
    """
    words = _words(conclusion, label, unit, metric)
    verdict = _CORE[conclusion.verdict](words)[0].removesuffix(".")
    marks = [text for flag, text in _MARKS.items() if flag in conclusion.flags]
    if "material" in conclusion.flags and conclusion.verdict in ("helps", "hurts"):
        marks.insert(0, f"the whole interval beyond ±{words.exact(words.c.smallest_effect)}")
    if words.c.n_lost and words.c.n_ok + words.c.n_diverged:
        marks.append(f"{words.c.n_lost} of {words.c.n_planned} runs without a result")
    if conclusion.best_of:
        marks.append(f"optimistic, as the best of {conclusion.best_of} arms")
    expected = {"same": "the same"}.get(conclusion.expected or "", conclusion.expected)
    marks.append(f"expected {expected}: {conclusion.expectation}" if expected else "exploratory")
    return "; ".join([verdict, *marks]) + "."


_MARKS = {
    "suggestive": "suggestive, by its own p alone",
    "depends_on_normality": "the sign-flip test does not agree",
    "pooled_disagrees": "the pooled-variance analysis does not agree",
    "provisional_effect": "the smallest effect of interest was derived from the data",
    "optimistic_look": "p is optimistic for unplanned looks at the data",
}
"""The flags of a verdict that readers of one sentence must not miss."""


def _words(conclusion: Conclusion, label: str | None, unit: str, metric: str | None) -> _Words:
    c = conclusion.primary
    return _Words(c, label or c.arm, metric or c.metric, unit, decimals_of(c))


def verdict_words(conclusion: Conclusion) -> str:
    """The verdict in the few words of a table, with the flags that change its weight."""
    words = VERDICT_WORDS[conclusion.verdict]
    marks = [flag for flag in ("suggestive", "tentative") if flag in conclusion.flags]
    tested = conclusion.verdict not in ("not_assessed", "identical", "degenerate", "all_failed", "unstable")
    return f"{words} ({', '.join(marks)})" if marks and tested else words


def expectation(conclusion: Conclusion) -> str:
    """What became of a declared expectation, or that nothing was declared."""
    if conclusion.expected is None:
        return "Exploratory: no expectation was declared."
    declared = {"better": "better than", "worse": "worse than", "same": "the same as"}[conclusion.expected]
    return f"Expected {declared} the baseline: {conclusion.expectation}."


def picked(conclusion: Conclusion) -> str:
    """The label of the arm that looks best; empty for all others."""
    if not conclusion.best_of:
        return ""
    return f"As a pick after the runs its figure is optimistic (best of {conclusion.best_of} arms)."


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A figure with a true minus sign; a zero has none.

    With ``sign`` a figure that rounds to zero keeps its own: it says on which side of zero the end of an interval lies.

    >>> number(-0.0123, 3), number(0.0123, 3, sign=True), number(-0.0001, 3, sign=True), number(0.0, 3, sign=True)
    ('−0.012', '+0.012', '−0.000', '0.000')
    """
    text = f"{abs(value):.{decimals}f}"
    if not any(digit in "123456789" for digit in text) and (not sign or abs(value) < ROUNDING):
        return text
    return ("−" if value < 0 else "+" if sign else "") + text


def p_value(p: float, alpha: float = 0.05) -> str:
    """A p with its relation sign; enough digits that it falls on the same side of alpha as the full figure.

    >>> p_value(0.0002), p_value(0.0312), p_value(0.6), p_value(0.0502)
    ('p < 0.001', 'p = 0.031', 'p = 0.60', 'p = 0.0502')
    """
    if p < min(0.001, alpha):
        return f"p < {min(0.001, alpha):g}"
    decimals = 3 if p < 0.1 else 2
    while decimals < 12 and (round(p, decimals) <= alpha) != (p <= alpha):
        decimals += 1
    return f"p = {p:.{decimals}f}"


def rounded_up(value: float, decimals: int) -> str:
    """A bound, rounded up: what is ruled out must not be overstated.

    >>> rounded_up(0.01201, 3), rounded_up(0.012, 3)
    ('0.013', '0.012')
    """
    scale = 10.0**decimals
    return f"{math.ceil(value * scale - 1e-9) / scale:.{decimals}f}"


@dataclass(frozen=True)
class _Words:
    """A comparison with what is needed to print its figures."""

    c: Comparison
    arm: str
    metric: str
    unit: str
    decimals: int

    def plain(self, value: float | None) -> str:
        return number(value or 0.0, self.decimals) + self._unit

    def signed(self, value: float | None) -> str:
        return number(value or 0.0, self.decimals, sign=True) + self._unit

    def exact(self, value: float | None) -> str:
        """A figure that somebody declared, as declared."""
        return "" if value is None else f"{value:g}{self._unit}"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    @property
    def interval(self) -> str:
        return f"95 % interval {self.signed(self.c.ci_low)} to {self.signed(self.c.ci_high)}"

    @property
    def seeds(self) -> str:
        return f"n = {self.c.n} seeds"

    @property
    def direction(self) -> str:
        return ", where less is better," if self.c.direction == "min" else ""

    def corrected(self, p: float | None) -> str:
        """The p that decides, and what it was corrected for."""
        text = p_value(1.0 if p is None else p, self.c.alpha)
        if self.c.family_size == 1:
            return text
        if self.c.correction == "none":
            return f"{text}, not corrected for the {self.c.family_size} arms"
        return f"{text} after Holm's correction for {self.c.family_size} arms"

    @property
    def tentatively(self) -> str:
        return "tentatively " if "tentative" in self.c.flags else ""


def decimals_of(c: Comparison) -> int:
    """Decimals of a comparison's figures: two digits of the interval's half width, or three of what else there is."""
    if c.ci_low is not None and c.ci_high is not None and c.ci_high > c.ci_low:
        return _digits((c.ci_high - c.ci_low) / 2, 2)
    known = (c.difference, c.itt_difference, c.welch_difference, c.arm_mean, c.baseline_mean)
    return _digits(next((abs(value) for value in known if value), 1.0), 3)


def _digits(size: float, significant: int) -> int:
    return min(8, max(0, significant - 1 - math.floor(math.log10(size))))


def _differs(w: _Words) -> list[str]:
    """Helps or hurts, negligible or not."""
    c = w.c
    helps = c.verdict.startswith("helps")
    side = "better" if helps else "worse"
    count = c.better if helps else sum(d < 0 if c.direction == "max" else d > 0 for d in c.differences)
    verb = f"{w.arm} {w.tentatively}{'helps' if helps else 'hurts'}"
    small = c.verdict.endswith("_negligible")
    said = [
        f"{verb}{', but by a negligible amount' if small else ''}: {w.metric}{w.direction} changes by "
        f"{w.signed(c.difference)} ({w.interval}; paired t-test, {w.seeds}, {w.corrected(c.p_adjusted)}); "
        f"{side} on {count} of {c.n} seeds."
    ]
    effect = w.exact(c.smallest_effect)
    if small:
        tested = f"two one-sided paired t-tests, {p_value(_known(c.p_tost_adjusted), c.alpha)}"
        said.append(f"It is smaller than the smallest effect of interest, {effect} ({tested}).")
    elif c.smallest_effect is not None and "material" in c.flags:
        said.append(f"The whole interval lies beyond the smallest effect of interest, {effect}.")
    elif c.smallest_effect is not None:
        said.append(f"Whether it exceeds the smallest effect of interest, {effect}, is not settled.")
    return said


def _equivalent(w: _Words) -> list[str]:
    c = w.c
    half = _known(c.smallest_bound) - abs(c.difference or 0.0)  # of the interval that lies within the effect iff p does
    low, high = (w.signed((c.difference or 0.0) + side * half) for side in (-1, 1))
    level = f"{100 * (1 - 2 * c.alpha):.4g} %"
    return [
        f"{w.arm} is {w.tentatively}equivalent to the baseline within ±{w.exact(c.smallest_effect)} of {w.metric} "
        f"(two one-sided paired t-tests, {w.seeds}, {p_value(_known(c.p_tost_adjusted), c.alpha)}): the difference is "
        f"{w.signed(c.difference)} ({level} interval {low} to {high}).",
        _ruled_out(w),
    ]


def _inconclusive(w: _Words) -> list[str]:
    c = w.c
    start = f"Tentatively, {w.arm}" if w.tentatively else w.arm
    return [
        f"{start} has no detectable effect on {w.metric}: the difference is {w.signed(c.difference)} "
        f"({w.interval}; paired t-test, {w.seeds}, {w.corrected(c.p_adjusted)}).",
        _ruled_out(w),
    ]


def _ruled_out(w: _Words) -> str:
    """delta*, rounded up, in the words that its test allows."""
    bound = rounded_up(_known(w.c.smallest_bound), w.decimals) + (f" {w.unit}" if w.unit else "")
    return f"An effect larger than {bound} is ruled out at {100 * (1 - w.c.alpha):.4g} %, one-sided each way."


def _identical(w: _Words) -> list[str]:
    exact = all(difference == 0 for difference in w.c.differences)
    how = "bit-identical to the baseline" if exact else "identical to the baseline up to rounding"
    return [f"{w.arm} is {how} in {w.metric} on each of {w.c.n} seeds.", "Was the setting applied? No test was made."]


def _degenerate(w: _Words) -> list[str]:
    return [
        f"{w.arm} differs from the baseline by the same {w.signed(w.c.difference)} in {w.metric} on each of "
        f"{w.c.n} seeds.",
        "Are the seeds applied? No test was made.",
    ]


def _all_failed(w: _Words) -> list[str]:
    c = w.c
    return [
        f"{w.arm} failed: all {c.n_diverged} of its runs with an outcome diverged ({_rate(c)}), against "
        f"{_of_the_baseline(c)}.",
        f"There is no {w.metric} to compare.",
    ]


def _unstable(w: _Words) -> list[str]:
    c = w.c
    who = f"{w.arm} is unstable" if c.n_diverged else f"{w.arm} has an unstable baseline"
    said = [
        f"{who}: {c.n_diverged} of its {c.n_ok + c.n_diverged} runs with an outcome diverged ({_rate(c)}), against "
        f"{_of_the_baseline(c)}."
    ]
    if c.failure_value is None:
        said.append("No failure value was declared, so no test was made; the arm counts as p = 1 in the family.")
    else:
        test = "exact sign-flip test" if c.itt_n <= 14 else "sign-flip test"
        said.append(
            f"With {w.exact(c.failure_value)} for each diverged run, {w.metric}{w.direction} changes by "
            f"{w.signed(c.itt_difference)} ({test}, n = {c.itt_n} seeds, {w.corrected(c.p_adjusted)})."
        )
    if c.n > 1 and c.ci_low is not None:
        said.append(f"Among runs that finished ({w.seeds}) the difference is {w.signed(c.difference)} ({w.interval}).")
    elif c.n:
        said.append(f"Among runs that finished (n = {c.n}) the difference is {w.signed(c.difference)}.")
    return said


def _rate(c: Comparison) -> str:
    low, high = 100 * _known(c.failure_low), 100 * _known(c.failure_high)
    return f"95 % Clopper-Pearson interval {low:.0f} % to {high:.0f} %"


def _of_the_baseline(c: Comparison) -> str:
    runs = c.baseline_ok + c.baseline_diverged
    return f"{c.baseline_diverged} of {runs} of the baseline (exact McNemar test, {p_value(_known(c.p_mcnemar))})"


def _not_assessed(w: _Words) -> list[str]:
    c = w.c
    start = f"{w.arm} is not assessed"
    outcomes = max(c.n, c.itt_n)
    apart = not (c.baseline_ok or c.baseline_diverged) and c.baseline_mean is not None  # it has runs, at other seeds
    if (c.n_diverged or c.baseline_diverged) and not apart:
        return [
            f"{start}: {_seeds_word(outcomes)} with an outcome on both sides, and {c.n_diverged} of its "
            f"{c.n_ok + c.n_diverged} runs diverged, against {c.baseline_diverged} of "
            f"{c.baseline_ok + c.baseline_diverged} of the baseline."
        ]
    if c.n == 0:
        return _without_pairs(w, start)
    if c.n == 1:
        return [f"{start}: one seed, where {w.metric} differs by {w.signed(c.difference)}.", _noise_band(w)]
    each = _listed([w.signed(difference) for difference in c.differences])
    if c.n == 2:
        said = [f"{start}: two seeds, where {w.metric} differs by {each}."]
        if c.ci_low is not None:
            said.append(f"For information, not a test: {w.interval} (the t quantile of two seeds is 12.7).")
        return said
    return [f"{start}: {c.n} seeds, fewer than the study asks for, where {w.metric} differs by {each}."]


def _without_pairs(w: _Words, start: str) -> list[str]:
    c = w.c
    if not c.n_ok:
        return [f"{start}: none of its {c.n_planned} planned runs has a result."]
    if c.baseline_mean is None:
        return [f"{start}: the baseline has no result."]
    diverged = f", and {c.n_diverged} of its {c.n_ok + c.n_diverged} runs diverged" if c.n_diverged else ""
    said = [f"{start}: it shares no seed with the baseline{diverged}."]
    if c.welch_difference is not None:
        said.append(
            f"For information, not a test: the means differ by {w.signed(c.welch_difference)} (95 % Welch interval "
            f"{w.signed(c.welch_low)} to {w.signed(c.welch_high)})."
        )
    return said


def _noise_band(w: _Words) -> str:
    c = w.c
    if c.in_band is None:
        return "The baseline has too few runs to say how large its own seed noise is; not a test."
    side = "inside" if c.in_band else "outside"
    return (
        f"That is {side} the baseline's own seed noise ({w.plain(c.band_low)} to {w.plain(c.band_high)} for one more "
        f"run, 95 %, from {c.baseline_ok} runs); not a test."
    )


def _remarks(w: _Words) -> list[str]:
    """What a verdict has to say about itself: its flags, its missing runs, the seeds it would take."""
    c = w.c
    return [
        _suggestive(w),
        _further_seeds(w),
        f"With {max(c.n, c.itt_n)} seeds the sign-flip test cannot go below p = {floor(max(c.n, c.itt_n)):g}."
        if "tentative" in c.flags and c.p_signflip is not None
        else "",
        f"The sign-flip test does not agree ({p_value(_known(c.p_signflip_adjusted), c.alpha)}): the result depends on "
        "normality."
        if "depends_on_normality" in c.flags
        else "",
        f"The pooled-variance analysis does not agree ({p_value(_known(c.p_pooled), c.alpha)})."
        if "pooled_disagrees" in c.flags
        else "",
        "The smallest effect of interest is provisional: it was derived from the data."
        if "provisional_effect" in c.flags
        else "",
        look_sentence(c),
        "The data were looked at more often than declared: p is optimistic." if "optimistic_look" in c.flags else "",
        _missing(w),
    ]


def _suggestive(w: _Words) -> str:
    if "suggestive" not in w.c.flags:
        return ""
    return f"Suggestive only: alone it would pass ({p_value(_known(w.c.p), w.c.alpha)}), in its family it does not."


def _further_seeds(w: _Words) -> str:
    c = w.c
    if "not_resolvable" in c.flags:
        return (
            "Not resolvable by seeds (over 200 more would be needed): enlarge the test set or the smallest effect of "
            "interest."
        )
    if c.more_seeds is None:
        return ""
    safe = "over 200" if c.more_seeds_safe is None else str(c.more_seeds_safe)
    more = "1 more seed" if c.more_seeds == 1 else f"{c.more_seeds} more seeds"
    return (
        f"{more}, {safe} to be safe, would find an effect of {w.exact(c.smallest_effect)} or rule it out, each with "
        f"{100 * c.power:.3g} % power."
    )


def _missing(w: _Words) -> str:
    """Runs that were planned and have no outcome, and runs left without a partner."""
    c = w.c
    parts = []
    if c.n_lost and c.n_ok + c.n_diverged:
        parts.append(f"{c.n_lost} of its {c.n_planned} planned runs {'has' if c.n_lost == 1 else 'have'} no result.")
    for seeds, owner in ((c.unpaired_arm, "the arm"), (c.unpaired_baseline, "the baseline")):
        if seeds and c.n:
            name = "seed" if len(seeds) == 1 else "seeds"
            parts.append(f"Not used, without a partner: {name} {_listed([str(seed) for seed in seeds])} of {owner}.")
    return " ".join(parts)


def _seeds_word(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _known(value: float | None) -> float:
    """A figure that the verdict implies is there."""
    return math.nan if value is None else value


_CORE: dict[str, Callable[[_Words], list[str]]] = {
    "not_assessed": _not_assessed,
    "identical": _identical,
    "degenerate": _degenerate,
    "all_failed": _all_failed,
    "unstable": _unstable,
    "helps_negligible": _differs,
    "hurts_negligible": _differs,
    "helps": _differs,
    "hurts": _differs,
    "equivalent": _equivalent,
    "inconclusive": _inconclusive,
}
"""The sentences of a verdict; the first one says it, the others what follows from it."""
