"""What a study's design says beyond single arms: levels of a parameter, and combinations against their parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablations.analysis.additivity import interactions_study
from ablations.analysis.importance import factorial, grid_runs, ranked
from ablations.analysis.levels import trend
from ablations.analysis.table import RunTable, read_table
from ablations.errors import AblationsError
from ablations.plan import seeds_of
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, bullets, join, section, table
from ablations.reporting.numbers import table_decimals
from ablations.reporting.prose_levels import interaction_sentence, trend_sentence
from ablations.reporting.prose_uncertainty import share_sentence
from ablations.reporting.text import code, count, escape, evidence, evident, interval, number, tied_figures
from ablations.reporting.verdicts import verdict_cell
from ablations.study import Ablation

EXPLORATORY = "Exploratory: no verdict of this report rests on what follows."
SIMPLE_FACTOR = 1.4  # sd of a difference / sd of a run, in the sentence about interactions
RANKED = ("helps", "hurts", "helps_negligible", "hurts_negligible", "equivalent", "inconclusive")


@dataclass(frozen=True)
class Sweep:
    """Levels of one parameter that can be compared: nothing else differs between them.

    Attributes:
        parameter: Dotted key.
        levels: Level by variant, the baseline's among them where only the parameter differs from it.
    """

    parameter: str
    levels: dict[str, float]


def sweeps(ctx: Context) -> Iterator[Sweep]:
    """The study's sweeps over numbers, of which two levels or more have a result."""
    for ablation in ctx.study.ablations:
        found = _sweep(ctx, ablation)
        if found and sum(bool(ctx.ids[name]) for name in found.levels) >= 2:
            yield found


def _sweep(ctx: Context, ablation: Ablation) -> Sweep | None:
    if len(ablation.axes) != 1:
        return None
    (parameter,) = ablation.axes
    levels = {level.name: level.changes.get(parameter, ctx.study.baseline[parameter]) for level in ablation.levels}
    if all(set(level.changes) <= {parameter} for level in ablation.levels):
        levels[ctx.baseline.name] = ctx.study.baseline[parameter]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in levels.values()):
        return None
    if len(levels) < 2 or len(set(levels.values())) < len(levels):
        return None
    return Sweep(parameter, {name: float(value) for name, value in sorted(levels.items(), key=lambda item: item[1])})


def _table(ctx: Context) -> RunTable:
    planned = {variant.name: seeds_of(ctx.study, variant.name) for variant in ctx.variants}
    return read_table(ctx.scores, baseline=ctx.baseline.name, metric=ctx.study.metric, planned=planned)


def levels(ctx: Context, folder: Path) -> str:
    """A sentence for each swept parameter; the charts stand with the factors. Empty without one."""
    table, said = _table(ctx), []
    for sweep in sweeps(ctx):
        tested = trend(
            table,
            sweep.levels,
            parameter=sweep.parameter,
            metric=ctx.study.metric,
            direction="max" if ctx.study.direction == "max" else "min",
            alpha=ctx.study.alpha,
        )
        text = trend_sentence(tested, metric=tables.words_of(ctx.study.metric), unit=ctx.study.unit)
        ids = [run_id for name in sweep.levels for run_id in ctx.ids[name]]
        said.append(evident(tied_figures(escape(text)), ids, tested.levels))
    return bullets(said)


def combinations(ctx: Context, folder: Path) -> str:
    """A sentence for each combination against the sum of its parts; empty without one."""
    said = []
    for tested in interactions_study(ctx.scores, ctx.study):
        if not ctx.ids[tested.combination]:
            said.append(f"{code(tested.combination)}: no result yet.")
            continue
        text = interaction_sentence(
            tested, metric=tables.words_of(ctx.study.metric), alpha=ctx.study.alpha, unit=ctx.study.unit
        )
        arms = (ctx.baseline.name, *tested.parts, tested.combination)
        ids = [run_id for name in arms for run_id in ctx.ids[name]]
        declared = (tested.smallest_effect, round(tested.sd_factor, 1), SIMPLE_FACTOR)
        said.append(evident(tied_figures(escape(text)), ids, declared))
    return bullets(said)


def importance(ctx: Context, folder: Path) -> str:
    """The section on which change matters most, as far as the design lets one say; empty without two to compare."""
    body = join(_ranking(ctx), *_grids(ctx))
    return section("What matters most", "importance", EXPLORATORY, body) if body.strip() else ""


def _ranking(ctx: Context) -> str:
    """The largest difference of each ablation, in order of size."""
    rows, decimals, seen = [], table_decimals(ctx), set()
    apart = {each.start for each in ctx.study.ablations if each.kind in ("path", "leave_one_out")}
    alone = {
        each.name
        for each in ctx.study.ablations
        if each.kind in ("set", "sweep") and each.start is None and not apart & {level.name for level in each.levels}
    }
    of = {variant.name: variant for variant in ctx.variants if variant.ablation in alone}
    for found in ranked(each for each in ctx.comparisons if each.verdict in RANKED and each.arm in of):
        name, changes = str(of[found.arm].ablation), len(of[found.arm].changes)
        if name in seen:
            continue
        seen.add(name)
        arms, ids = sum(other.ablation == name for other in of.values()), ctx.pair_ids(found.arm)
        largest = code(found.arm) + (f" of {count(arms)} arms" if arms > 1 else "")
        rows.append(
            [
                count(len(seen)),
                code(name),
                largest + (f", {count(changes)} parameters" if changes > 1 else ""),
                evidence(number(found.difference, decimals, signed=True), ids),
                evidence(interval(found.ci_low, found.ci_high, decimals), ids),
                verdict_cell(ctx.concluded[found.arm]),
            ]
        )
    if len(rows) < 2:
        return ""
    columns = [
        Column("Rank", "right"),
        Column("Ablation"),
        Column("Its largest"),
        Column("Difference", "right"),
        Column("95 % interval", "right"),
        Column("Verdict"),
    ]
    caption = (
        "Ablations by the size of their largest difference from the baseline. Each was changed alone, so that sizes "
        "hold for the levels that were tried, beside this baseline; they are no shares of anything, and ranks whose "
        "intervals overlap may as well be the other way round."
    )
    left_out = [code(each.arm) for each in ctx.comparisons if each.arm in apart and each.verdict in RANKED]
    if left_out:
        caption += f" Not among them, since other arms take apart what it changes: {', '.join(left_out)}."
    return table(columns, rows, label="importance", caption=caption)


def _grids(ctx: Context) -> list[str]:
    """The shares of variance over each grid, or why there are none."""
    out = []
    for ablation in ctx.study.ablations:
        if ablation.kind != "grid" or len(ablation.axes) < 2 or not any(ctx.ids[each.name] for each in ablation.levels):
            continue
        runs = grid_runs(ctx.scores, ctx.study, ablation, ctx.variants)
        start = f"Over the grid {code(ablation.name)}: "
        try:
            shares = factorial(runs, list(ablation.axes))
        except AblationsError as error:
            out.append(f"{start}no shares of variance: {escape(error)}.")
            continue
        names = {*runs["variant"]}
        ids = [run_id for name in ctx.ids if name in names for run_id in ctx.ids[name]]
        texts = [tied_figures(escape(share_sentence(each, len(runs)))) for each in shares]
        note = (
            "Analysis of variance with the seeds as blocks (type II), of the runs that finished; p not corrected. "
            "Shares hold for the levels of this grid."
        )
        out.append(join(f"{start}{note}", bullets(evident(text, ids) for text in texts)))
    return out
