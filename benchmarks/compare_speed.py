"""How long comparisons take on one core: ``python benchmarks/compare_speed.py [--arms 1000] [--seeds 10]``.

Scores are made up: effects of seeds and noise, one run in twenty lost. An effect of interest is declared, so that most
arms are open and the seeds they need are counted. CPU seconds of this process, the least of several runs, without
imports; aims:

    1,000 arms on 10 seeds                                              under 2 s
    20 arms on 10 seeds with 5,000 test examples each, compared         under 5 s in all
    ... and their intervals over seeds and examples

On one of two server cores that other work shared, Python 3.11, numpy 2.4, pandas 3.1:

    1,000 arms x 10 seeds, compared                        0.29 s
    20 arms x 10 seeds x 5,000 examples, compared          0.14 s
    20 arms x 10 seeds x 5,000 examples, intervals         0.13 s
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import pandas as pd

from ablations.analysis.compare import compare
from ablations.analysis.examples import compare_examples

EXAMPLES, ARMS_WITH_EXAMPLES = 5_000, 20


def scores(arms: int, seeds: int, rng: np.random.Generator, examples: int | None = None) -> pd.DataFrame:
    """A long table of a baseline and so many arms; a row per run, or per run and example."""
    values = rng.normal(size=(1 + arms, seeds)) + rng.normal(size=seeds)
    values[1:][rng.random((arms, seeds)) < 0.05] = np.nan
    names = np.array(["baseline", *(f"arm {arm}" for arm in range(1, 1 + arms))])
    frame = {"variant": np.repeat(names, seeds), "seed": np.tile(np.arange(seeds), 1 + arms)}
    if examples is None:
        return pd.DataFrame({**frame, "f1": values.ravel()})
    frame = {name: np.repeat(column, examples) for name, column in frame.items()}
    by_example = values[..., None] + rng.normal(size=(1 + arms, seeds, examples))
    rows = pd.DataFrame({**frame, "example": np.tile(np.arange(examples), values.size), "f1": by_example.ravel()})
    return rows[np.isfinite(rows["f1"])]


def cpu_s(of: Callable[[], object], runs: int) -> float:
    """The least CPU time of several calls."""
    found = []
    for _ in range(runs):
        begun = time.process_time()
        of()
        found.append(time.process_time() - begun)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="the least of so many")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    many = scores(options.arms, options.seeds, rng)
    large = scores(ARMS_WITH_EXAMPLES, options.seeds, rng, EXAMPLES)
    asked = {"baseline": "baseline", "metric": "f1"}
    examples = f"{ARMS_WITH_EXAMPLES} arms x {options.seeds} seeds x {EXAMPLES:,} examples"
    for name, of in (
        (
            f"{options.arms:,} arms x {options.seeds} seeds, compared",
            lambda: compare(many, smallest_effect=0.5, **asked),
        ),
        (f"{examples}, compared", lambda: compare(large, smallest_effect=0.5, **asked)),
        (f"{examples}, intervals", lambda: compare_examples(large, **asked)),
    ):
        print(f"{name:52} {cpu_s(of, options.runs):6.2f} s")


if __name__ == "__main__":
    main()
