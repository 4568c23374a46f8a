"""Arms against the baseline at equal steps, time or compute."""

from __future__ import annotations

import numpy as np
import pytest

from ablations.analysis.budgets import at_equal_budget, common_target
from ablations.analysis.curves import Curve


def curve(*points: tuple[float, float]) -> Curve:
    x, y = zip(*points, strict=True)
    return Curve(np.array(x, dtype=float), np.array(y, dtype=float))


def test_the_budget_is_where_the_shorter_of_the_two_ends() -> None:
    runs = {
        ("base", 0): curve((0, 0.0), (10, 1.0)),
        ("long", 0): curve((0, 0.0), (20, 4.0)),
        ("short", 0): curve((0, 0.0), (5, 1.5)),
    }
    long, short = at_equal_budget(runs, baseline="base")
    assert (long.arm, long.budget, long.difference) == ("long", 10.0, pytest.approx(1.0))  # 2.0 at 10 against 1.0
    assert (short.arm, short.budget, short.difference) == ("short", 5.0, pytest.approx(1.0))  # 1.5 at 5 against 0.5
    assert long.area == pytest.approx(0.5)  # triangles of heights 2 and 1: means 1 and 0.5
    assert (long.low, long.p) == (None, None)  # one seed is no test


def test_the_interval_is_the_paired_t_interval_over_shared_seeds() -> None:
    gains = [0.1, 0.2, 0.3]
    runs = {("base", seed): curve((0, 0.0), (10, 1.0 + seed)) for seed in range(4)}
    runs |= {("arm", seed): curve((0, 0.0), (10, 1.0 + seed + gain)) for seed, gain in enumerate(gains)}
    [found] = at_equal_budget(runs, baseline="base")
    assert found.n == 3
    assert found.difference == pytest.approx(0.2)
    half = 4.302652729696142 * 0.1 / np.sqrt(3)  # t(.975, 2) from a table, sd 0.1
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert found.area == pytest.approx(0.1)


def test_p_is_corrected_for_all_arms() -> None:
    rng = np.random.default_rng(0)
    runs = {("base", seed): curve((0, 0.0), (10, 1.0)) for seed in range(5)}
    for arm in ("a", "b"):
        runs |= {(arm, seed): curve((0, 0.0), (10, 1.1 + 0.05 * rng.normal())) for seed in range(5)}
    both = {each.arm: each.p for each in at_equal_budget(runs, baseline="base")}
    alone = {
        arm: at_equal_budget({run: each for run, each in runs.items() if run[0] in ("base", arm)}, baseline="base")[0].p
        for arm in both
    }
    ordered = sorted(both, key=lambda arm: alone[arm] or 0)
    assert both[ordered[0]] == pytest.approx(2 * (alone[ordered[0]] or 0))  # Holm's first step


def test_an_arm_without_a_common_span_is_left_out() -> None:
    runs = {("base", 0): curve((0, 0.0), (10, 1.0)), ("late", 0): curve((20, 0.0), (30, 1.0))}
    assert at_equal_budget(runs, baseline="base") == []


@pytest.mark.parametrize(("direction", "expected"), [("max", 0.5), ("min", 0.1)])
def test_every_run_of_the_baseline_reaches_the_target(direction: str, expected: float) -> None:
    runs = {("base", 0): curve((0, 0.0), (10, 0.5), (20, 0.3)), ("base", 1): curve((0, 0.1), (10, 0.7))}
    assert common_target(runs, baseline="base", direction=direction) == expected
    assert common_target(runs, baseline="other", direction=direction) is None
