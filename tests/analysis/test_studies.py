"""What the analysis takes from a study: planned arms and seeds, families, rules, expectations, sweeps, combinations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ablations.analysis.additivity import interactions_study
from ablations.analysis.compare import compare_study
from ablations.analysis.conclude import conclude_study
from ablations.analysis.levels import swept_levels, trends_study

BASE = [0.50, 0.52, 0.49, 0.51, 0.53]
BETTER = [0.56, 0.59, 0.55, 0.56, 0.59]


def ablation(name: str, kind: str = "set", **fields: Any) -> SimpleNamespace:
    levels = fields.pop("levels", {name: {}})
    return SimpleNamespace(
        **({"family": "main", "expect": None, "axes": {}, "parts": ()} | fields),
        name=name,
        kind=kind,
        levels=tuple(SimpleNamespace(name=level, changes=changes) for level, changes in levels.items()),
    )


def study(*ablations: SimpleNamespace, **fields: Any) -> Any:
    declared = {
        "experiment": "some.experiment:ex",
        "metric": "f1",
        "direction": "max",
        "seeds": (0, 1, 2, 3, 4),
        "alpha": 0.05,
        "smallest_effect": 0.02,
        "failure_value": 0.0,
        "correction": "holm",
        "equivalence_correction": "none",
        "min_seeds": 3,
        "standard_seeds": 5,
        "power": 0.8,
        "looks": 1,
        "rounds": (),
        "baseline": {"decoder.layers": 2, "training.schedule": "cosine"},
    }
    return SimpleNamespace(**(declared | fields), ablations=ablations)


LAYERS = ablation(
    "layers",
    "sweep",
    axes={"decoder.layers": (4, 8)},
    levels={"layers=4": {"decoder.layers": 4}, "layers=8": {"decoder.layers": 8}},
)


def test_every_planned_arm_is_compared_by_the_rules_of_the_study(scores):
    asked = study(ablation("a"), ablation("b", family="side"), LAYERS, alpha=0.04, looks=2, standard_seeds=6)
    found = compare_study(scores(baseline=BASE, a=BETTER), asked)
    assert [c.arm for c in found] == ["a", "b", "layers=4", "layers=8"]
    assert [c.family_size for c in found] == [3, 1, 3, 3]
    assert (found[0].alpha, found[0].smallest_effect, found[0].n_planned) == (0.02, 0.02, 5)
    assert "tentative" in found[0].flags  # 5 seeds where 6 are standard
    assert found[2].n_lost == 5


def test_another_metric_does_not_inherit_what_is_of_interest_on_the_primary_one(scores):
    other = scores(baseline=BASE, a=BETTER).assign(metric="loss")
    [found] = compare_study(other, study(ablation("a"), direction="max"), metric="loss", direction="min")
    assert (found.verdict, found.smallest_effect) == ("hurts", None)


def test_expectations_of_an_ablation_hold_for_all_its_levels(scores):
    asked = study(
        ablation("a", expect="better"), ablation("b", expect="worse", levels={"b=1": {}, "b=2": {}}), ablation("c")
    )
    found = compare_study(scores(baseline=BASE, a=BETTER, **{"b=1": BETTER}), asked)
    conclusions = {c.arm: c.expectation for c in conclude_study(found, asked)}
    assert conclusions == {"a": "confirmed", "b=1": "refuted", "b=2": "undecided", "c": None}


def test_a_sweep_of_one_number_has_a_trend_with_the_baseline_as_a_level(scores):
    frame = scores(baseline=BASE, **{"layers=4": BETTER, "layers=8": [value + 0.05 for value in BETTER]})
    asked = study(LAYERS, ablation("a"))
    found = trends_study(frame, asked)
    assert list(found) == ["layers"]
    assert (found["layers"].parameter, found["layers"].levels) == ("decoder.layers", (2, 4, 8))
    assert found["layers"].slope.value > 0


@pytest.mark.parametrize(
    ("axes", "levels", "expected"),
    [
        ({}, {"a": {"x": 1}}, {}),
        ({"x": (1,), "y": (2,)}, {"a": {"x": 1, "y": 2}}, {}),
        ({"training.schedule": ("constant",)}, {"a": {"training.schedule": "constant"}}, {}),
        ({"decoder.layers": (4,)}, {"a": {"decoder.layers": 4, "other": 1}}, {"a": 4.0}),  # the baseline is elsewhere
        ({"decoder.layers": (4,)}, {"a": {"decoder.layers": 4}}, {"baseline": 2.0, "a": 4.0}),
    ],
)
def test_the_levels_of_a_sweep_are_its_numbers(axes, levels, expected):
    each = ablation("each", "sweep", axes=axes, levels=levels)
    assert swept_levels(study(each), each) == expected


def test_a_combination_is_held_against_the_sum_of_its_parts(scores):
    asked = study(
        ablation("a"), ablation("b"), ablation("both", "combine", parts=("a", "b")), ablation("one", "combine")
    )
    frame = scores(baseline=BASE, a=BETTER, b=BETTER, both=[0.6, 0.62, 0.61, 0.6, 0.6], one=BASE)
    [found] = interactions_study(frame, asked)
    assert (found.combination, found.parts, found.smallest_effect) == ("both", ("a", "b"), 0.02)
    assert found.interaction.value == pytest.approx(0.606 - 0.57 - 0.57 + 0.51)
