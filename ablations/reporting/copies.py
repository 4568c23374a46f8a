"""The report's numbers for other documents and programs: CSV, LaTeX and Markdown beside the report."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from ablations.reporting import tables
from ablations.reporting.builtin import natural_tables, pandoc
from ablations.reporting.context import Context
from ablations.reporting.text import defined

COPIED = {"main": tables.main_table, "scores": tables.secondary_table, "variants": tables.variants_table}


def write(ctx: Context, folder: Path) -> list[Path]:
    """Writes comparisons and runs as CSV with all digits, and the tables as LaTeX (booktabs) and Markdown.

    Args:
        ctx: What to copy.
        folder: Where to.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [_comparisons(ctx, folder / "comparisons.csv"), _runs(ctx, folder / "runs.csv")]
    for name, made in COPIED.items():
        markdown = bare(made(ctx))
        tree = json.loads(pandoc(markdown, "markdown", "json"))
        tree["blocks"] = natural_tables(tree["blocks"])
        copies = {"tex": pandoc(json.dumps(tree), "json", "latex"), "md": pandoc(markdown, "markdown", "gfm")}
        for extension, text in copies.items():
            path = folder / f"{name}.{extension}"
            path.write_text(re.sub(r" \{#tbl-\w+\}$", "", text, flags=re.M), encoding="utf-8")
            written.append(path)
    return written


def bare(markdown: str) -> str:
    """Markdown without what only a report understands: evidence, blocks, labels, references."""
    text = re.sub(r"\[([^\[\]]*)\]\{\.evidence [^}]*\}", r"\1", markdown)
    text = re.sub(r"^:::.*\n", "", text, flags=re.M)
    text = re.sub(r" tbl-colwidths=\"[^\"]*\"", "", text)
    return text.replace("the parameters of @tbl-parameters", "none")


def _comparisons(ctx: Context, path: Path) -> Path:
    rows = [each.as_dict() for each in ctx.comparisons]
    for row in rows:
        row.update({name: " ".join(map(str, value)) for name, value in row.items() if isinstance(value, list)})
    return _csv(path, rows)


def _runs(ctx: Context, path: Path) -> Path:
    wide = ctx.scores.pivot_table(index="run_id", columns="metric", values="value", sort=False)
    rows = []
    for run in ctx.runs.to_dict("records"):
        scores = wide.loc[run["run_id"]].to_dict() if run["run_id"] in wide.index else {}
        rows.append({**run, **{name: value for name, value in scores.items() if defined(value)}})
    return _csv(path, rows)


def _csv(path: Path, rows: list[dict[str, object]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
