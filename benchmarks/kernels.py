"""Single kernels of a training step on a GPU beside those of PyTorch that they replace::

    python benchmarks/kernels.py
    TRITON_INTERPRET=1 python benchmarks/kernels.py --dry-run   # every line of it, on a CPU that has Triton

Attention forwards and backwards over 128 bodies of 256 and of 128 tokens, 12 heads of 64, bf16, dropout 0.1, beside
PyTorch's flash attention (backwards as it repeats, and as it does not); sums over 16,448 tokens, and four sums that lie
in parts, beside PyTorch's; and a step of AdamW over 94 M parameters beside PyTorch's fused one, whose gradients are in
float32. Milliseconds; figures that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch

from ablations.naming import fused
from ablations.naming.operands import Dropout, Spans
from ablations.naming.optimisation import compute_repeatably

SHARE = 0.1  # of the weights that are dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    dry = parser.parse_args().dry_run
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cuda" and not dry:
        sys.exit("no GPU here: --dry-run tries the code on a CPU")
    if fused.kernels(device.type) is None:
        sys.exit("Triton's kernels do not run here: is there a C compiler?")
    compute_repeatably(device)
    print(f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU, dry run'}, torch {torch.__version__}")
    for bodies, tokens in ((2, 16),) if dry else ((128, 256), (128, 128)):
        attention(bodies, tokens, 2 if dry else 12, device)
    sums(40 if dry else 16448, 1 if dry else 256, device)
    adamw(2 if dry else 40, (16, 16) if dry else (768, 3072), device)


def attention(bodies: int, tokens: int, heads: int, device: torch.device) -> None:
    """Both ways, beside PyTorch's where there is a GPU."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float16  # the interpreter multiplies bf16 wrongly
    joint = torch.randn(bodies * tokens, 3, heads, 64, device=device, dtype=kind)
    targets, given = torch.empty_like(joint), torch.randn_like(joint[:, 0])
    starts = torch.arange(0, bodies * tokens + 1, tokens, device=device, dtype=torch.int32)
    spans, dropout = Spans(starts, tokens), Dropout(SHARE, torch.ones(1, dtype=torch.int64, device=device), 1)
    qkv = joint.unbind(1)
    _, pull = fused.attention(*qkv, spans, spans, dropout, causal=False)
    print(f"attention, {bodies} x {tokens} tokens, {heads} heads of 64")
    say("forwards", lambda: fused.attention(*qkv, spans, spans, dropout, causal=False), device)
    say("backwards", lambda: pull(given, *targets.unbind(1)), device)
    if device.type != "cuda":
        return
    sizes = starts, starts, tokens, tokens, SHARE, False
    forward, backward = torch.ops.aten._flash_attention_forward, torch.ops.aten._flash_attention_backward
    out, lse, state, offset, _ = forward(*qkv, *sizes, False)
    say("PyTorch's forwards", lambda: forward(*qkv, *sizes, False), device)
    for repeats in (True, False):
        torch.use_deterministic_algorithms(repeats)
        name = f"PyTorch's backwards, {'repeatable' if repeats else 'not repeatable'}"
        say(name, lambda: backward(given, *qkv, out, lse, *sizes, state, offset), device)
    compute_repeatably(device)


def sums(tokens: int, unit: int, device: torch.device) -> None:
    """Of gradients: over tokens in bf16, and of the parts that a layer's backward pass leaves, in float32."""
    states = torch.randn(tokens, 9 * unit, device=device).bfloat16()
    print(f"sums over {tokens} tokens of width {9 * unit}, and of a layer's parts")
    say("ours", lambda: fused.added([fused.summed(states)]), device)
    say("PyTorch's", lambda: states.sum(0, dtype=torch.float32), device)
    shapes = (3, 792, 3 * unit), (1, 704, 12 * unit), (3, 792, 3 * unit), (1, 29, 9 * unit)
    parts = [torch.randn(shape, device=device) for shape in shapes]
    say("ours, four at once", lambda: fused.added(parts), device)
    say("ours, one by one", lambda: [fused.added([each]) for each in parts], device)
    say("PyTorch's", lambda: [each.sum(1) for each in parts], device)


def adamw(count: int, shape: tuple[int, int], device: torch.device) -> None:
    """A step of so many matrices, and of PyTorch's optimizer."""
    from ablations.naming import _adamw

    kind = torch.bfloat16
    own = [
        (*(torch.rand(shape, device=device) for _ in range(3)), *(torch.rand(shape, device=device, dtype=kind),) * 2)
        for _ in range(count)
    ]
    places, factors = _adamw.places(own), torch.tensor([1.0, 1e-3, 1e-3, 1.0], device=device)
    print(f"AdamW, {sum(each[0].numel() for each in own):,} parameters")
    say("ours", lambda: _adamw.adamw(places, factors, 0.01, (0.9, 0.999), 1e-8, kind), device)
    parameters = [torch.nn.Parameter(each[0]) for each in own]
    for each in parameters:
        each.grad = torch.randn_like(each)
    theirs = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    say("PyTorch's", theirs.step, device)


def say(name: str, compute: Callable[[], object], device: torch.device, times: int = 20) -> None:
    """Mean of so many, after three that warm up."""
    times = times if device.type == "cuda" else 1
    for _ in range(3 if device.type == "cuda" else 0):
        compute()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        compute()
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"  {name:36}{(time.perf_counter() - start) / times * 1e3:9.3f} ms", flush=True)


if __name__ == "__main__":
    main()
