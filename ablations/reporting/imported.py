"""What a report says otherwise where its runs were made elsewhere and imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.recorded import IMPORTED
from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, bullets, callout, join, table
from ablations.reporting.text import NBSP, code, escape


def is_imported(ctx: Context) -> bool:
    """Whether the runs of a report were made elsewhere."""
    return ctx.study.experiment == IMPORTED


def answer_intro(ctx: Context, folder: Path) -> str:
    """How verdicts come about."""
    if not is_imported(ctx):
        return (
            "Each arm changes the baseline in one declared way. It is compared with the baseline seed by seed; the "
            "verdict follows from the paired test by rules that were fixed before the runs."
        )
    how = "seed by seed; the verdict follows from the paired test by fixed rules"
    if not _pairs(ctx):
        how = "by their means alone: no seed is known, so runs make no pairs, and there is no test and no verdict"
    return (
        "These runs were made elsewhere and imported. Each arm is a config that runs were found to have, and differs "
        f"from the baseline as @tbl-variants says. It is compared with the baseline {how}."
    )


def ledger_intro(ctx: Context, folder: Path) -> str:
    """What the list of runs is complete in."""
    if not is_imported(ctx):
        return "Nothing that was planned or launched is left out: a run that failed stands here with its cause."
    return (
        "Nothing that was imported is left out: a run that failed stands here with its cause. Runs that were deleted "
        "before are not known here."
    )


def reproduce_intro(ctx: Context, folder: Path) -> str:
    """What making the runs again would give."""
    if not is_imported(ctx):
        return (
            "Every run is identified by the hash of its resolved parameters and its seed. On the same machine the same "
            "run gives the same numbers to the bit; on another, the differences should lie within the spread over "
            "seeds."
        )
    return (
        "The runs cannot be made again from here: they were imported, and nothing is known that would run them. The "
        "figures of this report follow from the records, which name each run's source and the hash of its files."
    )


def missing(ctx: Context) -> str:
    """A callout on runs without a result; nothing where all have one."""
    without = ctx.runs[~ctx.runs["status"].isin(("completed", "diverged"))]
    if not len(without):
        return ""
    counts = Counter(without["variant"])
    items = [f"{code(name)}: {n} of {len(ctx.study.recorded.get(name, ()))}." for name, n in counts.items()]
    body = (
        f"{ctx.completed} of {ctx.planned} imported runs completed. A run without a result is not counted as zero and "
        "not estimated: intervals are wider for it, and arms without enough shared seeds get no verdict. Without one:"
    )
    return callout("warning", "Not every run has a result", join(body, bullets(items)))


def next_steps(ctx: Context) -> Iterable[str]:
    """What to do about runs that failed, or make no pairs."""
    if ctx.statuses.get("failed"):
        n = ctx.statuses["failed"]
        where = "it was made" if n == 1 else "they were made"
        yield f"Find out why {n}{NBSP}run{'' if n == 1 else 's'} failed (@tbl-ledger), where {where}."
    if not _pairs(ctx):
        yield "Make new runs that share their seeds with the baseline's: without pairs nothing is tested."


def _pairs(ctx: Context) -> bool:
    """Whether any arm shares a seed with the baseline."""
    recorded = ctx.study.recorded
    base = set(recorded.get(ctx.baseline.name, ()))
    return any(base & set(seeds) for name, seeds in recorded.items() if name != ctx.baseline.name)


def seeds_line(ctx: Context) -> str:
    """Which seeds runs have."""
    seeds = ctx.study.seeds
    if not _pairs(ctx):
        return "Seeds: not known; runs are numbered, each with a number of its own, and make no pairs."
    shown = ", ".join(map(str, seeds[:12])) + (f" and {len(seeds) - 12} more" if len(seeds) > 12 else "")
    return f"Seeds: {shown}, as runs have them; arms are compared at those that they share with the baseline."


def limits(ctx: Context) -> list[str]:
    """What cannot be known of runs that others made."""
    return [
        "The runs were imported. Whether arms, seeds, their number, the metric and the smallest effect were chosen "
        "before the results were seen, and whether runs were left out, the records cannot tell.",
        "That arms differ in nothing but the parameters shown is what their configs say: sources, data and machines "
        "are compared only as far as they were recorded.",
    ]


def sources_table(ctx: Context) -> str:
    """Where the runs come from."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in ctx.records.values():
        kept = (record.get("info") or {}).get("imported") or {}
        found.setdefault((str(kept.get("tool")), str(kept.get("source"))), []).append(record)
    columns = [Column("Imported from"), Column("Tool"), Column("Runs", "right"), Column("From"), Column("To")]
    rows = []
    for (tool, source), records in sorted(found.items()):
        times = sorted(str(record["started"])[:10] for record in records if record.get("started"))
        ends = [escape(times[0]), escape(times[-1])] if times else ["not recorded", "not recorded"]
        rows.append([code(source), escape(tool), str(len(records)), *ends])
    return table(columns, rows, label="sources", caption="Where the runs were imported from, and when they were made.")
