"""The sections on factors, combinations, budgets, searches, early rankings and words: what they say and draw."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import budgets, combinations, costs, factors, searches, survival, words
from ablations.reporting.context import Context, load_context
from ablations.reporting.figures import seeds, slopes, style
from ablations.reporting.figures.trials import Point, best_so_far
from ablations.reporting.numbers import mean, scores_of
from ablations.reporting.text import plain
from ablations.store import Store
from ablations.study import load_study
from ablations.trials import Trial, ledger_path, trial_hash, write_trials

State = Callable[[str], Any]

STUDY = """\
study: whole
metric: test_f1
smallest_effect: 0.02
seeds: 3
ablations:
  deep: {set: {decoder.layers: 4}}
  wide: {set: {decoder.intermediate: 512}}
  soft: {set: {decoder.dropout: 0.1}}
  all: {combine: [deep, wide, soft]}
  without: {leave_one_out: all}
  slow: {set: {decoder.dropout: 0.3}}
  tuned:
    question: How far does tuning get?
    search:
      space:
        training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
        training.schedule: {choices: [linear, constant]}
      trials: 8
      sampler: SAMPLER
"""
EFFECTS = {"deep": 0.02, "wide": 0.03, "soft": 0.01, "all": 0.04, "without=deep": 0.035}
SLOW = 4  # times the seconds of the other arms


GAINS = {"baseline": 0.0, "deep": 0.02, "wide": 0.03, "all": 0.04, "slow": 0.05}  # of others: 0.01


def own_curves(results: Path) -> None:
    """The baseline is first early on and last at the end; ``slow`` learns most a step, and least a second."""
    for path in (results / "runs").glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        gain, seconds = GAINS.get(record["variant"], 0.01), 0.05 * (SLOW if record["variant"] == "slow" else 1)
        log = path.with_name("metrics.jsonl")
        rows = [row for row in map(json.loads, log.read_text().splitlines()) if row[0] != "validation_f1"]
        for step in (40, 80, 120, 160, 200):
            value = 0.001 * step * (1 + 10 * gain) + (0.05 - gain if step == 40 else 0.0) + 0.001 * record["seed"]
            rows.append(["validation_f1", step, value + 0.0001 * (record["seed"] * gain * 10), step * seconds])
        log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def trial(number: int, state: str, value: float | None, values: dict[str, Any], run_id: str) -> Trial:
    return Trial(number, run_id, values, state, value, (), "OutOfMemoryError: <script>" if state == "failed" else None)  # type: ignore[arg-type]


def whole(synthetic: ModuleType, folder: Path, sampler: str = "random") -> Context:
    path = synthetic.write_study(folder, STUDY.replace("SAMPLER", sampler))
    study, store = load_study(path), Store(folder / "results")
    ablation = next(each for each in study.ablations if each.search)
    made = []
    for number in range(8):
        values = {
            "training.learning_rate": 1e-4 * (number + 1),
            "training.schedule": ("linear", "constant")[number % 2],
        }
        state = "failed" if number == 3 else "completed"
        value = 0.2 + 0.01 * number if state == "completed" else None
        _, identity = trial_hash(study, ablation, values)
        made.append(trial(number, state, value, values, f"{identity[:12]}-s777"))
    write_trials(ledger_path(study, ablation, store), ablation, "5.0.0", made)
    synthetic.write_results(path, folder / "results", effects=EFFECTS)
    own_curves(folder / "results")
    return load_context(path, folder / "results")


@pytest.fixture(scope="module")
def ctx(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return whole(synthetic, tmp_path_factory.mktemp("whole"))


def alts(said: str) -> list[str]:
    return [html.unescape(each).replace("\u00a0", " ") for each in re.findall(r'fig-alt="([^"]*)"', said)]


def shown(said: str) -> str:
    """Without what leads to the runs."""
    return html.unescape(re.sub(r"\]\{[^}]*\}|\[(?!@)", "", said)).replace("\u00a0", " ")


# -- factors --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(state: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, str]:
    """The small study with all its runs, and what is said of its factors."""
    small = state("complete").context()
    return small, factors.factors(small, tmp_path_factory.mktemp("factors"))


def test_a_swept_parameters_chart_says_the_means_that_the_scores_have(drawn: tuple[Context, str]) -> None:
    small, said = drawn
    levels = re.search(r"decoder\.layers: 2 (0\.\d+), 4 (0\.\d+), 6 (0\.\d+)", said)
    assert levels is not None
    assert [float(each) for each in levels.groups()] == pytest.approx(
        [mean(scores_of(small, name, "test_f1")) for name in ("baseline", "layers=4", "layers=6")], abs=6e-5
    )


def test_each_arm_is_shown_seed_by_seed_in_words_and_as_a_picture(drawn: tuple[Context, str]) -> None:
    small, said = drawn
    found = next(alt for alt in alts(said) if "constant-lr" in alt)
    comparison = small.by_arm["constant-lr"]
    middle = sum(comparison.differences) / comparison.n
    before, after = re.search(r"constant-lr ([\d.]+) to ([\d.]+), 5 of 5 seeds better", found).groups()  # type: ignore[union-attr]
    assert float(after) - float(before) == pytest.approx(middle, abs=2e-4)


def test_the_questions_of_a_group_stay_with_their_findings(drawn: tuple[Context, str]) -> None:
    small, said = drawn
    asked = [each.question for each in small.study.ablations if each.question]
    assert asked
    for question in asked:
        assert re.search(r'^::: \{typst:sticky="true"\}\n.*' + re.escape(question), said, re.MULTILINE)


@pytest.mark.slow
def test_runs_without_a_result_stand_with_their_factor_and_their_cause(state: State, tmp_path: Path) -> None:
    said = shown(factors.factors(state("failures").context(), tmp_path))
    assert "- `lr=0.004`: of 3 runs 3 diverged (RuntimeError: loss is nan at step 120)." in said
    assert "{{< include" not in said


def test_rows_of_arms_are_as_even_as_can_be() -> None:
    one = slopes.Slope("a", ((0.1, 0.2),), ())
    assert [len(row.slopes) for row in seeds.rows_of([one] * 6, [])] == [3, 3]
    assert [len(row.slopes) for row in seeds.rows_of([one] * 41, [])] == [5] * 8 + [1]
    assert seeds.leaves_room(seeds.rows_of([one], []))
    assert not seeds.leaves_room(seeds.rows_of([one] * 2, []))


def test_an_arm_far_out_does_not_squeeze_the_others() -> None:
    near = [slopes.Slope(f"a{at}", ((0.2, 0.21), (0.21, 0.2)), ()) for at in range(4)]
    low, high = slopes.limits_of([*near, slopes.Slope("far", ((0.2, -9.0),), ())], 0.01)
    assert 0.1 < low < 0.2
    assert 0.21 < high < 0.3


def test_a_lost_run_is_no_pair() -> None:
    slope = slopes.Slope("a", ((0.2, 0.3), (0.3, 0.2)), (0.25,))
    assert (slope.better("max"), slope.better("min")) == (1, 1)
    said = slopes.alt_text([slope], metric="F1", direction="max", decimals=2)
    assert "a 0.25 to 0.25, 1 of 2 seeds better, 1 lost" in said


# -- combinations ---------------------------------------------------------------------------------------------


def test_a_whole_stands_beside_its_parts_and_what_is_missed_without_each(ctx: Context, tmp_path: Path) -> None:
    said = combinations.combinations(ctx, tmp_path)
    assert said.startswith("# Combinations {#sec-combinations}")
    [alt] = alts(said)
    gain = {arm: found.difference or 0.0 for arm, found in ctx.by_arm.items()}
    assert f"deep: added to the baseline alone +{gain['deep']:.3f}" in alt
    assert f"all: the whole +{gain['all']:.3f}" in alt
    assert f"sum of the parts: +{gain['deep'] + gain['wide'] + gain['soft']:.3f}" in alt
    rows = [line for line in shown(said).splitlines() if line.startswith(("| `deep`", "| `wide`"))]
    missed = float(rows[0].split("|")[4].replace("−", "-"))
    assert missed == pytest.approx(gain["all"] - gain["without=deep"], abs=6e-4)


def test_a_study_without_combinations_has_no_such_section(state: State, tmp_path: Path) -> None:
    assert combinations.combinations(state("complete").context(), tmp_path) == ""


# -- budgets, cost, ranking -----------------------------------------------------------------------------------


def test_an_arm_may_lead_at_equal_steps_and_not_at_equal_time(ctx: Context, tmp_path: Path) -> None:
    said = shown(budgets.learning(ctx, tmp_path))
    assert "Ahead of the baseline at equal steps, not at equal time: `slow`." in said
    assert len([line for line in said.splitlines() if line.startswith("| `slow`")]) == 2  # budgets and races
    race = next(line for line in said.splitlines() if line.startswith("| **`baseline`**"))
    assert race.split("|")[2].strip() == "3/3"  # what every run of the baseline reaches, it reaches
    assert (tmp_path / "budgets.svg").is_file()


def test_the_cost_table_shows_what_else_an_arm_differs_in(ctx: Context, tmp_path: Path) -> None:
    said = shown(costs.cost(ctx, tmp_path))
    row = next(line for line in said.splitlines() if line.startswith("| `deep`"))
    cells = [cell.strip() for cell in row.split("|")[2:]]
    assert cells[4] == "2.52 M"  # 1.2 M + 4 layers x 330 k, as the made-up records have it
    assert cells[5] == "30.0 %"


def test_an_early_ranking_is_held_against_the_end(ctx: Context, tmp_path: Path) -> None:
    said = shown(survival.survival(ctx, tmp_path))
    assert "The ranking at step 40 has a rank correlation of −1.00" in said
    assert "what is best then is best at the end at 0 of 3 seeds" in said
    assert "From step 80 on every arm is decided as at the end" in said
    [alt] = alts(survival.survival(ctx, tmp_path))
    assert alt.startswith("Rank correlation with the end: step ")
    assert (tmp_path / "ranks.svg").is_file()


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(each, marks=pytest.mark.slow) for each in ("one seed", "unfinished")), "failures", "nothing"],
)
def test_every_state_has_these_sections_or_none(name: str, state: State, tmp_path: Path) -> None:
    small = state(name).context()
    for section in (budgets.learning, costs.cost, survival.survival, searches.searches, words.words):
        said = section(small, tmp_path)
        assert said == "" or said.lstrip("#").startswith(" ")
    assert searches.searches(small, tmp_path) == ""


# -- searches -------------------------------------------------------------------------------------------------


def test_a_search_says_its_trials_its_winner_and_what_that_is_worth_on_fresh_seeds(
    ctx: Context, tmp_path: Path
) -> None:
    said = shown(searches.searches(ctx, tmp_path))
    assert "8 of 8 trials ended: 7 completed, 1 failed. The best, trial 7, scored 0.2700" in said
    assert "On fresh seeds: no run of `tuned` has a `validation_f1` yet." in said
    assert "importance needs 30 trials or more, found 7" in said
    assert "| 7 | 0.2700 | completed |" in said
    assert "**failed**: OutOfMemoryError: \\<script\\>" in said
    history, slices = alts(searches.searches(ctx, tmp_path))
    assert "Expected best of n trials: 1: 0.2357" in history  # the mean of .20 to .27 without .23
    assert "7: 0.2700" in history
    assert "training.schedule" in slices


def test_what_fewer_trials_would_have_found_is_not_said_of_a_sampler_that_learns(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    said = shown(searches.searches(whole(synthetic, tmp_path, "tpe"), tmp_path))
    assert "these were proposed by tpe" in said
    assert "Expected best" not in said
    assert "found sampler tpe" in said


@pytest.mark.parametrize(("direction", "expected"), [("max", [(0, 2.0), (3, 3.0)]), ("min", [(0, 2.0), (2, 1.0)])])
def test_the_best_so_far_never_gets_worse(direction: str, expected: list[tuple[int, float]]) -> None:
    points = [Point(0, "completed", 2.0, {}), Point(1, "pruned", 9.0, {}), Point(2, "completed", 1.0, {}),
              Point(3, "completed", 3.0, {}), Point(4, "failed", None, {})]  # fmt: skip
    assert best_so_far(points, direction) == expected


# -- words ----------------------------------------------------------------------------------------------------


def keep_examples(ctx: Context, rows: dict[str, list[tuple[str, str]]]) -> None:
    for variant, names in rows.items():
        for run_id in ctx.ids[variant]:
            with gzip.open(ctx.results / "runs" / run_id / words.FILE, "wt", encoding="utf-8") as file:
                for at, (true, predicted) in enumerate(names):
                    file.write(json.dumps({"example": at, "true": true, "predicted": predicted}) + "\n")


def test_words_say_what_is_missed_and_for_what_it_is_taken(synthetic: ModuleType, tmp_path: Path) -> None:
    context = whole(synthetic, tmp_path)
    keep_examples(
        context, {"baseline": [("get size", "find size"), ("get <b>", "")], "all": [("get size", "get size")]}
    )
    said = words.words(context, tmp_path)
    assert "| `get` | 2 | 0.0 % | 100.0 % | no word 50.0 %, `find` 50.0 % |" in shown(said)
    assert "| `find` | 1 | 0.0 % | – |" in shown(said)
    [alt] = alts(said)
    assert "baseline: get found 0 %" in alt
    assert "all: get found 100 %" in alt


def test_a_damaged_file_of_examples_is_passed_over(synthetic: ModuleType, tmp_path: Path) -> None:
    context = whole(synthetic, tmp_path)
    for run_id in context.ids["baseline"]:
        (context.results / "runs" / run_id / words.FILE).write_bytes(b"\x1f\x8b no")
    assert words.words(context, tmp_path) == ""


# -- names that are hard to draw ------------------------------------------------------------------------------

NAMES = [
    "$\\frac{1}{0}$",
    "a_b^c",
    "<script>alert(1)</script>",
    "two\nlines",
    "שלום עולם",
    "日本語",
    "x" * 200,
    "#eval",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hard_name_fits_and_shows_no_box(name: str) -> None:
    fitted = style.fitted(name, 7.5, 1.2)
    assert style.text_width(fitted, 7.5) <= 1.2
    assert style.drawable(fitted) == fitted  # nothing in it that the font lacks
    assert plain(name) in slopes.alt_text([slopes.Slope(name, (), ())], metric="F1", direction="max", decimals=2)


def test_two_names_that_the_font_lacks_stay_two() -> None:
    assert style.drawable("日") == "U+65E5" != style.drawable("本")


def test_a_slim_picture_keeps_the_ids_that_are_referred_to(ctx: Context, tmp_path: Path) -> None:
    costs.cost(ctx, tmp_path)
    budgets.learning(ctx, tmp_path)
    for path in tmp_path.glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {(each, "") for each in ids} | {
            ("", each) for each in ids
        }
        assert len(ids) == len(set(ids))
