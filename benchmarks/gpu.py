"""What a GPU reaches with the reference experiment, and what bounds it::

    python benchmarks/gpu.py             # 45 M parameters at batch 32; full size at batch 128, input 128 and 256
    python benchmarks/gpu.py --size small --variants padded graphs
    python benchmarks/gpu.py --size reference-128 --set training.precision=fp32 training.padding=maximum
    python benchmarks/gpu.py --same       # the losses of every variant beside those of the first, without dropout
    python benchmarks/gpu.py --dry-run   # every line of it but the recording, on a CPU

First what the card can do: bf16 matrix products of 8192³ and of the model's own shapes, and the rate of copies. Then,
for each size and way to step (``padded``: Transformers' modules; ``packed``: real tokens alone; ``graphs``: that as
CUDA graphs, which is what a run does): milliseconds per step, operations that the batches need (``padded`` counts the
padding inside a batch) and their share of the measured matrix rate, the floor, and the memory; then validation. The
floor of a step is its operations at that rate plus the bytes that cannot be fused away: AdamW reads and writes weights,
gradients and two moments in fp32. In the cases that end in ``full`` every body is as long as the input: the standard
library's own are a third as long in the mean.

When all is measured, for a profiler slows down what its process does later, the profile of each case in its fastest
way: how much of the time kernels ran at all, and of which kind they were.

Figures that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML
from sizes import sized

from ablations.naming.checkpoints import Checkpoints
from ablations.naming.config import Config
from ablations.naming.cost import Cost
from ablations.naming.data import Encoded
from ablations.naming.evaluation import evaluate, fixed_subset, samples_of
from ablations.naming.graphs import SWITCH
from ablations.naming.model import parameter_count
from ablations.naming.optimisation import compute_repeatably
from ablations.naming.training import Trainer

FULL = "-full"
CASES = {"small": ("small", None), "reference-128": ("reference", 128), "reference-256": ("reference", 256)}
NAMES = [*CASES, "reference-128" + FULL, "reference-256" + FULL]
VARIANTS = ("padded", "packed", "graphs")
KINDS = {  # of kernels, by parts of their names; the first that fits
    "attention": ("flash", "fmha", "attention"),
    "fused: norms, dropout, residuals, activation": ("_add_norm", "_gelu", "_embed"),
    "matrix products": ("gemm", "cutlass", "nvjet", "splitk", "addmm", "::mm", "bmm", "linear"),
    "optimizer, copies of weights, norm of gradients": ("adam", "multi_tensor", "foreach", "linalg_vector_norm"),
    "embeddings, indexing": ("embedding", "_add_rows", "grad_weight", "index", "gather"),
    "sums over tokens": ("reduce", "_added", "_summed"),
    "copies, fills": ("memcpy", "memset", "copy_", "fill", "zero_", "cat"),
    "softmax, loss": ("softmax", "nll", "cross_entropy"),
    "norms of layers": ("layer_norm", "layernorm"),
}
ADAMW_BYTES = 4 * 7  # per parameter: weight, gradient and two moments read, three of them written
CLIP_BYTES = 4 * 3  # gradients read for their norm, read and written to be scaled
MEMORY = (torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved)


def main() -> None:
    options = _options()
    device = _device()
    if device.type != "cuda" and not options.dry_run:
        sys.exit("no GPU here: --dry-run tries the code on a CPU")
    cases = ["dry"] if options.dry_run else options.size or NAMES
    if options.same:
        for case in cases:
            say_same(case, options)
        return
    rates, fastest = card(device), dict[str, str]()
    for case in cases:
        print(f"\n{case}")
        times = {}
        for variant in options.variants:
            found = _tried(variant, lambda case=case: measured(case, options))  # type: ignore[misc]
            if found is not None:
                say(variant, found, rates)
                times[variant] = found["step_ms"]
        if times:
            fastest[case] = min(times, key=lambda each: times[each])
    for case, variant in fastest.items():
        found = _tried(variant, lambda case=case: profiled(case, options))  # type: ignore[misc]
        if found is not None:
            print(f"\n{case}, {variant}")
            say_profile(*found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=NAMES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kernels", type=int, default=0, help="name so many of the longest kernels, too")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the config, as in a study")
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.dry_run:
        options.steps, options.variants = 6, ["padded"]
    return options


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def card(device: torch.device) -> dict[str, float]:
    """Measured rates: bf16 matrix products (operations per second) and copies (bytes per second)."""
    small = device.type != "cuda"
    print(f"{torch.cuda.get_device_name() if not small else 'CPU, dry run'}, torch {torch.__version__}")
    kind = torch.float32 if small else torch.bfloat16
    shapes = [(256, 256, 256)] if small else [(8192,) * 3, (16384, 768, 3072), (16384, 3072, 768), (16384, 768, 768)]
    found = {}
    for m, k, n in shapes:
        left, right = torch.randn(m, k, device=device, dtype=kind), torch.randn(k, n, device=device, dtype=kind)
        found[m, k, n] = 2 * m * k * n / _seconds(lambda left=left, right=right: left @ right, device)
        print(f"{m} x {k} x {n}: {found[m, k, n] / 1e12:8.2f} TFLOP/s")
    source = torch.empty((1 << 20) if small else (1 << 28), device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)
    print(f"copies: {copied / 1e9:.0f} GB/s")
    return {"flops": found[shapes[0]], "bytes": copied}


def _seconds(work: Any, device: torch.device, times: int = 20) -> float:
    for _ in range(3):
        work()
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - start) / times


def _tried(variant: str, work: Callable[[], Any]) -> Any:
    """What a variant gives; None, and why is printed, where it fails."""
    os.environ[SWITCH] = variant
    try:
        return work()
    except Exception:  # whatever a card, a driver or a library may say: the other variants are measured
        print(f"  {variant} failed: {traceback.format_exc(limit=-6)}", flush=True)
        return None
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def prepared(case: str, **changes: Any) -> tuple[Config, Encoded]:
    """Config and data of a case."""
    if case == "dry":
        return sized("cpu", **changes)
    size, tokens = CASES[case.removesuffix(FULL)]
    config, data = sized(size, tokens, **changes)
    if case.endswith(FULL):
        rows = np.flatnonzero(data.train.input_lengths_uncut >= config.data.input_tokens)
        rows = rows[: len(rows) // config.training.batch_samples * config.training.batch_samples]  # whole batches
        data = dataclasses.replace(data, splits={**data.splits, "train": samples_of(data.train, rows)})
    return config, data


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """What ``--set`` asks for, with ``__`` for the dot in a key."""
    pairs = (each.partition("=") for each in options.set)
    return {key.replace(".", "__"): YAML(typ="safe").load(value) for key, _, value in pairs}


def made(case: str, options: argparse.Namespace) -> tuple[Trainer, float]:
    """A trainer that has taken ``--steps`` steps, so that its shapes are compiled or recorded; seconds that it took."""
    device = _device()
    compute_repeatably(device)
    config, data = prepared(case, training__max_steps=10_000, **changes_of(options))
    trainer, start = Trainer(config, data, 0, device, lambda *_: None, [], Checkpoints(), None), time.perf_counter()
    for _ in range(options.steps):
        trainer.take_step()
    trainer._journal.flush()
    _wait(device)
    return trainer, time.perf_counter() - start


def measured(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case in one way: trains, times, scores."""
    device, steps = _device(), options.steps
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer, warm_s = made(case, options)
    before, start = (trainer._cost.flops, trainer._cost.samples, trainer._cost.tokens), time.perf_counter()
    for _ in range(steps):
        trainer.take_step()
    host_s = time.perf_counter() - start
    trainer._journal.flush()
    _wait(device)
    step_s = (time.perf_counter() - start) / steps
    flops, samples, tokens = (now - then for now, then in zip(
        (trainer._cost.flops, trainer._cost.samples, trainer._cost.tokens), before, strict=True))  # fmt: skip
    found: dict[str, Any] = {
        "parameters": parameter_count(trainer._model), "step_ms": step_s * 1e3, "host_ms": host_s / steps * 1e3,
        "flops": flops / steps, "samples_per_s": samples / steps / step_s, "tokens_per_s": tokens / steps / step_s,
        "shapes": trainer._packed.facts["recorded_shapes"] if trainer._packed else 0,
        "ready_s": warm_s - steps * step_s, "fused": bool(trainer._packed and trainer._packed.facts["fused_by"]),
    }  # fmt: skip
    if device.type == "cuda":
        found["memory_gb"], found["reserved_gb"] = (each() / 2**30 for each in MEMORY)
    return found | validated(trainer, 40 if case == "dry" else 2000)


def validated(trainer: Trainer, samples: int) -> dict[str, float]:
    """How fast a trainer scores so many samples, from the second time on: the first time they are recorded."""
    data, config, device = trainer._data, trainer._config, trainer._device
    split, cost, seconds = fixed_subset(data.validation, samples), Cost(), 0.0
    for _ in range(2):
        start = time.perf_counter()
        evaluate(trainer._model, data, split, config, device, cost := Cost(), trainer._scorer)
        seconds = time.perf_counter() - start
    return {"validation_per_s": len(split) / seconds, "validation_flops_per_s": cost.flops / seconds}


def losses(case: str, options: argparse.Namespace) -> list[float]:
    """Of the first steps, without dropout."""
    device, found = _device(), list[float]()
    off: dict[str, Any] = {
        f"{part}__{kind}": 0.0 for part in ("encoder", "decoder") for kind in ("dropout", "attention_dropout")
    }
    compute_repeatably(device)
    config, data = prepared(case, **off)

    def log(metric: str, value: float, step: int) -> None:
        if metric == "train_loss":
            found.append(value)

    trainer = Trainer(config, data, 0, device, log, [], Checkpoints(), None)
    for _ in range(options.steps):
        trainer.take_step()
    trainer._journal.flush()
    return found


def say_same(case: str, options: argparse.Namespace) -> None:
    """The losses of each variant, and how far they are from the first's: relative, in the mean and at most."""
    first: list[float] = []
    print(f"{case}: losses of {options.steps} steps without dropout")
    for variant in (options.variants[0], *options.variants):  # the first one twice: does it repeat itself?
        found: Any = _tried(variant, lambda: losses(case, options))
        if found is None:
            continue
        first = first or found
        apart = [abs(mine - own) / own for mine, own in zip(found, first, strict=True)]
        mean = sum(apart) / len(apart)
        print(f"  {variant:15}{found[0]:9.5f} ... {found[-1]:9.5f}  apart {mean:.1e}, {max(apart):.1e}", flush=True)


def profiled(case: str, options: argparse.Namespace) -> tuple[dict[str, float], list[tuple[float, float, str]]]:
    """Milliseconds per step of each kind of kernel, and of the whole under the profiler (``wall``).

    Then the longest kernels: milliseconds and calls per step, name.
    """
    from torch.profiler import ProfilerActivity, profile

    device, steps = _device(), min(options.steps, 20)
    trainer, _ = made(case, options)
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]):  # the first one takes long to begin
        trainer.take_step()
        _wait(device)
    start = time.perf_counter()
    with profile(activities=[activity]) as found:
        for _ in range(steps):
            trainer.take_step()
        _wait(device)
        wall = time.perf_counter() - start
    kinds, names = dict.fromkeys([*KINDS, "others, elementwise"], 0.0), []
    for event in found.key_averages():
        spent = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((each for each, parts in KINDS.items() if any(part in name for part in parts)), None)
        kinds[kind or "others, elementwise"] += spent / 1e3 / steps
        names.append((spent / 1e3 / steps, event.count / steps, event.key[:110]))
    return {"wall": wall / steps * 1e3, **kinds}, sorted(names, reverse=True)[: options.kernels]


def say(variant: str, found: dict[str, Any], rates: dict[str, float]) -> None:
    """One line for each variant."""
    moved = found["parameters"] * (ADAMW_BYTES + CLIP_BYTES) / rates["bytes"] * 1e3
    floor = found["flops"] / rates["flops"] * 1e3 + moved
    reached = found["flops"] / (found["step_ms"] / 1e3) / rates["flops"]
    memory = (
        f"{found['memory_gb']:.1f} GB, reserved {found['reserved_gb']:.1f}" if "memory_gb" in found else "not counted"
    )
    print(
        f"  {variant:10}{found['parameters']:,} parameters {found['step_ms']:8.2f} ms/step (host "
        f"{found['host_ms']:.2f}, floor {floor:.2f}, of it AdamW {moved:.2f})  "
        f"{found['flops'] / 1e12:.3f} TFLOP/step  {reached:5.1%} of the matrix rate  "
        f"{found['samples_per_s']:.0f} samples/s  {found['tokens_per_s']:.0f} tokens/s  memory {memory}  "
        f"recorded {found['shapes']}, fused {found['fused']}, ready in {found['ready_s']:.1f} s  "
        f"validation {found['validation_per_s']:.0f} samples/s, "
        f"{found['validation_flops_per_s'] / rates['flops']:.1%} of the rate",
        flush=True,
    )


def say_profile(times: dict[str, float], longest: list[tuple[float, float, str]]) -> None:
    """What the time of the fastest variant went to."""
    wall = times.pop("wall")
    print(f"  of {wall:.2f} ms per step under the profiler, kernels ran:")
    for kind, spent in sorted(times.items(), key=lambda each: -each[1]):
        print(f"    {kind:50}{spent:8.2f} ms {spent / wall:7.1%}")
    print(f"    {'nothing':50}{wall - sum(times.values()):8.2f} ms {1 - sum(times.values()) / wall:7.1%}")
    for spent, calls, name in longest:
        print(f"      {spent:7.3f} ms {calls:7.1f}x  {name}")


if __name__ == "__main__":
    main()
