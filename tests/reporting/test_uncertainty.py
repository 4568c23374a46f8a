"""How sure the verdicts are: what the section says, and what it says nothing about."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ablations.analysis.examples import compare_examples
from ablations.reporting import example_scores, sections, tables, uncertainty
from ablations.reporting.context import Context, load_context

State = Callable[[str], Any]

STUDY = """\
study: small
metric: test_f1
smallest_effect: 0.02
failure_value: 0.0
seeds: 4
ablations:
  deep: {set: {decoder.layers: 4}}
  wide: {set: {decoder.intermediate: 512}}
  long: {set: {data.input_tokens: 96}}
"""
EFFECTS = {"deep": 0.05, "wide": 0.001, "long": 0.03}
M = 60


def write_examples(results: Path, name: str = "f1", true: str = "get {}", offset: float = 0.0) -> None:
    """Scores of M examples for every completed run, whose mean is the run's score."""
    for record in (json.loads(path.read_text()) for path in results.glob("runs/*/record.json")):
        if not record["scores"]:
            continue
        rng = np.random.default_rng([record["seed"], len(record["variant"])])
        scores = np.linspace(0, 0.2, M) * (record["variant"] != "baseline") + 0.1 * rng.normal(size=M)
        scores += record["scores"]["test_f1"] - scores.mean() + offset
        rows = [{"example": at, "true": true.format(at), "x": [1], name: value} for at, value in enumerate(scores)]
        with gzip.open(results / "runs" / record["run_id"] / example_scores.FILE, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def small(synthetic: ModuleType, tmp_path: Path) -> Callable[..., Context]:
    """A study of three arms and four seeds, with the examples of its runs; outcomes may be given."""

    def make(outcomes: Any = None, text: str = STUDY, **examples: Any) -> Context:
        study = synthetic.write_study(tmp_path, text)
        more = (outcomes,) if outcomes else ()
        synthetic.write_results(study, tmp_path / "results", *more, effects=EFFECTS)
        write_examples(tmp_path / "results", **examples)
        return load_context(study, tmp_path / "results")

    return make


@pytest.fixture(scope="module")
def whole(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The same with all runs completed and all examples kept, to be read only."""
    folder = tmp_path_factory.mktemp("whole")
    study = synthetic.write_study(folder, STUDY)
    synthetic.write_results(study, folder / "results", effects=EFFECTS)
    write_examples(folder / "results")
    return load_context(study, folder / "results")


def shown(markdown: str) -> str:
    """What a reader sees of it."""
    text = re.sub(r"\[([^\]]*)\]\{\.evidence[^}]*\}", r"\1", markdown)
    return text.replace("&#91;", "[").replace("&#93;", "]").replace("\u00a0", " ")


def test_intervals_over_examples_are_those_of_the_analysis(whole):
    ctx = whole
    found = example_scores.find(ctx)
    frame = long_table(ctx)
    expected = {each.arm: each for each in compare_examples(frame, baseline="baseline", metric="f1")}
    assert set(found.intervals) == {"deep", "wide", "long"}
    for arm, each in found.intervals.items():
        assert (each.n, each.examples) == (4, M)
        assert (each.low, each.high) == pytest.approx((expected[arm].low, expected[arm].high))
        assert each.difference == pytest.approx(ctx.by_arm[arm].difference, abs=1e-6)


def long_table(ctx: Context) -> Any:
    import pandas as pd

    frames = []
    for run in ctx.runs.to_dict("records"):
        packed = (ctx.results / "runs" / run["run_id"] / example_scores.FILE).read_bytes()
        rows = gzip.decompress(packed).splitlines()
        table = pd.DataFrame([json.loads(row) for row in rows])[["example", "f1"]]
        frames.append(table.assign(variant=run["variant"], seed=run["seed"]))
    return pd.concat(frames)


def test_both_intervals_stand_beside_each_other_and_lead_to_their_runs(whole):
    ctx = whole
    said = uncertainty.uncertainty(ctx, Path())
    assert "| On this test set | On test sets like this one |" in said
    [row] = [line for line in shown(said).splitlines() if line.startswith("| `deep` | 4 | +")]
    here, wider = re.findall(r"\[(.\d\.\d+), (.\d\.\d+)\]", row)
    low, high = (float(each.replace("−", "-")) for each in wider)
    assert low < float(here[0].replace("−", "-")) and high > float(here[1].replace("−", "-"))
    assert said.count(f'data-runs="{" ".join(ctx.pair_ids("deep"))}"') > 10
    assert "Of 3 arms that have a claim" in shown(said)


def test_the_verdicts_say_where_other_test_sets_are_spoken_of(whole, state):
    assert "on this test set" in uncertainty.scope(whole)
    assert "@sec-test-sets" in uncertainty.scope(whole)
    assert "@sec-test-sets" not in uncertainty.scope(state("complete").context())
    assert "@sec-test-sets" not in uncertainty.scope(state("nothing").context())


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ({"offset": 0.01}, "not the mean over the examples, so that these say nothing about it: "),
        ({"name": "other"}, "Examples that could not be read, of the runs "),
    ],
)
def test_examples_that_do_not_make_up_the_score_are_not_used_and_said(small, examples, said):
    ctx = small(**examples)
    assert not example_scores.find(ctx).intervals
    assert said in uncertainty.other_test_sets(ctx)


def test_a_damaged_file_loses_its_run_alone(small):
    ctx = small()
    first = ctx.results / "runs" / ctx.ids["deep"][0] / example_scores.FILE
    first.write_bytes(first.read_bytes()[:-30])
    found = example_scores.find(ctx)
    assert found.damaged == [ctx.ids["deep"][0]]
    assert {arm: each.n for arm, each in found.intervals.items()} == {"deep": 3, "wide": 4, "long": 4}


def test_an_arm_with_other_test_examples_is_not_compared(small):
    ctx = small()
    for run_id in ctx.ids["long"]:
        path = ctx.results / "runs" / run_id / example_scores.FILE
        rows = gzip.decompress(path.read_bytes()).replace(b"get 7", b"set 7")
        path.write_bytes(gzip.compress(rows))
    found = example_scores.find(ctx)
    assert found.others == ["long"]
    assert set(found.intervals) == {"deep", "wide"}
    assert "Not compared, since their test examples are others: `long`." in uncertainty.other_test_sets(ctx)


def test_the_other_tests_show_what_the_comparisons_hold(whole):
    ctx = whole
    said = shown(uncertainty.other_tests(ctx))
    deep = ctx.by_arm["deep"]
    assert f"| `deep` | {deep.better} of 4 | {deep.r:.2f} | +{deep.g_z:.2f} |" in said
    assert "With 4 seeds the sign-flip test cannot go below p = 0.125" in said
    assert "P(better)" in said


def test_without_an_effect_of_interest_there_is_no_posterior(small):
    said = uncertainty.other_tests(small(text=STUDY.replace("smallest_effect: 0.02\n", "")))
    assert "Better on" in said
    assert "P(better)" not in said


def test_diverged_runs_are_counted_with_what_that_says_about_rates(small, synthetic):
    ctx = small(lambda variant, seed: synthetic.Outcome("diverged" if (variant, seed) == ("deep", 1) else "completed"))
    said = shown(uncertainty.diverged(ctx))
    assert "| **`baseline`** | 0 of 4 | 0.0 % to 60.2 % | – | – | – | – |" in said  # 1 - (.025)^(1/4) = .602
    [row] = [line for line in said.splitlines() if line.startswith("| `deep` | 1 of 4 | 0.6 % to 80.6 % | 1 |")]
    assert row.count("[") == 1  # the difference among runs that finished, with its interval
    assert "The other 2 arms had no diverged run: 0 of 4 still allows a rate of up to 60 %." in said
    assert "a diverged run counts as 0;" in said
    assert "deep" not in example_scores.find(ctx).intervals


def test_a_claim_that_other_test_sets_need_not_bear_out_is_named(small):
    ctx = small(text=STUDY.replace("smallest_effect: 0.02\n", ""))
    for run_id in ctx.ids["deep"]:  # the same mean, but every second example gets far better and every other far worse
        path = ctx.results / "runs" / run_id / example_scores.FILE
        rows = [json.loads(row) for row in gzip.decompress(path.read_bytes()).splitlines()]
        rows = [row | {"f1": row["f1"] + (2 if row["example"] % 2 else -2)} for row in rows]
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    said = shown(uncertainty.other_test_sets(ctx))
    assert "- `deep` helps on this test set; on test sets like this one test F1 may as well not change (95 %" in said
    assert "- `long`" not in said


def test_an_arm_that_diverged_is_tested_by_sign_flips_and_says_so(small, synthetic):
    ctx = small(lambda variant, seed: synthetic.Outcome("diverged" if (variant, seed) == ("deep", 1) else "completed"))
    [row] = [line for line in shown(uncertainty.other_tests(ctx)).splitlines() if line.endswith("| runs diverged |")]
    assert row.startswith("| `deep` | 4 | 1 |")
    assert "P(better)" in uncertainty.other_tests(ctx)


def test_nothing_is_said_of_failures_where_there_are_none(whole):
    assert uncertainty.diverged(whole) == ""


def test_the_best_arm_is_labelled_and_read_on_seeds_that_did_not_choose_it(whole):
    assert shown(uncertainty.best_pick(whole)).startswith(
        "Optimistic (best of 3): picked as the best of 3 arms, `deep`"
    )


@pytest.mark.parametrize("name", ["one seed", "unfinished", "nothing"])
def test_without_tests_there_is_no_section(name: str, state: State) -> None:
    ctx = state(name).context()
    assert uncertainty.uncertainty(ctx, Path()) == ""
    assert uncertainty.design(ctx, Path()).startswith("Design: with 3") == (name != "one seed")


@pytest.mark.parametrize("name", ["complete", "failures"])
def test_every_state_has_a_section_without_examples_too(name: str, state: State) -> None:
    said = uncertainty.uncertainty(state(name).context(), Path())
    assert headings(said)[0] == "# How sure this is {#sec-uncertainty}"
    assert "On other test sets" not in said


def headings(markdown: str) -> Iterable[str]:
    return [line for line in markdown.splitlines() if line.startswith("#")]


def test_the_design_says_what_the_seeds_can_find_before_and_after_the_runs(state: State) -> None:
    before = shown(uncertainty.design(state("nothing").context(), Path()))
    after = shown(uncertainty.design(state("three seeds").context(), Path()))
    # method: 10.4 for 10 arms, 3.26 for one; 7 arms lie between
    assert 3.26 < float(re.search(r"difference of (\d+\.\d+) times", before)[1]) < 10.4
    assert "at the median sd seen" in after and "median" not in before


@pytest.mark.slow
def test_a_million_examples_are_read_in_less_than_five_seconds(tmp_path: Path) -> None:
    path = tmp_path / example_scores.FILE
    rows = [{"example": at, "true": f"get name {at}", "predicted": "x", "f1": at / 5000} for at in range(5000)]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    start = time.process_time()
    for _ in range(200):  # 40 arms, 5 seeds
        example_scores.read_examples(path, "f1")
    assert time.process_time() - start < 5


FAMILIES = """\
study: families
metric: test_f1
seeds: 5
ablations:
  deep: {set: {decoder.layers: 4}}
  wide: {set: {decoder.intermediate: 512}}
  rate: {family: side, sweep: {training.learning_rate: [1.0e-4, 3.0e-4, 1.0e-3]}}
"""


def test_families_are_named_with_their_arms_wherever_they_matter(synthetic: ModuleType, tmp_path: Path) -> None:
    study = synthetic.write_study(tmp_path, FAMILIES)
    synthetic.write_results(study, tmp_path / "results", effects={"deep": 0.05})
    ctx = load_context(study, tmp_path / "results")
    declared = "Families of tests: main, 2 arms (`deep`, `wide`); side, 3 arms (`rate`). The level is the rate of"
    assert declared in shown(sections.compared(ctx, tmp_path))
    assert "method over the arms of each family: main (2 arms) and side (3 arms)." in shown(tables.main_table(ctx))
    first, second = shown(uncertainty.design(ctx, tmp_path)).strip().splitlines()
    assert first.startswith("- Design of the family `main`: with 5 seeds and 2 arms at the first step of Holm")
    assert second.startswith("- Design of the family `side`: with 5 seeds and 3 arms at the first step of Holm")


def test_one_family_needs_no_name_and_no_correction_no_families(synthetic: ModuleType, tmp_path: Path) -> None:
    for change in (("family: side, ", ""), ("seeds: 5", "seeds: 5\ncorrection: none")):
        study = synthetic.write_study(tmp_path, FAMILIES.replace(*change))
        ctx = load_context(study, tmp_path / "results")
        assert "Families of tests" not in sections.compared(ctx, tmp_path)
