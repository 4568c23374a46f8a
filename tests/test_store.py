"""What lies in the results folder, and who may write it."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ablations.claims import ClaimHeld, ClaimLost, claimed
from ablations.errors import AblationsError
from ablations.files import read_json, write_atomic
from ablations.plan import expand, run_keys
from ablations.store import Store, read_metrics
from ablations.study import load_study


@pytest.fixture
def study(coin_study):
    return load_study(coin_study())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def ended(store, key, variant, status="completed", **changes):
    """Writes a run's record as the runner would."""
    folder = store.prepare(key, variant, "coin.experiment:ex", threads=1)
    record = {
        "format": 1, "run_id": key.run_id, "variant": key.variant, "seed": key.seed, "config_hash": key.config_hash,
        "experiment": "coin.experiment:ex", "config": dict(variant.config), "status": status, "error": None,
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:02+00:00", "seconds": 2.0, "attempt": 1,
        "sacred": "", "scores": {"heads": 0.5} if status == "completed" else {}, "info": {"cost": {"steps": 100}},
        "environment": {"host": "h", "device": "cpu", "threads": 1},
        "code": {"package_hash": "c", "git_commit": None, "git_dirty": None}, **changes,
    }  # fmt: skip
    write_atomic(folder / "record.json", json.dumps(record))
    return folder


def test_a_run_without_an_outcome_is_missing_and_pending(study, store):
    keys = run_keys(study)
    assert {store.status(key.run_id) for key in keys} == {"missing"}
    assert store.pending(keys) == keys


def test_an_ended_run_is_not_pending_and_a_failed_one_only_on_request(study, store):
    keys, variants = run_keys(study), expand(study)
    ended(store, keys[0], variants[0])
    ended(store, keys[1], variants[1], status="failed")
    assert store.pending(keys) == keys[2:]
    assert store.pending(keys, retry=True) == keys[1:]


def test_a_failure_that_may_have_passed_is_pending_again(study, store):
    keys, variants = run_keys(study), expand(study)
    error = {"type": "OSError", "message": "ENOSPC, No space left on device", "traceback": "", "passing": True}
    ended(store, keys[0], variants[0], status="failed", error=error)
    ended(store, keys[1], variants[1], status="failed", error={**error, "passing": False})
    assert store.pending(keys) == [keys[0], *keys[2:]]


def test_what_another_process_runs_is_unsettled_and_not_pending(study, store):
    keys, variants = run_keys(study), expand(study)
    with claimed(store.prepare(keys[0], variants[0], "coin.experiment:ex")):
        assert store.unsettled(keys) == keys
        assert store.pending(keys) == keys[1:]


def test_renaming_an_ablation_keeps_its_runs_and_changing_it_does_not(coin_study, store):
    path = coin_study()
    study = load_study(path)
    ended(store, run_keys(study)[1], expand(study)[1])
    text = path.read_text()
    path.write_text(text.replace("loaded:", "heavy:"))
    assert [key.variant for key in store.pending(run_keys(load_study(path))) if key.seed == 0] == ["baseline"]
    path.write_text(text.replace("0.9", "0.8"))
    assert len(store.pending(run_keys(load_study(path)))) == 6


def test_every_planned_run_has_a_row_and_no_missing_one_is_zero(study, store):
    keys, variants = run_keys(study), expand(study)
    ended(store, keys[0], variants[0])
    ended(store, keys[1], variants[1], status="diverged", error={"type": "Diverged", "message": "m", "traceback": ""})
    scores = store.read_scores(study)
    assert len(scores) == 6
    assert scores.loc[scores.status == "completed", "value"].tolist() == [0.5]
    assert scores.loc[scores.status != "completed", "value"].isna().all()
    assert sorted(scores.status) == ["completed", "diverged", "missing", "missing", "missing", "missing"]


def test_the_table_of_runs_has_the_cause_of_a_failure(study, store):
    keys, variants = run_keys(study), expand(study)
    ended(store, keys[1], variants[1], status="failed", error={"type": "E", "message": "why", "traceback": "t"})
    runs = store.read_runs(study).set_index("run_id")
    assert runs.loc[keys[1].run_id, "error"] == "E: why"
    assert runs.loc[keys[0].run_id, "status"] == "missing"


def test_a_score_that_json_has_no_word_for_reads_as_nan(study, store):
    key, variant = run_keys(study)[0], expand(study)[0]
    ended(store, key, variant, scores={"heads": 0.5, "entropy": None})
    scores = store.read_scores(study)
    assert math.isnan(scores.loc[scores.metric == "entropy", "value"].item())


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('["loss", 1, 0.5, 0.1]\n["loss", 2, 0.4, 0.2]\n["loss", 3, 0.')
    assert read_metrics(path) == [("loss", 1, 0.5, 0.1), ("loss", 2, 0.4, 0.2)]


def test_preparing_a_run_again_touches_no_outcome(study, store):
    key, variant = run_keys(study)[0], expand(study)[0]
    folder = ended(store, key, variant)
    before = (folder / "record.json").read_bytes()
    store.prepare(key, variant, "coin.experiment:ex", retry=True)
    assert (folder / "record.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format": 1'])
def test_a_damaged_record_is_named(study, store, content):
    key, variant = run_keys(study)[0], expand(study)[0]
    folder = ended(store, key, variant)
    (folder / "record.json").write_text(content)
    with pytest.raises(AblationsError, match=f"{folder.name}/record.json: expected a JSON object"):
        store.status(key.run_id)


def test_a_record_of_a_newer_version_is_refused_and_never_misread(study, store):
    key, variant = run_keys(study)[0], expand(study)[0]
    ended(store, key, variant, format=99)
    with pytest.raises(AblationsError, match="format 99, this version reads up to 1"):
        store.read_record(key.run_id)


def test_a_live_owner_keeps_its_claim(tmp_path):
    with claimed(tmp_path), pytest.raises(ClaimHeld, match=f"process {os.getpid()}"), claimed(tmp_path):
        pass


def test_a_claim_of_a_killed_process_is_taken_over(tmp_path):
    code = (
        "import sys, time, pathlib; from ablations.claims import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        owner.stdout.readline()
        with pytest.raises(ClaimHeld), claimed(tmp_path):
            pass
        owner.send_signal(signal.SIGKILL)
    assert (tmp_path / "claim.json").exists()
    with claimed(tmp_path):
        pass
    assert not (tmp_path / "claim.json").exists()


def test_a_claim_whose_process_id_was_given_to_another_process_is_dead(tmp_path):
    with claimed(tmp_path):
        claim = json.loads((tmp_path / "claim.json").read_text())
    claim["process_start"] = "another-boot:1"
    write_atomic(tmp_path / "claim.json", json.dumps(claim))
    with claimed(tmp_path):
        pass


def test_a_claim_is_renewed_however_busy_its_owner_is(tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.claims.RENEW_EVERY_S", 0.05)
    long_ago = time.time() - 3600
    with claimed(tmp_path):
        os.utime(tmp_path / "claim.json", (long_ago, long_ago))
        until = time.monotonic() + 60
        while (tmp_path / "claim.json").stat().st_mtime < long_ago + 1:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_an_owner_that_lost_its_claim_leaves_the_new_owners_alone(tmp_path):
    with claimed(tmp_path):
        write_atomic(tmp_path / "claim.json", json.dumps({"pid": 1, "process_start": "x", "host": "elsewhere"}))
    assert json.loads((tmp_path / "claim.json").read_text())["host"] == "elsewhere"


@pytest.fixture
def clock(monkeypatch):
    """This machine's clock since boot, to be set by hand."""
    now = [1000.0]
    monkeypatch.setattr("ablations.claims.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def remote(tmp_path):
    """A folder with the claim of a process elsewhere, and a function that renews it as its owner does."""
    path = tmp_path / "claim.json"
    write_atomic(path, json.dumps({"pid": 1, "process_start": "x", "host": "elsewhere", "place": "elsewhere 1"}))
    beats = iter(range(1, 1000))
    return tmp_path, lambda: os.utime(path, ns=(0, next(beats)))  # whatever its clock says, it is another touch


def test_a_claim_from_elsewhere_lives_as_long_as_it_is_renewed(remote, clock):
    folder, renew = remote
    for _ in range(10):
        with pytest.raises(ClaimHeld, match="elsewhere"), claimed(folder):
            pass
        renew()
        clock[0] += 120


def test_a_claim_from_elsewhere_that_is_not_renewed_is_dead_after_three_minutes_of_looking(remote, clock):
    folder, _ = remote
    for wait in (0, 90, 89):
        clock[0] += wait
        with pytest.raises(ClaimHeld, match="elsewhere"), claimed(folder):
            pass
    clock[0] += 1
    with claimed(folder):
        assert not list(folder.glob(".seen-*"))


@pytest.mark.parametrize("moved_s", [-86_400, 86_400])
def test_a_clock_that_is_moved_by_a_day_neither_kills_nor_revives_a_claim(remote, clock, moved_s, monkeypatch):
    folder, _ = remote
    os.utime(folder / "claim.json", (time.time() + moved_s, time.time() + moved_s))
    monkeypatch.setattr("time.time", lambda: 1e9 + moved_s)
    with pytest.raises(ClaimHeld), claimed(folder):
        pass
    clock[0] += 181
    with claimed(folder):
        pass


def test_a_claim_of_this_host_before_it_was_started_again_is_watched_like_one_from_elsewhere(tmp_path, clock):
    """Another machine may bear the same name: only its claim can tell."""
    with claimed(tmp_path):
        claim = json.loads((tmp_path / "claim.json").read_text())
    write_atomic(tmp_path / "claim.json", json.dumps({**claim, "place": claim["place"] + "-earlier"}))
    with pytest.raises(ClaimHeld), claimed(tmp_path):
        pass
    clock[0] += 181
    with claimed(tmp_path):
        pass


def test_an_owner_that_was_frozen_until_another_took_over_is_told_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.claims.RENEW_EVERY_S", 0.02)
    told = threading.Event()
    with claimed(tmp_path, lost=told.set) as claim:
        write_atomic(tmp_path / "claim.json", json.dumps({"pid": 1, "process_start": "x", "host": "elsewhere"}))
        assert told.wait(5)
        with pytest.raises(ClaimLost, match="taken over by another process"), claim.kept():
            raise AssertionError("it is not ours")


def _contend(folder, barrier, won):
    barrier.wait()
    try:
        with claimed(folder):
            won.append(os.getpid())
            barrier.wait()
    except ClaimHeld:
        barrier.wait()


def test_of_eight_processes_that_claim_at_once_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        won, barrier = manager.list(), context.Barrier(8)
        processes = [context.Process(target=_contend, args=(tmp_path, barrier, won)) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
        assert len(won) == 1


def test_what_cannot_be_written_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["file"])


def test_a_damaged_line_of_the_log_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('["loss", 1, 0.5, 0.1]\n["loss", 2, 0.["loss", 3, 0.4, 0.2]\n')
    with pytest.raises(AblationsError, match=r"metrics.jsonl:2: expected \[metric, step, value, seconds\]"):
        read_metrics(path)


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, texts = tmp_path / "file", ["a" * 100_000, "b" * 200_000]
    write_atomic(path, texts[0])
    process = multiprocessing.get_context("fork").Process(target=_rewrite, args=(path, texts))
    process.start()
    seen = {path.read_text() for _ in range(300)}
    process.join(30)
    assert seen <= set(texts)


def _rewrite(path, texts):
    for turn in range(60):
        write_atomic(path, texts[turn % 2])


@pytest.mark.parametrize("name", ["record.json", "job.json", "progress.json", "metrics.jsonl"])
@pytest.mark.parametrize("put", ["pipe", "device"])
def test_a_pipe_or_device_in_the_place_of_a_file_is_named_and_neither_waited_for_nor_read(tmp_path, name, put):
    path = tmp_path / name
    os.mkfifo(path) if put == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(AblationsError, match=f"{name}: expected a file, found a pipe, socket or device"):
        read_metrics(path) if name == "metrics.jsonl" else read_json(path)
