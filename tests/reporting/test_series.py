"""Learning curves over seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablations.reporting.series import series


def curves(runs: dict[str, list[tuple[int, float]]]) -> pd.DataFrame:
    rows = [(run, step, value) for run, points in runs.items() for step, value in points]
    return pd.DataFrame(rows, columns=["run_id", "step", "value"])


def completed(*runs: str) -> dict[str, str]:
    return dict.fromkeys(runs, "completed")


def test_the_band_is_a_t_interval_at_each_step() -> None:
    found = series("a", curves({"r0": [(10, 1.0)], "r1": [(10, 2.0)], "r2": [(10, 3.0)]}), completed("r0", "r1", "r2"))
    assert found is not None
    assert found.mean.tolist() == [2.0]
    half = 4.302652729696142 / math.sqrt(3)  # t(.975, 2) from a table, times sd 1 / sqrt 3
    assert found.high[0] - 2.0 == pytest.approx(half)
    assert 2.0 - found.low[0] == pytest.approx(half)


def test_the_mean_ends_where_the_shortest_seed_ends() -> None:
    found = series("a", curves({"r0": [(10, 1.0), (20, 2.0)], "r1": [(10, 3.0), (30, 5.0)]}), completed("r0", "r1"))
    assert found is not None
    assert found.grid.tolist() == [10.0, 20.0]
    assert found.mean.tolist() == [2.0, 3.0]  # at 20 the second run is interpolated to 4


def test_a_run_that_broke_off_is_kept_but_is_no_part_of_the_mean() -> None:
    found = series("a", curves({"r0": [(10, 1.0)], "r1": [(10, 9.0)]}), {"r0": "completed", "r1": "diverged"})
    assert found is not None
    assert (found.n, len(found.seeds), found.mean.tolist()) == (1, 2, [1.0])
    assert np.isnan(found.low).all()


def test_noise_is_averaged_within_stretches_of_steps() -> None:
    points = [(step, float(step % 2)) for step in range(1, 101)]
    found = series("a", curves({"r0": points}), completed("r0"), points=10)
    assert found is not None
    assert found.mean.tolist() == [0.5] * 10


def test_nothing_measured_gives_no_series() -> None:
    assert series("a", curves({"r0": [(1, math.nan)]}), completed("r0")) is None
