"""Damage done to a folder of results, and what the doctor says and does about it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ablations import cli, doctor, machine
from ablations.claims import own_claim
from ablations.doctor import examine
from ablations.index import _keep, _marks, summary
from ablations.store import Store
from ablations.upkeep import inspect

KEPT = Path(__file__).parent / "data" / "format-1"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A copy of a kept folder of 18 ended runs."""
    monkeypatch.syspath_prepend(str(KEPT))
    return Path(shutil.copytree(KEPT / "results", tmp_path / "results"))


def first(results):
    return sorted((results / "runs").iterdir())[0]


def odd(results, planned=None):
    """What is said of a folder, but for what is fine: (subject, state, found) each."""
    found = [each for each in inspect(Store(results), planned) if each.state != "fine"]
    return [(each.subject, each.state, each.found) for each in found if "runs: " not in each.found]


def call(results, *options, study=KEPT / "study.yaml"):
    given = ["doctor", "--study", str(study), "--results", str(results), *options]
    return CliRunner().invoke(cli.app, given)


def test_a_sound_folder_gives_no_finding_and_exit_code_0(results):
    assert odd(results) == []
    done = call(results)
    assert done.exit_code == 0, done.output
    assert "18 runs: 13 completed, 3 diverged, 2 failed" in " ".join(done.output.split())
    assert "Nothing stands in the way." in done.output


def test_looking_changes_nothing(results):
    for damage, run in zip(DAMAGES.values(), sorted((results / "runs").iterdir()), strict=False):
        damage(run)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    call(results)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "a torn record": lambda run: (run / "record.json").write_text('{"format": 1, "sta'),
    "a record of another config": lambda run: edited(run / "record.json", config={"pot.heat": 0.1}),
    "a record of another seed": lambda run: edited(run / "record.json", seed=77),
    "a record without scores": lambda run: (run / "record.json").write_text('{"format": 1, "status": "completed"}'),
    "a torn job": lambda run: (run / "job.json").write_bytes(b"\0" * 100),
    "a torn claim": lambda run: (run / "claim.json").write_text(""),
    "a claim of an ended run": lambda run: (run / "claim.json").write_text(json.dumps({**own_claim(), "pid": 2**30})),
    "half a file": lambda run: (run / ".record.json.123.part").write_text("{"),
    "a checkpoint of an ended run": lambda run: (run / "checkpoint").mkdir(),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damage_is_found_and_repaired_without_deleting_a_result(results, kind):
    run, whole = first(results), Store(results)
    DAMAGES[kind](run)
    [(subject, state, _)] = odd(results)
    assert run.name in subject
    problem = state == "problem"
    assert call(results).exit_code == (1 if problem else 0)
    records = {path: path.read_bytes() for path in results.glob("runs/*/record.json")}
    done = call(results, "--fix")
    assert done.exit_code == 0, done.output
    assert "repaired" in done.output
    assert odd(results) == []
    aside = {path.read_bytes() for path in run.glob("*.damaged")}
    assert all(
        (path.exists() and path.read_bytes() == content) or content in aside for path, content in records.items()
    )
    expected = "missing" if kind.startswith(("a torn record", "a record")) else "completed"
    assert whole.status(run.name) in (expected, "failed", "diverged")


def index_of(results):
    """The entries of an index that holds."""
    return {run_id: (mark, summary(Store(results).read_record(run_id))) for run_id, mark in _marks(results / "runs")}


def test_an_index_that_was_changed_or_damaged_is_removed_and_made_again(results):
    entries, path = index_of(results), results / "index.json"
    _keep(path, entries)
    assert odd(results) == []
    entries[first(results).name][1]["scores"]["yield"] = 1.5
    _keep(path, entries)
    assert odd(results) == [("index.json", "problem", f"differs from the records of {first(results).name}")]
    assert call(results).exit_code == 1
    path.write_bytes(path.read_bytes()[:-1])
    assert odd(results) == [("index.json", "note", "damaged, or of another version")]
    assert call(results, "--fix").exit_code == 0
    assert not path.exists()


def test_a_live_run_is_left_alone(results):
    run = first(results)
    (run / "record.json").unlink()
    (run / "claim.json").write_text(json.dumps(own_claim()))
    (run / ".metrics.jsonl.1.part").write_text("x")
    (run / "checkpoint").mkdir()
    assert odd(results) == []
    call(results, "--fix")
    assert (run / ".metrics.jsonl.1.part").exists()
    assert (run / "checkpoint").exists()


def test_a_run_whose_process_died_is_named_and_goes_on_by_itself(results):
    run = first(results)
    (run / "record.json").unlink()
    (run / "claim.json").write_text(json.dumps({**own_claim(), "pid": 2**30}))
    [(subject, state, found)] = odd(results)
    assert (subject, state) == (run.name, "note")
    assert "ended without a word" in found


def test_what_needs_a_person_is_said_with_what_to_do(results):
    run = first(results)
    edited(run / "record.json", format=7)
    (run / "metrics.jsonl").write_text('["a", 1, 0.5, 0.1]\nnonsense\n["a", 2, 0.5, 0.2]\n')
    [ledger] = (results / "searches").iterdir()
    ledger.write_text("{")
    done = call(results, "--fix", "--json")
    assert done.exit_code == 1
    problems = {each["subject"]: each for each in json.loads(done.stdout)["findings"] if each["state"] == "problem"}
    assert set(problems) == {f"{run.name}/record.json", f"{run.name}/metrics.jsonl", f"searches/{ledger.name}"}
    assert "a record of format 7, this version reads up to 1" in problems[f"{run.name}/record.json"]["found"]
    assert problems[f"{run.name}/metrics.jsonl"]["found"].startswith("damaged in line 2")
    assert all(each["advice"] and not each["repairable"] for each in problems.values())


def test_orphans_are_named_and_kept(results, tmp_path):
    (results / "runs" / "0123456789ab-s0").mkdir()
    (results / "sacred" / "fedcba987654-s0-a1").mkdir(parents=True)
    study = tmp_path / "study.yaml"
    study.write_text((KEPT / "study.yaml").read_text().replace("0.7", "0.65"))
    done = call(results, "--json", study=study)
    found = {each["found"] for each in json.loads(done.stdout)["findings"] if each["state"] == "note"}
    assert any(each.startswith("4 runs that this study does not plan") for each in found)  # 3 of hot, and the empty one
    assert "an empty folder" in found
    assert "Sacred's folders of 1 attempts at runs that are gone" in found
    call(results, "--fix", study=study)
    assert not (results / "runs" / "0123456789ab-s0").exists()
    assert (results / "sacred" / "fedcba987654-s0-a1").exists()


def test_a_machine_without_what_is_needed_is_told_what_to_install(monkeypatch, tmp_path):
    versions = {"torch": "2.13.0+cpu", "pandas": "1.0", "typst": None}
    real = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: versions[name] if name in versions else real(name))
    monkeypatch.setattr(machine, "gpu_names", lambda: ["0"])
    monkeypatch.setattr(machine, "find_quarto", lambda: None)
    found = {each.subject: each for each in examine(tmp_path / "none.yaml", tmp_path / "none", False)}
    assert (found["pandas"].state, found["pandas"].found) == ("problem", "1.0, expected >=2.2")
    assert found["pandas"].advice == 'pip install "pandas>=2.2"'
    assert found["typst"].found.startswith("absent")
    assert (found["built-in"].state, found["built-in"].advice) == ("problem", "pip install typst")
    assert (found["GPU"].state, "cannot use it" in found["GPU"].found) == ("problem", True)
    assert found[str(tmp_path / "none.yaml")].found == "absent"


def test_an_old_or_broken_quarto_is_said(monkeypatch, tmp_path):
    program = tmp_path / "quarto"
    monkeypatch.setattr(machine, "find_quarto", lambda: str(program))
    for text, said in (("echo 1.4.2", "1.4.2"), ("exit 3", "does not run"), ("echo 1.10.18", "1.10.18")):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        [quarto] = [each for each in examine(tmp_path / "x", tmp_path / "y", False) if each.subject == "Quarto"]
        assert said in quarto.found
        assert quarto.state == ("fine" if said == "1.10.18" else "note")


def test_a_study_with_problems_is_a_problem(results, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text("study: 1\n")
    done = call(results, study=study)
    assert done.exit_code == 1
    assert "ablations validate says them" in " ".join(done.output.split())


@pytest.mark.skipif(sys.platform != "linux", reason="takes a folder in which nobody can write, which Linux has")
def test_a_folder_that_cannot_be_written_is_a_problem():
    done = call(Path("/proc/results"))
    assert done.exit_code == 1
    assert "✗ problem   disk      /proc: cannot be written or locked" in done.output
    assert "choose another with --results" in done.output


def test_the_doctor_imports_nothing_heavy():
    code = "import sys, ablations.doctor; print(sorted({'torch', 'pandas', 'sacred', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
