"""Results outlive the version that wrote them: ``data/format-1`` is of the first format and is never made again."""

import json
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ablations import cli
from ablations.errors import AblationsError
from ablations.files import read_versioned
from ablations.plan import run_keys
from ablations.standing import standing
from ablations.store import FORMAT, Store
from ablations.study import load_study
from ablations.trials import FORMAT as LEDGERS
from ablations.trials import read_trials

REPOSITORY = Path(__file__).parents[1]
KEPT = Path(__file__).parent / "data" / "format-1"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A copy of the results of the first format: study and store."""
    monkeypatch.syspath_prepend(str(KEPT))
    shutil.copytree(KEPT, tmp_path / "kept", ignore=shutil.ignore_patterns("__pycache__"))
    store = Store(tmp_path / "kept" / "results")
    return standing(load_study(KEPT / "study.yaml"), store), store


def yield_at(heat, seed):
    """What the kept experiment measures."""
    return 1.0 - (heat - 0.7) ** 2 + random.Random(seed).gauss(0, 0.01)


def contents(folder):
    derived = ("rounds", "index.json")
    files = [path for path in folder.rglob("*") if path.is_file() and not {path.parent.name, path.name} & set(derived)]
    return {path: path.read_bytes() for path in files}


def on_the_command_line(command, store):
    options = ["--study", str(KEPT / "study.yaml"), "--results", str(store.root)]
    return CliRunner().invoke(cli.app, [command, *options])


def test_results_of_the_first_format_are_read_with_every_number_and_status(kept):
    study, store = kept
    scores = store.read_scores(study)
    read = scores[scores.metric == "yield"].set_index(["variant", "seed"])
    heats = {"baseline": 0.5, "hot": 0.7, "tuned": store.read_record(run_keys(study)[-1].run_id)["config"]["pot.heat"]}
    for variant, heat in heats.items():
        for seed in (0, 1, 2):
            assert read.value[variant, seed] == yield_at(heat, seed)
    assert set(read.status["cracked"]) == {"failed"}
    assert set(read.status["boiling"]) == {"diverged"}
    curve = store.read_curves(study).query("variant == 'hot' and seed == 1")
    assert curve.value.tolist() == pytest.approx([yield_at(0.7, 1) * step / 3 for step in (1, 2, 3)])
    assert len(store.read_runs(study)) == len(run_keys(study)) == 14
    assert {row["config_hash"] for row in store.history()} <= {record["config_hash"] for record in store.records()}


def test_runs_of_the_first_format_are_not_run_again_and_not_touched(kept):
    study, store = kept
    assert store.pending(run_keys(study)) == []
    before = contents(store.root)
    done = on_the_command_line("run", store)
    assert "14 runs, 0 to run" in done.output.replace("\n", " ")
    assert contents(store.root) == before


def test_the_records_that_are_kept_of_the_reference_study_are_those_of_its_plan():
    study, store = REPOSITORY / "study.yaml", Store(REPOSITORY / "results" / "reference")
    planned = standing(load_study(study, "cpu-whole"), store)
    assert {store.status(key.run_id) for key in run_keys(planned)} == {"completed"}
    assert len(run_keys(planned)) == 195


def test_a_ledger_of_the_first_format_still_names_its_winner(kept):
    _, store = kept
    [ledger] = (store.root / "searches").glob("*.json")
    trials = read_trials(ledger)
    assert [trial.state for trial in trials] == ["completed"] * 4
    assert all(trial.value == yield_at(trial.values["pot.heat"], 1000) - 0.01 for trial in trials)


@pytest.mark.parametrize(
    ("pattern", "kind", "newest", "command"),
    [
        ("runs/*/record.json", "record", FORMAT, "status"),
        ("runs/*/record.json", "record", FORMAT, "run"),
        ("runs/*/job.json", "job", FORMAT, "run"),
        ("searches/*.json", "ledger", LEDGERS, "status"),
        ("searches/*.json", "ledger", LEDGERS, "run"),
    ],
)
def test_a_newer_format_is_refused_by_one_sentence_and_left_as_it_is(kept, pattern, kind, newest, command):
    _, store = kept
    if kind == "job":
        for record in store.root.glob("runs/*/record.json"):
            record.unlink()  # a job is read where there is something left to run
    for path in store.root.glob(pattern):
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": newest + 1, "scores": "moved"}))
    before = contents(store.root)
    done = on_the_command_line(command, store)
    assert isinstance(done.exception, AblationsError)
    message = str(done.exception)
    assert f"a {kind} of format {newest + 1}, this version reads up to {newest}" in message
    assert "use that one, or another results folder" in message
    assert "\n" not in message
    assert contents(store.root) == before


@pytest.mark.parametrize("found", [None, "1", True, 0, -1, 1.0, [1]])
def test_a_file_that_does_not_say_its_format_is_not_guessed_at(tmp_path, found):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"format": found, "status": "completed"}))
    with pytest.raises(AblationsError, match=r"expected a record with its format, from 1 to 3, found"):
        read_versioned(path, "record", 3)


@pytest.mark.parametrize("command", ["status", "run"])
def test_a_record_that_lacks_something_is_one_clear_error(kept, command):
    study, store = kept
    path = store.run_dir(run_keys(study)[0].run_id) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "scores": [1], "config": None}))
    done = on_the_command_line(command, store)
    assert isinstance(done.exception, AblationsError)
    assert str(done.exception) == (f"{path}: expected config, scores in a record; ablations doctor --fix puts it aside")
