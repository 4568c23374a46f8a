"""Scores by test example, where runs have kept them: what a difference is worth beyond this test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.analysis.examples import ExampleInterval, seed_by_example
from ablations.analysis.paired import Floats
from ablations.reporting.context import Context

if TYPE_CHECKING:
    import pyarrow

FILE = "test_examples.jsonl.gz"
ROUNDING = 1e-4  # of a mean of scores that were kept with six decimals
LEAST_PAIRS = 3  # below, an arm is not assessed


@dataclass(frozen=True)
class Kept:
    """The examples of one run.

    Attributes:
        true: What was to be found, in order: which examples these are.
        scores: The metric of each ``(examples,)``.
    """

    true: pyarrow.ChunkedArray
    scores: Floats


@dataclass
class Found:
    """What the runs have kept.

    Attributes:
        intervals: Over seeds and examples, by arm.
        others: Arms whose test examples are not those of the baseline.
        damaged: Ids of runs whose file cannot be read.
        no_mean: Ids of runs whose score is not the mean over their examples.
    """

    intervals: dict[str, ExampleInterval] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    no_mean: list[str] = field(default_factory=list)


def kept(ctx: Context) -> bool:
    """Whether the baseline and an arm that was tested have kept scores by example."""
    tested = [each.arm for each in ctx.comparisons if each.p is not None]
    return all(
        any((ctx.results / "runs" / run_id / FILE).is_file() for name in names for run_id in ctx.ids[name])
        for names in ([ctx.baseline.name], tested)
    )


def find(ctx: Context) -> Found:
    """Intervals over seeds and examples of all arms that have a difference without diverged runs.

    A run counts if its score is the mean over its examples, and if these are the baseline's.
    """
    found, means = Found(), _scores(ctx)
    base = _runs(ctx, ctx.baseline.name, means, found)
    if not base:
        return found
    reference = next(iter(base.values())).true
    base = {seed: kept for seed, kept in base.items() if kept.true.equals(reference)}
    for variant in ctx.variants[1:]:
        comparison = ctx.by_arm[variant.name]
        if comparison.n < LEAST_PAIRS or comparison.n_diverged or comparison.baseline_diverged:
            continue
        arm = _runs(ctx, variant.name, means, found)
        alike = {seed: kept for seed, kept in arm.items() if kept.true.equals(reference)}
        if len(alike) < len(arm):
            found.others.append(variant.name)
        seeds = [seed for seed in alike if seed in base]
        if len(seeds) >= LEAST_PAIRS and len(reference) > 1:
            differences = np.array([alike[seed].scores - base[seed].scores for seed in seeds])
            found.intervals[variant.name] = seed_by_example(differences, arm=variant.name)
    return found


def _scores(ctx: Context) -> Mapping[str, float]:
    """Primary metric by run id."""
    rows = ctx.scores[ctx.scores["metric"] == ctx.study.metric]
    return dict(zip(rows["run_id"], rows["value"], strict=True))


def _runs(ctx: Context, variant: str, means: Mapping[str, float], found: Found) -> dict[str, Kept]:
    """The examples of each completed run of a variant, by seed; what cannot be used is noted."""
    runs = {}
    for run_id in ctx.ids[variant]:
        path = ctx.results / "runs" / run_id / FILE
        if not path.is_file():
            continue
        try:
            kept = read_examples(path, ctx.study.metric.removeprefix("test_"))
        except (OSError, ValueError):
            found.damaged.append(run_id)
            continue
        if abs(float(kept.scores.mean()) - means[run_id]) > ROUNDING * max(1.0, abs(means[run_id])):
            found.no_mean.append(run_id)
            continue
        runs[run_id.rpartition("-s")[2]] = kept
    return runs


def read_examples(path: Path, name: str) -> Kept:
    """Reads one metric of a run's examples.

    Args:
        path: One JSON object a line, compressed, with ``example`` (from 0, in order), ``true`` and scores by name.
        name: The score.

    Raises:
        OSError: The file is no whole gzip file.
        ValueError: It holds something else, or no such score of every example.
    """
    import pyarrow as pa
    from pyarrow import json

    kinds: list[Any] = [("example", pa.int64()), ("true", pa.string()), (name, pa.float64())]
    options = json.ParseOptions(explicit_schema=pa.schema(kinds), unexpected_field_behavior="ignore")
    with pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") as stream:
        table = json.read_json(stream, parse_options=options)
    scores = table[name].to_numpy()
    if not np.array_equal(table["example"].to_numpy(), np.arange(len(scores))) or not np.isfinite(scores).all():
        raise ValueError(f"{path}: expected a {name} of every example from 0 on")
    return Kept(table["true"], scores.astype(float))
