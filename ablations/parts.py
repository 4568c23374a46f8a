"""What a variant's change is made of, and the variants that have only some of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ablations.drafts import Draft
from ablations.schema import ABSENT


def parts_of(draft: Draft, baseline: Mapping[str, Any]) -> list[str]:
    """The parts that a change falls into: combined variants and, beside or without them, single parameters.

    Args:
        draft: The variant.
        baseline: All parameters of the baseline; what equals it is no change and makes no part.
    """
    combined = [
        name
        for name, settings in draft.parts
        if any(baseline.get(key, ABSENT) != settings[key].value for key in settings)
    ]
    below = only(draft, draft.own, "").settings
    alone = [
        key
        for key, each in draft.own.items()
        if each.value != (below[key].value if key in below else baseline.get(key, ABSENT))
    ]
    return combined + alone


def only(draft: Draft, dropped: Collection[str], name: str) -> Draft:
    """A variant without some parts; where the others overlap the same one wins as in the whole."""
    parts = tuple(part for part in draft.parts if part[0] not in dropped)
    own = {key: each for key, each in draft.own.items() if key not in dropped}
    return Draft(name, draft.path, parts, own, draft.sound)


def without_each(draft: Draft, parts: Sequence[str], name: str) -> Iterator[tuple[str, Draft]]:
    """Each part with the variant that lacks it alone."""
    for part in parts:
        yield part, only(draft, {part}, f"{name}={part}")


def one_by_one(
    draft: Draft, order: Sequence[str], name: str, baseline: Mapping[str, Any]
) -> Iterator[tuple[str, Draft]]:
    """Each part with the variant that has it and all before it; a part that changes nothing there is passed over.

    Args:
        draft: The whole.
        order: All its parts.
        name: Of the ablation; its variants are numbered.
        baseline: All parameters of the baseline.
    """
    before, steps = dict(baseline), 0
    for place, part in enumerate(order):
        step = only(draft, set(order[place + 1 :]), "")
        after = {**baseline, **{key: each.value for key, each in step.settings.items()}}
        if before != after:
            before, steps = after, steps + 1
            yield part, Draft(f"{name}={steps}-{part}", step.path, step.parts, step.own, step.sound)
