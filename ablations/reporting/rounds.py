"""Adaptive seeds: what each round took, what its look settled, and how many runs that has saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, section, table
from ablations.reporting.prose import VERDICT_WORDS
from ablations.reporting.text import DASH, NBSP, code, count, duration, evidence
from ablations.standing import ENDED
from ablations.study import Look

NAMED = 8  # arms that a cell names; of more it tells how many
WARNING = (
    "Which rounds there are was declared before the first run, and so was the level of each look. A difference that "
    "settled an arm at an early look is on average somewhat larger than the true one; its interval is that of the "
    "look, not adjusted for there being several."
)


@dataclass(frozen=True)
class Round:
    """One round of a study with adaptive seeds.

    Attributes:
        number: From 1.
        seeds: Seeds that its arms have taken at its end.
        planned: Ids of its runs.
        ended: Those that have ended.
        seconds: What these took, together.
        look: The look after it; None where that is still to come.
    """

    number: int
    seeds: int
    planned: tuple[str, ...]
    ended: tuple[str, ...]
    seconds: float
    look: Look | None


def rounds(ctx: Context, folder: Path) -> str:
    """The section on the rounds; empty where every arm takes the same seeds."""
    if not ctx.study.rounds:
        return ""
    found = _rounds(ctx)
    return section("Rounds of seeds", "rounds", _saved(ctx, found), _table(ctx, found), WARNING, level=2)


def _rounds(ctx: Context) -> list[Round]:
    """The rounds begun so far."""
    study, found = ctx.study, []
    before: set[int] = set()
    for at, seeds in enumerate(study.rounds):
        new = set(study.seeds[:seeds]) - before
        before |= new
        runs = ctx.runs[ctx.runs["seed"].isin(new)]
        if not len(runs):
            break
        ended = runs[runs["status"].isin(ENDED)]
        found.append(
            Round(
                number=at + 1,
                seeds=seeds,
                planned=tuple(runs["run_id"]),
                ended=tuple(ended["run_id"]),
                seconds=float(ended["seconds"].fillna(0).astype(float).sum()),
                look=study.taken[at] if at < len(study.taken) else None,
            )
        )
    return found


def _saved(ctx: Context, found: list[Round]) -> str:
    """How many runs the looks have made needless."""
    study = ctx.study
    most = len(ctx.variants) * len(study.seeds)
    planned = sum(len(each.planned) for each in found)
    ids = [run_id for each in found for run_id in each.ended]
    fixed = f"{count(len(study.seeds))}{NBSP}seeds for every arm take {count(most)}{NBSP}runs"
    last = found[-1].look
    if last is None:
        coming = f"Look {len(study.taken) + 1} of {study.looks} is still to come"
        return f"{coming}; {fixed}, the rounds so far {count(planned)}."
    saved = evidence(count(most - planned), ids, "seconds")
    left = f"; {_names(last.open)} {'is' if len(last.open) == 1 else 'are'} left open" if last.open else ""
    return f"{fixed}; the rounds took {count(planned)}, {saved} fewer{left}."


def _table(ctx: Context, found: list[Round]) -> str:
    columns = [
        Column("Round", "right"),
        Column("Seeds", "right"),
        Column("Runs", "right"),
        Column("Run time", "right"),
        Column("Settled by the look after it"),
        Column("Left open"),
    ]
    level = f"{ctx.study.alpha / ctx.study.looks:.3g}"
    caption = (
        "The rounds. Seeds: what an arm has taken at the end of the round. Runs and run time: of the round alone, the "
        f"baseline's among them. Each of the {ctx.study.looks} looks tests at the level {level} (alpha "
        f"{ctx.study.alpha:g} divided by {ctx.study.looks}), corrected over all planned arms; what it settles takes no "
        "further seeds."
    )
    return table(columns, [_row(ctx, each) for each in found], label="rounds", caption=caption)


def _row(ctx: Context, each: Round) -> list[str]:
    done = f"{count(len(each.ended))}/{count(len(each.planned))}"
    settled = still_open = "not taken yet"
    if each.look is not None:
        words = [f"{code(arm)} ({VERDICT_WORDS[ctx.concluded[arm].verdict]})" for arm in each.look.settled]
        settled, still_open = ", ".join(words) or DASH, _names(each.look.open) or DASH
    return [
        str(each.number),
        str(each.seeds),
        evidence(done, each.ended, "seconds"),
        evidence(duration(each.seconds), each.ended, "seconds"),
        settled,
        still_open,
    ]


def _names(arms: tuple[str, ...]) -> str:
    return ", ".join(map(code, arms)) if len(arms) <= NAMED else f"{count(len(arms))}{NBSP}arms"
