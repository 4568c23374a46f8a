"""Learning curves over steps, time and compute: who is ahead at an equal budget, and who reaches a target when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ablations.analysis.budgets import Budget, at_equal_budget, common_target
from ablations.analysis.curves import Curve, Race, Run, race, read_curves
from ablations.analysis.results import Direction
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import budgets, curves, style
from ablations.reporting.markdown import Column, bullets, figure, section, table
from ablations.reporting.numbers import table_decimals
from ablations.reporting.pictures import FOLDER, capitalised, validation_metric
from ablations.reporting.series import series
from ablations.reporting.text import DASH, code, duration, escape, evidence, interval, magnitude, number, p_value

if TYPE_CHECKING:
    import pandas as pd

SCALES = {"step": "steps", "seconds": "time", "flops": "compute"}
INTRODUCTION = (
    "An arm that is ahead after as many steps may be behind after as much time. A run that lowers its learning rate "
    "over many steps is, at an early one, not the run that a smaller budget would have been given. Exploratory: no "
    "verdict rests on this section."
)


@dataclass(frozen=True)
class Scale:
    """What was measured while training, over one scale.

    Attributes:
        column: One of :data:`SCALES`.
        points: The validation metric of runs with an outcome, with that column.
        curves: The curve of each of these runs.
    """

    column: str
    points: pd.DataFrame
    curves: Mapping[Run, Curve]


def learning(ctx: Context, folder: Path) -> str:
    """The section on learning curves over steps, time and compute; empty where no run was scored while it trained."""
    metric = validation_metric(ctx)
    scales = _scales(ctx, metric) if metric else []
    if not metric or not scales or not ctx.ids[ctx.baseline.name]:
        return ""
    completed = {(variant, seed) for variant, ids in _seeds(ctx).items() for seed in ids}
    found = {
        scale.column: {
            each.arm: each
            for each in at_equal_budget(
                {run: curve for run, curve in scale.curves.items() if run in completed}, baseline=ctx.baseline.name
            )
        }
        for scale in scales
    }
    if not any(found.values()):
        return ""
    return section(
        "Curves by steps, time and compute",
        "curves",
        INTRODUCTION,
        bullets(_turned(ctx, found)),
        _picture(ctx, scales, metric, folder),
        _budgets_table(ctx, found, metric),
        _race_table(ctx, scales, found, metric),
    )


def _seeds(ctx: Context) -> dict[str, list[int]]:
    return {name: [int(run_id.rpartition("-s")[2]) for run_id in ids] for name, ids in ctx.ids.items()}


def _scales(ctx: Context, metric: str) -> list[Scale]:
    """The metric's points on every scale that was recorded. Compute is spread evenly over a run's steps."""
    import pandas as pd

    points = [ctx.points[each.name, metric] for each in ctx.variants if (each.name, metric) in ctx.points]
    ended = ctx.runs[ctx.runs["status"].isin(("completed", "diverged"))].set_index("run_id")
    frame = pd.concat(points) if points else pd.DataFrame(columns=["run_id", "value"])
    frame = frame[frame["run_id"].isin(ended.index)]
    rate = pd.to_numeric(ended["flops"], errors="coerce") / pd.to_numeric(ended["steps"], errors="coerce")
    frame = frame.assign(flops=frame["step"].astype(float) * frame["run_id"].map(rate) if len(frame) else [])
    out = []
    for column in SCALES:
        there = frame[frame[column].notna()]
        if len(there):
            out.append(Scale(column, there, read_curves(there, metric, x=column)))
    return out


def _turned(ctx: Context, found: Mapping[str, Mapping[str, Budget]]) -> list[str]:
    """Arms whose lead over the baseline depends on what is held equal."""
    steps, out = found.get("step", {}), []
    sign = 1 if ctx.study.direction == "max" else -1
    for column in ("seconds", "flops"):
        there = found.get(column, {})
        lost = [arm for arm in steps if arm in there and _ahead(steps[arm], sign) and not _ahead(there[arm], sign)]
        won = [arm for arm in steps if arm in there and _ahead(there[arm], sign) and not _ahead(steps[arm], sign)]
        if lost:
            out.append(f"Ahead of the baseline at equal steps, not at equal {SCALES[column]}: {_names(lost)}.")
        if won:
            out.append(f"Ahead of the baseline at equal {SCALES[column]}, not at equal steps: {_names(won)}.")
    return out


def _ahead(found: Budget, sign: int) -> bool:
    """Whether the whole interval lies on the better side."""
    end = found.low if sign > 0 else found.high
    return end is not None and sign * end > 0


def _names(arms: Sequence[str]) -> str:
    return ", ".join(code(arm) for arm in arms)


def _picture(ctx: Context, scales: Sequence[Scale], metric: str, folder: Path) -> str:
    arms = _drawn(ctx, scales[0])
    drawn = []
    for scale in scales:
        by_variant = dict(iter(scale.points.groupby("variant", sort=False)))
        label, unit = _unit(scale)
        every = [
            series(name, by_variant[name].assign(step=by_variant[name][scale.column] / unit), ctx.status_of)
            for name in (ctx.baseline.name, *arms)
            if name in by_variant
        ]
        drawn.append(budgets.Scale(label, tuple(each for each in every if each)))
    words = tables.words_of(metric)
    style.save(budgets.draw(drawn, arms, baseline=ctx.baseline.name, metric=words), folder / "budgets.svg")
    chosen = (
        f"The {len(arms)} arms that differ most from the baseline" if len(arms) < len(ctx.variants) - 1 else "All arms"
    )
    caption = (
        f"{escape(capitalised(words))} over {', '.join(SCALES[scale.column] for scale in scales)}. {chosen} and the "
        f"baseline (dashed, black); mean over completed seeds, from {curves.FEWEST_FOR_A_BAND} seeds on with its "
        "pointwise 95 % t band; faint: single seeds; ×: a run that broke off. Time counts from the start of the run, "
        "its validation included; compute is spread evenly over the steps."
    )
    return figure(f"{FOLDER}/budgets.svg", label="budgets", caption=caption, alt=budgets.alt_text(drawn))


def _drawn(ctx: Context, scale: Scale) -> list[str]:
    """As many arms as there are colours, those with the largest differences, in the order of the study."""
    there = {variant for variant, _ in scale.curves}
    shown = [each for each in ctx.comparisons if each.arm in there and each.difference is not None]
    largest = sorted(shown, key=lambda each: -abs(each.difference or 0.0))[: curves.ARMS_PER_FIGURE]
    return [each.arm for each in ctx.comparisons if each in largest]


def _unit(scale: Scale) -> tuple[str, float]:
    """Label of a scale, and what its values are divided by."""
    most = float(scale.points[scale.column].max())
    if scale.column == "step":
        return "optimizer steps", 1.0
    if scale.column == "seconds":
        units = [("h", 3600.0, 4 * 3600.0), ("min", 60.0, 240.0), ("s", 1.0, 0.0)]
        name, size, _ = next(each for each in units if most >= each[2])
        return f"time, {name}", size
    for name, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if most >= size:
            return f"compute, {name}FLOP", size
    return "compute, FLOP", 1.0


def _budgets_table(ctx: Context, found: Mapping[str, Mapping[str, Budget]], metric: str) -> str:
    scales = [column for column in SCALES if found.get(column)]
    columns = [Column("Arm"), *(Column(f"At equal {SCALES[column]}", "right") for column in scales)]
    columns += [Column("Mean height over steps", "right")] * ("step" in scales)
    decimals, rows = table_decimals(ctx), []
    for variant in ctx.variants[1:]:
        if not any(variant.name in found[column] for column in scales):
            continue
        ids = ctx.pair_ids(variant.name)
        cells = []
        for column in scales:
            each = found[column].get(variant.name)
            cells.append(_cell(each.difference, each.low, each.high, decimals, ids) if each else DASH)
        if "step" in scales:
            each = found["step"].get(variant.name)
            cells.append(_cell(each.area, each.area_low, each.area_high, decimals, ids) if each else DASH)
        rows.append([code(variant.name), *cells])
    caption = (
        f"Difference from the baseline in {escape(tables.words_of(metric))} at an equal budget: where the shortest run "
        "of the two ends, by linear interpolation. Mean height: area under the curve over the common steps, divided by "
        "them. Means over shared seeds, 95 % paired-t intervals, not corrected for the number of arms."
    )
    return table(columns, rows, label="budgets", caption=caption)


def _cell(value: float, low: float | None, high: float | None, decimals: int, ids: tuple[str, ...]) -> str:
    shown = evidence(number(value, decimals, signed=True), ids)
    return shown if low is None else f"{shown} {evidence(interval(low, high, decimals), ids)}"


def _race_table(ctx: Context, scales: Sequence[Scale], found: Mapping[str, Mapping[str, Budget]], metric: str) -> str:
    direction = cast("Direction", ctx.study.direction)
    target = common_target(scales[0].curves, baseline=ctx.baseline.name, direction=direction)
    if target is None:
        return ""
    races = {
        scale.column: {
            each.arm: each for each in race(scale.curves, target, baseline=ctx.baseline.name, direction=direction)
        }
        for scale in scales
    }
    first = next(iter(races.values()))
    if not first:
        return ""
    columns = [Column("Arm"), Column("Reached", "right")]
    for scale in scales:
        columns += [Column(SCALES[scale.column].capitalize(), "right"), Column("p", "right")]
    rows = [_baseline_row(ctx, races, first)]
    for variant in ctx.variants[1:]:
        if variant.name in first:
            rows.append(_race_row(ctx, variant.name, races))
    shown = number(target, table_decimals(ctx))
    caption = (
        f"When {escape(tables.words_of(metric))} first reaches {evidence(shown, ctx.ids[ctx.baseline.name])}, which "
        "every run of the baseline does: runs that do of those with an outcome, and medians over them all, a run that "
        "does not counting as the slowest; a dash where half or more do not. p: sign-flip test on ranks against the "
        "baseline, not corrected for the number of arms."
    )
    return table(columns, rows, label="races", caption=caption)


def _baseline_row(ctx: Context, races: Mapping[str, Mapping[str, Race]], first: Mapping[str, Race]) -> list[str]:
    widest = max(first, key=lambda arm: first[arm].n)
    ids = ctx.ids[ctx.baseline.name]
    reached = f"{first[widest].reached_baseline}/{first[widest].n}"
    cells = [evidence(reached, ids)]
    for column, found in races.items():
        cells += [evidence(_time(column, found[widest].median_baseline), ids), DASH]
    return [f"**{code(ctx.baseline.name)}**", *cells]


def _race_row(ctx: Context, arm: str, races: Mapping[str, Mapping[str, Race]]) -> list[str]:
    ids, first = ctx.ids[arm], next(iter(races.values()))[arm]
    cells = [evidence(f"{first.reached_arm}/{first.n}", ids)]
    for column, found in races.items():
        each = found.get(arm)
        cells += [evidence(_time(column, each.median_arm), ids), p_value(each.p)] if each else [DASH, DASH]
    return [code(arm), *cells]


def _time(column: str, value: float | None) -> str:
    if value is None:
        return DASH
    return {"step": number(value, 0), "seconds": duration(value), "flops": magnitude(value)}[column]
