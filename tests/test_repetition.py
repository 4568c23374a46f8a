"""Repeating recorded runs: which are chosen, what stands in the way, how numbers are compared."""

import hashlib
import json
import math
import shutil

import pytest

from ablations import repetition
from ablations.errors import MissingRuns, UnknownName
from ablations.executors.inprocess import InProcessExecutor
from ablations.plan import expand, run_keys
from ablations.repetition import changes, completed, judge, named, obstacle, repeat, sampled, verified
from ablations.store import Store
from ablations.study import load_study
from ablations.verify import Silent, Wanted, verify_runs

RECORDS = [
    {"run_id": f"{digest}-s{seed}", "variant": variant, "seed": seed}
    for variant, digest in [("baseline", "aaaaaaaaaaaa"), ("loaded", "bbbbbbbbbbbb")]
    for seed in range(5)
]


def test_a_sample_depends_on_its_seed_alone():
    drawn = sampled(RECORDS, 4, 7)
    assert drawn == [each for each in RECORDS if each in drawn]
    assert len(drawn) == 4
    assert sorted(map(str, sampled(RECORDS[::-1], 4, 7))) == sorted(map(str, drawn))
    assert any(sampled(RECORDS, 4, other) != drawn for other in range(3))


def test_a_run_is_named_by_its_id_the_beginning_of_it_or_its_variant():
    assert named(RECORDS, ["bbbbbbbbbbbb-s3"]) == [RECORDS[8]]
    assert named(RECORDS, ["bbbbbb", "aaaaaaaaaaaa-s0"]) == [RECORDS[0], *RECORDS[5:]]
    assert named(RECORDS, ["baseline"]) == RECORDS[:5]
    with pytest.raises(UnknownName, match="unknown variant 'basline'; did you mean 'baseline'"):
        named(RECORDS, ["basline"])


def test_equal_bits_are_identical_and_a_tolerance_is_relative_above_one():
    assert judge(0.1, 0.1, 0) == "identical"
    assert judge(0.1, math.nextafter(0.1, 1), 0) == "different"
    assert judge(0.1, 0.1 + 9e-7, 1e-6) == "within tolerance"
    assert judge(5000.0, 5000.004, 1e-6) == "within tolerance"  # 8e-7 of the number
    assert judge(5000.0, 5000.006, 1e-6) == "different"  # 1.2e-6 of it
    assert judge(None, None, 1e-6) == "identical"
    assert judge(None, 0.0, 1e-6) == judge(0.0, None, 1e-6) == "different"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study of the toy experiment that was run in this process: an arm that completes, one that diverges."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "study.yaml").write_text(
        "study: coin\nexperiment: coin.experiment:ex\nmetric: heads\nseeds: 2\n"
        "ablations:\n  loaded: {set: {coin.weight: 0.9}}\n  away: {set: {trouble.kind: diverge}}\n"
    )
    study, store = load_study(folder / "study.yaml"), Store(folder / "results")
    variants = {variant.name: variant for variant in expand(study)}
    with InProcessExecutor() as executor:
        for key in run_keys(study):
            executor.submit(store.prepare(key, variants[key.variant], study.experiment, threads=1)).state()
    return study, store


def again(store, scratch, records):
    repeat(records, scratch, lambda *_: InProcessExecutor(), Silent(), lambda threads: 1)
    return [verified(each, store, scratch) for each in records]


def test_a_repeated_run_has_the_same_bits_and_the_results_stay_untouched(ran, tmp_path):
    study, store = ran
    before = digest_of(store.root)
    found = again(store, Store(tmp_path), completed(store, study))
    assert digest_of(store.root) == before
    assert [each.outcome for each in found] == ["identical"] * 6
    loaded = next(each for each in found if each.variant == "loaded")
    assert {score.name: score.judgement for score in loaded.scores} == {"heads": "identical", "entropy": "identical"}
    assert [(each.name, each.identical) for each in loaded.series] == [("share", 100)]  # one a toss
    away = next(each for each in found if each.variant == "away")
    assert [(each.name, each.identical) for each in away.series] == [("share", 10)]  # it diverges at the tenth


def test_a_changed_record_is_found_number_by_number(ran, tmp_path):
    study, store = copied(ran, tmp_path)
    record = next(each for each in completed(store, study) if each["variant"] == "loaded")
    log = store.run_dir(record["run_id"]) / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    name, step, value, seconds = json.loads(lines[41])
    lines[41] = json.dumps([name, step, value + 0.25, seconds]) + "\n"
    log.write_text("".join(lines[:-1]))
    record["scores"]["heads"] += 0.125
    (found,) = again(store, Store(tmp_path / "scratch"), [record])
    assert found.outcome == "different"
    heads, entropy = found.scores
    assert (heads.recorded - heads.repeated, heads.judgement) == (0.125, "different")
    assert entropy.judgement == "identical"
    (share,) = found.series
    assert (share.identical, share.different, share.step) == (98, 2, 42)  # one was changed, one cut off
    assert share.largest == pytest.approx(0.25)


def test_what_the_clock_measures_is_not_compared():
    measured = ["tokens_per_s", "seconds_training", "seconds", "wait_ms", "peak_memory_mb", "run_seconds"]
    assert [name for name in measured if not repetition._CLOCK.search(name)] == []
    results = ["test_f1", "loss", "passes", "steps", "validation_loss", "classes"]
    assert [name for name in results if repetition._CLOCK.search(name)] == []


@pytest.mark.slow
def test_a_record_that_cannot_be_repeated_says_why(ran):
    study, store = ran
    record = completed(store, study)[0]
    assert obstacle(record) is None
    edited = {**record, "config": {**record["config"], "coin.weight": 0.6}}
    assert "the record says" in obstacle(edited)
    assert "it was edited" in obstacle(edited)

    def with_config(**config):
        from ablations.plan import config_hash

        return {**record, "config": config, "config_hash": config_hash(record["experiment"], config)}

    said = obstacle(with_config(**record["config"], **{"coin.wieght": 1.0}))
    assert said.startswith("its config is no longer valid: coin.wieght: unknown parameter 'coin.wieght'; did you mean")
    assert "expected a number from 0 to 1, found 3" in obstacle(with_config(**{"coin.weight": 3.0}))
    gone = {**record, "experiment": "no_such_module.at_all:ex"}
    gone["config_hash"] = repetition.config_hash(gone["experiment"], gone["config"])
    assert "no module no_such_module is installed or lies beside the study" in obstacle(gone)


def test_data_that_are_gone_are_said_and_not_searched_for(ran, tmp_path, monkeypatch, capsys):
    study, store = ran
    from ablations import runner
    from ablations.errors import DataError

    def gone(reference, configs, say):
        raise DataError("data/java-small.tar.gz: not there")

    monkeypatch.setattr(runner, "prepare", gone)
    assert not verify_runs(store, study, Wanted(["loaded"]), None, as_json=True)
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["outcome"] for run in runs] == ["cannot be re-run"] * 2
    assert runs[0]["reason"] == "data/java-small.tar.gz: not there"


def test_a_repetition_that_fails_is_no_agreement(ran, tmp_path):
    study, store = ran
    record = completed(store, study)[0]
    found = verified(record, store, Store(tmp_path))
    assert found.outcome == "cannot be re-run"
    assert found.reason == "its repetition failed: its process ended without a word"


def test_a_run_that_completed_and_now_diverges_differs(ran, tmp_path):
    study, store = copied(ran, tmp_path)
    records = completed(store, study)
    diverged = next(each for each in records if each["status"] == "diverged")
    found = verified({**diverged, "status": "completed"}, store, store)
    assert (found.outcome, found.reason) == ("different", "recorded as completed, now diverged")


def test_what_changed_since_a_record_is_named(ran):
    study, store = ran
    record = completed(store, study)[0]
    assert changes(record, record) == {}
    then = {
        **record,
        "environment": {**record["environment"], "python": "2.7.18", "threads": 64, "packages": {"numpy": "0.1"}},
        "code": {**record["code"], "package_hash": "0" * 64},
    }
    found = changes(then, record)
    assert found["python"] == ("2.7.18", record["environment"]["python"])
    assert found["threads"] == (64, 1)
    assert found["numpy"][0] == "0.1"
    assert found["code"] == ("0" * 64, record["code"]["package_hash"])
    assert "device" not in changes(record)


def test_a_folder_without_results_has_nothing_to_verify(ran, tmp_path):
    study, _ = ran
    with pytest.raises(MissingRuns, match="no completed run of the study coin to verify"):
        completed(Store(tmp_path), study)
    with pytest.raises(MissingRuns, match="no completed run to verify"):
        completed(Store(tmp_path), None)


def copied(ran, tmp_path):
    study, store = ran
    shutil.copytree(store.root, tmp_path / "results")
    return study, Store(tmp_path / "results")


def digest_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()
