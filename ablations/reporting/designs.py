"""What a study's design says beyond single arms: levels of a parameter, and combinations against their parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablations.analysis.additivity import additivity
from ablations.analysis.levels import trend
from ablations.analysis.table import RunTable, read_table
from ablations.plan import seeds_of
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.markdown import bullets
from ablations.reporting.prose_levels import interaction_sentence, trend_sentence
from ablations.reporting.text import code, escape, tied_figures
from ablations.study import Ablation

FOLDER = "_generated"


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
        said.append(tied_figures(escape(text)))
    return bullets(said)


def combinations(ctx: Context, folder: Path) -> str:
    """Each combination against the sum of its parts."""
    found = [each for each in ctx.study.ablations if each.kind == "combine" and len(each.parts) > 1]
    if not found:
        return ""
    table, said = _table(ctx), []
    for ablation in found:
        for level in ablation.levels:
            if not ctx.ids[level.name]:
                said.append(f"{code(level.name)}: no result yet.")
                continue
            tested = additivity(table, level.name, ablation.parts)
            text = interaction_sentence(tested, alpha=ctx.study.alpha, unit=ctx.study.unit)
            said.append(tied_figures(escape(text)))
    return bullets(said)
