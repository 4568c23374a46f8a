"""Searches: what was tried, what came of it, what mattered, and what the winner is worth on fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablations.analysis.examples import expected_best
from ablations.analysis.importance import searched
from ablations.errors import AblationsError
from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import style
from ablations.reporting.figures import trials as pictures
from ablations.reporting.markdown import Column, bullets, figure, join, section, table
from ablations.reporting.numbers import deviation, mean, scores_of
from ablations.reporting.pictures import FOLDER, capitalised
from ablations.reporting.text import DASH, code, count, escape, evidence, number, share, spread, tied_figures
from ablations.space import Search
from ablations.store import Store
from ablations.study import Ablation
from ablations.trials import Trial, best, trial_table, trials_of

MOST_TRIALS = 40
DECIMALS = 4
INTRODUCTION = (
    "A search picks the best of many trials on validation samples: its own score of the winner is too good, the more "
    "so the more trials it made. What counts is the winner on fresh seeds, which it is run on like any other arm."
)


def searches(ctx: Context, folder: Path) -> str:
    """The section on searches; empty where the study has none."""
    declared = [each for each in ctx.study.ablations if each.search]
    store = Store(ctx.results)
    parts = [_search(ctx, each, store, at, folder) for at, each in enumerate(declared, 1)]
    return section("Searches", "searches", INTRODUCTION, *parts) if parts else ""


def _search(ctx: Context, ablation: Ablation, store: Store, at: int, folder: Path) -> str:
    search, made = ablation.search, trials_of(ctx.study, ablation, store)
    assert search is not None
    space = "; ".join(escape(dimension.label) for dimension in search.space)
    pruner = "" if search.pruner == "none" else f", pruner {escape(search.pruner)}"
    better = "more" if search.direction == "max" else "less"
    declared = (
        f"{count(search.trials)} trials by {code(search.objective)} ({better} is better), sampler "
        f"{escape(search.sampler)}{pruner}. Searched: {space}."
    )
    heading = f"## {code(ablation.name)} {{#sec-search-{at}}}"
    asked = f"*{escape(ablation.question)}*" if ablation.question else ""
    if not made:
        return join(heading, asked, declared, "No trial has ended yet.")
    said = [_outcome(made, search), _fresh(ctx, ablation, search, made), _expected_said(search, made)]
    return join(
        heading,
        asked,
        declared,
        bullets(tied_figures(each) for each in said if each),
        *_pictures(ctx, search, made, at, folder),
        _importance(ctx, ablation, search, store, at),
        _table(search, made, at),
    )


def _outcome(made: Sequence[Trial], search: Search) -> str:
    """How the trials ended, and which was the best."""
    states = {state: sum(trial.state == state for trial in made) for state in pictures.STATES}
    ended = ", ".join(f"{count(n)} {state}" for state, n in states.items() if n)
    winner = best(made, search)
    if winner is None:
        return f"{count(len(made))} trials ended: {ended}. None has a score."
    chosen = ", ".join(f"{escape(key)} = {escape(tables.shown_value(value))}" for key, value in winner.values.items())
    return (
        f"{count(len(made))} of {count(search.trials)} trials ended: {ended}. The best, trial {count(winner.number)}, "
        f"scored {number(winner.value, DECIMALS)}: {chosen}."
    )


def _fresh(ctx: Context, ablation: Ablation, search: Search, made: Sequence[Trial]) -> str:
    """The winner on fresh seeds against the search's own score of it."""
    winner, arm = best(made, search), ablation.levels[0].name
    if winner is None or winner.value is None:
        return ""
    if len(made) < search.trials:
        return "The search goes on: its winner is not known and not run yet."
    values, ids = scores_of(ctx, arm, search.objective), ctx.ids[arm]
    if not values:
        return f"On fresh seeds: no run of {code(arm)} has a {code(search.objective)} yet."
    shown = evidence(spread(mean(values), deviation(values), DECIMALS), ids)
    gap = (mean(values) or 0.0) - winner.value
    change = evidence(number(gap, DECIMALS, signed=True), ids)
    sign = 1 if search.direction == "max" else -1
    meaning = (
        "as is to be expected of a score that was picked for being the best" if sign * gap < 0 else "no sign of luck"
    )
    return (
        f"On {count(len(values))} fresh seeds the winner has {shown}, {change} from the search's own score of it, "
        f"{meaning}. The comparison with the baseline (@tbl-main) rests on the fresh seeds alone."
    )


def _fair(search: Search) -> bool:
    """Whether the trials are a sample: drawn at random, and none stopped for promising little."""
    return search.sampler == "random" and search.pruner == "none"


def _expected(ctx: Context, search: Search, made: Sequence[Trial]) -> list[float]:
    """Expected best of 1, 2, … trials; empty where the trials are no sample, or too few."""
    sign = 1 if search.direction == "max" else -1
    values = [trial.value for trial in made if trial.state == "completed" and trial.value is not None]
    if not _fair(search) or len(values) < 5:
        return []
    worst = min(sign * value for value in values)
    values = [sign * value for value in values] + [worst for trial in made if trial.state == "diverged"]
    return [sign * expected_best(np.array(values), n) for n in range(1, len(values) + 1)]


def _expected_said(search: Search, made: Sequence[Trial]) -> str:
    if _fair(search):
        return ""
    why = "stopped early" if search.sampler == "random" else f"proposed by {escape(search.sampler)}"
    return (
        "What fewer trials would have found cannot be told: that takes trials drawn at random and run to their end; "
        f"these were {why}."
    )


def _pictures(ctx: Context, search: Search, made: Sequence[Trial], at: int, folder: Path) -> list[str]:
    points = [
        pictures.Point(
            each.number, each.state, each.value if each.value is not None else _last(each), dict(each.values)
        )
        for each in made
    ]
    if not any(point.state == "completed" for point in points):
        return []
    objective, expected = tables.words_of(search.objective), _expected(ctx, search, made)
    drawn = pictures.draw(points, expected, objective=objective, direction=search.direction)
    style.save(drawn, folder / f"search-{at}.svg")
    beside = (
        " Right: the best that n trials drawn from these would have found on average; a diverged trial counts as the "
        "worst."
        if expected
        else ""
    )
    caption = (
        f"{escape(capitalised(objective))} of every trial in order; the line is the best so far. ●: completed, ▽: "
        f"pruned (its last value), ×: diverged, +: failed.{beside}"
    )
    alt = pictures.alt_text(points, expected, objective=objective, direction=search.direction)
    parameters = [(dimension.key, dimension.log) for dimension in search.space]
    style.save(pictures.draw_slices(points, parameters, objective=objective), folder / f"slices-{at}.svg")
    return [
        figure(f"{FOLDER}/search-{at}.svg", label=f"search-{at}", caption=caption, alt=alt),
        figure(
            f"{FOLDER}/slices-{at}.svg",
            label=f"slices-{at}",
            caption=f"{escape(capitalised(objective))} of the completed trials against each parameter.",
            alt=pictures.slices_alt(points, parameters, objective=objective),
        ),
    ]


def _last(trial: Trial) -> float | None:
    return trial.curve[-1][1] if trial.state == "pruned" and trial.curve else None


def _importance(ctx: Context, ablation: Ablation, search: Search, store: Store, at: int) -> str:
    """Shares of the parameters in what the objective varies by, or why they cannot be told."""
    try:
        found = searched(
            trial_table(ctx.study, ablation, store),
            [dimension.key for dimension in search.space],
            sampler=search.sampler,
            log=[dimension.key for dimension in search.space if dimension.log],
            direction=search.direction,
            failure_value=ctx.study.failure_value,
        )
    except AblationsError as error:
        return f"Which parameter mattered most is not said: {escape(error)}."
    rows = [[code(each.parameter), share(each.share)] for each in found]
    caption = (
        f"Share of each searched parameter in the variance of {escape(tables.words_of(search.objective))} over the "
        f"searched space: functional ANOVA on {count(found[0].trials)} trials drawn at random. Exploratory, without a "
        "test."
    )
    columns = [Column("Parameter"), Column("Share", "right")]
    return table(columns, rows, label=f"importance-{at}", caption=caption)


def _table(search: Search, made: Sequence[Trial], at: int) -> str:
    sign = 1 if search.direction == "max" else -1
    ranked = sorted(made, key=lambda trial: (trial.value is None, -sign * (trial.value or 0.0), trial.number))
    shown = ranked[:MOST_TRIALS]
    columns = [Column("Trial", "right"), Column(escape(tables.words_of(search.objective)), "right"), Column("State")]
    columns += [Column(escape(name), "right") for name in _short([dimension.key for dimension in search.space])]
    columns.append(Column("Run"))
    rows = [_row(trial, search) for trial in shown]
    caption = "The trials of the search, the best first."
    if len(shown) < len(made):
        caption += f" {count(len(made) - len(shown))} worse ones are in the records."
    return table(columns, rows, label=f"trials-{at}", caption=caption)


def _short(keys: Sequence[str]) -> list[str]:
    """The last part of each key, where no other has the same; the table's heads would be too wide else."""
    last = [key.rpartition(".")[2] for key in keys]
    return [part if last.count(part) == 1 else key for part, key in zip(last, keys, strict=True)]


def _row(trial: Trial, search: Search) -> list[str]:
    values: list[Any] = [trial.values.get(dimension.key) for dimension in search.space]
    cause = f": {escape(tables.shortened(trial.cause, 60))}" if trial.cause else ""
    return [
        count(trial.number),
        number(trial.value, DECIMALS) if trial.value is not None else DASH,
        trial.state if trial.state == "completed" else f"**{escape(trial.state)}**{cause}",
        *(escape(tables.shown_value(value)) for value in values),
        code(trial.run_id),
    ]
