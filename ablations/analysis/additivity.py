"""Does a combination do what the sum of its parts promises?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.analysis.compare import study_table
from ablations.analysis.levels import Estimate, complete_seeds, estimate
from ablations.analysis.paired import NEGLIGIBLE, Floats, tost
from ablations.analysis.results import Seed
from ablations.analysis.table import RunTable
from ablations.errors import AblationsError

if TYPE_CHECKING:
    from ablations.study import Study


@dataclass(frozen=True)
class Interaction:
    """A combination against the sum of its parts; exploratory, a family of its own.

    Attributes:
        combination: Name of the combination.
        parts: Names of the arms it is made of.
        seeds: Seeds at which the baseline, all parts and the combination completed.
        combined: Difference of the combination from the baseline.
        summed: Sum of the parts' differences from the baseline.
        interaction: ``combined - summed``, one number per seed.
        smallest_effect: Smallest interaction of interest, in the metric's unit.
        p_tost: Two one-sided tests against it; None without one or without a test.
        sd_factor: sd of the interaction / sd of one run, if runs were independent: sqrt(1 + k + (k-1)^2), against 1.41
            for a simple difference. What makes interactions hard to see.
        logit: The interaction on the logit scale, where the metric lies in (0, 1) and the baseline or the combination
            is above .8 or below .2; else None.
    """

    combination: str
    parts: tuple[str, ...]
    seeds: tuple[Seed, ...]
    combined: Estimate | None
    summed: Estimate | None
    interaction: Estimate | None
    smallest_effect: float | None
    p_tost: float | None
    sd_factor: float
    logit: Estimate | None


def additivity(
    table: RunTable,
    combination: str,
    parts: Sequence[str],
    *,
    smallest_effect: float | None = None,
    bounded: bool = True,
) -> Interaction:
    """Compares a combination with the sum of its parts, paired by seed.

    Args:
        table: All runs on the metric, the baseline first.
        combination: Name of the combination.
        parts: Names of the arms it is made of.
        smallest_effect: Smallest interaction of interest, in the metric's unit.
        bounded: Whether the metric lies between 0 and 1, so that effects shrink near its ends.

    Raises:
        AblationsError: If an arm is unknown or there are fewer than two parts.
    """
    if len(parts) < 2:
        raise AblationsError(f"the combination {combination!r} needs at least two parts, not {len(parts)}")
    values, seeds = complete_seeds(table, [table.arms[0], *parts, combination])
    gains = values[1:] - values[0]
    combined, summed = gains[-1], gains[:-1].sum(axis=0)
    k = len(parts)
    return Interaction(
        combination=combination,
        parts=tuple(parts),
        seeds=seeds,
        combined=estimate(combined),
        summed=estimate(summed),
        interaction=estimate(_rounded(combined - summed, values)),
        smallest_effect=smallest_effect,
        p_tost=_equivalence(_rounded(combined - summed, values), smallest_effect),
        sd_factor=math.sqrt(1 + k + (k - 1) ** 2),
        logit=_on_the_logit_scale(values) if bounded else None,
    )


def interactions_study(scores: pd.DataFrame, study: Study, *, bounded: bool = True) -> list[Interaction]:
    """The combinations of a study that are nothing but their parts, against the sum of these, on the primary metric.

    Args:
        scores: What ``Store.read_scores`` returns.
        study: The study as loaded.
        bounded: Whether the metric lies between 0 and 1.
    """
    table = study_table(scores, study, study.metric)
    return [
        additivity(table, level.name, ablation.parts, smallest_effect=study.smallest_effect, bounded=bounded)
        for ablation in study.ablations
        if ablation.kind == "combine" and len(ablation.parts) > 1
        for level in ablation.levels
    ]


def _rounded(interaction: Floats, values: Floats) -> Floats:
    """Interactions that are nothing but rounding become zero."""
    size = np.abs(values).max() if values.size else 0.0
    return np.where(np.abs(interaction) <= NEGLIGIBLE * size, 0.0, interaction)


def _equivalence(interaction: Floats, smallest_effect: float | None) -> float | None:
    """p of equivalence to zero; None where no test is made."""
    if smallest_effect is None or interaction.size < 3 or np.ptp(interaction) == 0:
        return None
    return float(tost(interaction[None], np.zeros((1, interaction.size)), smallest_effect)[0])


def _on_the_logit_scale(values: Floats) -> Estimate | None:
    """The interaction of log odds, where the metric is near one of its ends and inside (0, 1)."""
    if values.shape[1] == 0 or values.min() <= 0 or values.max() >= 1:
        return None
    ends = values[[0, -1]].mean(axis=1)
    if not ((ends > 0.8) | (ends < 0.2)).any():
        return None
    odds = np.log(values / (1 - values))
    gains = odds[1:] - odds[0]
    return estimate(_rounded(gains[-1] - gains[:-1].sum(axis=0), odds))
