from __future__ import annotations

import numpy as np
import pytest

from ablations.analysis.curves import Curve
from ablations.analysis.diagnosis import find_spikes, gap, overfitting


def curve(*y: float) -> Curve:
    return Curve(np.arange(len(y), dtype=float) * 100, np.array(y))


def test_a_validation_loss_that_rises_while_training_goes_on_is_overfitting():
    found = overfitting(curve(3.0, 2.0, 2.05, 2.2), curve(3.0, 2.0, 1.5, 1.0), curve(0.1, 0.3, 0.35, 0.36))
    assert found.generalisation_loss == pytest.approx(10.0)  # 100 (2.2 / 2 - 1)
    assert (found.best_x, found.overfitted) == (100.0, True)
    assert found.metric_drop == 0.0  # the metric did not fall with it


def test_a_loss_that_rises_with_the_training_loss_is_not_overfitting():
    found = overfitting(curve(3.0, 2.0, 2.5, 3.0), curve(3.0, 2.0, 2.5, 3.0))
    assert (found.train_falling, found.overfitted, found.metric_drop) == (False, False, None)
    assert not overfitting(curve(3.0, 2.0, 2.05), curve(3.0, 2.0, 1.0)).overfitted  # 2.5 % only


def test_a_metric_of_which_less_is_better_drops_when_it_rises():
    assert overfitting(
        curve(2.0, 1.0), curve(2.0, 1.0), curve(0.5, 0.2, 0.3), metric_sign=-1
    ).metric_drop == pytest.approx(0.1)


def test_a_gap_that_is_there_from_the_start_is_not_memorising():
    assert gap(curve(3.5, 3.0, 2.6), curve(3.0, 2.4, 2.0)).from_start is True
    grown = gap(curve(3.0, 2.8, 2.6), curve(3.0, 2.4, 2.0))
    assert (grown.at_start, grown.at_end, grown.from_start) == (0.0, pytest.approx(0.6), False)
    assert gap(curve(1.0), curve(1.0)) is None


def falling(steps: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray((2 + 3 * np.exp(-np.arange(steps) / 200)) * np.exp(noise * rng.normal(size=steps)))


def test_a_spike_is_found_with_its_place_and_height():
    loss = falling(300, 0.02, np.random.default_rng(0))
    loss[150:155] *= 2.5
    [spike] = find_spikes(loss).spikes
    assert (spike.start, spike.end, spike.recovered) == (150, 154, True)
    assert spike.height == pytest.approx(2.5, rel=0.1)


def test_near_events_are_one_and_far_ones_are_two():
    loss = np.full(100, 2.0)
    loss[[40, 44]] = 9.0
    loss[[70, 75]] = 9.0
    assert [(spike.start, spike.end) for spike in find_spikes(loss).spikes] == [(40, 44), (70, 70), (75, 75)]


def test_a_spike_that_lasts_to_the_end_has_not_recovered():
    loss = falling(200, 0.02, np.random.default_rng(1))
    loss[190:] *= 2
    found = find_spikes(loss)
    assert [spike.recovered for spike in found.spikes] == [False]
    assert not found.diverged  # still below where it started


def test_a_loss_that_ends_above_its_start_or_is_not_finite_has_diverged():
    loss = falling(200, 0.02, np.random.default_rng(1))
    assert not find_spikes(loss).diverged
    assert find_spikes(np.concatenate([loss, np.full(50, 20.0)])).diverged
    assert find_spikes(np.append(loss, np.nan)).diverged
    assert find_spikes(np.array([])).spikes == ()


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "alarms", "recall"), [(0.05, 0.02, 1.00), (0.1, 0.15, 0.98), (0.2, 0.17, 0.35)])
def test_false_alarms_and_recall_are_those_of_the_method(noise, alarms, recall):
    rng = np.random.default_rng(7)
    false = sum(len(find_spikes(falling(1000, noise, rng)).spikes) for _ in range(60))
    found = 0
    for _ in range(100):
        loss = falling(200, noise, rng)
        loss[150:155] *= 2.5
        found += any(spike.start <= 154 and spike.end >= 150 for spike in find_spikes(loss).spikes)
    assert false / 60 == pytest.approx(alarms, abs=0.2)
    assert found / 100 == pytest.approx(recall, abs=0.15)
