"""What picking the best of several arms does to its figure: chance helped to make it the best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ablations.analysis.results import Comparison, Direction
from ablations.analysis.table import OK, RunTable

LEAST_SEEDS = 3  # picking on one seed and reading on another says nothing


@dataclass(frozen=True)
class Pick:
    """The arm that looks best, and what picking it promises.

    Attributes:
        arm: The arm with the best mean.
        candidates: Arms it was picked from.
        n: Seeds.
        difference: Its mean difference from the baseline on the seeds it was picked by: too good.
        held_out: Mean over the seeds of the difference, on that seed, of the arm that is best on the others.
        same: Seeds without which the same arm is best.
    """

    arm: str
    candidates: int
    n: int
    difference: float
    held_out: float
    same: int


def best_of(comparisons: Iterable[Comparison]) -> tuple[str, int] | None:
    """The arm with the largest improvement, and of how many arms that have a verdict; None below two, or without one
    that is better than the baseline."""
    known = [each for each in comparisons if each.improvement is not None and each.verdict != "not_assessed"]
    if len(known) < 2:
        return None
    best = max(known, key=lambda each: each.improvement or 0.0)
    return (best.arm, len(known)) if (best.improvement or 0.0) > 0 else None


def pick(table: RunTable, direction: Direction = "max") -> Pick | None:
    """Picks the best arm on all seeds but one and reads it on that one, for each seed in turn.

    The mean of these readings is free of the optimism of the pick, for a pick on one seed less.

    Source: leave-one-out cross-validation of the whole choice, Stone 1974.

    Args:
        table: All runs, the baseline first.
        direction: "max" if more is better.

    Returns:
        None with fewer than 2 arms that completed wherever the baseline did, or fewer than 3 seeds.
    """
    seeds = table.outcomes[0] == OK
    rows = [row for row in range(1, len(table.arms)) if (table.outcomes[row][seeds] == OK).all()]
    n = int(seeds.sum())
    if len(rows) < 2 or n < LEAST_SEEDS:
        return None
    differences = table.values[rows][:, seeds] - table.values[0, seeds]
    turned = differences if direction == "max" else -differences
    best = int(np.argmax(turned.mean(axis=1)))
    without = (turned.sum(axis=1, keepdims=True) - turned) / (n - 1)
    picked = np.argmax(without, axis=0)
    return Pick(
        arm=table.arms[rows[best]],
        candidates=len(rows),
        n=n,
        difference=float(differences[best].mean()),
        held_out=float(differences[picked, np.arange(n)].mean()),
        same=int((picked == best).sum()),
    )
