"""What must hold whatever the scores: symmetry, units, names, order."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.analysis.compare import compare

SCORES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
RUNS = st.one_of(SCORES, st.sampled_from(["failed", "diverged"]))
COMMON = {"failure_value": 0.0, "smallest_effect": 0.05}
TURNED = {
    "helps": "hurts",
    "hurts": "helps",
    "helps_negligible": "hurts_negligible",
    "hurts_negligible": "helps_negligible",
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A baseline and one to three arms at one to six seeds; some runs lost or diverged."""
    seeds = draw(st.integers(1, 6))
    rows = []
    for arm in ["base", "a", "b", "c"][: draw(st.integers(2, 4))]:
        for seed, run in enumerate(draw(st.lists(RUNS, min_size=seeds, max_size=seeds))):
            status, value = (run, math.nan) if isinstance(run, str) else ("completed", run)
            rows.append((arm, seed, "f1", value, status))
    return pd.DataFrame(rows, columns=["variant", "seed", "metric", "value", "status"])


def verdicts(frame: pd.DataFrame, **rules: object) -> dict[str, str]:
    return {c.arm: c.verdict for c in compare(frame, baseline="base", metric="f1", **(COMMON | rules))}


def flags(frame: pd.DataFrame, **rules: object) -> dict[str, tuple[str, ...]]:
    return {c.arm: c.flags for c in compare(frame, baseline="base", metric="f1", **(COMMON | rules))}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(tables())
def test_less_is_better_of_turned_scores_is_more_is_better(frame):
    turned = frame.assign(value=-frame["value"])
    assert verdicts(turned, direction="min") == verdicts(frame)
    assert flags(turned, direction="min") == flags(frame)


@settings(max_examples=40, deadline=None)
@given(tables())
@pytest.mark.slow
def test_turning_the_direction_alone_swaps_helps_and_hurts(frame):
    swapped = {arm: TURNED.get(verdict, verdict) for arm, verdict in verdicts(frame).items()}
    assert verdicts(frame, direction="min") == swapped


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(tables())
def test_a_metric_in_percent_gives_the_same_verdicts(frame):
    percent = frame.assign(value=100 * frame["value"])
    assert verdicts(percent, smallest_effect=5.0) == verdicts(frame)
    assert flags(percent, smallest_effect=5.0) == flags(frame)


@settings(max_examples=40, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
@pytest.mark.slow
def test_relabelled_seeds_and_shuffled_rows_change_nothing(frame, random):
    labels = [f"seed-{index}" for index in range(6)]
    random.shuffle(labels)
    order = list(range(len(frame)))
    random.shuffle(order)
    other = frame.assign(seed=[labels[seed] for seed in frame["seed"]]).iloc[order]
    before = {c.arm: c for c in compare(frame, baseline="base", metric="f1", **COMMON)}
    for c in compare(other, baseline="base", metric="f1", **COMMON):
        was = before[c.arm]
        assert (c.verdict, c.flags, c.n, c.better) == (was.verdict, was.flags, was.n, was.better)
        for name in ("difference", "ci_low", "p", "p_adjusted", "p_signflip", "p_tost"):
            assert np.isclose(getattr(c, name) or 0.0, getattr(was, name) or 0.0, rtol=1e-6, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(SCORES, min_size=3, max_size=8), st.floats(0.001, 0.5))
def test_an_arm_like_the_baseline_is_identical_whatever_is_of_interest(values, effect):
    frame = pd.DataFrame(
        {
            "variant": ["base"] * len(values) + ["a"] * len(values),
            "seed": [*range(len(values))] * 2,
            "value": values * 2,
        }
    )
    assert verdicts(frame, smallest_effect=effect) == {"a": "identical"}


@settings(max_examples=40, deadline=None)
@given(tables())
@pytest.mark.slow
def test_a_lost_run_is_like_a_run_that_has_no_row(frame):
    planned = {arm: sorted(set(frame["seed"])) for arm in pd.unique(frame["variant"])}
    without = frame[frame["status"] != "failed"]
    if {"base"} <= set(without["variant"]):
        kept = compare(frame, baseline="base", metric="f1", planned=planned, **COMMON)
        assert compare(without, baseline="base", metric="f1", planned=planned, **COMMON) == kept


@settings(max_examples=40, deadline=None)
@given(tables())
def test_every_arm_has_one_verdict_and_its_runs_add_up(frame):
    for c in compare(frame, baseline="base", metric="f1", **COMMON):
        assert c.n_ok + c.n_diverged + c.n_lost == c.n_planned
        assert c.p is None or c.n >= 3
        assert c.verdict != "helps" or (c.improvement > 0 and c.p_adjusted <= c.alpha)
