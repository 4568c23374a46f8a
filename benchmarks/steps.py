"""A training step on a CPU: by hand over real tokens alone, beside that of Transformers' modules over padded ones::

    python benchmarks/steps.py
    python benchmarks/steps.py --input 96

The cpu profile of ``study.yaml``, one thread; ten steps of one and ten of the other in turn, of two trainings that
begin alike. Then, likewise in turn, the step with PyTorch's own attention and with attention on one grid, and scoring
the validation split with bodies encoded by Transformers' modules; at last what a step by hand goes to, under PyTorch's
profiler. On a GPU see ``gpu.py``. Figures that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from sizes import sized
from torch.profiler import ProfilerActivity, profile

from ablations.naming import bodies, grids
from ablations.naming.allocation import keep_freed_memory
from ablations.naming.checkpoints import Checkpoints
from ablations.naming.config import Config
from ablations.naming.cost import Cost
from ablations.naming.data import Encoded
from ablations.naming.evaluation import evaluate
from ablations.naming.graphs import SWITCH
from ablations.naming.optimisation import compute_repeatably
from ablations.naming.training import Trainer

CPU, SLICE_STEPS, WARM_SLICES, TURNS = torch.device("cpu"), 10, 2, 20
MOST_STEPS = 10_000  # more than are taken
WAYS = "packed", "padded"
ONE_GRID = {"MOST_WEIGHTS": 1 << 40, "MOST_FILLED": 1 << 40, "LONG": 1 << 40}
PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"}


class Unvalidated(Trainer):
    """One that trains alone."""

    validation_is_due = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=int, help="input tokens, if not the profile's own")
    parser.add_argument("--steps", type=int, default=200, help="a multiple of 10")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    compute_repeatably(CPU)
    config, data = sized("cpu", options.input)
    config = replace(config, training=replace(config.training, max_steps=MOST_STEPS))
    losses: dict[str, list[float]] = {way: [] for way in WAYS}
    trainers = {way: trainer(way, config, data, losses[way]) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for at in range(WARM_SLICES + options.steps // SLICE_STEPS):
        for way in WAYS:
            since = time.process_time()
            take(trainers[way], SLICE_STEPS)
            if at >= WARM_SLICES:
                seconds[way].append((time.process_time() - since) / SLICE_STEPS)
    ours, plain = (np.array(seconds[way]) * 1e3 for way in WAYS)
    print(f"CPU time of a step: by hand {ours.mean():.1f} ms, by Transformers' modules {plain.mean():.1f} ms; ", end="")
    ratios = np.percentile(plain / ours, (50, 10, 90))
    print("{:.2f}x, {:.2f} to {:.2f} in eight of ten slices".format(*ratios), f"  load {os.getloadavg()[0]:.1f}")
    apart = np.abs(np.subtract(*(losses[way] for way in WAYS)))
    print(f"losses of {len(apart)} steps: {apart.max():.1e} apart at most, at step 1 {apart[0]:.1e}")
    found = trainers["packed"]
    training, scoring = functools.partial(take, found, 3 * SLICE_STEPS), functools.partial(score, found, data)
    shortest = config.data.input_tokens * (config.data.output_tokens + 1)  # weights of a name over a body
    for what, compute, module, others in (
        ("a step, bodies' attention by hand and by PyTorch's kernel", training, grids, {"LONG": shortest}),
        ("a step, attention on several grids and on one", training, grids, ONE_GRID),
        ("scoring, bodies encoded by hand and by modules", scoring, bodies, {"can_encode": never}),
    ):
        print_in_turn(what, compute, module, others)
    print_shares(found)


def never(*_: object) -> bool:
    return False


def score(trainer: Trainer, data: Encoded) -> None:
    """Loss and names of the validation split."""
    evaluate(trainer._model, data, data.validation, trainer._config, CPU, Cost(), trainer._scorer)


def print_in_turn(what: str, compute: Callable[[], None], module: Any, others: dict[str, Any]) -> None:
    """CPU time as it is, and with other values in a module."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for at in range(TURNS + WARM_SLICES):
        for changed, spent in seconds.items():
            with mock.patch.multiple(module, **others) if changed else contextlib.nullcontext():
                since = time.process_time()
                compute()
                if at >= WARM_SLICES:
                    spent.append(time.process_time() - since)
    ratios = np.percentile(np.divide(seconds[True], seconds[False]), (50, 10, 90))
    print(f"{what}: " + "{:.2f}x, {:.2f} to {:.2f} in eight of ten turns".format(*ratios), flush=True)


def trainer(way: str, config: Config, data: Encoded, losses: list[float]) -> Trainer:
    """One that takes its steps that way, and tells its losses."""
    os.environ[SWITCH] = way

    def log(metric: str, value: float, step: int) -> None:
        if metric == "train_loss":
            losses.append(value)

    return Unvalidated(config, data, 0, CPU, log, [], Checkpoints(), None)


def take(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.take_step()
    trainer._journal.flush()


def print_shares(trainer: Trainer) -> None:
    """The operations that take most of a step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        take(trainer, 5 * SLICE_STEPS)
    spent: Counter[str] = Counter()
    for each in profiled.key_averages():
        spent["matrix products" if each.key in PRODUCTS else each.key] += each.self_cpu_time_total
    total = spent.total()
    print(", ".join(f"{name.removeprefix('aten::')} {part / total:.0%}" for name, part in spent.most_common(12)))


if __name__ == "__main__":
    main()
