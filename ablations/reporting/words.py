"""The words behind the scores: which are missed, which invented, and which are taken for which others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.analysis.confusion import NOTHING, Confusion, confusion
from ablations.reporting.context import Context
from ablations.reporting.example_scores import FILE
from ablations.reporting.figures import style
from ablations.reporting.figures import words as pictures
from ablations.reporting.markdown import Column, figure, section, table
from ablations.reporting.numbers import mean, scores_of
from ablations.reporting.pictures import FOLDER
from ablations.reporting.text import DASH, code, count, escape, evidence, number, share

ROWS, COLUMNS, LISTED = 14, 7, 12
FOUND, OTHER, NONE = "the word itself", "another word", "no word"
INTRODUCTION = (
    "Words that a name should have and has not, or has and should not have: of the test samples, over all runs of an "
    "arm, words compared as sets."
)


def words(ctx: Context, folder: Path) -> str:
    """The part on words; empty where runs kept no names of their test samples."""
    counts = {name: found for name in _chosen(ctx) if (found := _counted(ctx, name)).true}
    if ctx.baseline.name not in counts:
        return ""
    base = counts[ctx.baseline.name]
    rows = [word for word, _ in base.missed()[:ROWS]]
    if not rows:
        return ""
    return section(
        "Words missed and invented",
        "words",
        INTRODUCTION,
        _picture(counts, rows, folder),
        _missed_table(ctx, counts),
        _invented_table(ctx, counts),
        level=2,
    )


def _chosen(ctx: Context) -> list[str]:
    """The baseline and the arm with the best mean, where another one is better."""
    means = {each.name: mean(scores_of(ctx, each.name, ctx.study.metric)) for each in ctx.variants}
    known = {name: value for name, value in means.items() if value is not None}
    if ctx.baseline.name not in known:
        return []
    best = (max if ctx.study.direction == "max" else min)(known, key=lambda name: known[name])
    return list(dict.fromkeys((ctx.baseline.name, best)))


def _counted(ctx: Context, variant: str) -> Confusion:
    return confusion(pair for run_id in ctx.ids[variant] for pair in _names(ctx.results / "runs" / run_id / FILE))


def _names(path: Path) -> Iterator[tuple[str, str]]:
    """True and predicted name of each sample of a run; none where it kept none, or its file is damaged."""
    import pyarrow as pa
    from pyarrow import json

    schema = pa.schema([("true", pa.string()), ("predicted", pa.string())])
    options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") as stream:
            kept = json.read_json(stream, parse_options=options)
    except (OSError, ValueError):
        return
    for true, predicted in zip(kept["true"].to_pylist(), kept["predicted"].to_pylist(), strict=True):
        if true is not None and predicted is not None:
            yield true, predicted


def _picture(counts: dict[str, Confusion], rows: Sequence[str], folder: Path) -> str:
    """What the most missed words of the baseline are taken for, in the baseline and in the best arm."""
    popular: Counter[str] = Counter()
    for found in counts.values():
        for word in rows:
            popular.update({other: n for other, n in found.instead_of(word) if other != NOTHING})
    columns = [word for word, _ in sorted(popular.items(), key=lambda item: (-item[1], item[0]))[:COLUMNS]]
    matrices = [
        pictures.Matrix(name, tuple(_shares(found, word, columns) for word in rows)) for name, found in counts.items()
    ]
    heads = [FOUND, *columns, OTHER, NONE]
    style.save(pictures.draw(matrices, rows, heads), folder / "words.svg")
    whose = " and in the best arm" if len(counts) > 1 else ""
    caption = (
        f"The {count(len(rows))} words that the baseline misses most, and what is predicted in their place, in the "
        f"baseline{whose}: percent of a word's occurrences. Where several wrong words are predicted in one name, a "
        "missed word is shared out over them."
    )
    return figure(f"{FOLDER}/words.svg", label="words", caption=caption, alt=pictures.alt_text(matrices, rows, heads))


def _shares(found: Confusion, word: str, columns: Sequence[str]) -> tuple[float, ...]:
    """Percent of a word's occurrences: found, taken for each column, for another word, for none."""
    n = found.true[word]
    if not n:
        return (0.0,) * (len(columns) + 3)
    taken = dict(found.instead_of(word))
    none = taken.pop(NOTHING, 0.0)
    named = [taken.pop(other, 0.0) for other in columns]
    return tuple(100 * each / n for each in (found.found[word], *named, sum(taken.values()), none))


def _missed_table(ctx: Context, counts: dict[str, Confusion]) -> str:
    base = counts[ctx.baseline.name]
    columns = [Column("Word"), Column("A run's samples with it", "right")]
    columns += [Column(f"Found by {code(name)}", "right") for name in counts]
    columns.append(Column("Taken most often for, by the baseline"))
    rows, ids, runs = [], ctx.ids[ctx.baseline.name], len(ctx.ids[ctx.baseline.name])
    for word, _ in base.missed()[:LISTED]:
        found = [evidence(share(each.recall(word)), ctx.ids[name]) for name, each in counts.items()]
        rows.append([code(word), evidence(number(base.true[word] / runs, 0), ids), *found, _taken(base, word, ids)])
    caption = (
        f"Words of true names that {code(ctx.baseline.name)} misses most often, of {count(len(base.true))} different "
        "ones; found: share of their occurrences."
    )
    return table(columns, rows, label="missed", caption=caption)


def _taken(found: Confusion, word: str, ids: Sequence[str]) -> str:
    n = found.true[word]
    parts = [
        f"{escape(NONE) if other == NOTHING else code(other)} {evidence(share(times / n), ids)}"
        for other, times in found.instead_of(word)[:3]
    ]
    return ", ".join(parts) or DASH


def _invented_table(ctx: Context, counts: dict[str, Confusion]) -> str:
    base = counts[ctx.baseline.name]
    invented = base.invented()[:LISTED]
    if not invented:
        return ""
    columns = [Column("Word"), Column("Predicted in a run", "right")]
    columns += [Column(f"Right in {code(name)}", "right") for name in counts]
    rows, ids, runs = [], ctx.ids[ctx.baseline.name], len(ctx.ids[ctx.baseline.name])
    for word, _ in invented:
        right = [evidence(share(each.precision(word)), ctx.ids[name]) for name, each in counts.items()]
        rows.append([code(word), evidence(number(base.predicted[word] / runs, 0), ids), *right])
    caption = (
        f"Words that {code(ctx.baseline.name)} predicts most often where the true name has them not; right: share of "
        "their predictions."
    )
    return table(columns, rows, label="invented", caption=caption)
