"""What the records say against, and of, their data: warnings, overlap of the splits, archives, augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, bullets, callout, section, table
from ablations.reporting.text import DASH, NBSP, code, count, escape, number, share, tied

SPLITS = ("validation", "test")
SHARES = {
    "names": ("Names", "functions whose name is that of a training function"),
    "bodies": ("Code", "functions whose code, the name masked, is that of a training function"),
    "functions": ("Both", "functions of which both are true of one training function"),
    "name_words": ("Words of names", "words of names that a training name holds"),
    "body_words": ("Words of code", "words of code that training code holds"),
}
PAIRS = 10  # of near-synonyms, as an example


def warnings(ctx: Context, folder: Path) -> str:
    """A callout with what the data are not as they should be; nothing where all is well."""
    found: dict[str, list[str]] = {}
    for name, facts in _facts(ctx).items():
        for warning in facts.get("warnings") or ():
            found.setdefault(str(warning), []).append(name)
    everyone = len(_facts(ctx))
    items = [f"{escape(text)}{_whose(names, everyone)}." for text, names in found.items()]
    items += _scored_elsewhere(ctx)
    if not items:
        return ""
    return callout("warning", "The data are not all as they should be", bullets(items))


def _scored_elsewhere(ctx: Context) -> list[str]:
    """Names the arms whose test functions are not the baseline's."""
    facts = {name: (kept.get("scored") or {}).get("test") for name, kept in _facts(ctx).items()}
    own = facts.get(ctx.baseline.name)
    others = [name for name, scored in facts.items() if own and scored and scored != own]
    if not others:
        return []
    return [
        f"{', '.join(map(code, others))}: scored on other functions than the baseline, so that the difference is also "
        f"one of the test; {code('data.drop_from: train')} scores every arm on the same ones."
    ]


def checks(ctx: Context, folder: Path) -> str:
    """Overlap of the splits, duplicates, archives, and augmentation, as far as the records hold them."""
    facts = _facts(ctx)
    return section("Checks", "checks", _overlap(facts), bullets(_sentences(facts)), level=3)


def _facts(ctx: Context) -> dict[str, Mapping[str, Any]]:
    """``info.data`` of each variant's first completed run; variants without it are left out."""
    found = {}
    for variant in ctx.variants:
        for record in ctx.records_of(variant.name)[:1]:
            kept = (record.get("info") or {}).get("data")
            if kept:
                found[variant.name] = kept
    return found


def _distinct(facts: Mapping[str, Mapping[str, Any]], key: str) -> list[tuple[list[str], dict[str, Any]]]:
    """The different values of a fact, each with the arms that have it; missing and empty ones are left out."""
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name, kept in facts.items():
        value = kept.get(key)
        if isinstance(value, dict) and value:
            found.setdefault(repr(value), ([], value))[0].append(name)
    return list(found.values())


def _whose(names: list[str], everyone: int) -> str:
    """In brackets, the arms that a fact is of; nothing where it is of all."""
    if len(names) == everyone:
        return ""
    return f" ({', '.join(map(code, names))})" if len(names) <= 4 else f" ({code(names[0])} and {len(names) - 1} more)"


def _overlap(facts: Mapping[str, Mapping[str, Any]]) -> str:
    found = _distinct(facts, "overlap")
    if not found:
        return ""
    there = {key: words for key, words in SHARES.items() if any(_shares(each, key) for _, each in found)}
    caption = "How much of validation and test the training split has shown already."
    if len(found) == 1 and len(found[0][0]) == len(facts):
        columns = [Column("Share of"), *(Column(split, "right") for split in SPLITS)]
        rows = [[words, *map(share, _shares(found[0][1], key))] for key, (_, words) in there.items()]
        return table(columns, rows, label="overlap", caption=caption)
    columns = [Column("Data of"), *(Column(head, "right") for head, _ in there.values())]
    rows = [[_arms(names), *(_joined(_shares(kept, key)) for key in there)] for names, kept in found]
    meant = "; ".join(f"{head.lower()}: {words}" for head, words in there.values())
    caption += f" Each on {' / '.join(SPLITS)}, of {meant}."
    return table(columns, rows, label="overlap", caption=caption)


def _joined(shares: list[Any]) -> str:
    """Shares in one cell, with one sign of percent."""
    return tied(" / ".join(share(each).removesuffix(f"{NBSP}%") for each in shares) + " %") if shares else DASH


def _shares(overlap: Mapping[str, Any], key: str) -> list[Any]:
    """A share on each split; empty where no split has it."""
    found = [(overlap.get(split) or {}).get(key) for split in SPLITS]
    return found if any(each is not None for each in found) else []


def _arms(names: list[str]) -> str:
    return ", ".join(map(code, names)) if len(names) < 5 else f"{code(names[0])} and {len(names) - 1} more"


def _sentences(facts: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """One sentence for each distinct fact of a kind."""
    for key, worded in WORDED.items():
        for names, value in _distinct(facts, key):
            yield f"{worded(value)}{_whose(names, len(facts))}."


def _duplicates(found: Mapping[str, Any]) -> str:
    by_split = ", ".join(f"{escape(split)} {count(n)}" for split, n in found.items())
    return f"Functions whose body and name occur in an earlier split or file: {by_split}"


def _archive(found: Mapping[str, Any]) -> str:
    size = tied(f"{number(float(found.get('size') or 0) / 1e6, 1)} MB")
    start = code(str(found.get("sha256", ""))[:16])
    return f"Read from the archive {code(found.get('name', ''))}: {size}, SHA-256 begins with {start}"


def _known(found: Mapping[str, Any]) -> str:
    parts = []
    for what, expected in (found.get("expected") or {}).items():
        there = (found.get("found") or {}).get(what) or {}
        splits = ", ".join(f"{escape(s)} {count(there.get(s))} of {count(n)}" for s, n in expected.items())
        parts.append(f"{escape(what)}: {splits}")
    return "Found, of what others have published: " + "; ".join(parts)


def _augmentation(found: Mapping[str, Any]) -> str:
    source = "learnt from the training split" if found.get("source") == "learnt" else f"of {code(found.get('source'))}"
    text = (
        f"Names are augmented with {count(found.get('pairs'))} pairs of near-synonyms {source}, which could replace "
        f"{share(found.get('replaceable_share'))} of the words of training names"
    )
    pairs = [f"{code(pair[0])} ~ {code(pair[1])}" for pair in (found.get("first_pairs") or [])[:PAIRS] if len(pair) > 1]
    return f"{text}; the first are {', '.join(pairs)}" if pairs else text


WORDED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "duplicates": _duplicates,
    "archive": _archive,
    "known": _known,
    "augmentation": _augmentation,
}
"""How a fact of the data reads, by its key."""
