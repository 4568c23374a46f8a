"""Compares every arm with the baseline, over the seeds that both have: the numbers behind each verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ablations.analysis.failures import mcnemar, share_of_failures
from ablations.analysis.family import adjust
from ablations.analysis.paired import Floats, Paired, paired_t, pairs_by_count
from ablations.analysis.pooled import pooled_p
from ablations.analysis.power import further_seeds, upper_sd
from ablations.analysis.results import Comparison, Direction, Seed
from ablations.analysis.signflip import sign_flip
from ablations.analysis.table import DIVERGED, LOST, OK, Checkpoint, Columns, RunTable, read_table
from ablations.analysis.verdict import LEAST_SEEDS, STANDARD_SEEDS, decide, raise_flags
from ablations.errors import AblationsError, one_of
from ablations.plan import seeds_of

if TYPE_CHECKING:
    from ablations.study import Study

DIRECTIONS = ("max", "min")
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The choices that a study makes before its runs.

    Attributes:
        direction: "max" if more is better, else "min".
        alpha: Chance of any false claim in a family, over all declared looks.
        smallest_effect: Smallest effect of interest, in the metric's unit.
        provisional: Whether ``smallest_effect`` was derived from the data.
        failure_value: Value that a diverged run counts as.
        correction: "holm" or "none", over a family.
        equivalence_correction: The same for claims of equivalence.
        min_seeds: Least number of pairs to assess.
        standard_seeds: Number of pairs below which a verdict is tentative.
        power: Power at which further seeds are counted.
        looks: Declared number of looks at the data; alpha is divided by it.
        look: Which look this is, where that is known; beyond ``looks``, p is flagged as optimistic.
    """

    direction: Direction = "max"
    alpha: float = 0.05
    smallest_effect: float | None = None
    provisional: bool = False
    failure_value: float | None = None
    correction: str = "holm"
    equivalence_correction: str = "none"
    min_seeds: int = LEAST_SEEDS
    standard_seeds: int = STANDARD_SEEDS
    power: float = 0.8
    looks: int = 1
    look: int | None = None

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise AblationsError(one_of("direction", self.direction, DIRECTIONS))
        if not 0 < self.alpha < 1:
            raise AblationsError(f"alpha must lie between 0 and 1, not {self.alpha}")
        if self.smallest_effect is not None and not 0 < self.smallest_effect < np.inf:
            raise AblationsError(f"the smallest effect of interest must be positive, not {self.smallest_effect}")
        if self.failure_value is not None and not np.isfinite(self.failure_value):
            raise AblationsError(f"the failure value must be finite, not {self.failure_value}")
        look = 1 if self.look is None else self.look
        if self.looks < 1 or look < 1:
            raise AblationsError(f"looks are counted from 1, not {min(self.looks, look)}")

    @property
    def level(self) -> float:
        """Level of each decision: alpha divided by the declared looks."""
        return self.alpha / self.looks


def compare(
    frame: pd.DataFrame,
    study: Study | None = None,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    planned: Mapping[str, Iterable[Seed]] | None = None,
    family: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    checkpoint: Checkpoint | None = None,
    **rules: Any,
) -> list[Comparison]:
    """Compares every arm of a long table with the baseline, paired by seed.

    With a study, the table is what ``read_scores`` returns of it, and the study says all else: baseline, plan, families
    and rules. Without one, the baseline and the metric must be named.

    Args:
        frame: One row per run and metric: columns variant, seed, value, and optionally metric, status (completed,
            diverged, anything else is lost), step (the last one of a run counts) and example (those of a run are
            averaged).
        study: Whose scores these are; None for a table made elsewhere.
        baseline: Name of the baseline.
        metric: Metric to compare; of a study, another than its primary one. Without a metric column it may be the name
            of the column of values.
        planned: Seeds planned for each arm, by default every arm at every seed that the table names. Runs that were
            planned and are missing count as lost; arms that were planned and could not be tested count in the
            correction.
        family: Family of each arm, by default "main".
        columns: The names of the table's columns, if they are others.
        checkpoint: Counts, instead of the last step of a run, the one at which another metric is best.
        **rules: The fields of ``Rules``: direction, alpha, smallest_effect, provisional, failure_value, correction,
            equivalence_correction, min_seeds, standard_seeds, power, looks, look.

    Returns:
        One comparison per arm, in the order planned.

    Raises:
        AblationsError: If the table or a rule is not what it should be.
        MissingRuns: If there is no baseline.

    >>> frame = pd.DataFrame({"variant": ["base"] * 4 + ["deep"] * 4, "seed": [0, 1, 2, 3] * 2,
    ...                       "f1": [.50, .52, .49, .51, .56, .59, .55, .56]})
    >>> [deep] = compare(frame, baseline="base", metric="f1")
    >>> deep.verdict, deep.n, round(deep.difference, 3)
    ('helps', 4, 0.06)
    """
    unknown = sorted(set(rules) - {field.name for field in fields(Rules)})
    if unknown:
        raise AblationsError(one_of("option of compare", unknown[0], [field.name for field in fields(Rules)]))
    if study is not None:
        named = {
            "baseline": baseline,
            "planned": planned,
            "family": family,
            "columns": columns,
            "checkpoint": checkpoint,
        }
        if any(given is not None for given in named.values()):
            said = ", ".join(name for name, given in named.items() if given is not None)
            raise AblationsError(f"compare: a study says what {said} would say; leave that out")
        return compare_study(frame, study, metric=metric, **rules)
    if baseline is None or metric is None:
        raise AblationsError("compare: expected a study, or a baseline and a metric")
    table = read_table(frame, baseline=baseline, metric=metric, planned=planned, columns=columns, checkpoint=checkpoint)
    return compare_table(table, metric, Rules(**rules), family)


def compare_study(scores: pd.DataFrame, study: Study, *, metric: str | None = None, **rules: Any) -> list[Comparison]:
    """Compares all variants of a study with its baseline.

    With adaptive seeds, an arm's comparison on the primary metric is that of the look that settled it.

    Args:
        scores: What ``Store.read_scores`` returns.
        study: The study as loaded, or with adaptive seeds as ``standing`` returns it.
        metric: A metric other than the primary one; it is a family of its own, and the smallest effect and failure
            value of the primary metric are not used.
        **rules: Overrides of the study's rules.
    """
    if study.rounds and metric in (None, study.metric):
        from ablations.analysis.rounds import follow  # which compares by what this module says

        return list(follow(scores, study, **rules).comparisons)
    chosen = metric or study.metric
    return compare_table(
        study_table(scores, study, chosen), chosen, rules_of(study, metric=metric, **rules), families_of(study)
    )


def families_of(study: Study) -> dict[str, str]:
    """The family of every arm of a study."""
    return {level.name: ablation.family for ablation in study.ablations for level in ablation.levels}


def rules_of(study: Study, *, metric: str | None = None, **rules: Any) -> Rules:
    """The rules of a study, for a metric other than the primary one without what is of interest on that one."""
    names = ["alpha", "correction", "equivalence_correction", "min_seeds", "standard_seeds", "power", "looks"]
    if metric is None or metric == study.metric:
        names += ["direction", "smallest_effect", "failure_value"]
    return Rules(**({name: getattr(study, name) for name in names} | rules))


def planned_runs(study: Study) -> dict[str, tuple[int, ...]]:
    """The seeds of every arm of a study, the baseline first."""
    arms = [level.name for each in study.ablations for level in each.levels]
    return {arm: seeds_of(study, arm) for arm in (BASELINE, *arms)}


def study_table(scores: pd.DataFrame, study: Study, metric: str) -> RunTable:
    """One metric of all planned runs of a study."""
    return read_table(scores, baseline=BASELINE, metric=metric, planned=planned_runs(study))


def compare_table(
    table: RunTable, metric: str, rules: Rules, family: Mapping[str, str] | None = None
) -> list[Comparison]:
    """Compares rows 1.. of a table with its row 0; see ``compare``."""
    families = [(family or {}).get(arm, "main") for arm in table.arms[1:]]
    paired = paired_t(table.values[1:], table.values[0], smallest_effect=rules.smallest_effect, alpha=rules.level)
    diverged = (table.outcomes[1:] == DIVERGED).any(axis=1)
    with_failures = diverged | ((table.outcomes[0] == DIVERGED) & table.planned[1:]).any(axis=1)
    outcomes = _intention_to_treat(table, rules)
    p_signflip = _sign_flips(outcomes)
    itt_n = ((table.outcomes[1:] != LOST) & (table.outcomes[0] != LOST)).sum(axis=1)
    declared = rules.failure_value is not None
    least = max(rules.min_seeds, LEAST_SEEDS)
    n = (np.isfinite(table.values[1:]) & np.isfinite(table.values[0])).sum(axis=1)
    p = np.where((n >= least) & ~with_failures, paired.p, np.nan)
    testable = np.where(with_failures, (itt_n >= least) & declared, np.isfinite(p))
    p_signflip = np.where(testable, p_signflip, np.nan)
    p_tost = np.where(np.isfinite(p), paired.p_tost, np.nan)
    p_pooled, pooled_hidden = _pooled(table, np.isfinite(p), families, rules.correction)
    columns = _columns_of(paired) | {
        "p": p,
        "p_adjusted": adjust(np.where(with_failures, p_signflip, p), families, rules.correction),
        "p_signflip": p_signflip,
        "p_signflip_adjusted": adjust(p_signflip, families, rules.correction),
        "p_tost": p_tost,
        "p_tost_adjusted": adjust(p_tost, families, rules.equivalence_correction),
        "p_pooled": p_pooled,
        "itt_difference": _mean_of_rows(np.where((with_failures & declared)[:, None], outcomes, np.nan)),
    }
    sizes = {name: families.count(name) for name in set(families)}
    comparisons = []
    for row, arm in enumerate(table.arms[1:], start=1):
        facts: dict[str, Any] = _runs_of(table, row, rules)
        facts |= {name: _number(column[row - 1]) for name, column in columns.items()}
        comparison = Comparison(
            arm=arm,
            baseline=table.arms[0],
            metric=metric,
            direction=rules.direction,
            alpha=rules.level,
            family=families[row - 1],
            family_size=sizes[families[row - 1]],
            correction=rules.correction,
            power=rules.power,
            smallest_effect=rules.smallest_effect,
            look=rules.look,
            looks=rules.looks,
            pooled_hidden=pooled_hidden[row - 1],
            itt_n=int(itt_n[row - 1]) if with_failures[row - 1] else 0,
            **facts,
        )
        comparisons.append(replace(comparison, verdict=decide(comparison, min_seeds=rules.min_seeds)))
    return [_with_flags(comparison, rules) for comparison in _with_further_seeds(comparisons, rules)]


def _with_flags(comparison: Comparison, rules: Rules) -> Comparison:
    """Adds what the verdict has to say about itself."""
    flags = raise_flags(
        comparison,
        provisional=rules.provisional,
        extra_look=rules.look is not None and rules.look > rules.looks,
        standard_seeds=rules.standard_seeds,
    )
    return replace(comparison, flags=flags)


def _with_further_seeds(comparisons: list[Comparison], rules: Rules) -> list[Comparison]:
    """Adds to the inconclusive arms how many more seeds would settle them, if an effect of interest was declared."""
    open_rows = [row for row, c in enumerate(comparisons) if c.verdict == "inconclusive" and c.sd_difference]
    if rules.smallest_effect is None or not open_rows:
        return comparisons
    sd = np.array([comparisons[row].sd_difference for row in open_rows], dtype=float)
    n = np.array([comparisons[row].n for row in open_rows])
    sizes = np.array([comparisons[row].family_size for row in open_rows])
    plan: dict[str, Any] = {
        "alpha": rules.level,
        "family_size": sizes if rules.correction != "none" else 1,
        "equivalence_size": sizes if rules.equivalence_correction != "none" else 1,
        "power": rules.power,
    }
    both = further_seeds(rules.smallest_effect / np.stack([sd, upper_sd(sd, n)]), n, **plan)
    found = list(comparisons)
    for row, more, more_safe in zip(open_rows, *both, strict=True):
        found[row] = replace(found[row], more_seeds=_count(more), more_seeds_safe=_count(more_safe))
    return found


def _pooled(
    table: RunTable, tested: NDArray[np.bool_], families: list[str], correction: str
) -> tuple[Floats, list[str | None]]:
    """Pooled-variance p over the seeds that all tested arms of a family share, NaN where not defined, and why not; for
    all arms of the family at once, unless nothing is corrected."""
    p, hidden = np.full(len(families), np.nan), np.full(len(families), None, dtype=object)
    for family in set(families):
        planned = np.array([name == family for name in families])
        rows = np.flatnonzero(planned & tested)
        if not rows.size:
            continue
        block = table.values[[0, *(rows + 1)]]
        size = 1 if correction == "none" else int(planned.sum())
        found = pooled_p(block[:, np.isfinite(block).all(axis=0)], family_size=size)
        hidden[rows] = found.hidden
        if found.p is not None:
            p[rows] = found.p
    return p, list(hidden)


def _columns_of(paired: Paired) -> dict[str, Floats]:
    """The paired statistics under the names they have in a Comparison."""
    return {
        "difference": paired.difference,
        "sd_difference": paired.sd,
        "se": paired.se,
        "t": paired.t,
        "ci_low": paired.low,
        "ci_high": paired.high,
        "ci90_low": paired.low90,
        "ci90_high": paired.high90,
        "smallest_bound": paired.bound,
        "g_z": paired.g_z,
        "r": paired.r,
    }


def _intention_to_treat(table: RunTable, rules: Rules) -> Floats:
    """Differences ``(arms, seeds)`` of all outcomes; a diverged run counts as the failure value (NaN if none was
    declared)."""
    value = np.nan if rules.failure_value is None else rules.failure_value
    values = np.where(table.outcomes == DIVERGED, value, table.values)
    return np.asarray(values[1:] - values[0])


def _sign_flips(differences: Floats) -> Floats:
    """Sign-flip p of each row of ``(arms, seeds)`` over what is not NaN."""
    p = np.full(len(differences), np.nan)
    for rows, packed, _ in pairs_by_count(differences, np.zeros(differences.shape[1])):
        p[rows] = sign_flip(packed)
    return p


def _mean_of_rows(values: Floats) -> Floats:
    """Mean of what is not NaN in each row; NaN where there is nothing."""
    count = np.isfinite(values).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _runs_of(table: RunTable, row: int, rules: Rules) -> dict[str, Any]:
    """Everything about an arm that is counted run by run."""
    arm, base = table.values[row], table.values[0]
    paired = np.isfinite(arm) & np.isfinite(base)
    differences = (arm - base)[paired]
    turned = differences if rules.direction == "max" else -differences
    both_ended = (table.outcomes[row] != LOST) & (table.outcomes[0] != LOST)
    used = paired | (both_ended & (rules.failure_value is not None))
    return {
        "seeds": _seeds(table, paired),
        "unpaired_arm": _seeds(table, np.isfinite(arm) & ~used),
        "unpaired_baseline": _seeds(table, np.isfinite(base) & ~used & table.planned[row]),
        "differences": tuple(differences.tolist()),
        "n": int(paired.sum()),
        "df": int(paired.sum()) - 1 if paired.sum() > 1 else None,
        "better": int((turned > 0).sum()),
        "n_planned": int(table.planned[row].sum()),
        **_spread("arm", arm),
        **_spread("baseline", base),
        **_baseline_band(arm, base, paired),
        **_welch(arm, base, paired),
        **_failures(table, row, rules),
    }


def _spread(side: str, values: Floats) -> dict[str, float | None]:
    """Mean and sd over the completed runs."""
    there = values[np.isfinite(values)]
    return {
        f"{side}_mean": float(there.mean()) if there.size else None,
        f"{side}_sd": float(there.std(ddof=1)) if there.size > 1 else None,
    }


def _baseline_band(arm: Floats, base: Floats, paired: NDArray[np.bool_]) -> dict[str, Any]:
    """Where one more run of the baseline would lie, 95 %: mean +- t s sqrt(1 + 1/n); only for an arm with one pair."""
    runs = base[np.isfinite(base)]
    if paired.sum() != 1 or runs.size < 3:
        return {}
    half = stats.t.ppf(0.975, runs.size - 1) * runs.std(ddof=1) * np.sqrt(1 + 1 / runs.size)
    low, high = float(runs.mean() - half), float(runs.mean() + half)
    return {"band_low": low, "band_high": high, "in_band": bool(low <= arm[paired][0] <= high)}


def _welch(arm: Floats, base: Floats, paired: NDArray[np.bool_]) -> dict[str, float]:
    """Welch's interval where no seed is shared: for information, never for a verdict."""
    x, y = arm[np.isfinite(arm)], base[np.isfinite(base)]
    if paired.any() or min(x.size, y.size) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {}
    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    return {
        "welch_difference": float(x.mean() - y.mean()),
        "welch_low": float(interval.low),
        "welch_high": float(interval.high),
    }


def _failures(table: RunTable, row: int, rules: Rules) -> dict[str, Any]:
    """Counts of outcomes and, where a run diverged, what they say about the share of failures."""
    planned, base_planned = table.planned[row], table.planned[0] & table.planned[row]
    arm, base = table.outcomes[row], np.where(planned, table.outcomes[0], LOST)
    n_ok, n_diverged = int((arm == OK).sum()), int((arm == DIVERGED).sum())
    base_ok, base_diverged = int((base == OK).sum()), int((base == DIVERGED).sum())
    found: dict[str, Any] = {
        "n_ok": n_ok,
        "n_diverged": n_diverged,
        "n_lost": int((planned & (arm == LOST)).sum()),
        "baseline_ok": base_ok,
        "baseline_diverged": base_diverged,
        "baseline_lost": int((base_planned & (base == LOST)).sum()),
    }
    if n_diverged or base_diverged:
        both = (arm != LOST) & (base != LOST)
        found["p_mcnemar"] = mcnemar(arm[both] == DIVERGED, base[both] == DIVERGED)
        found["failure_value"] = rules.failure_value
    if n_ok + n_diverged:
        found["failure_low"], found["failure_high"] = share_of_failures(n_diverged, n_ok + n_diverged)
    return found


def _seeds(table: RunTable, mask: NDArray[np.bool_]) -> tuple[Seed, ...]:
    return tuple(seed for seed, chosen in zip(table.seeds, mask, strict=True) if chosen)


def _count(value: float) -> int | None:
    """A plain int, None for NaN."""
    return None if np.isnan(value) else int(value)


def _number(value: Any) -> float | None:
    """A plain float, None for NaN."""
    return None if np.isnan(value) else float(value)
