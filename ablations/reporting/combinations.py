"""Combinations: the whole against the sum of its parts, what is missed without each part, and paths to the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ablations.analysis.additivity import Interaction, interactions_study
from ablations.analysis.levels import Estimate
from ablations.analysis.results import Comparison
from ablations.reporting import designs, paths, tables
from ablations.reporting.context import Context
from ablations.reporting.figures import parts, style
from ablations.reporting.markdown import Column, figure, join, section, table
from ablations.reporting.numbers import table_decimals
from ablations.reporting.pictures import FOLDER
from ablations.reporting.text import DASH, code, escape, evidence, interval, number

EXPLORATORY = "Exploratory: no verdict of this report rests on what follows."


@dataclass
class Whole:
    """A variant that is made of several changes.

    Attributes:
        name: The variant.
        parts: Label of each part, in the order of the file.
        alone: Comparison of each part with the baseline.
        missed: Comparison of the whole with the variant that lacks the part.
        lacking: That variant's name.
        sums: The whole against the sum of its parts; None where these are no arms of their own.
    """

    name: str
    parts: list[str]
    alone: dict[str, Comparison] = field(default_factory=dict)
    missed: dict[str, Comparison] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    sums: Interaction | None = None


def combinations(ctx: Context, folder: Path) -> str:
    """The section on combinations; empty where the study has neither combinations nor paths."""
    wholes = [whole for whole in _wholes(ctx) if ctx.ids[whole.name]]
    shown = [_whole(ctx, whole, at, folder) for at, whole in enumerate(wholes, 1)]
    walked = paths.paths(ctx, folder)
    said = join(designs.combinations(ctx, folder), *shown)
    body = [said, section("Paths", "paths", walked, level=2)]
    return section("Combinations", "combinations", EXPLORATORY, *body) if any(each.strip() for each in body) else ""


def _wholes(ctx: Context) -> list[Whole]:
    """The combinations and the variants whose parts are left out in turn, in the order of the file."""
    found: dict[str, Whole] = {}
    sums = {each.combination: each for each in interactions_study(ctx.scores, ctx.study)}
    for ablation in ctx.study.ablations:
        if ablation.kind == "combine" and len(ablation.parts) > 1:
            for level in ablation.levels:
                whole = found.setdefault(level.name, Whole(level.name, list(ablation.parts)))
                whole.alone = {part: ctx.by_arm[part] for part in ablation.parts if part in ctx.by_arm}
                whole.sums = sums.get(level.name)
        if ablation.kind == "leave_one_out" and ablation.start:
            whole = found.setdefault(ablation.start, Whole(ablation.start, []))
            for step in ablation.steps:
                label = step.part or step.label or step.variant
                if label not in whole.parts:
                    whole.parts.append(label)
                whole.lacking[label] = step.variant
                missed = paths.against(ctx, whole.name, step.variant)
                if missed:
                    whole.missed[label] = missed
    return list(found.values())


def _whole(ctx: Context, whole: Whole, at: int, folder: Path) -> str:
    rows = [
        parts.Row(
            part,
            {
                kind: _of_comparison(found[part])
                for kind, found in (("alone", whole.alone), ("missed", whole.missed))
                if part in found and found[part].difference is not None
            },
        )
        for part in whole.parts
    ]
    if whole.sums and whole.sums.summed:
        rows.append(parts.Row(parts.WORDS["sum"], {"sum": _of_estimate(whole.sums.summed)}))
    if whole.name in ctx.by_arm and ctx.by_arm[whole.name].difference is not None:
        rows.append(parts.Row(whole.name, {"whole": _of_comparison(ctx.by_arm[whole.name])}))
    metric, decimals, label = tables.metric_name(ctx), table_decimals(ctx), f"parts-{at}"
    style.save(parts.draw(rows, metric=metric, smallest=ctx.study.smallest_effect), folder / f"{label}.svg")
    band = " Shaded: differences of no interest." if ctx.study.smallest_effect else ""
    caption = (
        f"The parts of {code(whole.name)}: mean differences in {escape(metric)} with 95 % paired-t intervals.{band} "
        "Where a part brings as much alone as is missed without it, it does not depend on the others."
    )
    alt = parts.alt_text(rows, whole=whole.name, metric=metric, decimals=decimals)
    return join(
        figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=alt),
        _table(ctx, whole, at) if whole.missed else "",
    )


def _of_comparison(found: Comparison) -> parts.Effect:
    assert found.difference is not None
    return parts.Effect(found.difference, found.ci_low, found.ci_high)


def _of_estimate(found: Estimate) -> parts.Effect:
    return parts.Effect(found.value, found.low, found.high)


def _table(ctx: Context, whole: Whole, at: int) -> str:
    columns = [
        Column("Part"),
        Column("Added alone", "right"),
        Column("95 % interval", "right"),
        Column("Missed without it", "right"),
        Column("95 % interval", "right"),
        Column("Arm without it"),
    ]
    decimals, rows = table_decimals(ctx), []
    for part in whole.parts:
        alone, missed, lacking = whole.alone.get(part), whole.missed.get(part), whole.lacking.get(part)
        rows.append(
            [
                code(part),
                *_cells(alone, ctx.pair_ids(part) if alone else (), decimals),
                *_cells(missed, (*ctx.ids[whole.name], *(ctx.ids[lacking] if lacking else ())), decimals),
                code(lacking) if lacking else DASH,
            ]
        )
    caption = (
        f"What each part of {code(whole.name)} brings. Added alone: its arm minus the baseline. Missed without it: "
        f"{code(whole.name)} minus the arm that lacks the part. Means over shared seeds, 95 % paired-t intervals, not "
        "corrected for their number."
    )
    return table(columns, rows, label=f"parts-{at}", caption=caption)


def _cells(found: Comparison | None, ids: tuple[str, ...], decimals: int) -> tuple[str, str]:
    if found is None:
        return DASH, DASH
    return (
        evidence(number(found.difference, decimals, signed=True), ids),
        evidence(interval(found.ci_low, found.ci_high, decimals), ids),
    )
