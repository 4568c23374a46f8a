"""The section on rounds, and the sentences about looks, against text written by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.analysis.results import Comparison
from ablations.reporting.context import Context, load_context
from ablations.reporting.prose_rounds import look_sentence
from ablations.reporting.rounds import rounds
from ablations.reporting.sections import compared, head, worded

SEEDS = "seeds: {min: 5, max: 12}"


@pytest.fixture(scope="module")
def folder(synthetic, tmp_path_factory) -> Path:
    """A study with adaptive seeds of which all runs are there, those that it does not plan, too."""
    folder = tmp_path_factory.mktemp("rounds")
    path = synthetic.write_study(folder, seeds=12)
    effects = synthetic.EFFECTS | {"lr=0.0003": 0.004, "dropout": 0.0}
    synthetic.NOISE["dropout"] = 0.06
    synthetic.write_results(path, folder / "results", effects=effects, steps=50)
    del synthetic.NOISE["dropout"]
    path.write_text(path.read_text(encoding="utf-8").replace("seeds: 12", SEEDS), encoding="utf-8")
    return folder


def context(folder: Path) -> Context:
    return load_context(folder / "study.yaml", folder / "results")


def shown(markdown: str) -> str:
    """Without the runs behind the figures, and with plain blanks."""
    return re.sub(r"\[([^]]*)\]\{\.evidence[^}]*\}", r"\1", markdown).replace("\u00a0", " ")


@pytest.mark.slow
def test_the_section_says_what_each_round_took_and_settled_and_what_that_saved(folder):
    text = shown(rounds(context(folder), folder))
    assert text.startswith("## Rounds of seeds {#sec-rounds}\n\n")
    # 8 variants x 12 seeds; 8 x 5, then the baseline and one arm at 4 and at 3 more
    assert "12 seeds for every arm take 96 runs; the rounds took 54, 42 fewer; `dropout` is left open." in text
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [row.split(" | ")[:3] for row in rows] == [["| 1", "5", "40/40"], ["| 2", "9", "8/8"], ["| 3", "12", "6/6"]]
    assert "`constant-lr` (helps)" in rows[0]
    assert "`lr=0.0003` (equivalent)" in rows[0]
    assert rows[0].endswith("| `dropout` |")
    assert rows[1].endswith("| – | `dropout` |")
    runs = context(folder).runs
    seconds = runs[runs["seed"].between(5, 8)]["seconds"].sum()
    assert f"| {seconds / 60:.1f} min |" in rows[1]
    assert "Each of the 3 looks tests at the level 0.0167 (alpha 0.05 divided by 3)" in text


def test_runs_that_the_rounds_do_not_plan_are_not_shown_as_the_studys(folder):
    found = context(folder)
    assert found.planned == found.completed == 54
    assert found.by_arm["constant-lr"].n == 5
    assert len(found.strangers) == 42
    assert "5 to 12 seeds each" in shown(head(found, folder))
    assert "every arm takes the first 5, 9 or 12 of them" in compared(found, folder)


def test_a_look_and_its_level_lead_to_no_runs_for_none_stands_behind_them(folder):
    found = context(folder)
    assert "Settled at look 1 (of 3, each at level 0.0167)." in worded(found, found.concluded["constant-lr"])


def test_before_a_look_the_section_says_what_is_to_come(folder):
    found = context(folder)
    two = replace(found, study=replace(found.study, taken=found.study.taken[:1]))
    early = replace(two, runs=two.runs[two.runs["seed"] < 9])
    text = shown(rounds(early, folder))
    assert "Look 2 of 3 is still to come; 12 seeds for every arm take 96 runs, the rounds so far 48." in text
    assert "not taken yet" in text


def test_a_study_without_rounds_has_no_such_section(state):
    assert rounds(state("three seeds").context(), Path()) == ""


COMPARED = Comparison(
    arm="deep", baseline="baseline", metric="f1", direction="max", alpha=0.05 / 3, family="main", family_size=1,
    seeds=(0, 1, 2), unpaired_arm=(), unpaired_baseline=(), differences=(0.1, 0.2, 0.1), n=3, n_planned=3, n_ok=3,
    n_diverged=0, n_lost=0, baseline_ok=3, baseline_diverged=0, baseline_lost=0, look=1, looks=3, verdict="helps",
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "Settled at look 1 (of 3, each at level 0.0167)."),
        ({"verdict": "inconclusive"}, "Open at look 1 (of 3, each at level 0.0167)."),
        ({"verdict": "inconclusive", "look": 3}, "Still open after the last look (of 3, each at level 0.0167)."),
        (
            {"verdict": "not_assessed", "n_ok": 0},
            "It has taken no more seeds since look 1 (of 3): without a result, more of them tell nothing.",
        ),
        ({"look": None}, ""),
        ({"looks": 1}, ""),
        ({"look": 4}, ""),
    ],
)
def test_an_arm_says_at_which_look_it_was_settled(change, expected):
    assert look_sentence(replace(COMPARED, **change)) == expected
