"""Quality against cost: which arms nothing beats on both, and what else differs between arms that cost differently."""

from __future__ import annotations

from pathlib import Path

from ablations.plan import Variant
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import pareto, style
from ablations.reporting.markdown import Column, figure, section, table
from ablations.reporting.numbers import column_of, deviation, half_interval, mean, scores_of, seconds_of, table_decimals
from ablations.reporting.pictures import FOLDER, capitalised
from ablations.reporting.text import DASH, code, duration, escape, evidence, magnitude, number, share, spread, tied


def cost(ctx: Context, folder: Path) -> str:
    """The section on quality against training time; empty where fewer than two arms have a result."""
    points = [point for variant in ctx.variants if (point := _point(ctx, variant))]
    if len(points) < 2:
        return ""
    names = {"metric": tables.metric_name(ctx), "cost": "training time, s", "direction": ctx.study.direction}
    style.save(pareto.draw(points, **names, baseline=ctx.baseline.name), folder / "cost.svg")
    best = pareto.front(points, ctx.study.direction)
    unnamed = " Only the baseline and the arms on the line are named." if len(points) > pareto.NAMED else ""
    caption = (
        f"{escape(capitalised(tables.metric_name(ctx)))} against training time: means with 95 % t intervals over runs "
        f"(from 3 runs on). Filled, on the line: no arm was both cheaper and better.{unnamed} ◆: the baseline. Runs "
        "that shared the machine slowed each other down."
    )
    alt = pareto.alt_text(points, **names, decimals=table_decimals(ctx))
    said = "From cheap to dear, not beaten on both: " + ", ".join(code(each.name) for each in best) + "."
    return section(
        "Quality against cost",
        "cost",
        said,
        figure(f"{FOLDER}/cost.svg", label="cost", caption=caption, alt=alt),
        _table(ctx, frozenset(each.name for each in best)),
    )


def _point(ctx: Context, variant: Variant) -> pareto.Point | None:
    values, seconds = scores_of(ctx, variant.name, ctx.study.metric), seconds_of(ctx, variant.name)
    middle, price = mean(values), mean(seconds)
    if middle is None or price is None:
        return None
    enough = len(seconds) > 2
    return pareto.Point(
        variant.name,
        price,
        half_interval(seconds) if enough else None,
        middle,
        half_interval(values) if enough else None,
    )


def _table(ctx: Context, best: frozenset[str]) -> str:
    metric, decimals = escape(tables.metric_name(ctx)), table_decimals(ctx)
    columns = [
        Column("Arm"),
        Column(metric, "right"),
        Column("Time", "right"),
        Column("× baseline", "right"),
        Column("FLOPs", "right"),
        Column("Parameters", "right"),
        Column("Inputs cut", "right"),
        Column("Memory", "right"),
    ]
    base = mean(seconds_of(ctx, ctx.baseline.name))
    rows = [_row(ctx, ctx.baseline, base, decimals, best)]
    for group in ctx.groups:
        if group.name:
            rows.append(tables.group_row(group.title, len(columns)))
        rows += [_row(ctx, variant, base, decimals, best) for variant in group.variants]
    caption = (
        f"Quality and cost of every arm, means over runs. Bold: not beaten in both {metric} and time. Arms that differ "
        "in parameters or in the share of inputs cut (training split) differ in more than the change that they are "
        "named for. Memory: the peak."
    ) + _shared(ctx)
    return table(columns, rows, label="cost", caption=caption)


def _shared(ctx: Context) -> str:
    """That runs which took over the training of others are counted in full, and what that has saved."""
    taken = ctx.runs[ctx.runs["taken_from"].notna()]
    if taken.empty:
        return ""
    saved, whole = float(taken["taken_seconds"].sum()), float(ctx.runs["seconds"].sum())
    runs = "1 run" if len(taken) == 1 else f"{len(taken)} runs"
    return (
        f" Every run is counted whole. {runs} began with the training of another one (@tbl-ledger), which was not "
        f"repeated: {duration(saved)} less than the {duration(whole)} that all runs count."
    )


def _row(ctx: Context, variant: Variant, base: float | None, decimals: int, best: frozenset[str]) -> list[str]:
    ids, values, seconds = (
        ctx.ids[variant.name],
        scores_of(ctx, variant.name, ctx.study.metric),
        mean(seconds_of(ctx, variant.name)),
    )
    shown = spread(mean(values), deviation(values), decimals)
    cells = [
        f"**{shown}**" if variant.name in best else shown,
        duration(seconds),
        number(seconds / base, 2) if seconds and base else DASH,
        magnitude(mean(column_of(ctx, variant.name, "flops"))),
        magnitude(mean(column_of(ctx, variant.name, "parameters"))),
        share(_cut(ctx, variant.name)),
        _memory(mean(column_of(ctx, variant.name, "peak_memory_mb"))),
    ]
    return [code(variant.name), *(evidence(cell, ids) for cell in cells)]


def _cut(ctx: Context, variant: str) -> float | None:
    """Share of a variant's training inputs that were cut."""
    facts = [(record.get("info") or {}).get("data") or {} for record in ctx.records_of(variant)]
    return mean((each.get("truncated") or {}).get("train") for each in facts)


def _memory(megabytes: float | None) -> str:
    if megabytes is None:
        return DASH
    return tied(f"{number(megabytes, 0)} MB" if megabytes < 10_000 else f"{number(megabytes / 1000, 1)} GB")
