"""The time left, and what a terminal shows of it; durations and shares by hand."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ablations.console import LiveWatcher, PlainWatcher, duration
from ablations.launch import Active, Ended, Remaining, Snapshot
from ablations.plan import RunKey
from ablations.store import Progress


def key(variant, seed=0):
    return RunKey(variant, seed, "0" * 64)


def ended(variant, seconds, status="completed"):
    return Ended(key(variant), status, seconds, None if status == "completed" else "why", 0.5)


def active(variant, seconds, step=0, steps=100):
    return Active(key(variant), seconds, Progress(step, steps, {"train_loss": 2.5}))


def test_before_any_run_has_ended_the_forecast_counts():
    remaining = Remaining({"a": 10.0, "b": 30.0}, workers=2)
    assert remaining.left_s({"a": 1, "b": 1}, []) == 20


def test_runs_that_have_ended_correct_the_forecast_of_the_others():
    remaining = Remaining({"a": 10.0, "b": 30.0}, workers=1)
    remaining.learn(ended("a", 20.0))  # twice as long as foreseen
    assert remaining.left_s({"b": 1}, []) == 60
    assert remaining.left_s({"a": 1}, []) == 20


def test_a_failed_run_teaches_nothing():
    remaining = Remaining({"a": 10.0}, workers=1)
    remaining.learn(ended("a", 1.0, "failed"))
    assert remaining.left_s({"a": 1}, []) == 10


def test_a_running_run_is_judged_by_its_own_share():
    remaining = Remaining({"a": 10.0}, workers=2)
    assert remaining.left_s({}, [active("a", 30.0, step=75)]) == pytest.approx(10)  # 30 s for three quarters


def test_of_a_run_that_began_with_what_another_has_done_only_its_own_share_counts():
    remaining = Remaining({"a": 50.0}, workers=1)
    run = replace(active("a", 20.0, step=75), first=(0.5, 10.0))  # a quarter in 10 s
    assert remaining.left_s({}, [run]) == pytest.approx(10)
    run = replace(active("a", 20.0, step=55), first=(0.5, 10.0))  # too little to tell
    assert remaining.left_s({}, [run]) == pytest.approx(30)


def test_the_longest_running_run_bounds_the_time_left():
    remaining = Remaining({"a": 10.0, "b": 100.0}, workers=4)
    assert remaining.left_s({"a": 1}, [active("b", 0.0)]) == 100


def test_what_nothing_is_known_of_is_unknown_until_a_run_has_ended():
    remaining = Remaining({"a": None, "b": None}, workers=1)
    assert remaining.left_s({"a": 1}, []) is None
    remaining.learn(ended("b", 7.0))
    assert remaining.left_s({"a": 1}, []) == 7


def test_a_terminal_shows_every_running_run_and_the_time_left():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    snapshot = Snapshot(1, 3, (active("deep[x]", 30.0, step=50),), 65.0, 90.0)
    with LiveWatcher(console, "f1") as watching:
        watching.tick(snapshot)
        watching.ended(ended("[bold]", 12.0), snapshot)
    shown = out.getvalue()
    assert "deep[x], seed 0" in shown
    assert "step 50 of 100" in shown
    assert "train loss 2.500" in shown
    assert "1 of 3 runs ended, 1 running, 1 min 05 s gone, about 1 min 30 s left" in shown
    assert "✓ completed  [bold], seed 0  f1 0.500, 12 s" in shown


def test_it_is_shown_what_runs_wait_for():
    waits_for = (("Resources", 4), ("launch failed requeued held", 1))
    console = Console(file=(out := io.StringIO()), force_terminal=True, width=140, color_system=None)
    with LiveWatcher(console, "f1") as watching:
        watching.tick(Snapshot(1, 7, (active("a", 3.0),), 3600.0, None, waits_for))
    said = (
        "1 of 7 runs ended, 1 running, 4 waiting (Resources), 1 waiting (launch failed requeued held), 1 h 00 min gone"
    )
    assert said in out.getvalue()


def test_a_pipe_gets_a_line_an_event_and_no_control_characters():
    out = io.StringIO()
    with PlainWatcher(Console(file=out, width=120), "f1") as watching:
        watching.tick(Snapshot(0, 2, (), 1.0, None))
        watching.ended(ended("a", 3.0, "failed"), Snapshot(1, 2, (), 2.0, None))
    assert out.getvalue() == "[1/2] ✗ failed  a, seed 0  f1 0.500, 3 s\n    why\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (599, "9 min 59 s"),
        (3599, "60 min"),
        (3600, "1 h 00 min"),
        (172_700, "47 h 58 min"),
        (172_800, "2 days 0 h"),
        (859_000, "9 days 23 h"),
        (864_000, "10 days"),
        (42_876_960, "496 days"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
