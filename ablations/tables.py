"""Comparing the arms of a table that somebody else made: ``ablations compare results.csv``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ablations.analysis.compare import compare
from ablations.analysis.conclude import conclude
from ablations.analysis.results import Comparison
from ablations.analysis.table import Columns
from ablations.console import plain_table
from ablations.errors import AblationsError
from ablations.reporting import prose


def compare_file(path: Path, out: Console, as_json: bool, *, columns: Columns, **rules: Any) -> None:
    """Reads a CSV file in long form, compares every arm with the baseline and prints what holds.

    Args:
        path: The file: a row per run and metric.
        out: The terminal.
        as_json: Print the comparisons with all their numbers as JSON instead.
        columns: The names of the file's columns.
        **rules: Arguments of :func:`ablations.compare`; those that are None keep its defaults.

    Raises:
        AblationsError: The file cannot be read, or is not such a table.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise AblationsError(f"{path}: expected a CSV file with a header, found: {error}") from error
    chosen = {name: value for name, value in rules.items() if value is not None}
    comparisons = compare(frame, columns=columns, **chosen)
    if as_json:
        print(json.dumps([each.as_dict() for each in comparisons], indent=1))
        return
    out.print(plain_table(
        ("arm", "n", "difference", "95 % interval", "adjusted p", "verdict"),
        [_row(each) for each in comparisons],
        right=("n", "difference", "adjusted p"),
    ))  # fmt: skip
    out.print()
    for conclusion in conclude(comparisons):
        out.print(Text(prose.sentence(conclusion)), soft_wrap=True)


def _row(each: Comparison) -> tuple[str, ...]:
    difference = interval = p = "–"
    if each.difference is not None and each.ci_low is not None and each.ci_high is not None:
        difference, interval = f"{each.difference:+.4g}", f"{each.ci_low:+.4g} to {each.ci_high:+.4g}"
    if each.p_adjusted is not None:
        p = prose.p_value(each.p_adjusted, each.alpha).removeprefix("p").strip().removeprefix("=").strip()
    return each.arm, str(each.n), difference, interval, p, each.verdict.replace("_", " ")
