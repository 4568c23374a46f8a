"""Learning curves on a common grid: means and pointwise t bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ablations.analysis.curves import Curve, band
from ablations.analysis.paired import Floats

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Seed:
    """One run's curve.

    Attributes:
        steps: Optimizer steps, increasing.
        values: Values at them.
        completed: False for a run that broke off; it is drawn, but no part of mean and band.
    """

    steps: Floats
    values: Floats
    completed: bool


@dataclass(frozen=True)
class Series:
    """A variant's curve of one metric.

    Attributes:
        variant: Its name.
        seeds: Its runs.
        grid: Steps (points,) up to the smallest budget that all completed seeds share.
        mean: Mean over completed seeds (points,).
        low: Lower end of the pointwise 95 % t interval (points,); NaN with fewer than 2 seeds.
        high: Upper end.
    """

    variant: str
    seeds: tuple[Seed, ...]
    grid: Floats
    mean: Floats
    low: Floats
    high: Floats

    @property
    def n(self) -> int:
        """Completed seeds."""
        return sum(seed.completed for seed in self.seeds)


def series(variant: str, curves: pd.DataFrame, statuses: Mapping[str, str], points: int = 0) -> Series | None:
    """One variant's curve of one metric, or None where nothing was measured.

    The band is mean ± t(.975, n - 1) s / sqrt n at each step, by linear interpolation on a common grid and without
    extrapolation. It holds point by point, not for the whole curve at once.

    Args:
        variant: Whose.
        curves: Its points: run_id, step, value; of two at one step the later stays.
        statuses: Status by run id.
        points: Average noisy values within so many stretches of steps first; 0 keeps every point.
    """
    seeds = []
    for run_id, steps, values in _runs(curves):
        noisy = points and steps.size > 2 * points
        drawn = _averaged(steps, values, points) if noisy else (steps, values)
        seeds.append(Seed(*drawn, statuses.get(run_id) == "completed"))
    if not seeds:
        return None
    return Series(variant, tuple(seeds), *_band([seed for seed in seeds if seed.completed]))


def _runs(curves: pd.DataFrame) -> Iterator[tuple[str, Floats, Floats]]:
    """Id, steps and finite values of each run that has any, by step; of two values at one step the later."""
    ids = curves["run_id"].to_numpy(str)
    steps, values = curves["step"].to_numpy(float), curves["value"].to_numpy(float)
    for run_id in dict.fromkeys(ids):
        rows = ids == run_id
        order = np.argsort(steps[rows], kind="stable")
        x, y = steps[rows][order], values[rows][order]
        keep = np.append(x[1:] != x[:-1], True) & np.isfinite(y)
        if keep.any():
            yield str(run_id), x[keep], y[keep]


def _averaged(steps: Floats, values: Floats, points: int) -> tuple[Floats, Floats]:
    parts = np.minimum((np.arange(steps.size) * points) // steps.size, points - 1)
    counts = np.bincount(parts, minlength=points)
    return np.bincount(parts, steps) / counts, np.bincount(parts, values) / counts


def _band(seeds: list[Seed]) -> tuple[Floats, Floats, Floats, Floats]:
    if not seeds:
        return (np.array([]),) * 4
    low = max(float(seed.steps[0]) for seed in seeds)
    high = min(float(seed.steps[-1]) for seed in seeds)
    every = np.unique(np.concatenate([seed.steps for seed in seeds]))
    if len(every) > 400:
        every = np.linspace(low, high, 200)
    grid = every[(every >= low) & (every <= high)]
    return (grid, *band([Curve(seed.steps, seed.values) for seed in seeds], grid))
