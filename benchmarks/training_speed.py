"""Our training, validation and generation beside the recipe that users would write (``recipe.py``)::

    python benchmarks/training_speed.py                    # a CPU: the study's cpu profile
    python benchmarks/training_speed.py --size small       # a GPU: 45 M parameters, batch 32
    python benchmarks/training_speed.py --size reference   # a GPU: the full-size model, batch 128, input 128
    python benchmarks/training_speed.py --size reference --input 256

Same model and weights, same data, steps and batch size, ten steps of one and ten of the other in turn, for each seed; a
ratio is the recipe's time over ours of the same seed. In validation (loss and names) and generation (names alone) the
recipe takes batches as large as in training; "8" is with the size that Trainer takes if its user says nothing (on a CPU
alone: on a GPU it would only take longer).
Without a GPU the CPU time counts, which other work on the machine disturbs least; on a GPU the wall time does.

Then the loss curves: the mean over every 10 steps of both, the seeds' standard deviation, and how far apart the means
are in units of it. ``--plot FILE`` draws them.
Figures that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe import Recipe, as_delivered, first_loss
from sizes import SIZES, sized

from ablations.naming.allocation import keep_freed_memory
from ablations.naming.batches import evaluation_order, fixed_widths, make_batch
from ablations.naming.checkpoints import Checkpoints
from ablations.naming.config import Config
from ablations.naming.cost import Cost
from ablations.naming.data import Encoded, Split
from ablations.naming.evaluation import evaluate, fixed_subset
from ablations.naming.flops import real_flops
from ablations.naming.heads import NamingModel
from ablations.naming.model import model_for, parameter_count
from ablations.naming.optimisation import autocast, compute_repeatably
from ablations.naming.training import Trainer

TRAINERS_OWN_BATCH = 8  # samples of a batch in validation, if the recipe's user says nothing
DEFAULT = ", 8"
PARTS = ("training", "validation", "generation", "validation" + DEFAULT, "generation" + DEFAULT)


def main() -> None:
    options = _options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as our runs do; in this one process it serves the recipe as well
    config, data = sized(options.size or ("small" if device.type == "cuda" else "cpu"), options.input)
    validation = fixed_subset(data.validation, options.samples)
    print(describe(device, options.threads))
    print(f"{len(data.train):,} training samples, {options.steps} steps of {config.training.batch_samples}", flush=True)
    turns = []
    for seed in range(options.seeds):
        turns.append(turn(config, data, validation, seed, options.steps, device))
        print_turn(seed, turns[-1], device)
    print_ratios(turns, device)
    print_rates(turns, device)
    print_curves(turns)
    if options.plot:
        plot(turns, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, help="by default cpu, or small where there is a GPU")
    parser.add_argument("--input", type=int, help="input tokens, if not the size's own")
    parser.add_argument("--steps", type=int, default=200, help="a multiple of 10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=400, help="validation samples")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU, for both")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def describe(device: torch.device, threads: int) -> str:
    """The machine in a line."""
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or platform.machine()} CPU"
    )
    return f"{name}, {threads} of {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


Turn = dict[str, Any]
SLICE_STEPS = 10
TIMES = 2  # a split is validated, and its names generated


class Clock:
    """Seconds of CPU and on the wall, while it runs; before, ``prepare`` is called."""

    def __init__(self, device: torch.device, prepare: Callable[[], None] | None = None):
        self.seconds = np.zeros(2)
        self._device, self._prepare = device, prepare

    def __enter__(self) -> Clock:
        if self._prepare is not None:
            self._prepare()
        self._since = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now() - self._since

    def _now(self) -> np.ndarray:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return np.array([time.process_time(), time.perf_counter()])


def clocks_of(device: torch.device) -> tuple[Clock, Clock]:
    """For ours, which computes repeatably, and for the recipe, which does not."""
    return Clock(device, lambda: compute_repeatably(device)), Clock(device, as_delivered)


def turn(config: Config, data: Encoded, validation: Split, seed: int, steps: int, device: torch.device) -> Turn:
    """Both of them once, from the same weights."""
    model = model_for(config, data, seed).to(device)
    recipe = Recipe(model, data, config, steps, seed, device)
    rows = np.arange(config.training.batch_samples)
    found: Turn = {"first loss": (our_loss(model, data, config, rows, device), first_loss(recipe, rows))}
    found["parameters"] = parameter_count(model)
    trainer = train_both(config, data, seed, recipe, steps, device, found)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    sizes = (("", config.training.batch_samples), (DEFAULT, TRAINERS_OWN_BATCH))
    for what, size in sizes if device.type == "cpu" else sizes[:1]:
        pairs["validation" + what] = (
            lambda: evaluate(trainer._model, data, validation, config, device, Cost(), trainer._scorer).scores,
            lambda size=size: recipe.evaluate(validation, size),  # type: ignore[misc]
        )
        pairs["generation" + what] = (
            lambda: generate(trainer._model, data, validation, config, device),
            lambda size=size: recipe.generate(validation, size),  # type: ignore[misc]
        )
    for part, pair in pairs.items():
        if device.type == "cuda":  # a split is recorded when it is scored for the first time, and replayed from then on
            pair[0]()
        clocks = clocks_of(device)
        for _ in range(TIMES):
            for who, clock, work in zip(("ours", "recipe"), clocks, pair, strict=True):
                with clock:
                    found["result", part, who] = work()
        found[part] = [clock.seconds for clock in clocks]
    found["generation flops"] = generation_flops(trainer._model, validation, found["result", "generation", "ours"])
    names = zip(found["result", "generation", "ours"], recipe_names(trainer, recipe, validation), strict=True)
    found["same names"] = np.mean([mine == own for mine, own in names])
    return found


def train_both(
    config: Config, data: Encoded, seed: int, recipe: Recipe, steps: int, device: torch.device, found: Turn
) -> Trainer:
    """Trains both in slices of 10 steps in turn, so that other work on the machine disturbs both alike."""
    log: list[tuple[str, float, int]] = []
    trainer = Trainer(config, data, seed, device, lambda *entry: log.append(entry), [], Checkpoints(), None)
    (ours, theirs), rates = clocks_of(device), list[float]()

    def between(step: int) -> None:
        if step % SLICE_STEPS == 0:
            theirs.__exit__()
            with ours:
                for _ in range(SLICE_STEPS):
                    trainer.take_step()
                trainer._journal.flush()
            rates.append(matrix_rate(config, device))
            theirs.__enter__()

    with theirs:
        curve = recipe.train(between)
    found["flops"] = trainer._cost.flops / steps
    losses = [value for name, value, _ in log if name == "train_loss"]
    found["curve", "ours"] = np.reshape(losses, (-1, SLICE_STEPS)).mean(1)
    found["curve", "recipe"] = np.array(curve)
    found["training"], found["rate"] = [ours.seconds, theirs.seconds], float(np.median(rates))
    return trainer


def matrix_rate(config: Config, device: torch.device) -> float:
    """Operations per second of a product of the model's own shape, in the precision of training."""
    with autocast(config.training, device):
        half = torch.is_autocast_enabled(device.type)
    rows, inner, outer = config.training.batch_samples * 32, config.model.hidden, config.encoder.intermediate
    kind = torch.bfloat16 if half else torch.float32
    left, right = (torch.randn(shape, device=device, dtype=kind) for shape in ((rows, inner), (inner, outer)))
    times, best = 20, float("inf")
    for _ in range(3):
        clock = Clock(device)
        with clock:
            for _ in range(times):
                left @ right
        best = min(best, float(clock.seconds[int(device.type == "cuda")]))
    return 2.0 * times * rows * inner * outer / best


def recipe_names(trainer: Trainer, recipe: Recipe, split: Split) -> list[list[str]]:
    """What the recipe's generation makes of the weights that we have trained."""
    other = Recipe(trainer._model, recipe.data, recipe.config, 1, 0, recipe.device)
    other.whole.to(recipe.device)
    return other.generate(split, 128)


def our_loss(model: NamingModel, data: Encoded, config: Config, rows: np.ndarray, device: torch.device) -> float:
    """Mean loss of some training samples before training."""
    batch = make_batch(data.train, rows, data.specials.pad, data.specials.bos, None)
    model.eval()
    with torch.inference_mode(), autocast(config.training, device):
        total, count = model.loss(model.tensors(batch, device))
    return float(total) / count


def generate(model: NamingModel, data: Encoded, split: Split, config: Config, device: torch.device) -> list[list[str]]:
    """Our names of a split, in its order."""
    names: list[list[str]] = [[] for _ in range(len(split))]
    model.eval()
    for rows in evaluation_order(split.input_lengths_uncut, config.evaluation.batch_samples):
        batch = make_batch(split, rows, data.specials.pad, data.specials.bos, fixed_widths(config))
        tensors = model.tensors(batch, device)
        with torch.inference_mode(), autocast(config.training, device):
            found = model.predict(tensors.inputs, tensors.mask, config.data.output_tokens)
        for row, ids in zip(rows, found.tolist(), strict=True):
            names[row] = model.words(ids)
    return names


def generation_flops(model: NamingModel, split: Split, names: list[list[str]]) -> float:
    """Operations of generating these names with a cache, without padding: a token for each word, and the end mark."""
    tokens = np.array([len(name) + 1 for name in names])
    return real_flops(model.sizes, np.diff(split.input_offsets), tokens, tokens)


def print_turn(seed: int, found: Turn, device: torch.device) -> None:
    clock = int(device.type == "cuda")
    parts = [part for part in PARTS if part in found]
    times = "  ".join(f"{part} {found[part][0][clock]:.2f} : {found[part][1][clock]:.2f} s" for part in parts)
    mine, own = found["first loss"]
    print(
        f"seed {seed}: {times}  first loss {mine:.5f} : {own:.5f}  same names {found['same names']:.3f}  "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def print_ratios(turns: list[Turn], device: torch.device) -> None:
    """The recipe's time over ours: median, least and greatest of the turns."""
    print(f"\n{turns[0]['parameters']:,} parameters")
    for clock, name in enumerate(("CPU time", "wall time")):
        for part in (part for part in PARTS if part in turns[0]):
            ratios = [each[part][1][clock] / each[part][0][clock] for each in turns]
            decides = " *" if clock == int(device.type == "cuda") else ""
            print(f"{part:15}{name:12}{np.median(ratios):6.2f}x  ({min(ratios):.2f} to {max(ratios):.2f}){decides}")


def print_rates(turns: list[Turn], device: torch.device) -> None:
    """What of the matrix rate that was measured between the slices our steps reach, and the floor it sets."""
    clock, steps = int(device.type == "cuda"), SLICE_STEPS * len(turns[0]["curve", "ours"])
    took = float(np.median([each["training"][0][clock] / steps for each in turns]))
    flops, rate = (float(np.median([each[name] for each in turns])) for name in ("flops", "rate"))
    print(
        f"\na step of ours: {flops / 1e9:.2f} GFLOP in {took * 1e3:.1f} ms, floor {flops / rate * 1e3:.1f} ms: ", end=""
    )
    print(f"{flops / took / rate:.0%} of the {rate / 1e9:.0f} GFLOP/s of a matrix product of the model's own shape")
    ours, theirs = (np.median([each["generation"][who][clock] / TIMES for each in turns]) for who in (0, 1))
    flops = float(np.median([each["generation flops"] for each in turns]))
    print(f"our names: {flops / 1e9:.2f} GFLOP in {ours * 1e3:.0f} ms, floor {flops / rate * 1e3:.0f} ms; ", end="")
    print(f"the recipe takes {theirs * rate / flops:.1f} times the floor")


def print_curves(turns: list[Turn]) -> None:
    """Both curves, and the difference of their means in units of the seeds' spread."""
    ours, theirs = (np.array([each["curve", who] for each in turns]) for who in ("ours", "recipe"))
    spread = (
        np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / 2) if len(turns) > 1 else np.full(len(ours[0]), np.nan)
    )
    difference = ours.mean(0) - theirs.mean(0)
    print(f"\nmean training loss of 10 steps, {len(turns)} seeds; apart: in units of their standard deviation")
    print(f"{'steps':>10}{'ours':>9}{'recipe':>9}{'sd':>8}{'apart':>8}")
    for at in range(0, len(difference), max(1, len(difference) // 10)):
        print(
            f"{at * 10 + 1:6}-{at * 10 + 10:<4}{ours[:, at].mean():8.3f}{theirs[:, at].mean():9.3f}{spread[at]:8.3f}"
            f"{difference[at] / spread[at]:+8.2f}"
        )
    standard_error = spread * np.sqrt(2 / len(turns))
    inside = np.mean(np.abs(difference) <= 2 * standard_error)
    print(f"within two standard errors of the difference: {inside:.0%} of {len(difference)} points; ", end="")
    print(f"mean difference {difference.mean():+.4f}")
    for metric in ("loss", "f1"):
        mine, own = ([each["result", "validation", who][metric] for each in turns] for who in ("ours", "recipe"))
        print(f"validation {metric} after the last step: ours {np.mean(mine):.4f}, recipe {np.mean(own):.4f}", end="; ")
        print(f"sd over seeds {np.std(mine, ddof=1) if len(turns) > 1 else float('nan'):.4f}")


def plot(turns: list[Turn], path: Path) -> None:
    """Draws the curves of all seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for who, colour in (("ours", "C0"), ("recipe", "C1")):
        for index, each in enumerate(turns):
            steps = 10 * np.arange(len(each["curve", who])) + 5
            axes.plot(steps, each["curve", who], color=colour, alpha=0.7, label=who if not index else None)
    axes.set(xlabel="step", ylabel="training loss, mean of 10 steps")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
