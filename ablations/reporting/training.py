"""How training went: its losses against those on validation samples, and what failed on the way."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.analysis.curves import Curve, Run, read_curves
from ablations.analysis.diagnosis import Gap, Overfitting, gap, overfitting
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import losses, style
from ablations.reporting.figures.curves import FEWEST_FOR_A_BAND
from ablations.reporting.markdown import Column, bullets, figure, join, section, table
from ablations.reporting.models import loss_units
from ablations.reporting.numbers import mean
from ablations.reporting.pictures import FOLDER, capitalised, validation_metric
from ablations.reporting.prose_runs import overfitting_sentence
from ablations.reporting.series import Series, series
from ablations.reporting.text import DASH, MINUS, code, escape, evidence, number, tied_figures

VALIDATION, ALIKE, WHILE_TRAINING = "validation_loss", "train_eval_loss", "train_loss"
MOST_EVENTS = 60


@dataclass(frozen=True)
class Diagnosis:
    """One completed run.

    Attributes:
        run_id: Its id.
        overfitting: What its losses say.
        gap: Validation - training loss; None where training samples were not scored like validation samples.
    """

    run_id: str
    overfitting: Overfitting
    gap: Gap | None


def training(ctx: Context, folder: Path) -> str:
    """Training against validation: who overfitted, the gap, and the curves of each group."""
    found = diagnoses(ctx)
    if not found:
        return "The runs recorded no losses on validation samples while they trained."
    metric = capitalised(tables.words_of(validation_metric(ctx) or ""))
    over = {arm: runs for arm, runs in found.items() if any(run.overfitting.overfitted for run in runs)}
    said = [
        tied_figures(escape(overfitting_sentence(arm, [run.overfitting for run in runs], metric=metric)))
        for arm, runs in over.items()
    ]
    runs = sum(map(len, found.values()))
    if not over:
        said.append(f"None of {runs} runs overfitted (@tbl-overfitting says how that is told).")
    elif len(over) < len(found):
        said.append("No run of the other arms overfitted.")
    early = [run for each in found.values() for run in each if run.gap and run.gap.from_start]
    if early:
        said.append(
            f"In {len(early)} of {runs} runs half the final gap or more was there from the start: that is no "
            "memorising, but the split, dropout, label smoothing, or how the loss is taken."
        )
    blocks = [bullets(said), _overfitting_table(ctx, found)]
    if not any(run.gap for each in found.values() for run in each):
        blocks.append(
            "Training samples were not scored like validation samples (`evaluation.train_samples`), so the gap between "
            "the two is not known. What is said of overfitting rests on the loss of each batch as it was trained on."
        )
    return join(*blocks, *_figures(ctx, folder))


def diagnoses(ctx: Context) -> dict[str, list[Diagnosis]]:
    """The completed runs that have a curve of validation and training loss, by variant."""
    there = {str(metric) for _, metric in ctx.points}
    if VALIDATION not in there or not there & {ALIKE, WHILE_TRAINING}:
        return {}
    done = ctx.curves[ctx.curves["run_id"].isin([each for ids in ctx.ids.values() for each in ids])]
    names = {str(name) for name in done["metric"].unique()}
    wanted = {VALIDATION, ALIKE, WHILE_TRAINING, validation_metric(ctx) or VALIDATION} & names
    curves = {name: read_curves(done, name) for name in wanted}
    found: dict[str, list[Diagnosis]] = {}
    for variant in ctx.variants:
        for run_id in ctx.ids[variant.name]:
            run = (variant.name, int(run_id.rpartition("-s")[2]))
            diagnosis = _diagnosis(ctx, run_id, run, curves)
            if diagnosis:
                found.setdefault(variant.name, []).append(diagnosis)
    return found


def _diagnosis(ctx: Context, run_id: str, run: Run, curves: Mapping[str, Mapping[Run, Curve]]) -> Diagnosis | None:
    validation, alike = (curves.get(name, {}).get(run) for name in (VALIDATION, ALIKE))
    train = alike or curves.get(WHILE_TRAINING, {}).get(run)
    if validation is None or train is None or validation.x.size < 2:
        return None
    chosen = validation_metric(ctx)
    metric = curves.get(chosen or "", {}).get(run) if chosen != VALIDATION else None
    sign = 1 if ctx.study.direction == "max" else -1
    return Diagnosis(
        run_id,
        overfitting(validation, train, metric, metric_sign=sign),
        gap(validation, alike) if alike else None,
    )


def _overfitting_table(ctx: Context, found: Mapping[str, Sequence[Diagnosis]]) -> str:
    metric = escape(tables.words_of(validation_metric(ctx) or ""))
    measured = any(run.gap for runs in found.values() for run in runs)
    columns = [
        Column("Arm"),
        Column("Overfitted", "right"),
        Column("Best step", "right"),
        Column("Rise since, %", "right"),
        Column(f"Fall of {metric} since its best", "right"),
    ]
    if measured:
        columns += [Column("Gap at the start", "right"), Column("Gap at the end", "right")]
    rows = []
    for arm, runs in found.items():
        ids, judged = [run.run_id for run in runs], [run.overfitting for run in runs]
        over = f"{sum(each.overfitted for each in judged)} of {len(runs)}"
        cells = [
            f"**{over}**" if any(each.overfitted for each in judged) else over,
            _median([each.best_x for each in judged]),
            number(mean(each.generalisation_loss for each in judged), 1),
            number(mean(each.metric_drop for each in judged), 3),
        ]
        if measured:
            gaps = [run.gap for run in runs if run.gap]
            cells += [number(mean(each.at_start for each in gaps), 3, signed=True)]
            cells += [number(mean(each.at_end for each in gaps), 3, signed=True)]
        rows.append([code(arm), *(evidence(cell, ids) if cell != DASH else cell for cell in cells)])
    caption = (
        "Overfitted: runs whose validation loss ended 5 % or more above its minimum while the training loss still "
        "fell. Best step: where the validation loss was least, median over runs. Rise since: how far it ended "
        "above that."
    )
    if measured:
        caption += (
            f" Gap: loss on validation {MINUS} loss on training samples, measured alike, at the first and the last "
            "validation; below zero the validation samples are the easier ones. Means over runs."
        )
    return table(columns, rows, label="overfitting", caption=caption)


def _median(steps: Sequence[float]) -> str:
    middle = f"{statistics.median(steps):g}"
    return middle if min(steps) == max(steps) else f"{middle} ({min(steps):g} to {max(steps):g})"


def _figures(ctx: Context, folder: Path) -> list[str]:
    """Loss and metric on both kinds of samples, arm by arm; empty where training samples were not scored."""
    metric = validation_metric(ctx)
    out = _alike(ctx, VALIDATION, ALIKE, "min", loss_units(ctx), folder)
    if metric and metric != VALIDATION:
        twin = metric.replace("validation_", "train_eval_", 1)
        out += _alike(ctx, metric, twin, ctx.study.direction, {}, folder)
    return out


def _alike(
    ctx: Context, validation: str, train: str, direction: str, units: Mapping[str, str], folder: Path
) -> list[str]:
    """Figures of one quantity on validation and on training samples, a panel a variant that has both."""
    panels = []
    for name in (variant.name for variant in ctx.variants):
        both = [_series(ctx, name, metric) for metric in (validation, train)]
        if both[0] and both[1]:
            panels.append(losses.Panel(name, both[0], both[1], direction, units.get(name, "")))
    what = tables.words_of(validation.removeprefix("validation_"))
    blocks = []
    parts = losses.parted(panels)
    for number_, part in enumerate(parts, 1):
        label = f"{'losses' if validation == VALIDATION else 'gaps'}-{number_}"
        style.save(losses.draw(part, label=what), folder / f"{label}.svg")
        several = len({each.unit for each in part}) > 1
        scale = " Losses of different quantities have scales of their own." if several else ""
        best, where = ("▼", "least") if direction == "min" else ("▲", "greatest")
        more = f" (part {number_})" if len(parts) > 1 else ""
        caption = (
            f"{escape(capitalised(what))} on validation samples (solid) and on training samples (dashed), both in "
            f"evaluation mode{more}. Mean over completed seeds, from {FEWEST_FOR_A_BAND} seeds on with its pointwise "
            f"95 % t band; faint: single seeds; {best}: where the mean on validation samples is {where}.{scale}"
        )
        alt = losses.alt_text(part, what)
        blocks.append(figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=alt))
    return blocks


def _series(ctx: Context, variant: str, metric: str) -> Series | None:
    points = ctx.points.get((variant, metric))
    return None if points is None else series(variant, points, ctx.status_of)


def events(ctx: Context, folder: Path) -> str:
    """What failed while runs trained, as they saw it, and what was done about it."""
    kept = [record for record in ctx.records.values() if isinstance((record.get("info") or {}).get("events"), list)]
    if not kept:
        return ""
    order = {variant.name: at for at, variant in enumerate(ctx.variants)}
    kept.sort(key=lambda record: (order[record["variant"]], record["seed"]))
    found = [(record, event) for record in kept for event in record["info"]["events"]]
    if not found:
        none = "a spike of its loss, a divergence, a value that is not finite, or too little memory"
        return section(*EVENTS, f"None of {len(kept)} runs saw {none}.", level=2)
    runs = len({record["run_id"] for record, _ in found})
    grave = sorted(found, key=lambda each: each[1].get("action") == "recorded")[:MOST_EVENTS]
    kinds = ", ".join(f"{sum(e.get('kind') == kind for _, e in found)} × {words}" for kind, words in KINDS.items()
                      if any(e.get("kind") == kind for _, e in found))  # fmt: skip
    said = f"{len(found)} {'event' if len(found) == 1 else 'events'} in {runs} of {len(kept)} runs: {kinds}."
    return section(*EVENTS, said, _events_table(grave, len(found)), level=2)


EVENTS = ("What failed", "events")
KINDS = {
    "spike": "spike",
    "divergence": "divergence",
    "non_finite": "not finite",
    "out_of_memory": "out of memory",
}


def _events_table(shown: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], total: int) -> str:
    columns = [
        Column("Arm"),
        Column("Seed", "right"),
        Column("What"),
        Column("Step", "right"),
        Column("Loss", "right"),
        Column("Allowed", "right"),
        Column("Gradient norm", "right"),
        Column("Learning rate", "right"),
        Column("What was done"),
    ]
    rows = []
    for record, event in shown:
        first, last = event.get("step"), event.get("last_step")
        steps = f"{first}" if last in (None, first) else f"{first} to {last}"
        kind = str(event.get("kind"))
        rows.append(
            [
                code(record["variant"]),
                evidence(str(record["seed"]), [record["run_id"]]),
                KINDS.get(kind, escape(kind)),
                steps,
                *(_digits(event.get(name)) for name in ("highest", "threshold", "gradient_norm", "learning_rate")),
                done(event),
            ]
        )
    caption = "Failures in training, those that changed the run first. Loss: the highest of the event."
    if total > len(shown):
        caption += f" {total - len(shown)} more that changed nothing are in the records."
    return table(columns, rows, label="events", caption=caption)


def _digits(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else DASH


def done(event: Mapping[str, Any]) -> str:
    """What was done about an event, and whether the loss came back."""
    action = str(event.get("action"))
    if action == "rolled back" and event.get("returned_to") is not None:
        ends = {"skipped_batches": "left out", "postponed_batches": "put last"}
        counts = {end: len(event.get(key) or ()) for key, end in ends.items()}
        parts = [f"{n} {'batch' if n == 1 else 'batches'} {end}" for end, n in counts.items() if n]
        return ", ".join([f"rolled back to step {event['returned_to']}", *parts])
    if action == "recorded":
        return "went on; the loss came back" if event.get("recovered") else "went on; the loss did not come back"
    return escape(action)
