"""Early rankings against the end."""

from __future__ import annotations

import numpy as np
import pytest

from ablations.analysis.curves import Curve, Run
from ablations.analysis.ranking import ranking


def runs(values: dict[str, list[tuple[float, ...]]], steps: tuple[float, ...] = (1, 2, 3)) -> dict[Run, Curve]:
    """One curve a seed, from the values at each step."""
    return {
        (name, seed): Curve(np.array(steps[: len(row)], dtype=float), np.array(row, dtype=float))
        for name, rows in values.items()
        for seed, row in enumerate(rows)
    }


def test_an_order_that_turns_round_has_a_correlation_of_minus_one() -> None:
    found = ranking(runs({"base": [(1, 5, 1)], "a": [(2, 5, 2)], "b": [(3, 4, 0)], "c": [(4, 6, -1)]}), baseline="base")
    assert found is not None
    first, second = found.early
    assert (first.step, second.step) == (1.0, 2.0)
    assert first.correlations == (pytest.approx(-0.8),)  # ranks 1 2 3 4 against 3 4 2 1: 1 - 6 * 18 / 60
    assert first.same_best == 0
    assert first.ranks == {"base": 4, "a": 3, "b": 2, "c": 1}
    assert found.ranks == {"base": 2, "a": 1, "b": 3, "c": 4}


def test_less_is_better_turns_the_ranks() -> None:
    found = ranking(runs({"base": [(1, 1)], "a": [(2, 2)], "b": [(3, 3)]}), baseline="base", direction="min")
    assert found is not None
    assert found.early[0].ranks == {"base": 1, "a": 2, "b": 3}
    assert found.early[0].correlations == (1.0,)


def test_a_decision_that_the_end_does_not_bear_out_is_named() -> None:
    base = [(0.0, 0.0)] * 3
    values = {"base": base, "early": [(1.0, 0.3), (1.1, -0.3), (0.9, 0.0)], "late": [(0.1, 1.0), (-0.1, 1.1), (0, 0.9)]}
    found = ranking(runs(values | {"steady": [(1.0, 1.0), (1.1, 1.1), (0.9, 0.9)]}), baseline="base")
    assert found is not None
    [first] = found.early
    assert dict(first.decisions) == {"early": "better", "late": "open", "steady": "better"}
    assert found.changed(first) == ["early", "late"]


def test_a_longer_run_is_ranked_by_its_own_end_and_the_short_ones_end_counts_as_early() -> None:
    values = {"base": [(1.0, 2.0)], "a": [(1.5, 1.5)], "long": [(0.5, 1.0, 9.0)]}
    found = ranking(runs(values), baseline="base")
    assert found is not None
    assert [each.step for each in found.early] == [1.0, 2.0]
    assert found.early[-1].ranks["long"] == 3
    assert found.ranks["long"] == 1


def test_two_variants_make_no_ranking() -> None:
    assert ranking(runs({"base": [(1, 2)], "a": [(2, 3)]}), baseline="base") is None


def test_a_metric_measured_once_has_no_early_step() -> None:
    assert ranking(runs({"base": [(1,)], "a": [(2,)], "b": [(3,)]}), baseline="base") is None
