"""From a long table of scores to a matrix of arms by seeds, without losing track of what is missing and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.results import Seed
from ablations.errors import AblationsError, MissingRuns, one_of

LOST, OK, DIVERGED = 0, 1, 2
COMPLETED_WORDS = frozenset({"completed", "ok"})
DIVERGED_WORDS = frozenset({"diverged"})


@dataclass(frozen=True)
class Columns:
    """The names that the columns of a long table go by."""

    variant: str = "variant"
    seed: str = "seed"
    value: str = "value"
    metric: str = "metric"
    status: str = "status"
    example: str = "example"


@dataclass(frozen=True)
class RunTable:
    """One metric of all planned runs.

    Attributes:
        arms: Names of the arms, the baseline first.
        seeds: All planned seeds.
        values: Metric at the selected checkpoint ``(arms, seeds)``; NaN where the run did not complete.
        outcomes: LOST, OK or DIVERGED ``(arms, seeds)``.
        planned: Whether a run was planned ``(arms, seeds)``.
    """

    arms: tuple[str, ...]
    seeds: tuple[Seed, ...]
    values: NDArray[np.float64]
    outcomes: NDArray[np.int8]
    planned: NDArray[np.bool_]


def read_table(
    frame: pd.DataFrame,
    *,
    baseline: str,
    metric: str,
    planned: Mapping[str, Iterable[Seed]] | None = None,
    columns: Columns | None = None,
) -> RunTable:
    """Reads one metric of a long table.

    A run is OK if its status says so (or there is no status column) and its value is finite; DIVERGED if its status
    says so or its value is infinite; LOST otherwise: a NaN, another status, or no row at all. A lost run is never a
    number.

    Args:
        frame: One row per run and metric (and, where there is such a column, per test example: examples are averaged).
        baseline: Name of the baseline.
        metric: Metric to read. Without a metric column it may be the name of the column of values.
        planned: Seeds planned for each arm; by default every arm at every seed that the table names.
        columns: The names of the columns.

    Raises:
        AblationsError: If a column is missing, a run has two values, or the table has runs that were not planned.
        MissingRuns: If the baseline is not in the table and not planned.
    """
    columns = columns or Columns()
    frame, value_column = _check_columns(frame, metric, columns)
    arms, seeds, mask = _plan(frame, baseline, planned, columns)
    outcomes = np.full(mask.shape, LOST, dtype=np.int8)
    values = np.full(mask.shape, np.nan)
    rows = _rows_of_metric(frame, metric, value_column, columns)
    arm_at, seed_at = _positions(rows, arms, seeds, columns)
    number = pd.to_numeric(rows[value_column], errors="coerce").to_numpy(dtype=float)
    outcome = np.where(np.isfinite(number), OK, np.where(np.isinf(number), DIVERGED, LOST)).astype(np.int8)
    if columns.status in frame:
        runs = frame[[columns.variant, columns.seed, columns.status]].drop_duplicates()
        status = runs[columns.status].astype(str).str.lower()
        run_arm, run_seed = _positions(runs, arms, seeds, columns)
        bad = ~status.isin(COMPLETED_WORDS).to_numpy()
        diverged = status.isin(DIVERGED_WORDS).to_numpy()
        outcomes[arm_at, seed_at] = outcome
        outcomes[run_arm[bad], run_seed[bad]] = LOST
        outcomes[run_arm[diverged], run_seed[diverged]] = DIVERGED
    else:
        outcomes[arm_at, seed_at] = outcome
    values[arm_at, seed_at] = number
    values[outcomes != OK] = np.nan
    return RunTable(arms, seeds, values, outcomes, mask)


def _check_columns(frame: pd.DataFrame, metric: str, columns: Columns) -> tuple[pd.DataFrame, str]:
    """Checks that the columns are there; returns the table with text arms, and the name of the column of values."""
    value = columns.value
    if value not in frame and columns.metric not in frame and metric in frame:
        value = metric
    for name in (columns.variant, columns.seed, value):
        if name not in frame:
            raise AblationsError(f"the table of scores: {one_of('column', name, frame.columns)}")
    if frame[columns.seed].isna().any() or frame[columns.variant].isna().any():
        raise AblationsError(f"the table of scores has rows without a {columns.variant!r} or a {columns.seed!r}")
    if columns.metric in frame and metric not in set(frame[columns.metric]):
        raise AblationsError(
            f"the table of scores: {one_of('metric', metric, frame[columns.metric].dropna().unique())}"
        )
    return frame.assign(**{columns.variant: frame[columns.variant].astype(str)}), value


def _plan(
    frame: pd.DataFrame, baseline: str, planned: Mapping[str, Iterable[Seed]] | None, columns: Columns
) -> tuple[tuple[str, ...], tuple[Seed, ...], NDArray[np.bool_]]:
    """Arms (baseline first), seeds, and which of their runs were planned."""
    seen = pd.unique(frame[columns.variant])
    if planned is None:
        if baseline not in seen:
            raise MissingRuns(f"no run of the baseline: {one_of('variant', baseline, seen)}")
        seeds = tuple(np.sort(frame[columns.seed].unique()).tolist())
        arms = (baseline, *(arm for arm in seen if arm != baseline))
        return arms, seeds, np.ones((len(arms), len(seeds)), dtype=bool)
    by_arm = {str(arm): tuple(of_arm) for arm, of_arm in planned.items()}
    seeds = tuple(dict.fromkeys(seed for of_arm in by_arm.values() for seed in of_arm))
    by_arm.setdefault(baseline, seeds)
    arms = (baseline, *(arm for arm in by_arm if arm != baseline))
    unplanned = [arm for arm in seen if arm not in by_arm]
    if unplanned:
        raise AblationsError(
            f"the table of scores has a variant that was not planned: {one_of('variant', unplanned[0], arms)}"
        )
    place = {seed: index for index, seed in enumerate(seeds)}
    mask = np.zeros((len(arms), len(seeds)), dtype=bool)
    for row, arm in enumerate(arms):
        mask[row, [place[seed] for seed in by_arm[arm]]] = True
    return arms, seeds, mask


def _rows_of_metric(frame: pd.DataFrame, metric: str, value: str, columns: Columns) -> pd.DataFrame:
    """One row per run that has the metric; examples averaged.

    Raises:
        AblationsError: If a run has more than one value.
    """
    rows = frame[frame[columns.metric] == metric] if columns.metric in frame else frame
    run = [columns.variant, columns.seed]
    if columns.example in rows:
        per_run = rows.groupby(run, sort=False)[value]
        return per_run.mean().where(per_run.count() == per_run.size()).reset_index()
    twice = rows.duplicated(run)
    if twice.any():
        arm, seed = rows.loc[twice, run].iloc[0]
        raise AblationsError(f"the table of scores has more than one {metric!r} for variant {arm!r}, seed {seed}")
    return rows


def _positions(
    rows: pd.DataFrame, arms: tuple[str, ...], seeds: tuple[Seed, ...], columns: Columns
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each run in the matrix.

    Raises:
        AblationsError: If a seed was not planned.
    """
    arm_at = pd.Index(arms).get_indexer(rows[columns.variant])
    seed_at = pd.Index(seeds).get_indexer(rows[columns.seed])
    if (seed_at < 0).any():
        seed = rows[columns.seed].iloc[int(np.argmin(seed_at))]
        raise AblationsError(f"the table of scores has a seed that was not planned: {seed}")
    return arm_at, seed_at
