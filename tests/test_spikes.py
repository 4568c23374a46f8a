"""The rule for spikes and divergence, asked one loss at a time."""

import math

import numpy as np
import pytest

from ablations.spikes import DivergenceDetector, SpikeDetector


def test_a_loss_is_held_against_the_last_twenty_that_were_not_too_high():
    detector = SpikeDetector()
    assert [detector.add(2.0).limit for _ in range(11)][8:] == [math.inf, math.inf, pytest.approx(math.log(2.4))]
    assert detector.add(2.39).too_high is False  # 2 x 1.2 = 2.4, by hand: no spread yet
    assert detector.add(50.0).too_high is True
    assert detector.add(50.0).too_high is True  # the first one was not taken in
    assert detector.add(2.0).before == pytest.approx(math.log(2.0))


def test_a_noisy_loss_is_allowed_six_robust_standard_deviations():
    detector = SpikeDetector()
    for index in range(21):
        detector.add(2.0 * math.exp((index % 3) / 2))
    # logarithms are log 2 + 0, 0.5 and 1 in turn: median log 2 + 0.5; two thirds lie 0.5 off: MAD 0.5
    assert detector.add(2.0).limit == pytest.approx(math.log(2) + 0.5 + 6 * 1.4826 * 0.5)


def test_a_detector_that_is_put_back_says_the_same_again():
    losses = np.exp(np.random.default_rng(0).normal(size=60)).tolist()
    for kind in (SpikeDetector, DivergenceDetector):
        first, again = kind(), kind()
        for loss in losses[:30]:
            first.add(loss)
        again.restore(first.state())
        assert [first.add(loss) for loss in losses[30:]] == [again.add(loss) for loss in losses[30:]]


def test_a_loss_that_stays_above_where_it_began_has_diverged():
    detector = DivergenceDetector()
    said = [detector.add(loss).too_high for loss in [3.0] * 20 + [2.0] * 20 + [3.7] * 20]
    # 3.7 > 3 x 1.2; the median of the last 20 is 3.7 as soon as 11 of them are
    assert said.index(True) == 40 + 11 - 1
    assert all(said[50:])


def test_a_loss_that_explodes_at_once_has_diverged():
    detector = DivergenceDetector()
    said = [detector.add(loss).too_high for loss in [3.0, 30.0, 60.0] + [50.0] * 40]
    assert said.index(True) == 39  # the fortieth: before, there are not twenty behind the first twenty


def test_a_loss_that_stands_still_does_not_diverge_by_noise():
    rng = np.random.default_rng(0)
    for noise in (0.05, 0.1, 0.2):
        detector = DivergenceDetector()
        assert not any(detector.add(float(3 * np.exp(noise * rng.normal()))).too_high for _ in range(1000))
