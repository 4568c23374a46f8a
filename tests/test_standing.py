"""A study with adaptive seeds, followed from its records alone: which runs it plans, and what it says."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ablations import commands, looks
from ablations import standing as standing_module
from ablations.chosen import choose_executor
from ablations.executors.inprocess import InProcessExecutor
from ablations.plan import expand, run_keys, seeds_of
from ablations.standing import standing
from ablations.store import Store
from ablations.study import Look, Study, load_study
from ablations.trials import Trial, ledger_path, write_trials

COIN = """
study: coin
experiment: coin.experiment:ex
metric: heads
smallest_effect: 0.05
failure_value: 0.0
seeds: {min: 3, max: 6, step: 2}
ablations:
  loaded: {set: {coin.weight: 0.9}}
  fair: {set: {coin.tosses: 50}}
"""
VALUES = {
    "baseline": (0.50, 0.52, 0.49, 0.51, 0.48, 0.50),
    "loaded": (0.90, 0.93, 0.88, 0.91, 0.89, 0.90),
    "fair": (0.40, 0.60, 0.45, 0.55, 0.40, 0.62),
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(COIN, encoding="utf-8")
    return load_study(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def write_runs(study: Study, store: Store, seeds: int, status: str = "completed", only: str = "") -> None:
    """Records of all variants at the first seeds; ``status`` is that of the last seed's."""
    variants = {variant.name: variant for variant in expand(study)}
    for key in run_keys(replace(study, rounds=())):
        if key.seed >= seeds or (only and key.variant != only):
            continue
        folder = store.prepare(key, variants[key.variant], study.experiment)
        ended = status if key.seed == seeds - 1 else "completed"
        record = json.loads((folder / "job.json").read_text()) | {
            "format": 1, "status": ended, "error": None, "seconds": 1.0, "info": {},
            "environment": {"host": "h", "device": "cpu"},
            "code": {"package_hash": "c", "git_commit": None, "git_dirty": None},
            "scores": {"heads": VALUES[key.variant][key.seed]} if ended == "completed" else {},
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))


FIRST = Look(("loaded",), ("fair",))


def test_before_the_first_round_is_done_no_look_is_taken_and_the_analysis_is_not_asked(study, store, monkeypatch):
    monkeypatch.setattr(standing_module, "_taken_anew", lambda *_: pytest.fail("nothing to compare yet"))
    assert standing(study, store) == study
    write_runs(study, store, 2)
    assert standing(study, store).taken == ()
    assert len(run_keys(standing(study, store))) == 9


def test_a_look_is_taken_once_its_round_is_done_and_plans_the_next_one_for_what_is_open(study, store):
    write_runs(study, store, 3)
    found = standing(study, store)
    assert found.taken == (FIRST,)
    assert {each.name: len(seeds_of(found, each.name)) for each in expand(found)} == {
        "baseline": 5, "loaded": 3, "fair": 5,
    }  # fmt: skip
    assert len(store.pending(run_keys(found))) == 4
    write_runs(study, store, 6)
    assert standing(study, store).taken == (FIRST, Look((), ("fair",)), Look((), ("fair",)))


def test_a_failed_run_does_not_hold_up_a_look(study, store):
    write_runs(study, store, 3)
    write_runs(study, store, 3, status="failed", only="fair")
    assert standing(study, store).taken == (FIRST,)


def test_looks_that_were_taken_are_not_taken_again_until_a_score_changes(study, store, monkeypatch):
    write_runs(study, store, 3)
    first = standing(study, store)
    asked = []
    taken_anew = standing_module._taken_anew
    monkeypatch.setattr(standing_module, "_taken_anew", lambda *given: asked.append(1) or taken_anew(*given))
    assert standing(study, store) == first
    write_runs(study, store, 4)  # a run of the next round, whose look is not due
    assert standing(study, store) == first
    assert not asked
    [record] = [
        store.run_dir(key.run_id) / "record.json" for key in run_keys(study) if (key.variant, key.seed) == ("loaded", 1)
    ]
    changed = json.loads(record.read_text())
    record.write_text(json.dumps(changed | {"scores": {"heads": 0.1}}))
    assert standing(study, store).taken == (Look((), ("loaded", "fair")),)
    assert asked == [1]
    assert standing(replace(study, alpha=0.04), store).taken  # another rule is another look
    assert len(asked) == 2


DAMAGED = ("", "[]", "{", '{"format": 1}', '{"format": 2, "looks": []}', '{"format": 1, "looks": [3]}')


@pytest.mark.parametrize("content", DAMAGED)
def test_what_is_kept_is_only_believed_where_it_is_whole(study, store, content):
    write_runs(study, store, 3)
    expected = standing(study, store)
    [kept] = (store.root / "rounds").iterdir()
    whole = kept.read_text()
    kept.write_text(content)
    assert standing(study, store) == expected
    assert kept.read_text() == whole
    shutil.rmtree(kept.parent)
    assert standing(study, store) == expected


def test_a_folder_that_may_not_be_written_is_read_all_the_same(study, store, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(standing_module, "write_atomic", refuse)
    write_runs(study, store, 3)
    assert standing(study, store).taken == (FIRST,)


SEARCHING = """
study: hill
experiment: hill.experiment:ex
metric: test_height
seeds: {min: 3, max: 4}
ablations:
  higher: {set: {place.zone: high}}
  tuned: {search: {space: {place.x: {low: 0.0, high: 1.0}}, trials: 2}}
"""


def test_a_look_waits_for_a_search_but_not_for_one_that_has_found_nothing(tmp_path, store):
    path = tmp_path / "study.yaml"
    path.write_text(SEARCHING, encoding="utf-8")
    study = load_study(path)
    for key in run_keys(study):
        variant = next(each for each in expand(study) if each.name == key.variant)
        if variant.waits_for:
            continue
        folder = store.prepare(key, variant, study.experiment)
        record = json.loads((folder / "job.json").read_text()) | {
            "status": "completed", "info": {}, "environment": {"host": "h"},
            "code": {"package_hash": "c", "git_commit": None, "git_dirty": None},
            "scores": {"test_height": key.seed + (key.variant == "higher")},
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))
    assert standing(study, store).taken == ()
    tuned = study.ablations[-1]
    lost = [Trial(number, f"run-{number}", {"place.x": 0.1}, "failed", None, cause="lost") for number in range(2)]
    write_trials(ledger_path(study, tuned, store), tuned, "4", lost)
    found = standing(study, store)
    assert found.taken == (Look(("higher", "tuned"), ()),)  # the one by the same difference on every seed


# in words


def test_the_runs_that_may_still_come_are_those_of_the_arms_that_are_open(study):
    assert len(looks.most_runs(study)) == 18
    assert len(looks.most_runs(replace(study, taken=(FIRST,)))) == 15  # 6 + 3 + 6
    over = replace(study, taken=(Look(("loaded", "fair"), ()),))
    assert len(looks.most_runs(over)) == len(run_keys(over)) == 9
    assert len(looks.most_runs(replace(study, rounds=()))) == 18


def test_where_a_study_is_is_said_in_a_line(study, store):
    assert list(looks.so_far(study, store)) == [
        "Rounds of 3, 5 and 6 seeds, a look after each at level 0.0167.",
        "Look 1 of 3 waits for 9 of 9 runs; arms that it leaves open get more seeds.",
    ]
    write_runs(study, store, 3)
    assert list(looks.so_far(standing(study, store), store))[1:] == [
        "Look 1 of 3, after 3 seeds: settled loaded.",
        "2 more seeds for the baseline and fair.",
        "Look 2 of 3 waits for 4 of 13 runs; arms that it leaves open get more seeds.",
    ]
    write_runs(study, store, 6)
    assert list(looks.so_far(standing(study, store), store))[3:] == [
        "Look 2 of 3, after 5 seeds: settled nothing.",
        "1 more seed for the baseline and fair.",
        "Look 3 of 3, after 6 seeds: settled nothing.",
        "The looks have left fair open, with 15 runs planned; 6 seeds for every arm would have taken 18.",
    ]
    done = replace(study, taken=(Look(("loaded", "fair"), ()),))
    assert looks.where_it_stands(done, store) == (
        "The looks have settled every arm, with 9 runs planned; 6 seeds for every arm would have taken 18."
    )


def test_of_many_arms_the_first_are_named(study, store):
    many = tuple(f"arm-{number}" for number in range(10))
    said = looks.where_it_stands(replace(study, rounds=(3,), taken=(Look((), many),)), store)
    assert "arm-0, arm-1, arm-2, arm-3, arm-4, arm-5, arm-6, arm-7 and 2 more open" in said


# really run

TOSSED = """
study: coin
experiment: coin.experiment:ex
metric: heads
smallest_effect: 0.05
failure_value: 0.0
seeds: {min: 3, max: 5, step: 1}
ablations:
  loaded: {set: {coin.weight: 0.9}}
  fair: {set: {coin.tosses: 50}}
  edge: {set: {trouble.kind: error}}
"""


@pytest.fixture
def tossed(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(TOSSED, encoding="utf-8")
    return load_study(path)


def run(study: Study, store: Store, only=None, retry=False) -> tuple[bool, str]:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    chosen = choose_executor(study, "inprocess", [], 1)
    done = commands.run_study(standing(study, store), store, console, only, chosen, retry)
    return done, out.getvalue()


def scores_in(store: Store) -> dict[str, object]:
    return {record["run_id"]: (record["status"], record["scores"]) for record in store.records()}


@pytest.mark.slow
def test_a_study_runs_round_by_round_until_nothing_is_open_or_no_round_is_left(tossed, store):
    done, said = run(tossed, store)
    assert not done  # edge has failed
    assert "4 variants x 3 to 5 seeds = 12 to 20 runs, 12 to run." in said
    assert "Look 1 of 3, after 3 seeds: settled loaded, edge.\n1 more seed for the baseline and fair.\n" in said
    assert "4 variants x 3 to 5 seeds = 14 to 16 runs, 2 to run." in said
    assert "4 variants x 3 to 5 seeds = 16 runs, 2 to run." in said
    assert said.endswith(
        "Look 3 of 3, after 5 seeds: settled nothing.\n"
        "The looks have left fair open, with 16 runs planned; 5 seeds for every arm would have taken 20.\n"
    )
    assert len(scores_in(store)) == 16
    _, again = run(tossed, store)
    assert "16 runs, 0 to run." in again
    found = standing(tossed, store)
    plan, status = io.StringIO(), io.StringIO()
    commands.show_plan(found, store, Console(file=plan, width=200))
    commands.show_status(found, store, Console(file=status, width=200), False)
    assert "4 variants x 3 to 5 seeds (0, 1, 2, 3, 4) = 16 runs, 0 to run." in plan.getvalue()
    for line in looks.so_far(found, store):
        assert line in plan.getvalue()
        assert line in status.getvalue()
    _, third = run(tossed, store, retry=True)
    assert third.count("✗ failed  edge, seed 0: ValueError") == 1  # once, not once a round


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 12, 15])  # in the first round, after it, and in the last
def test_a_study_that_is_killed_goes_on_with_the_same_decisions(tossed, tmp_path, monkeypatch, after):
    whole = Store(tmp_path / "whole")
    run(tossed, whole)
    count = 0
    submit = InProcessExecutor.submit

    def mortal(self, run_dir):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return submit(self, run_dir)

    monkeypatch.setattr(InProcessExecutor, "submit", mortal)
    broken = Store(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(tossed, broken)
    monkeypatch.setattr(InProcessExecutor, "submit", submit)
    assert len(scores_in(broken)) < len(scores_in(whole)) == 16
    run(tossed, broken)
    assert scores_in(broken) == scores_in(whole)
    assert standing(tossed, broken).taken == standing(tossed, whole).taken


@pytest.mark.slow
def test_with_a_part_of_the_arms_the_look_waits_for_the_others(tossed, store):
    done, said = run(tossed, store, only=["loaded"])
    assert done
    assert "2 variants x 3 to 5 seeds = 6 to 10 runs, 6 to run." in said
    assert said.endswith("Look 1 of 3 waits for 6 of 12 runs; arms that it leaves open get more seeds.\n")


def test_what_has_no_result_yet_is_forecast_for_the_least_and_the_most(study, store):
    out = io.StringIO()
    write_runs(study, store, 3)
    found = standing(study, store)
    for record in (store.root / "runs").glob("*/record.json"):
        content = json.loads(record.read_text())
        content["environment"]["host"] = socket.gethostname()
        record.write_text(json.dumps(content))
    commands.show_plan(found, store, Console(file=out, width=200))
    assert "3 variants x 3 to 6 seeds (0, 1, 2, 3, 4, 5) = 13 to 15 runs, 4 to run." in out.getvalue()
    assert "for 6 runs, if no look settles an arm any more." in out.getvalue()


@pytest.mark.slow
def test_a_study_whose_looks_are_taken_knows_it_without_the_analysis(study, store, tmp_path):
    write_runs(study, store, 6)
    standing(study, store)
    code = (
        "import sys; from ablations.store import Store; from ablations.study import load_study;"
        "from ablations.standing import standing;"
        "print(len(standing(load_study('study.yaml'), Store('results')).taken));"
        "print(*sorted({'pandas', 'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]
