"""The parts of the report that are mostly figures: the forest and the data."""

from __future__ import annotations

from pathlib import Path

from ablations.reporting import tables
from ablations.reporting.context import Context
from ablations.reporting.figures import forest, lengths, style
from ablations.reporting.markdown import bullets, figure, join
from ablations.reporting.numbers import table_decimals
from ablations.reporting.text import count, defined, escape, share

FOLDER = "_generated"


def forest_plot(ctx: Context, folder: Path) -> str:
    """The forest plot, in as many parts as pages need."""
    shown = [each for each in ctx.comparisons if defined(each.difference)]
    if not shown:
        return "No arm shares a completed seed with the baseline: there is no difference to draw."
    groups = [(group.name, [ctx.by_arm[arm.name] for arm in group.variants]) for group in ctx.groups]
    parts = forest.pages(forest.rows_of(groups))
    decimals, smallest = table_decimals(ctx), ctx.study.smallest_effect
    limits = forest.limits_of(ctx.comparisons, smallest)
    blocks = []
    for at, rows in enumerate(parts):
        label = "forest" if at == 0 else f"forest-{at + 1}"
        drawn = forest.draw(rows, metric=tables.metric_name(ctx), smallest=smallest, decimals=decimals, limits=limits)
        style.save(drawn, folder / f"{label}.svg")
        alt = forest.alt_text(rows, metric=tables.metric_name(ctx), decimals=decimals)
        blocks.append(
            figure(f"{FOLDER}/{label}.svg", label=label, caption=_forest_caption(ctx, at, len(parts)), alt=alt)
        )
    return join(*blocks)


def _forest_caption(ctx: Context, at: int, parts: int) -> str:
    if at:
        return f"Continued ({at + 1} of {parts})."
    band = "; shaded: differences of no interest" if ctx.study.smallest_effect else ""
    return (
        f"Difference of every arm from the baseline in {escape(tables.metric_name(ctx))}, mean and 95 % paired-t "
        f"interval; dots: single seeds{band}. Shape and sign give the verdict, as in @tbl-main; an arrow at the edge "
        "points to what lies beyond the axis."
    )


def validation_metric(ctx: Context) -> str | None:
    """The curve that belongs to the primary metric: its validation twin, else the first there is."""
    there = ctx.curve_metrics
    twin = ctx.study.metric.replace("test_", "validation_", 1)
    if twin in there:
        return twin
    return next((name for name in there if name.startswith("validation")), None)


def capitalised(text: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def data(ctx: Context, folder: Path) -> str:
    """What was trained and tested on, and what was left out."""
    found = tables.data_facts(ctx)
    if not found:
        return "The runs recorded nothing about their data."
    facts = found[0][1]
    items = []
    dropped = {str(reason): n for reason, n in (facts.get("dropped") or {}).items() if n}
    if dropped:
        items.append("Left out: " + ", ".join(f"{escape(why)} {count(n)}" for why, n in dropped.items()) + ".")
    if facts.get("unparsed"):
        reasons = facts.get("unparsed_reasons") or {}
        why = ", ".join(f"{escape(reason)} {count(n)}" for reason, n in reasons.items())
        items.append(f"Files that could not be read: {count(facts['unparsed'])}" + (f" ({why})" if why else "") + ".")
    for key, words in (
        ("unseen_words", "Words of names that occur in no training name"),
        ("unknown_tokens", "Tokens of names outside the vocabulary"),
        ("names_truncated", "Names cut"),
    ):
        shares = facts.get(key)
        if isinstance(shares, dict) and shares:
            items.append(
                f"{words}: " + ", ".join(f"{escape(split)} {share(each)}" for split, each in shares.items()) + "."
            )
    if defined(facts.get("own_name_share")):
        items.append(f"The function's own name recurs in {share(facts['own_name_share'])} of the bodies.")
    if facts.get("split_by"):
        items.append(f"Split by {escape(facts['split_by'])}, never by function.")
    return join(tables.data_table(ctx), bullets(items), _lengths(ctx, facts.get("lengths"), folder))


CUT = "data.input_tokens"


def _lengths(ctx: Context, found: object, folder: Path) -> str:
    if not isinstance(found, dict) or not found.get("counts"):
        return ""
    cuts: dict[float, list[str]] = {}
    for variant in ctx.variants:
        if defined(variant.config.get(CUT)):
            cuts.setdefault(float(variant.config[CUT]), []).append(variant.name)
    named = [
        (
            cut,
            f"{names[0]}: {cut:g}" if len(names) == 1 or ctx.baseline.name in names else f"{len(names)} arms: {cut:g}",
        )
        for cut, names in sorted(cuts.items())
    ][:6]
    style.save(lengths.draw(found["edges"], found["counts"], named, "tokens"), folder / "lengths.svg")
    return figure(
        f"{FOLDER}/lengths.svg",
        label="lengths",
        caption="Lengths of the inputs of all splits, and where they are cut. Bins are equally wide on paper, not in "
        "tokens.",
        alt=lengths.alt_text(found["edges"], found["counts"], named, "tokens"),
    )
