"""What commands and the report say of runs that were imported."""

import json
import os
import subprocess
import sys

import pytest

from ablations.pages import read_page
from ablations.reporting import fragments
from ablations.reporting.context import load_context
from ablations.reporting.render import render_report

UNPAIRED = "lr,acc\n0.1,0.70\n0.1,0.71\n0.1,0.71\n0.2,0.60\n0.2,0.61\n0.2,0.62\n"


def ablations(place, *arguments):
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "ablations.cli", *arguments], cwd=place.folder, env=environment, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


def written(place, tmp_path):
    """What the report would say, by fragment."""
    ctx = load_context(place.study, place.results)
    folder = tmp_path / "fragments"
    return {path.stem: path.read_text() for path in fragments.write(ctx, folder)}


@pytest.mark.slow
def test_the_report_has_verdicts_curves_causes_and_the_origin_of_every_run(from_sacred):
    from_sacred.take("runs_sacred", metric=["accuracy"], smallest_effect=0.01)
    page = read_page(render_report(from_sacred.study, from_sacred.results)[0].read_text(encoding="utf-8"))
    said = {heading: " ".join(token.text for token in tokens) for heading, tokens in page.sections.items()}
    assert "These runs were made elsewhere and imported" in said["The answer"]
    assert "depth tentatively helps" in said["The answer"] and "lr=0.2 tentatively hurts" in said["The answer"]
    assert "ValueError the data are gone" in said["Every run"]
    assert "run 16 of runs_sacred Sacred" in said["Every run"]
    assert "cannot be made again from here" in said["How to reproduce"]
    assert "the records cannot tell" in said["Limits"]
    everything = " ".join(said.values())
    assert "Learning curves mean over seeds" in everything
    for claim in ("ablations run", "fixed before the runs", "planned or launched", "the same numbers to the bit"):
        assert claim not in everything


@pytest.mark.slow
def test_runs_without_seeds_are_reported_without_a_verdict(place, tmp_path):
    place.write("runs.csv", UNPAIRED)
    place.take("runs.csv", metric=["acc"])
    said = written(place, tmp_path)
    assert "no seed is known, so runs make no pairs, and there is no test" in said["answer_intro"]
    assert "it shares no seed with the baseline" in said["answer"] and "Welch" in said["factors"]
    assert "make no pairs" in said["compared"] and "Make new runs that share their seeds" in said["todo"]


@pytest.mark.slow
def test_commands_say_that_there_is_nothing_to_run_and_nothing_to_repeat(place):
    place.write("runs.csv", "lr,seed,acc\n0.1,0,0.70\n0.1,1,0.72\n0.2,0,0.60\n0.2,1,0.61\n")
    imported = ablations(place, "import", "runs.csv", "--metric", "acc")
    assert imported.returncode == 0, imported.stderr
    assert "4 runs imported" in imported.stdout
    assert imported.stdout.endswith("Next: look at study.yaml, then\nablations report\n")
    run = ablations(place, "run")
    assert run.returncode == 2
    assert "study.yaml:6: experiment: imported: its runs were made elsewhere" in run.stderr
    verify = ablations(place, "verify", "--json")
    assert verify.returncode == 1
    found = json.loads(verify.stdout)["runs"]
    assert {each["outcome"] for each in found} == {"cannot be re-run"}
    assert all("It is row" in each["reason"] and "of runs.csv (CSV)" in each["reason"] for each in found)
    assert not any(each["changed"] for each in found)
    status = ablations(place, "status")
    assert "4 completed" in status.stdout
    assert ablations(place, "validate").stdout == "study.yaml: fine. 2 variants x imported runs.\n"
    refused = ablations(place, "import", "runs.csv", "--from", "sacred")
    assert refused.returncode == 3 and "expected folders of Sacred" in refused.stderr


def test_a_study_of_imported_runs_takes_no_seeds_and_no_search(place):
    from ablations.errors import StudyError
    from ablations.study import load_study

    text = "study: x\nexperiment: imported\nmetric: acc\nseeds: 3\nbaseline: {lr: 0.1}\nablations:\n  a:\n"
    place.study.write_text(text + "    search: {space: {lr: {low: 0.1, high: 1.0}}, objective: val}\n")
    with pytest.raises(StudyError) as caught:
        load_study(place.study)
    assert "seeds: expected none where runs were imported" in str(caught.value)
    assert "search: expected no search where nothing can be run" in str(caught.value)


def test_no_ablation_is_added_that_could_never_run(place):
    from ablations.authoring import Entry, add
    from ablations.errors import StudyError

    place.write("runs.csv", UNPAIRED)
    before = place.take("runs.csv", metric=["acc"]).study.read_text()
    with pytest.raises(StudyError, match="`ablations import` brings ablations with their runs"):
        add(place.study, Entry("more", ["lr=0.5"]))
    assert place.study.read_text() == before


def test_packed_imports_report_the_same(from_sacred, tmp_path):
    from ablations.packing import pack
    from ablations.store import Store

    from_sacred.take("runs_sacred", metric=["accuracy"])
    pack(from_sacred.loaded, Store(from_sacred.results), tmp_path / "packed")
    whole, packed = (load_context(from_sacred.study, folder) for folder in (from_sacred.results, tmp_path / "packed"))
    assert whole.comparisons == packed.comparisons
    assert whole.curves.equals(packed.curves)


def test_doctor_finds_nothing_wrong_with_imported_results(from_sacred):
    from ablations.doctor import _planned
    from ablations.store import Store
    from ablations.study import load_study
    from ablations.upkeep import inspect

    from_sacred.take("runs_sacred", metric=["accuracy"])
    store = Store(from_sacred.results)
    found = list(inspect(store, _planned(load_study(from_sacred.study), store)))
    assert {each.state for each in found} == {"fine"}
