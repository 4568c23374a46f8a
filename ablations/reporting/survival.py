"""Would the ranking of a short run have survived the long one, and which decisions would have been others?"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ablations.analysis.curves import read_curves
from ablations.analysis.ranking import Early, Ranking, ranking
from ablations.analysis.results import Direction
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import ranks, style
from ablations.reporting.markdown import Column, bullets, figure, section, table
from ablations.reporting.numbers import deviation, mean
from ablations.reporting.pictures import FOLDER, validation_metric
from ablations.reporting.text import DASH, code, count, escape, evidence, number, spread, tied_figures

NAMED = 6  # arms in a cell
INTRODUCTION = (
    "Arms are ranked by the metric on validation samples at early steps and at the end of their own runs. Where "
    "learning rates decay, an early step is not the end of a run that was planned to be that short. Exploratory: no "
    "verdict of this report rests on what follows."
)


def survival(ctx: Context, folder: Path) -> str:
    """The section on early rankings; empty where nothing was scored early, or fewer than three variants were."""
    metric = validation_metric(ctx)
    if not metric:
        return ""
    done = [run_id for ids in ctx.ids.values() for run_id in ids]
    points = ctx.curves[(ctx.curves["metric"] == metric) & ctx.curves["run_id"].isin(done)]
    if not len(points):
        return ""
    direction = cast("Direction", ctx.study.direction)
    found = ranking(read_curves(points, metric), baseline=ctx.baseline.name, direction=direction)
    if found is None or not any(early.correlations for early in found.early):
        return ""
    return section(
        "Would the short run's ranking have survived?",
        "survival",
        INTRODUCTION,
        bullets(tied_figures(each) for each in _said(ctx, found) if each),
        _picture(ctx, found, metric, folder),
        _table(ctx, found, metric),
    )


def _said(ctx: Context, found: Ranking) -> list[str]:
    first, last = found.early[0], found.early[-1]
    said = [_correlation(ctx, first)]
    if last is not first:
        said.append(_correlation(ctx, last))
    stable = _stable_from(found)
    if stable is None:
        names = ", ".join(code(arm) for arm in found.changed(last))
        said.append(f"At step {count(last.step)} something else than at the end would still be decided about {names}.")
    else:
        said.append(
            f"From step {count(stable.step)} on every arm is decided as at the end: better than the baseline, worse, "
            "or open, by the 95 % paired-t interval at that step."
        )
    return said


def _correlation(ctx: Context, early: Early) -> str:
    values, n = early.correlations, len(early.seeds)
    if not values:
        return ""
    ids = _ids(ctx, early)
    shown = evidence(number(mean(values), 2), ids)
    range_ = f" ({number(min(values), 2)} to {number(max(values), 2)} over {count(n)} seeds)" if n > 1 else ""
    return (
        f"The ranking at step {count(early.step)} has a rank correlation of {shown} with that at the end{range_}; "
        f"what is best then is best at the end at {count(early.same_best)} of {count(n)} seeds."
    )


def _ids(ctx: Context, early: Early) -> list[str]:
    """All completed runs at the seeds that were ranked."""
    seeds = {str(seed) for seed in early.seeds}
    return [run_id for ids in ctx.ids.values() for run_id in ids if run_id.rpartition("-s")[2] in seeds]


def _stable_from(found: Ranking) -> Early | None:
    """The first early step from which on no decision differs from that at the end."""
    stable = None
    for early in reversed(found.early):
        if found.changed(early):
            break
        stable = early
    return stable


def _picture(ctx: Context, found: Ranking, metric: str, folder: Path) -> str:
    stages = [ranks.Stage(f"{early.step:g}", early.ranks, early.correlations) for early in found.early]
    stages.append(ranks.Stage("end", found.ranks, ()))
    style.save(ranks.draw(stages, baseline=ctx.baseline.name), folder / "ranks.svg")
    caption = (
        f"Left: Spearman's correlation between the ranking by {escape(tables.words_of(metric))} at a step and at the "
        "end of the runs; dots: single seeds, line: their mean. Right: rank of each variant's mean, the best at the "
        f"top, the {count(ranks.COLOURED)} that are best at the end in colour; dashed, black: the baseline."
    )
    return figure(f"{FOLDER}/ranks.svg", label="ranks", caption=caption, alt=ranks.alt_text(stages))


def _table(ctx: Context, found: Ranking, metric: str) -> str:
    columns = [
        Column("Step", "right"),
        Column("Rank correlation, mean ± sd", "right"),
        Column("Least", "right"),
        Column("Best is best at the end", "right"),
        Column("Decisions that the end changes"),
    ]
    rows = []
    for early in found.early:
        ids, n = _ids(ctx, early), len(early.seeds)
        values = early.correlations
        rows.append(
            [
                count(early.step),
                evidence(spread(mean(values), deviation(values), 2), ids),
                evidence(number(min(values), 2), ids) if values else DASH,
                f"{count(early.same_best)} of {count(n)}" if n else DASH,
                _changes(found, early),
            ]
        )
    caption = (
        f"The ranking by {escape(tables.words_of(metric))} at early steps against that at the end of the runs, seed "
        "by seed. Decisions: whether the 95 % paired-t interval of an arm's difference from the baseline lies on one "
        "side of zero, not corrected for the number of arms."
    )
    return table(columns, rows, label="ranks", caption=caption)


def _changes(found: Ranking, early: Early) -> str:
    changed = found.changed(early)
    if not changed:
        return "none"
    named = [f"{code(arm)} ({early.decisions[arm]}, at the end {found.decisions[arm]})" for arm in changed[:NAMED]]
    rest = f", and {count(len(changed) - NAMED)} more" if len(changed) > NAMED else ""
    return ", ".join(named) + rest
