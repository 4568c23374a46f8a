"""Events, told from a series of losses without any training."""

import math

import numpy as np
import pytest

from ablations.naming.config import Training
from ablations.naming.guard import NAMED_EVENTS, Guard, Taken


def watched(losses, policy="continue"):
    events, log = [], []
    guard = Guard(
        Training(on_failure=policy),
        events,
        lambda name, value, step: log.append((name, value, step)),
        lambda rows: [f"sample {row}" for row in rows],
    )
    for step, loss in enumerate(losses, start=1):
        guard.look(Taken(step, step - 1, np.array([step]), loss, 1.0, 0.1))
    return events, log


def test_high_losses_at_most_three_apart_are_one_event():
    losses = np.full(100, 2.0)
    losses[[40, 44]] = 9.0, 11.0
    losses[[70, 75]] = 9.0
    events, log = watched(losses.tolist())
    assert [(each["step"], each["last_step"], each["highest"]) for each in events] == [
        (41, 45, 11.0), (71, 71, 9.0), (76, 76, 9.0),
    ]  # fmt: skip
    assert all(each["recovered"] for each in events)
    assert [each["samples"] for each in events] == [["sample 41"], ["sample 71"], ["sample 76"]]
    assert log == [("spike", 9.0, 41), ("spike", 9.0, 71), ("spike", 9.0, 76)]
    assert events[0]["threshold"] == pytest.approx(2.4)  # 2 x 1.2, by hand: no spread


def test_a_spike_that_lasts_to_the_end_has_not_recovered():
    events, _ = watched([2.0] * 50 + [3.0] * 5)
    assert [(each["step"], each["last_step"], each["recovered"]) for each in events] == [(51, 55, False)]


def test_a_divergence_that_hovers_about_its_limit_is_one_event():
    losses = [3.0 * math.exp(0.02 * step) for step in range(40)]  # climbs slowly: no spike
    events, log = watched(losses + [losses[-1] * (1 + 0.1 * math.sin(step)) for step in range(400)])
    assert [each["kind"] for each in events] == ["divergence"]
    assert [name for name, *_ in log] == ["divergence"]


def test_a_run_that_fails_all_the_time_has_no_endless_record():
    losses = [9.0 if index % 10 == 0 and index > 20 else 2.0 for index in range(2000)]
    events, _ = watched(losses)
    assert len(events) > NAMED_EVENTS
    assert [bool(each["samples"]) for each in events] == [index < NAMED_EVENTS for index in range(len(events))]
