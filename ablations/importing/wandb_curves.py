"""Charts exported from W&B as CSV: a column ``run name - metric`` for each curve, over a column of steps."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.importing.csv_files import read_table
from ablations.importing.foreign import Damaged, ForeignRun, Point, score

STEPS = ("Step", "_step", "step", "global_step", "epoch")
BETWEEN = " - "
BOUNDS = ("__MIN", "__MAX")
Say = Any


def is_curves(path: Path) -> bool:
    """Whether a table is such an export; one that cannot be read is said to be none."""
    try:
        header, _ = read_table(path)
    except Damaged:
        return False
    return header[0] in STEPS and len(header) > 1 and all(BETWEEN in name for name in header[1:])


def attached(path: Path, runs: Sequence[ForeignRun], say: Say, note: Say) -> list[ForeignRun]:
    """The runs with the curves of a chart, by their names.

    Args:
        path: The export.
        runs: All that were read.
        say: Takes a file and what is wrong with it.
        note: Takes what could not be attached.
    """
    header, rows = read_table(path)
    curves: dict[str, list[Point]] = {}
    for number, row in enumerate(rows, start=2):
        step = score(row[0])
        if step is None:
            say(path, f"line {number}: expected a step, found {row[0][:60]!r}")
            continue
        for column, cell in zip(header[1:], row[1:], strict=True):
            name, _, metric = column.rpartition(BETWEEN)
            value = score(cell)
            if value is not None and not metric.endswith(BOUNDS):
                curves.setdefault(name, []).append((metric, int(step), value, None))
    names = Counter(run.name for run in runs)
    lost = [name for name in curves if names[name] != 1]
    if lost:
        note(f"{path.name}: left out {len(lost)} curves whose names no run, or several, have: {', '.join(lost[:5])}")
    return [_with(run, curves[run.name]) if run.name in curves and names[run.name] == 1 else run for run in runs]


def _with(run: ForeignRun, points: Sequence[Point]) -> ForeignRun:
    digest = hashlib.sha256(f"{run.sha256}{points}".encode()).hexdigest()
    return replace(run, points=(*run.points, *points), sha256=digest)
