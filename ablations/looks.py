"""Adaptive seeds in words for the terminal: what looks have settled, what the next one waits for, what is to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ablations.plan import RunKey, run_keys
from ablations.standing import ENDED
from ablations.store import Store
from ablations.study import Look, Study


def most_runs(study: Study) -> list[RunKey]:
    """All runs that the study plans if no look settles an arm any more."""
    if not study.rounds or _is_over(study):
        return run_keys(study)
    arms = tuple(level.name for each in study.ablations for level in each.levels)
    still_open = study.taken[-1].open if study.taken else arms
    rest = (Look((), still_open),) * (len(study.rounds) - len(study.taken))
    return run_keys(replace(study, taken=(*study.taken, *rest)))


def taken_since(before: Study, study: Study) -> Iterator[str]:
    """What each look has settled that was taken meanwhile, and who goes on."""
    for at in range(len(before.taken), len(study.taken)):
        look, seeds = study.taken[at], study.rounds[at]
        yield f"Look {at + 1} of {study.looks}, after {seeds} seeds: settled {_listed(look.settled)}."
        if look.open and at + 1 < len(study.rounds):
            more = study.rounds[at + 1] - seeds
            yield f"{more} more seed{'' if more == 1 else 's'} for the baseline and {_listed(look.open)}."


def so_far(study: Study, store: Store) -> Iterator[str]:
    """The rounds as declared, the looks taken, and where that leaves the study."""
    *most, last = study.rounds
    counts = f"{', '.join(map(str, most))} and {last}"
    yield f"Rounds of {counts} seeds, a look after each at level {study.alpha / study.looks:.3g}."
    yield from taken_since(replace(study, taken=()), study)
    yield where_it_stands(study, store)


def where_it_stands(study: Study, store: Store) -> str:
    """What the next look waits for or, after the last, how many runs the looks have saved."""
    planned = run_keys(study)
    if not _is_over(study):
        waits = sum(store.status(key.run_id) not in ENDED for key in planned)
        return (
            f"Look {len(study.taken) + 1} of {study.looks} waits for {waits} of {len(planned)} runs; "
            "arms that it leaves open get more seeds."
        )
    still_open = study.taken[-1].open
    found = f"left {_listed(still_open)} open" if still_open else "settled every arm"
    most = len({key.variant for key in planned}) * len(study.seeds)
    return (
        f"The looks have {found}, with {len(planned)} runs planned; {len(study.seeds)} seeds for every arm would have "
        f"taken {most}."
    )


def _is_over(study: Study) -> bool:
    """Whether no further look is planned."""
    return bool(study.taken) and (not study.taken[-1].open or len(study.taken) == len(study.rounds))


def _listed(names: tuple[str, ...]) -> str:
    """Names in words: all of a few, the first of many."""
    if not names:
        return "nothing"
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
