"""Changing a study's file from the command line: what is asked for changes, every other byte stays."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.authoring import Entry, add, remove, start
from ablations.errors import StudyError
from ablations.plan import expand
from ablations.study import load_study

REFERENCE = Path(__file__).parent.parent / "study.yaml"
HEAD = "study: coin  # a study\nexperiment: coin.experiment:ex\nmetric: heads\n"
FILES = {
    "comments": HEAD + "ablations:\n  # one\n  loaded: {set: {coin.weight: 0.9}}  # so\n\n  # two\n  short:\n"
    "    set: {coin.tosses: 50}\n  # the end\n\n# after it\nseeds: 2\n",
    "spaced": HEAD
    + "ablations:\n\n  loaded:\n    set:\n      coin.weight: 0.9\n\n  short:\n    set: {coin.tosses: 50}\n",
    "deep": HEAD + "ablations:\n      loaded: {set: {coin.weight: 0.9}}\n",
    "level": HEAD + 'ablations:\n "loaded":\n  set: {coin.weight: 0.9,\n   coin.tosses: 3}\nseeds: 2\n',
    "windows": (HEAD + "ablations:\n  loaded: {set: {coin.weight: 0.9}}\n").replace("\n", "\r\n"),
    "text": HEAD
    + "ablations:\n  loaded:\n    question: |\n      Is\n      # this a comment?\n    set: {coin.weight: 0.9}\n",
}


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "study.yaml"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_what_is_added_and_removed_again_leaves_every_byte(written, text):
    path = written(text)
    before = [variant.name for variant in expand(load_study(path))]
    study, lines = add(path, Entry("heavy", ["coin.weight=0.7"]))
    assert [variant.name for variant in expand(study)] == [*before, "heavy"]
    assert expand(load_study(path))[-1].changes == {"coin.weight": 0.7}
    kept = path.read_bytes().decode()
    for line in lines.splitlines():
        kept = kept.replace(line + ("\r\n" if "\r\n" in text else "\n"), "", 1)
    assert kept.replace("\n\n", "\n") == text.replace("\n\n", "\n")
    remove(path, "heavy")
    assert path.read_bytes() == text.encode()


def test_the_reference_study_keeps_its_comments_and_order(written):
    text = REFERENCE.read_text(encoding="utf-8")
    path = written(text)
    add(path, Entry("warm", ["training.warmup_steps=100"], question="Is warm-up: needed?", group="Learning rate"))
    assert 'question: "Is warm-up: needed?"\n' in path.read_text(encoding="utf-8")
    remove(path, "warm")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("ending", ["", "ablations: {}\n", "ablations: {}  # none yet\nseeds: 2\n"])
def test_the_first_ablation_finds_its_place(written, ending):
    path = written(HEAD + ending)
    add(path, Entry("loaded", ["coin.weight=0.9"]))
    assert [variant.name for variant in expand(load_study(path))] == ["baseline", "loaded"]
    assert ("# none yet" in path.read_text()) == ("# none yet" in ending)
    remove(path, "loaded")
    assert len(expand(load_study(path))) == 1
    assert path.read_text().endswith(ending or "\nablations: {}\n")


def test_levels_make_a_sweep_and_several_parameters_a_grid(written):
    path = written(FILES["comments"])
    add(path, Entry("tosses", sweeps=["coin.tosses=10, 20"], expect="same"))
    study, lines = add(path, Entry("both", sweeps=["coin.tosses=30,40", "coin.weight=0.2,0.3"], question="no: #1 [a]"))
    assert lines.splitlines()[-1] == "    grid: {coin.tosses: [30,40], coin.weight: [0.2,0.3]}"
    assert [len(each.levels) for each in study.ablations[-2:]] == [2, 4]
    assert [(each.expect, each.question) for each in study.ablations[-2:]] == [("same", ""), (None, "no: #1 [a]")]
    study, _ = add(path, Entry("sum", combine=["loaded", "tosses=10"]))
    assert study.ablations[-1].parts == ("loaded", "tosses=10")
    study, _ = add(path, Entry("more", ["coin.tosses=11"], extends="loaded"))
    assert dict(study.ablations[-1].levels[0].changes) == {"coin.weight": 0.9, "coin.tosses": 11}


PROFILED = FILES["comments"] + (
    "profiles:\n  small:\n    ablations:\n      short: skip\n"
    "  tiny:\n    ablations:\n      short: {set: {coin.tosses: 5}}\n      loaded: skip\n"
)


def test_an_ablation_is_removed_from_the_profiles_too(written):
    path = written(PROFILED)
    study, profiles = remove(path, "short")
    assert profiles == ["small", "tiny"]
    assert [each.name for each in study.ablations] == ["loaded"]
    text = path.read_text()
    assert "short" not in text
    assert "small:\n    ablations: {}\n" in text
    assert "# two" not in text  # the comment directly above it was its own
    assert "# the end" in text


def test_what_others_are_made_from_stays(written):
    path = written(FILES["comments"] + "profiles:\n  small:\n    ablations:\n      short: {combine: [loaded]}\n")
    text = path.read_bytes()
    with pytest.raises(StudyError) as caught:
        remove(path, "loaded")
    assert str(caught.value) == (
        f"{path}:18: profiles.small.ablations.short.combine: needs loaded: remove or change short first"
    )
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Entry("loaded", ["coin.weight=0.1"]), ":6: ablations.loaded: there already; `ablations rm loaded` removes it"),
        (Entry("new", ["coin.wieght=0.1"]), "did you mean 'coin.weight'?"),
        (Entry("new", ["coin.weight=2"]), "expected a number from 0 to 1, found 2"),
        (Entry("new", ["coin.weight=0.1,0.2"]), "coin.weight: expected one value, found '0.1,0.2'"),
        (Entry("new", ["coin.weight=]}"]), "coin.weight: this is no valid YAML"),
        (Entry("new", ["coin.weight=no"]), "coin.weight: unquoted no is false to some YAML readers"),
        (Entry("new", ["coin.weight=1\nseeds: 3"]), "coin.weight: expected a value"),
        (Entry("new", ["coin.weight"]), "expected key=value with a dotted key, found 'coin.weight'"),
        (Entry("new", ["coin: {x=1"]), "expected key=value with a dotted key, found 'coin: {x=1'"),
        (Entry("new"), "expected a change, such as `ablations add new training.schedule=constant`"),
        (Entry("../new", ["coin.weight=0.1"]), "expected a name (a letter, then letters"),
        (Entry("new", ["coin.weight=0.9"]), "new resolves to the same config as loaded"),
        (Entry("new", extends="lodaed", settings=["coin.tosses=3"]), "did you mean 'loaded'?"),
        (Entry("new", ["coin.weight=0.1"], expect="best"), "unknown value 'best'; did you mean 'better'?"),
    ],
)  # fmt: skip
def test_what_would_be_wrong_is_said_and_nothing_is_written(written, entry, said):
    path = written(FILES["comments"])
    with pytest.raises(StudyError, match=re.escape(said)):
        add(path, entry)
    assert path.read_text() == FILES["comments"]


def test_entries_in_braces_are_left_to_their_author(written):
    path = written(HEAD + "ablations: {loaded: {set: {coin.weight: 0.9}}}\n")
    for change in (lambda: add(path, Entry("new", ["coin.tosses=3"])), lambda: remove(path, "loaded")):
        with pytest.raises(StudyError, match="found entries in braces: write them one below the other first"):
            change()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=st.text(st.characters(exclude_categories=["C"]), max_size=60),
    group=st.text("ab: #{}[]'\"\\&*!|>%@`-?,", max_size=20),
)
def test_any_text_arrives_as_it_was_meant(written, question, group):
    path = written(FILES["deep"])
    try:
        study, _ = add(path, Entry("new", ["coin.tosses=3"], question=question, group=group))
    except StudyError:
        assert path.read_text() == FILES["deep"]
        return
    assert (study.ablations[-1].question, study.ablations[-1].group) == (question, group)


def test_a_link_stays_one_and_permissions_stay(written, tmp_path):
    path = written(FILES["deep"])
    os.chmod(path, 0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    add(link, Entry("new", ["coin.tosses=3"]))
    assert link.is_symlink()
    assert "new:" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_study_to_start_from_is_valid_and_shows_every_parameter(tmp_path):
    path = tmp_path / "my first study!" / "study.yaml"
    study = start(path, "coin.experiment:ex")
    assert (study.name, study.metric) == ("my-first-study-", "heads")
    text = path.read_text()
    assert all(f"{key}: " in text for key in study.schema.tunables)
    assert load_study(path).baseline == study.schema.defaults()
    assert len(expand(study)) > 1
    with pytest.raises(StudyError, match="there already"):
        start(path, "coin.experiment:ex")
    reference = start(tmp_path / "naming.yaml", "ablations.naming.experiment:ex")
    assert (reference.metric, reference.ablations[0].name) == ("test_f1", "learning-rate")


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ("coin", "expected package.module:name of a Sacred experiment, found coin"),
        ("nowhere.experiment:ex", "nowhere.experiment cannot be imported, for no module nowhere is installed"),
    ],
)
def test_an_experiment_that_cannot_be_used_is_said_before_anything_is_written(tmp_path, experiment, said):
    with pytest.raises(StudyError, match=re.escape(said)):
        start(tmp_path / "study.yaml", experiment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_study_is_begun_extended_and_pruned_on_the_command_line(tmp_path):
    def ablations(*arguments):
        command = [sys.executable, "-m", "ablations.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = ablations("init", "--experiment", "coin.experiment:ex")
    assert done.stdout.splitlines() == [
        "study.yaml: written, with 4 parameters and a first ablation. Next: edit it, then", "ablations validate",
    ]  # fmt: skip
    done = ablations("add", "long", "coin.tosses=500", "--question", "Do more tosses help?", "--expect", "same")
    assert done.stdout == (
        "  long:\n    question: Do more tosses help?\n    expect: same\n    set: {coin.tosses: 500}\n"
        "study.yaml: written. 1 variant x 5 seeds to run.\n"
    )
    assert ablations("validate").stdout == "study.yaml: fine. 4 variants x 5 seeds.\n"
    done = ablations("rm", "long")
    assert done.stdout == "study.yaml: long removed. What has run of it stays in the results.\n"
    wrong = ablations("rm", "long")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("study.yaml: ablations: unknown ablation 'long'")
