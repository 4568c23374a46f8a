"""Train against validation, failures, losses and warm starts: what the report says of the records."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import models, training
from ablations.reporting.context import Context, load_context

State = Callable[[str], Any]
STEPS = (0, 50, 100, 150, 200)


def spike(step: int, action: str, **more: Any) -> dict[str, Any]:
    return {"kind": "spike", "step": step, "last_step": step + 1, "loss": 8.0, "highest": 9.5, "threshold": 6.0,
            "gradient_norm": 31.5, "learning_rate": 0.004, "samples": [], "recovered": False, "action": action,
            **more}  # fmt: skip


def more(variant: str, seed: int, info: dict[str, Any]) -> Iterable[tuple[str, int, float, float]]:
    """Losses that fall throughout; those of ``layers=6`` on validation samples turn at step 100."""
    info["events"] = []
    if variant == "lr=0.004" and seed == 1:
        info["events"] = [spike(30, "recorded", recovered=True),
                          spike(120, "rolled back", returned_to=100, skipped_batches=[119, 120])]  # fmt: skip
    parallel = variant == "dropout"
    info["loss_unit"] = "nats per token" + (", not knowing the others" if parallel else "")
    if variant == "input":
        info["warm_start"] = {
            "checkpoint": "some/bert",
            "model_type": "bert",
            "copied": {"tensors": 32, "parameters": 1_250_000, "names": {}},
            "new": {"tensors": 10, "parameters": 260_000,
                    "names": {"bert.encoder.layer.*.crossattention.self.query.weight": 2, "lm_head.bias": 1}},
            "not_taken": {"tensors": 2, "parameters": 800, "names": {}},
        }  # fmt: skip
    for step in STEPS:
        yield "train_eval_loss", step, 6 - 0.02 * step, 0.0
        yield "train_eval_f1", step, step / 400, 0.0
        turned = max(0, step - 100) * 0.04 if variant == "layers=6" else 0.0
        yield "validation_loss", step, 6 - 0.015 * step + turned + 0.01 * seed, 0.0


@pytest.fixture(scope="module")
def ctx(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("trained")
    study = synthetic.write_study(folder)
    synthetic.write_results(study, folder / "results", more=more)
    return load_context(study, folder / "results")


@pytest.fixture(scope="module")
def said(ctx: Context, tmp_path_factory: pytest.TempPathFactory) -> str:
    return training.training(ctx, tmp_path_factory.mktemp("drawn"))


def test_an_arm_that_overfits_is_named_with_its_best_step(said: str) -> None:
    assert "3 of 3\u00a0runs overfitted" in said
    assert "reached at step 100, while the training loss still fell" in said
    assert "No run of the other arms overfitted." in said
    row = next(line for line in said.splitlines() if line.startswith("| `layers=6`"))
    assert [re.sub(r"\]\{[^}]*\}|[\[*]", "", cell).strip() for cell in row.split("|")[2:4]] == ["3 of 3", "100"]
    assert "+5.010" in row  # the gap at the end: (6 - 3 + 4 + .01) - (6 - 4), the mean over seeds 0 to 2
    assert "+0.010" in row  # and at the start


def test_every_arm_has_a_panel_and_the_picture_says_its_numbers(ctx: Context, said: str) -> None:
    alts = [html.unescape(each) for each in re.findall(r'fig-alt="([^"]*)"', said)]
    losses = next(alt for alt in alts if alt.startswith("Loss"))
    assert "layers=6 ends at validation 7.010 and training 2.000, validation best at step 100" in losses
    assert losses.count("ends at") == len(ctx.variants)
    assert said.count("scales of their own") == 1  # one arm's loss is of another kind


def test_the_metric_is_drawn_like_the_loss(said: str) -> None:
    metric = next(html.unescape(each) for each in re.findall(r'fig-alt="([^"]*)"', said) if each.startswith("F1"))
    assert "baseline ends at validation 0.18" in metric
    assert "and training 0.500, validation best at step 200" in metric


def test_failures_say_what_was_done_and_those_that_changed_a_run_come_first(ctx: Context, tmp_path: Path) -> None:
    said = training.events(ctx, tmp_path)
    assert said.startswith("## What failed {#sec-events}\n\n2 events in 1 of 24 runs: 2 × spike.")
    rows = [line for line in said.splitlines() if line.startswith("| `lr")]
    assert "| 120 to 121 | 9.5 | 6 | 31.5 | 0.004 | rolled back to step 100, 2 batches left out |" in rows[0]
    assert "went on; the loss came back" in rows[1]


def test_losses_of_different_kinds_are_not_compared(ctx: Context, tmp_path: Path) -> None:
    said = models.models(ctx, tmp_path)
    assert "2 kinds of loss" in said
    assert "nats per token, not knowing the others: `dropout`" in said


def test_a_warm_start_says_what_was_copied_and_what_is_new(ctx: Context, tmp_path: Path) -> None:
    said = models.models(ctx, tmp_path).replace("\u00a0", " ")
    assert "| `input` | `some/bert` | 1.25 M (32) | 260 k (10) | 800 (2) | `crossattention`, `lm_head` |" in said


@pytest.mark.parametrize("name", ["complete", "one seed", "unfinished", "failures", "nothing"])
def test_of_what_no_run_recorded_there_is_no_section(name: str, state: State, tmp_path: Path) -> None:
    """The small study's runs log batch losses and validation losses, and no failures."""
    plain = state(name).context()
    assert training.events(plain, tmp_path) == models.models(plain, tmp_path) == ""
    said = training.training(plain, tmp_path)
    assert not list(tmp_path.glob("losses*"))
    if name == "nothing":
        assert said == "The runs recorded no losses on validation samples while they trained."
    else:
        assert "`evaluation.train_samples`" in said
