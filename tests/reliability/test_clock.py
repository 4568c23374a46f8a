"""Processes whose clocks are a day apart, on one results folder; the kernel's clock stays as it is."""

import datetime
from pathlib import Path

import pytest
from walking import check_that_nothing_was_repeated, elsewhere, finish, on_host

pytestmark = pytest.mark.slow

FAKETIME = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@elsewhere
@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")
def test_three_hosts_whose_clocks_are_a_day_apart_run_each_cell_once(place, unbroken):
    place.write(pause_ms=20)
    processes = [
        place.start("--workers", "1", prefix=on_host(f"host{days}"), environment=moved_by(days)) for days in (-1, 0, 1)
    ]
    finish(processes)
    check_that_nothing_was_repeated(place.said_steps(), 60)
    assert place.scores() == unbroken
    days = {}
    for record in place.records().values():
        assert record["attempt"] == 1
        assert 0 < record["seconds"] < 60
        days.setdefault(record["environment"]["host"], datetime.datetime.fromisoformat(record["ended"]).date())
    assert len(set(days.values())) == len(days) > 1  # their clocks were indeed apart


def moved_by(days):
    """An environment whose clocks, also that since boot, are so many days ahead."""
    if not days:
        return {}
    return {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{days:+d}d"}


def test_a_clock_that_is_set_back_a_day_during_a_run_makes_no_time_negative(place, monkeypatch):
    """The clock's seam: what the runner takes for now leaps at every look, a day back and a day ahead."""
    from ablations import runner
    from ablations.plan import expand, run_keys
    from ablations.store import Store, read_metrics
    from ablations.study import load_study

    place.write(pause_ms=0)
    study, store = load_study(place.folder / "study.yaml"), Store(place.results)
    folder = store.prepare(run_keys(study)[0], expand(study)[0], study.experiment, threads=1)
    now = datetime.datetime.now(datetime.UTC)
    leaps = iter([now + datetime.timedelta(days=days) for days in (0, -1, 1, -1, 1, -1)])
    monkeypatch.setattr(runner, "_now", lambda: next(leaps).isoformat(timespec="seconds"))
    assert runner.run(folder) == "completed"
    record = store.read_record(folder.name)
    assert record["ended"] < record["started"]  # as the clock had it
    assert 0 < record["seconds"] < 60
    seconds = [entry[3] for entry in read_metrics(folder / "metrics.jsonl")]
    assert seconds == sorted(seconds)
