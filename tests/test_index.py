"""The index of a results folder: as the records are, however they came to be so."""

import importlib.util
import json
import os
import time
from pathlib import Path

import pytest

from ablations import index
from ablations.store import Store

spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).parent / "reporting" / "synthetic.py")
synthetic = importlib.util.module_from_spec(spec)


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    import sys

    sys.modules["synthetic"] = synthetic
    spec.loader.exec_module(synthetic)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with a result of each run, all older than what the index trusts."""
    monkeypatch.setattr(index, "YOUNG_NS", -(10**18))
    path = synthetic.write_study(tmp_path, seeds=3)
    return synthetic.write_results(path, tmp_path / "results", steps=1)


@pytest.fixture
def store(study, tmp_path):
    return Store(tmp_path / "results")


def count_reads(store, monkeypatch):
    read = []
    real = store.read_record
    monkeypatch.setattr(store, "read_record", lambda run_id: read.append(run_id) or real(run_id))
    return read


def rewrite(store, run_id, change):
    path = store.run_dir(run_id) / "record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_records_are_read_once(store, monkeypatch):
    read = count_reads(store, monkeypatch)
    first = store.summaries()
    assert sorted(read) == sorted(first)
    assert store.summaries() == first
    assert len(read) == len(first) == 24


def test_what_the_index_says_is_what_the_records_say(store, study):
    store.summaries()
    with_index, runs = store.read_scores(study), store.read_runs(study)
    (store.root / index.NAME).unlink()
    assert store.read_scores(study).equals(with_index)
    assert store.read_runs(study).equals(runs)
    value = with_index[with_index["metric"] == "test_f1"].set_index("run_id")["value"].to_dict()
    assert value == {each["run_id"]: each["scores"]["test_f1"] for each in store.records()}


def test_a_changed_record_is_read_again_though_size_and_time_are_what_they_were(store):
    run_id, found = next(iter(store.summaries().items()))
    path = store.run_dir(run_id) / "record.json"
    before = path.stat()
    digit = f"{found['scores']['test_f1']}"
    other = digit[:-1] + ("1" if digit[-1] != "1" else "2")
    time.sleep(0.02)
    path.write_text(path.read_text().replace(digit, other, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert store.summaries()[run_id]["scores"]["test_f1"] == float(other)


def test_a_record_that_is_seconds_old_is_not_trusted_yet(store, monkeypatch):
    monkeypatch.setattr(index, "YOUNG_NS", 60 * 10**9)
    read = count_reads(store, monkeypatch)
    store.summaries()
    store.summaries()
    assert len(read) == 48


def test_runs_that_are_gone_are_gone_and_new_ones_are_there(store):
    first = store.summaries()
    gone, kept = sorted(first)[:2]
    (store.run_dir(gone) / "record.json").unlink()
    rewrite(store, kept, lambda record: record.update(status="failed", scores={}))
    found = store.summaries()
    assert set(first) - set(found) == {gone}
    assert found[kept]["status"] == "failed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"test_f1":0.', '"test_f1":9.', 1),
        lambda text: text.replace('"format": 1', '"format": 2', 1),
        lambda text: text.replace('"seconds_training"', '"seconds"', 1),
    ],
    ids=["cut short", "empty", "a digit changed", "another format", "other columns"],
)
def test_a_damaged_or_foreign_index_is_made_again(store, damage):
    first = store.summaries()
    path = store.root / index.NAME
    whole = path.read_text()
    path.write_text(damage(whole))
    assert path.read_text() != whole
    assert store.summaries() == first
    assert path.read_text() == whole


def test_results_that_may_not_be_written_are_read(store, monkeypatch):
    def refuse(path, text):
        raise PermissionError(path)

    monkeypatch.setattr(index, "write_atomic", refuse)
    assert len(store.summaries()) == 24
    assert not (store.root / index.NAME).exists()


def test_a_folder_without_results_has_none(tmp_path):
    assert Store(tmp_path / "nowhere").summaries() == {}


@pytest.mark.slow
def test_ten_thousand_runs_load_within_two_seconds_of_one_core(store, study):
    """What is written is copies of one record: the time is that of reading, not of the experiment."""
    text = (store.run_dir(next(iter(store.summaries()))) / "record.json").read_text()
    for number in range(10_000):
        folder = store.root / "runs" / f"{number:012x}-s0"
        folder.mkdir()
        (folder / "record.json").write_text(text)
    begun = time.process_time()
    assert len(store.summaries()) == 10_024
    rebuilt = time.process_time()
    assert len(store.summaries()) == 10_024
    assert time.process_time() - rebuilt < 2
    assert rebuilt - begun < 15
