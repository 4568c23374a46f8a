"""From comparisons to one conclusion per arm, held against what the study declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from ablations.analysis.results import Comparison, Conclusion, Expectation, Outcome
from ablations.analysis.selection import best_of

if TYPE_CHECKING:
    from ablations.study import Study

NEGLIGIBLE = ("equivalent", "helps_negligible", "hurts_negligible")


def conclude(
    comparisons: Iterable[Comparison],
    study: Study | None = None,
    *,
    expectations: Mapping[str, Expectation | None] | None = None,
) -> list[Conclusion]:
    """Draws one conclusion per arm.

    Args:
        comparisons: Of one or more metrics; the first of an arm is on the primary metric and decides.
        study: Whose expectations are taken where none are given.
        expectations: What was declared for an arm before the runs; arms without are exploratory.

    Returns:
        One conclusion per arm, in the order of the comparisons.
    """
    if study is not None and expectations is None:
        return conclude_study(comparisons, study)
    by_arm: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_arm.setdefault(comparison.arm, []).append(comparison)
    best = best_of(cited[0] for cited in by_arm.values())
    conclusions = []
    for arm, cited in by_arm.items():
        expected = (expectations or {}).get(arm)
        outcome = None if expected is None else judge(expected, cited[0])
        conclusions.append(
            Conclusion(
                arm=arm,
                verdict=cited[0].verdict,
                flags=cited[0].flags,
                comparisons=tuple(cited),
                expected=expected,
                expectation=outcome,
                best_of=best[1] if best and best[0] == arm else 0,
            )
        )
    return conclusions


def conclude_study(comparisons: Iterable[Comparison], study: Study) -> list[Conclusion]:
    """Draws the conclusions of a study, with the expectations its file declares."""
    expectations = {level.name: ablation.expect for ablation in study.ablations for level in ablation.levels}
    return conclude(comparisons, expectations=cast("dict[str, Expectation | None]", expectations))


def judge(expected: Expectation, comparison: Comparison) -> Outcome:
    """What became of an expectation; only verdicts that rest on a test can decide it.

    "better" and "worse" mean a difference that matters: an effect shown to be smaller than the smallest effect of
    interest confirms "same" and refutes both. "same" is refuted by a difference unless that difference may still be
    smaller than the smallest effect of interest.
    """
    verdict = comparison.verdict
    if verdict in NEGLIGIBLE:
        return "confirmed" if expected == "same" else "refuted"
    if verdict not in ("helps", "hurts"):
        return "undecided"
    if expected == "same":
        may_be_small = comparison.smallest_effect is not None and "material" not in comparison.flags
        return "undecided" if may_be_small else "refuted"
    return "confirmed" if (expected == "better") == (verdict == "helps") else "refuted"
