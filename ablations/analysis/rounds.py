"""Adaptive seeds: which arms each look settles, and the comparison that every arm is left with.

All arms take the seeds of the first round. Then, and after each further round, all planned arms are compared; an arm
whose comparison is settled takes no more seeds, and the others and the baseline take those of the next round. How many
rounds there are, and which seeds belong to each, is declared before the first run.

The chance of any false claim in a family stays at or under alpha, whichever arms go on and whatever their order:

- With K rounds each look tests at alpha / K, with Holm's correction over the whole planned family: an arm that an
  earlier look settled enters with the p it had then, computed from the same seeds again.
- So every p that ever enters is that of some arm i at some look k, over the seeds that were declared for k.
- Holm's first false claim at a look takes a true null whose p is at or under (alpha / K) / m0, where m0 is the number
  of true nulls: at most m - m0 arms can stand before it. Over K looks and m0 true nulls that happens with a chance of
  at most K * m0 * alpha / (K * m0) = alpha.

Claims of equivalence, corrected or not, are bounded likewise. Intervals are those of the look that settled an arm, not
adjusted for there being several; ``benchmarks/adaptive_seeds.py`` shows how often they cover.

Source: Holm 1979 within a look; Bonferroni over the looks (method of this project, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.compare import BASELINE, Rules, compare_table, families_of, rules_of
from ablations.analysis.results import Comparison, Seed
from ablations.analysis.table import COMPLETED_WORDS, DIVERGED_WORDS, LOST, RunTable, read_table
from ablations.study import Look

if TYPE_CHECKING:
    from ablations.study import Study

ENDED_WORDS = COMPLETED_WORDS | DIVERGED_WORDS | {"failed"}


@dataclass(frozen=True)
class Course:
    """How a study with adaptive seeds has gone so far.

    Attributes:
        looks: The looks taken, in order.
        comparisons: One per arm, in the order of the study: that of the look that settled it, else of the last look;
            before the first look, of the runs there are.
        waiting: Runs (variant, seed) that the next look waits for; empty where no further look is planned.
    """

    looks: tuple[Look, ...]
    comparisons: tuple[Comparison, ...]
    waiting: tuple[tuple[str, Seed], ...]


def follow(scores: pd.DataFrame, study: Study, **rules: Any) -> Course:
    """Takes every look of a study that the runs made so far allow, from the first on.

    A look is taken when each of its runs has ended: completed, diverged, or failed. A failed run is lost, as it is
    anywhere else. If it is repeated later and completes, the looks from there on are taken anew.

    Args:
        scores: Long table with the columns variant, seed, status, metric and value, as ``Store.read_scores`` returns
            it; runs of later rounds may be there already and are not looked at.
        study: A study with adaptive seeds; the looks it has taken are ignored.
        **rules: Overrides of the study's rules.
    """
    families = families_of(study)
    planned = dict.fromkeys((BASELINE, *families), study.seeds)
    table = read_table(scores, baseline=BASELINE, metric=study.metric, planned=planned)
    rows = scores[scores["status"].astype(str).str.lower().isin(ENDED_WORDS)]
    ended = np.zeros(table.planned.shape, dtype=bool)
    ended[
        pd.Index(table.arms).get_indexer(rows["variant"].astype(str)), pd.Index(table.seeds).get_indexer(rows["seed"])
    ] = True
    return take_looks(table, ended, study.rounds, study.metric, rules_of(study, **rules), families)


def take_looks(
    table: RunTable,
    ended: NDArray[np.bool_],
    rounds: Sequence[int],
    metric: str,
    rules: Rules,
    family: Mapping[str, str] | None = None,
) -> Course:
    """Takes every look that a table allows, from the first on.

    Args:
        table: All runs that may be made: every arm at every seed of the last round.
        ended: Which of them have ended ``(arms, seeds)``.
        rounds: Seeds that an open arm has taken after each round, ascending.
        metric: Name of the metric.
        rules: The choices that the study makes; ``looks`` is the number of rounds.
        family: Family of each arm, by default "main".
    """
    looks: list[Look] = []
    found: dict[str, Comparison] = {}
    waiting = np.zeros(table.planned.shape, dtype=bool)
    taken = np.full(len(table.arms), rounds[0])
    still_open = table.arms[1:]
    while True:
        planned = np.arange(len(table.seeds)) < taken[:, None]
        waiting = planned & ~ended
        if waiting.any() and looks:
            break
        look = None if waiting.any() else len(looks) + 1
        compared = compare_table(_restricted(table, planned), metric, replace(rules, look=look), family)
        found |= {each.arm: each for each in compared if each.arm in still_open}
        if waiting.any():
            break
        settled = tuple(arm for arm in still_open if is_settled(found[arm]))
        still_open = tuple(arm for arm in still_open if arm not in settled)
        looks.append(Look(settled, still_open))
        if not still_open or len(looks) == len(rounds):
            break
        goes_on = [at for at, arm in enumerate(table.arms) if at == 0 or arm in still_open]
        taken[goes_on] = rounds[len(looks)]
    runs = tuple((table.arms[arm], table.seeds[seed]) for arm, seed in np.argwhere(waiting))
    return Course(tuple(looks), tuple(found[arm] for arm in table.arms[1:]), runs)


def is_settled(comparison: Comparison) -> bool:
    """Whether more seeds could not change what is said of an arm.

    Every verdict that rests on a test settles, and so do those that more seeds only repeat: identical, degenerate, all
    runs diverged. Of the others, ``inconclusive`` is open. ``unstable`` is open as long as the test of all outcomes,
    diverged ones at the failure value, has not passed; without a failure value there is no test. An arm with too few
    pairs is open, unless it or the baseline has no run with an outcome: more runs that crash tell nothing.
    """
    c = comparison
    if c.verdict == "unstable":
        return c.failure_value is None or (c.p_adjusted is not None and c.p_adjusted <= c.alpha)
    if c.verdict == "not_assessed":
        return not (c.n_ok + c.n_diverged and c.baseline_ok + c.baseline_diverged)
    return c.verdict != "inconclusive"


def _restricted(table: RunTable, planned: NDArray[np.bool_]) -> RunTable:
    """The table as if no other runs had been planned."""
    values, outcomes = np.where(planned, table.values, np.nan), np.where(planned, table.outcomes, LOST)
    return replace(table, values=values, outcomes=outcomes.astype(np.int8), planned=planned)
