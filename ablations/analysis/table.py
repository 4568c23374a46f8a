"""From a long table of scores to a matrix of arms by seeds, without losing track of what is missing and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.results import Direction, Seed
from ablations.errors import AblationsError, MissingRuns, one_of

DIRECTIONS = ("max", "min")
LOST, OK, DIVERGED = 0, 1, 2
COMPLETED_WORDS = frozenset({"completed", "ok"})
DIVERGED_WORDS = frozenset({"diverged"})
NO_NUMBER = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})


@dataclass(frozen=True)
class Columns:
    """The names that the columns of a long table go by."""

    variant: str = "variant"
    seed: str = "seed"
    value: str = "value"
    metric: str = "metric"
    status: str = "status"
    example: str = "example"
    step: str = "step"


@dataclass(frozen=True)
class Checkpoint:
    """Which step of a table that has several stands for a run: where another metric is best, of equals the earliest.

    Attributes:
        metric: The metric that selects, measured at the same steps: a validation metric.
        direction: "max" if more of it is better, else "min".
    """

    metric: str
    direction: Direction = "max"

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise AblationsError(one_of("direction", self.direction, DIRECTIONS))


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
    checkpoint: Checkpoint | None = None,
) -> RunTable:
    """Reads one metric of a long table.

    A run is OK if its status says so (or there is no status column) and its value is finite; DIVERGED if its status
    says so or its value is infinite; LOST otherwise: a NaN, another status, or no row at all. A lost run is never a
    number.

    Args:
        frame: One row per run and metric. Where there is a column of steps, the last step of a run that has the metric
            stands for it, or the one that ``checkpoint`` selects. Where there is a column of test examples, they are
            averaged, and a run that lacks one of them is lost.
        baseline: Name of the baseline.
        metric: Metric to read. Without a metric column it may be the name of the column of values.
        planned: Seeds planned for each arm; by default every arm at every seed that the table names.
        columns: The names of the columns.
        checkpoint: How the step that stands for a run is selected; by default it is the last.

    Raises:
        AblationsError: If a column is missing or holds no numbers, a run has two values, or the table has runs that
            were not planned.
        MissingRuns: If the baseline is not in the table and not planned.
    """
    columns = columns or Columns()
    frame, value_column = check_columns(frame, metric, columns)
    arms, seeds, mask = _plan(frame, baseline, planned, columns)
    outcomes = np.full(mask.shape, LOST, dtype=np.int8)
    values = np.full(mask.shape, np.nan)
    rows = _mean_of_examples(measured(frame, metric, value_column, columns, checkpoint), value_column, columns)
    arm_at, seed_at = _positions(rows, arms, seeds, columns)
    number = rows[value_column].to_numpy(dtype=float)
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


def check_columns(frame: pd.DataFrame, metric: str, columns: Columns) -> tuple[pd.DataFrame, str]:
    """Checks that the columns are there; returns the table with text arms, and the name of the column of values.

    Raises:
        AblationsError: With everything that is wrong with the columns.
    """
    value = columns.value
    if value not in frame and columns.metric not in frame and metric in frame:
        value = metric
    wanted = [columns.variant, columns.seed, value]
    wanted += [name for key, name in asdict(columns).items() if name != getattr(Columns(), key) and name not in wanted]
    problems = [one_of("column", name, frame.columns) for name in wanted if name not in frame]
    if not problems:
        for name in (columns.variant, columns.seed):
            empty = frame[name].isna()
            if empty.any():
                problems.append(f"{empty.sum()} rows without a {name!r}, the first is row {_first(frame, empty)}")
        if columns.metric in frame and metric not in set(frame[columns.metric]):
            problems.append(one_of("metric", metric, frame[columns.metric].dropna().unique()))
    if problems:
        raise AblationsError(f"the table of scores: {'; '.join(problems)}")
    return frame.assign(**{columns.variant: frame[columns.variant].astype(str)}), value


def _first(frame: pd.DataFrame, where: pd.Series) -> object:
    """Label of the first row for which something holds."""
    return frame.index[int(np.argmax(where.to_numpy()))]


def _numbers(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows with a column turned into numbers; what is empty or written as not a number becomes NaN.

    Raises:
        AblationsError: If there is something else in it, such as a decimal comma: it must not pass for a lost run.
    """
    if pd.api.types.is_numeric_dtype(rows[column]):
        return rows
    number = pd.to_numeric(rows[column], errors="coerce")
    text = rows[column].astype(str).str.strip().str.lower()
    wrong = number.isna() & rows[column].notna() & ~text.isin(NO_NUMBER)
    if wrong.any():
        found = rows.loc[wrong, column].iloc[0]
        raise AblationsError(
            f"the table of scores: expected numbers in column {column!r}, found {found!r} in row {_first(rows, wrong)} "
            f"({wrong.sum()} such rows)"
        )
    return rows.assign(**{column: number.astype(float)})


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


def measured(
    frame: pd.DataFrame, metric: str, value: str, columns: Columns, checkpoint: Checkpoint | None = None
) -> pd.DataFrame:
    """The rows of one metric, its values numbers: one per run, or per run and example where there are examples.

    Args:
        frame: A long table whose columns have been checked.
        metric: The metric.
        value: Column of its values.
        columns: The names of the columns.
        checkpoint: How the step that stands for a run is selected; by default it is the last.

    Raises:
        AblationsError: If there are two values for one of them, text among the numbers, or none at the step selected.
    """
    rows = _numbers(_rows_of_metric(frame, metric, columns), value)
    if columns.step in rows:
        rows = _at_one_step(frame, rows, value, columns, checkpoint)
    elif checkpoint is not None:
        raise AblationsError(f"selecting a step by {checkpoint.metric!r} takes a column {columns.step!r}")
    run = [columns.variant, columns.seed]
    unit = [*run, columns.example] if columns.example in rows else run
    twice = rows.duplicated(unit)
    if twice.any():
        arm, seed = rows.loc[twice, run].iloc[0]
        which = f", example {rows.loc[twice, columns.example].iloc[0]}" if len(unit) > len(run) else ""
        raise AblationsError(
            f"the table of scores has more than one {metric!r} for variant {arm!r}, seed {seed}{which}"
        )
    return rows


def _mean_of_examples(rows: pd.DataFrame, value: str, columns: Columns) -> pd.DataFrame:
    """One row per run; the value of a run that lacks an example, or its value, is NaN."""
    if columns.example not in rows:
        return rows
    per_run = rows.groupby([columns.variant, columns.seed], sort=False)[value]
    return per_run.mean().where(per_run.count() == rows[columns.example].nunique()).reset_index()


def _rows_of_metric(frame: pd.DataFrame, metric: str, columns: Columns) -> pd.DataFrame:
    return frame[frame[columns.metric] == metric] if columns.metric in frame else frame


def _at_one_step(
    frame: pd.DataFrame, rows: pd.DataFrame, value: str, columns: Columns, checkpoint: Checkpoint | None
) -> pd.DataFrame:
    """The rows of the step that stands for each run.

    Raises:
        AblationsError: If the metric that selects is missing, or was measured at other steps.
    """
    run = [columns.variant, columns.seed]
    rows = _numbers(rows, columns.step)
    if checkpoint is None:
        return rows[rows[columns.step] == rows.groupby(run)[columns.step].transform("max")]
    selected = _selected_steps(frame, value, columns, checkpoint)
    known = rows[run].drop_duplicates().merge(selected, on=run, how="left")
    at_step = rows.merge(selected, on=[*run, columns.step])
    lacking = known.merge(at_step[run].drop_duplicates(), on=run, how="left", indicator=True)
    lacking = lacking[lacking["_merge"] == "left_only"]
    if len(lacking):
        arm, seed, step = lacking.iloc[0][[*run, columns.step]]
        where = "nowhere" if pd.isna(step) else f"at step {step:g}, where the metric was not measured"
        raise AblationsError(
            f"the table of scores: {checkpoint.metric!r} is best {where} for variant {arm!r}, seed {seed}"
        )
    return at_step


def _selected_steps(frame: pd.DataFrame, value: str, columns: Columns, checkpoint: Checkpoint) -> pd.DataFrame:
    """The step at which the selecting metric is best, earliest of equals: a row per run."""
    run = [columns.variant, columns.seed]
    column = value if columns.metric in frame else checkpoint.metric
    there = set(frame[columns.metric]) if columns.metric in frame else set(frame.columns)
    if checkpoint.metric not in there:
        raise AblationsError(f"the table of scores: {one_of('metric', checkpoint.metric, sorted(map(str, there)))}")
    rows = _numbers(_numbers(_rows_of_metric(frame, checkpoint.metric, columns), column), columns.step)
    rows = rows.groupby([*run, columns.step], as_index=False)[column].mean()  # over examples, where there are any
    rows = rows[np.isfinite(rows[column])]
    ordered = rows.sort_values([column, columns.step], ascending=[checkpoint.direction == "min", True], kind="stable")
    return ordered.drop_duplicates(run)[[*run, columns.step]]


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
