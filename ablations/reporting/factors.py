"""Factor by factor: what each group of arms asks, what came out seed by seed, how it trained, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablations.analysis.levels import swept_levels
from ablations.plan import Variant
from ablations.reporting import designs, tables
from ablations.reporting.context import Context, Group
from ablations.reporting.figures import curves, doses, seeds, slopes, style
from ablations.reporting.markdown import bullets, figure, join, kept_with_next, section
from ablations.reporting.numbers import half_interval, scores_of, table_decimals
from ablations.reporting.pictures import FOLDER, capitalised, validation_metric
from ablations.reporting.sections import worded
from ablations.reporting.series import Series, series
from ablations.reporting.text import code, count, escape, evidence

NOISY = {"train_loss": 60}  # measured at every step: averaged over so many stretches
WHILE_TRAINING = "train_loss"
LEARNING = (
    "learning curves against the baseline (dashed, black). Mean over completed seeds, from "
    f"{curves.FEWEST_FOR_A_BAND} seeds on with its pointwise 95 % t band; faint: single seeds; ×: a run that broke off."
)

EXPLORATORY = (
    "Trends over the levels of the swept parameters; the charts stand with the factors. Exploratory: no verdict of "
    "this report rests on what follows."
)

Learning = tuple[list[curves.Panel], list[str]]
"""Panels and the arms in the order that gives them their colours."""


def factors(ctx: Context, folder: Path) -> str:
    """A part for each group of arms: its questions, its sentences, its seeds, its curves, its failures."""
    blocks = []
    for at, group in enumerate(ctx.groups, 1):
        questions = list(dict.fromkeys(_question(ctx, arm) for arm in group.variants))
        asked = " ".join(f"*{escape(each)}*" for each in questions if each)
        said = bullets(worded(ctx, ctx.concluded[arm.name]) for arm in group.variants)
        if not any(ctx.ids[arm.name] for arm in group.variants):
            said = "No run of this group has a result yet."
        heading = f"## {escape(capitalised(group.title))} {{#sec-factor-{at}}}"
        blocks.append(
            join(
                heading,
                kept_with_next(asked) if asked else "",
                said,
                *_pictures(ctx, group, at, folder),
                _failures(ctx, group),
            )
        )
    return join(*blocks) if blocks else "The study has no arms beside its baseline."


def levels(ctx: Context, folder: Path) -> str:
    """The section on swept parameters; empty without one."""
    return section("Levels", "levels", EXPLORATORY, said) if (said := designs.levels(ctx, folder)) else ""


def _question(ctx: Context, arm: Variant) -> str:
    return next((each.question for each in ctx.study.ablations if each.name == arm.ablation), "")


def _shapes(ctx: Context, group: Group) -> tuple[list[tuple[str, dict[str, float]]], list[str]]:
    """Swept parameters with the level of each variant that has a result, and the arms that are no such level."""
    swept, single, names = [], [], {arm.name for arm in group.variants}
    for ablation in ctx.study.ablations:
        arms = [level.name for level in ablation.levels if level.name in names]
        if not arms:
            continue
        levels = {name: level for name, level in swept_levels(ctx.study, ablation).items() if ctx.ids[name]}
        if len(levels) > 2 or (len(levels) > 1 and ctx.baseline.name not in levels):
            swept.append((next(iter(ablation.axes)), levels))
        else:
            single += arms
    return swept, single


def _pictures(ctx: Context, group: Group, at: int, folder: Path) -> list[str]:
    """The seeds of each arm, and the learning curves: in one figure where both are small, else in several."""
    swept, single = _shapes(ctx, group)
    found = [slope for arm in single if (slope := _slope(ctx, arm)).values]
    rows = seeds.rows_of(found, [_dose(ctx, parameter, levels) for parameter, levels in swept])
    learning = _learning(ctx, group)
    beside = learning[0] if len(learning) == 1 and seeds.leaves_room(rows) else None
    return [*_seeds(ctx, group, rows, beside, at, folder), *([] if beside else _curves(group, learning, at, folder))]


def _seeds(
    ctx: Context, group: Group, rows: Sequence[seeds.Part], beside: Learning | None, at: int, folder: Path
) -> list[str]:
    metric, smallest, direction = tables.metric_name(ctx), ctx.study.smallest_effect, ctx.study.direction
    decimals, out = table_decimals(ctx), []
    for start in range(0, len(rows), seeds.ROWS_PER_FIGURE):
        part, label = rows[start : start + seeds.ROWS_PER_FIGURE], _label("seeds", at, start // seeds.ROWS_PER_FIGURE)
        panels, arms = beside or ((), ())
        drawn = seeds.draw(part, metric=metric, direction=direction, smallest=smallest, panels=panels, arms=arms)
        style.save(drawn, folder / f"{label}.svg")
        single, swept = [slope for row in part for slope in row.slopes], [dose for row in part for dose in row.doses]
        said, alt = [], []
        if single:
            said.append(
                f"{escape(metric)} from the baseline (◆) to each arm (●), a thin line a seed: solid where the arm is "
                "better, dashed where it is not; thick: their mean. A triangle at the edge stands for what lies beyond."
            )
            alt.append(slopes.alt_text(single, metric=metric, direction=direction, decimals=decimals))
        if swept:
            said.append(
                f"{escape(capitalised(metric))} at each level of a swept parameter, on a scale of its own: mean with "
                "its 95 % t interval (from 3 runs on); grey: single seeds; ◆: the baseline."
            )
            alt.append(doses.alt_text(swept, metric=metric, decimals=decimals))
        if smallest:
            said.append("Shaded: differences from the baseline of no interest.")
        if panels:
            said.append(f"Right: {LEARNING}")
            alt.append(curves.alt_text(panels))
        caption = f"{escape(capitalised(group.title))}: {' '.join(said)}"
        out.append(figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=" ".join(alt)))
    return out


def _slope(ctx: Context, arm: str) -> slopes.Slope:
    base, values = _by_seed(ctx, ctx.baseline.name), _by_seed(ctx, arm)
    ended = ctx.runs[(ctx.runs["variant"] == arm) & ctx.runs["status"].isin(("diverged", "failed"))]
    return slopes.Slope(
        arm,
        tuple((base[seed], values[seed]) for seed in base if seed in values),
        tuple(base[int(seed)] for seed in ended["seed"] if int(seed) in base),
    )


def _by_seed(ctx: Context, variant: str) -> dict[int, float]:
    """The primary metric of a variant's completed runs."""
    seeds = [int(run_id.rpartition("-s")[2]) for run_id in ctx.ids[variant]]
    values = scores_of(ctx, variant, ctx.study.metric)
    return dict(zip(seeds, values, strict=True)) if len(seeds) == len(values) else {}


def _dose(ctx: Context, parameter: str, levels: dict[str, float]) -> doses.Dose:
    names = sorted(levels, key=lambda name: levels[name])
    runs = [_by_seed(ctx, name) for name in names]
    values = np.array([[run.get(seed, np.nan) for seed in ctx.study.seeds] for run in runs])
    halves = [half_interval(row) if np.isfinite(row).sum() > 2 else None for row in values]
    return doses.Dose(
        title=parameter,
        levels=tuple(levels[name] for name in names),
        values=values,
        halves=tuple(np.nan if half is None else half for half in halves),
        baseline=names.index(ctx.baseline.name) if ctx.baseline.name in names else None,
        log=min(levels.values()) > 0,
    )


def _learning(ctx: Context, group: Group) -> list[Learning]:
    """The learning curves of a group against the baseline's, in as many parts as there are colours for."""
    arms = [arm.name for arm in group.variants]
    size = curves.ARMS_PER_FIGURE
    out = []
    for start in range(0, len(arms), size):
        names = arms[start : start + size]
        panels = _panels(ctx, names)
        if any(each.variant in names for _, part in panels for each in part):
            out.append((panels, names))
    return out


def _curves(group: Group, learning: Sequence[Learning], number: int, folder: Path) -> list[str]:
    out = []
    for at, (panels, names) in enumerate(learning):
        label = _label("curves", number, at)
        style.save(curves.draw(panels, names), folder / f"{label}.svg")
        caption = f"{escape(capitalised(group.title))}: {LEARNING}"
        out.append(figure(f"{FOLDER}/{label}.svg", label=label, caption=caption, alt=curves.alt_text(panels)))
    return out


def _label(name: str, number: int, part: int) -> str:
    return f"{name}-{number}" + (f"-{part + 1}" if part else "")


def _panels(ctx: Context, names: Sequence[str]) -> list[curves.Panel]:
    panels = []
    for metric in (validation_metric(ctx), WHILE_TRAINING):
        found = [
            series(variant, ctx.points[variant, metric], ctx.status_of, NOISY.get(metric, 0))
            for variant in (ctx.baseline.name, *names)
            if metric and (variant, metric) in ctx.points
        ]
        drawn: list[Series] = [each for each in found if each]
        if metric and drawn:
            panels.append((tables.words_of(metric), drawn))
    return panels


def _failures(ctx: Context, group: Group) -> str:
    """The runs of a group that did not complete, arm by arm, with their causes; empty where there is none."""
    items = []
    for arm in group.variants:
        runs = ctx.runs[(ctx.runs["variant"] == arm.name) & ctx.runs["status"].isin(("diverged", "failed"))]
        if not len(runs):
            continue
        planned = len(ctx.runs[ctx.runs["variant"] == arm.name])
        parts = []
        for status in dict.fromkeys(runs["status"]):
            which = runs[runs["status"] == status]
            causes = list(dict.fromkeys(str(each) for each in which["error"] if isinstance(each, str) and each))
            why = f" ({'; '.join(escape(tables.shortened(each, 90)) for each in causes[:2])})" if causes else ""
            parts.append(f"{evidence(count(len(which)), which['run_id'])} {escape(status)}{why}")
        items.append(f"{code(arm.name)}: of {count(planned)} runs {', '.join(parts)}.")
    return join("Runs without a result (all are in @tbl-ledger):", bullets(items)) if items else ""
