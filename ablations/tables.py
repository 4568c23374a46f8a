"""Comparing the arms of a table that somebody else made: ``ablations compare results.csv``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ablations.analysis.compare import compare
from ablations.analysis.conclude import conclude
from ablations.analysis.examples import ExampleInterval, compare_examples
from ablations.analysis.results import Comparison
from ablations.analysis.table import Checkpoint, Columns
from ablations.console import plain_table
from ablations.errors import AblationsError
from ablations.reporting import prose
from ablations.reporting.prose_runs import examples_sentence

if TYPE_CHECKING:
    import pandas as pd


def compare_file(
    path: Path, out: Console, as_json: bool, *, columns: Columns, checkpoint: Checkpoint | None = None, **rules: Any
) -> None:
    """Reads a CSV file in long form, compares every arm with the baseline and prints what holds.

    Args:
        path: The file: a row per run and metric, and per step and test example where it has such columns.
        out: The terminal.
        as_json: Print the comparisons with all their numbers as JSON instead.
        columns: The names of the file's columns.
        checkpoint: Counts, instead of the last step of a run, the one at which another metric is best.
        **rules: Arguments of :func:`ablations.compare`; those that are None keep its defaults.

    Raises:
        AblationsError: The file cannot be read, or is not such a table.
    """
    frame = _read(path)
    chosen = {name: value for name, value in rules.items() if value is not None}
    try:
        comparisons = compare(frame, columns=columns, checkpoint=checkpoint, **chosen)
        over_examples = _over_examples(frame, columns, checkpoint, chosen)
    except AblationsError as error:
        raise type(error)(f"{path}: {error}") from error
    if as_json:
        print(json.dumps([_plain(each, over_examples.get(each.arm)) for each in comparisons], indent=1))
        return
    out.print(plain_table(
        ("arm", "n", "difference", "95 % interval", "adjusted p", "verdict"),
        [_row(each) for each in comparisons],
        right=("n", "difference", "adjusted p"),
    ))  # fmt: skip
    for text in _sentences(comparisons, over_examples):
        out.print()
        out.print(Text(text), soft_wrap=True)


def _read(path: Path) -> pd.DataFrame:
    """A CSV file, its rows numbered as its lines are."""
    import pandas as pd

    try:
        if path.is_char_device() or path.is_block_device():
            raise AblationsError(f"{path}: expected a CSV file or a pipe, found a device")
        frame = pd.read_csv(path)
    except OSError as error:
        raise AblationsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise AblationsError(f"{path}: expected a CSV file with a header, found: {error}") from error
    if frame.empty:
        raise AblationsError(f"{path}: expected rows under the header, found none")
    frame.index = range(2, len(frame) + 2)
    return frame


def _over_examples(
    frame: pd.DataFrame, columns: Columns, checkpoint: Checkpoint | None, rules: Mapping[str, Any]
) -> dict[str, ExampleInterval]:
    """Intervals over seeds and test examples, by arm; none where the table has no examples."""
    if columns.example not in frame:
        return {}
    options = {name: rules[name] for name in ("baseline", "metric")}
    found = compare_examples(frame, columns=columns, checkpoint=checkpoint, **options)
    return {each.arm: each for each in found}


def _plain(comparison: Comparison, over_examples: ExampleInterval | None) -> dict[str, Any]:
    return comparison.as_dict() | {"over_examples": asdict(over_examples) if over_examples else None}


def _sentences(comparisons: Sequence[Comparison], over_examples: Mapping[str, ExampleInterval]) -> list[str]:
    """A paragraph an arm, and what the tests speak about."""
    said = []
    for conclusion in conclude(comparisons):
        text = prose.sentence(conclusion)
        wider = over_examples.get(conclusion.arm)
        if wider and conclusion.primary.p is not None:
            text = f"{text} {examples_sentence(wider, metric=conclusion.primary.metric)}"
        said.append(text)
    return [*said, prose.WIDER_SCOPE if over_examples else prose.SCOPE]


def _row(each: Comparison) -> tuple[str, ...]:
    decimals = prose.decimals_of(each)
    difference, low, high = (
        "–" if value is None else prose.number(value, decimals, sign=True)
        for value in (each.difference, each.ci_low, each.ci_high)
    )
    interval = "–" if each.ci_low is None else f"{low} to {high}"
    p = "–" if each.p_adjusted is None else prose.p_value(each.p_adjusted, each.alpha).removeprefix("p ")
    return each.arm, str(each.n), difference, interval, p.removeprefix("= "), each.verdict.replace("_", " ")
