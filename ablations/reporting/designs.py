"""What a study's design says beyond single arms: levels of a parameter, and combinations against their parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablations.analysis.additivity import additivity
from ablations.analysis.levels import Trend, trend
from ablations.analysis.table import RunTable, read_table
from ablations.plan import seeds_of
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import doses, style
from ablations.reporting.markdown import bullets, figure, join
from ablations.reporting.numbers import half_interval, table_decimals
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
    """A sentence for each swept parameter, and its dose-response chart."""
    found = list(sweeps(ctx))
    if not found:
        return "No parameter was tried at two or more levels that have a result."
    table, metric = _table(ctx), tables.metric_name(ctx)
    direction = "max" if ctx.study.direction == "max" else "min"
    band = "; shaded: differences from it of no interest" if ctx.study.smallest_effect else ""
    said, drawn = [], []
    for sweep in found:
        tested = trend(
            table,
            sweep.levels,
            parameter=sweep.parameter,
            metric=ctx.study.metric,
            direction=direction,  # type: ignore[arg-type]
            alpha=ctx.study.alpha,
        )
        text = trend_sentence(tested, metric=tables.words_of(ctx.study.metric), unit=ctx.study.unit)
        said.append(tied_figures(escape(text)))
        drawn.append(_dose(ctx, sweep, tested, table))
    blocks = [bullets(said)]
    for at in range(0, len(drawn), doses.PER_FIGURE):
        part, label = drawn[at : at + doses.PER_FIGURE], f"levels-{at // doses.PER_FIGURE + 1}"
        style.save(doses.draw(part, metric=metric, smallest=ctx.study.smallest_effect), folder / f"{label}.svg")
        caption = (
            f"{escape(metric)} at each level of the swept parameters, each on a scale of its own: mean with its 95 % t "
            f"interval (from 3 runs on); grey: single seeds; ◆: the baseline{band}."
        )
        alt = doses.alt_text(part, metric=metric, decimals=table_decimals(ctx))
        blocks.append(figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=alt))
    return join(*blocks)


def _dose(ctx: Context, sweep: Sweep, tested: Trend, table: RunTable) -> doses.Dose:
    names = list(sweep.levels)
    values = table.values[[table.arms.index(name) for name in names]]
    halves = [half_interval(row) if np.isfinite(row).sum() > 2 else None for row in values]
    return doses.Dose(
        title=sweep.parameter,
        levels=tuple(sweep.levels.values()),
        values=values,
        halves=tuple(np.nan if half is None else half for half in halves),
        baseline=names.index(ctx.baseline.name) if ctx.baseline.name in names else None,
        log=tested.scale == "log2",
    )


def combinations(ctx: Context, folder: Path) -> str:
    """Each combination against the sum of its parts."""
    found = [each for each in ctx.study.ablations if each.kind == "combine" and len(each.parts) > 1]
    if not found:
        return "The study combines no arms."
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
