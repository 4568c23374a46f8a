"""Attribution paths: how much of a whole each change brings, in the order declared."""

from __future__ import annotations

from pathlib import Path

from ablations.analysis.compare import compare
from ablations.analysis.results import Comparison
from ablations.plan import seeds_of
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import steps, style
from ablations.reporting.markdown import Column, figure, join, table
from ablations.reporting.numbers import deviation, mean, scores_of, table_decimals
from ablations.reporting.pictures import FOLDER
from ablations.reporting.text import DASH, code, escape, evidence, interval, number, spread
from ablations.study import Ablation

ORDER = (
    "What a step brings holds for this order: where changes interact, the same change brings more or less at another "
    "place of the path. Exploratory."
)


def paths(ctx: Context, folder: Path) -> str:
    """A table and a figure for each path of the study."""
    declared = [each for each in ctx.study.ablations if each.kind == "path" and each.steps]
    if not declared:
        return ""
    return join(*(_path(ctx, each, at + 1, folder) for at, each in enumerate(declared)), ORDER)


def _path(ctx: Context, path: Ablation, at: int, folder: Path) -> str:
    rows = _rows(ctx, path)
    blocks = [f"*{escape(path.question)}*" if path.question else "", _table(ctx, path, rows, at)]
    if any(row.total for row in rows):
        label, decimals = f"path-{at}", table_decimals(ctx)
        metric, smallest = tables.metric_name(ctx), ctx.study.smallest_effect
        drawn = steps.draw(rows, metric=metric, smallest=smallest, decimals=decimals, direction=ctx.study.direction)
        style.save(drawn, folder / f"{label}.svg")
        band = " Shaded: differences from the baseline of no interest." if ctx.study.smallest_effect else ""
        caption = (
            f"From the baseline (◆) to {code(path.start)}: mean difference from the baseline after each step, with its "
            f"95 % paired-t interval. Bars: what the step brought.{band}"
        )
        alt = steps.alt_text(rows, metric=metric, decimals=decimals)
        blocks.append(figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=alt))
    return join(*blocks)


def _rows(ctx: Context, path: Ablation) -> list[steps.Row]:
    rows, before = [], ""
    for stop in path.steps:
        total = ctx.by_arm.get(stop.variant)
        shown = total if total is not None and total.difference is not None else None
        label = stop.label or stop.part or stop.variant
        rows.append(steps.Row(label, shown, against(ctx, stop.variant, before) if before else None))
        before = stop.variant
    return rows


def against(ctx: Context, variant: str, before: str) -> Comparison | None:
    """A variant against another one, e.g. that before it on a path; None where they share no completed seed."""
    if not (ctx.ids[variant] and ctx.ids[before]):
        return None
    [found] = compare(
        ctx.scores[ctx.scores["variant"].isin((variant, before))],
        baseline=before,
        metric=ctx.study.metric,
        planned={name: seeds_of(ctx.study, name) for name in (before, variant)},
        direction=ctx.study.direction,
        alpha=ctx.study.alpha,
        min_seeds=ctx.study.min_seeds,
    )
    return found if found.difference is not None else None


def _table(ctx: Context, path: Ablation, rows: list[steps.Row], at: int) -> str:
    metric, decimals = escape(tables.metric_name(ctx)), table_decimals(ctx)
    columns = [
        Column("Step", "right"),
        Column("Change"),
        Column("Arm"),
        Column(f"{metric}, mean ± sd", "right"),
        Column("Change by the step", "right"),
        Column("95 % interval", "right"),
        Column("From the baseline", "right"),
    ]
    cells = []
    for number_, (stop, row) in enumerate(zip(path.steps, rows, strict=True)):
        values, ids = scores_of(ctx, stop.variant, ctx.study.metric), ctx.ids[stop.variant]
        before = ctx.ids[path.steps[number_ - 1].variant] if number_ else ()
        reached = evidence(spread(mean(values), deviation(values), decimals), ids) if ids else DASH
        step = _figures(row.step, (*ids, *before), decimals)
        change = escape(row.label) if number_ else DASH
        total, _ = _figures(row.total, (*ids, *ctx.ids[ctx.baseline.name]), decimals)
        cells.append([str(number_), change, code(stop.variant), reached, *step, total])
    caption = (
        f"The path to {code(path.start)}. Change by the step: against the arm before it, paired by seed. A step whose "
        "config another arm has is shown under that arm's name; its runs serve."
    )
    return table(columns, cells, label=f"path-{at}", caption=caption)


def _figures(found: Comparison | None, ids: tuple[str, ...], decimals: int) -> tuple[str, str]:
    if found is None:
        return DASH, DASH
    shared = tuple(run_id for run_id in ids if run_id.rpartition("-s")[2] in {str(seed) for seed in found.seeds})
    return (
        evidence(number(found.difference, decimals, signed=True), shared),
        evidence(interval(found.ci_low, found.ci_high, decimals), shared),
    )
