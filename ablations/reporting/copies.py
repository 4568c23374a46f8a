"""The report's numbers for other documents and programs: CSV, LaTeX and Markdown beside the report."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ablations.reporting import tables
from ablations.reporting.builtin import natural_tables, pandoc
from ablations.reporting.context import Context
from ablations.reporting.qmd import Node, words
from ablations.reporting.text import defined

COPIED: dict[str, Callable[[Context], str]] = {
    "main": tables.main_table,
    "scores": tables.secondary_table,
    "variants": tables.variants_table,
    "data": tables.data_table,
}
_MARK = "TABLECOPY"
_LATEX = {
    "\u2212": "$-$",
    "\u202f": "\\,",
    "±": "$\\pm$",
    "×": "$\\times$",
    "≈": "$\\approx$",
    "≠": "$\\neq$",
    "·": "$\\cdot$",
    "→": "$\\to$",
    "▲": "$\\blacktriangle$",
    "▼": "$\\blacktriangledown$",
    "△": "$\\triangle$",
    "▽": "$\\triangledown$",
}
"""What pdfLaTeX has no letters for; the triangles are those of ``amssymb``."""


def write(ctx: Context, folder: Path) -> list[Path]:
    """Writes comparisons and runs as CSV with all digits, and the tables as LaTeX (booktabs), Markdown and CSV.

    Args:
        ctx: What to copy.
        folder: Where to.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [_comparisons(ctx, folder / "comparisons.csv"), _runs(ctx, folder / "runs.csv")]
    made = {name: bare(each) for name, table in COPIED.items() if (each := table(ctx))}
    for extension, texts in _converted(made).items():
        for name, text in texts.items():
            path = folder / f"{name}.{extension}"
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _converted(made: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tables by extension and name; one run of pandoc for all of a kind, since starting it takes longest."""
    marked = "\n\n".join(f"{_MARK} {name}\n\n{markdown}" for name, markdown in made.items())
    tree = json.loads(pandoc(marked, "markdown", "json"))
    found = [block for block in tree["blocks"] if block["t"] == "Table"]
    cells = {name: _cells(table) for name, table in zip(made, found, strict=True)}
    natural = json.dumps({**tree, "blocks": natural_tables(tree["blocks"])})
    latex = re.sub("|".join(_LATEX), lambda each: _LATEX[each[0]], pandoc(natural, "json", "latex"))
    return {
        "csv": {name: _csv_text(rows) for name, rows in cells.items()},
        "tex": _parted(latex),
        "md": _parted(pandoc(marked, "markdown", "gfm")),
    }


def _parted(text: str) -> dict[str, str]:
    """What follows each mark, by the name that stands in it."""
    text = re.sub(r" \{#tbl-\w+\}$", "", text, flags=re.M)
    _, *parts = re.split(rf"^{_MARK} (\w+)$", text, flags=re.M)
    return {name: part.strip() + "\n" for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _cells(table: Node) -> list[list[str]]:
    """The shown text of a table's rows, its heading first, with plain minus signs and blanks."""
    _, _, _, (_, head), bodies, _ = table["c"]
    plainer = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": ""})
    rows = [*head, *(row for body in bodies for row in body[3])]
    return [[words(cell[4]).translate(plainer) for cell in cells] for _, cells in rows]


def _csv_text(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


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
