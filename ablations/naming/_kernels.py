# ruff: noqa: PLR0913, PLR0917  # kernels take pointers, sizes and switches one by one
"""Triton's kernels for ``fused.py``. Sums over tokens are made in a fixed order: the same numbers at every run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ablations.naming.operands import AT_ONCE, IGNORED, Dropout

PROGRAMS = 1056  # that share the rows of a backward pass: eight for each multiprocessor of an H100
PROGRAMS_NORM = 792  # likewise, of two warps that take many registers: six for each
ROWS, ROWS_BACKWARD, COLUMNS, WARPS = 4, 2, 1024, 4  # of a block of the activation
ROWS_SUMMED, COLUMNS_SUMMED = 32, 64  # of a block of what is summed
PARTS_ADDED, COLUMNS_ADDED = 256, 8  # of a block of what is added
SIZES_ADDED = [*(f"{size}{at}" for size in ("parts", "units") for at in range(AT_ONCE)), "tiles0", "tiles1", "tiles2"]

Pulls = Callable[[Tensor], tuple[Tensor, ...]]


@triton.jit
def _mixed(number):
    """A hash of 32 bits to 32 bits (Wellons 2018, "Prospecting for hash functions": lowbias32)."""
    number = number ^ (number >> 16)
    number = number * 0x7FEB352D
    number = number ^ (number >> 15)
    number = number * 0x846CA68B
    return number ^ (number >> 16)


@triton.jit
def _kept(seed, site, place, threshold):
    """Which places are kept: a hash under two keys stands for a random number. Philox would take longer than it all."""
    key = _mixed(_mixed(tl.load(seed).to(tl.uint32)) + site)
    number = _mixed(place.to(tl.uint32) * (_mixed(key) | 1) + key)
    return number.to(tl.int32, bitcast=True) >= threshold


@triton.jit
def _below(value):
    """The normal distribution's share below a value, and e to minus half its square.

    Source: Abramowitz and Stegun 1964, 7.1.26, the error function to 1.5e-7.
    """
    falls = tl.exp2(value * value * -0.7213475204444817)
    at = 1.0 / (1.0 + tl.abs(value) * 0.23164188)
    upper = at * (0.127414796 + at * (-0.142248368 + at * (0.7107068705 + at * (-0.7265760135 + at * 0.5307027145))))
    upper *= falls
    return tl.where(value > 0.0, 1.0 - upper, upper), falls


@triton.jit(do_not_specialize=["site", "threshold", "rows"])
def _add_norm(
    states, bias, residual, weight, shift, out, whole, mean_out, scale_out, seed, site, threshold, rescale, eps, rows,
    width, HAS_DROPOUT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows)[:, None] & (at < width)
    place = row.to(tl.int64)[:, None] * width + at
    value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + at, mask=at < width, other=0.0)
    if HAS_DROPOUT:
        value = tl.where(_kept(seed, site, place, threshold), value * rescale, 0.0)
    value += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(value, 1) / width
    centred = tl.where(at < width, value - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / width + eps)
    gain = tl.load(weight + at, mask=at < width, other=0.0)
    normed = centred * scale[:, None] * gain + tl.load(shift + at, mask=at < width, other=0.0)
    tl.store(out + place, normed, mask=inside)
    tl.store(whole + place, value, mask=inside)
    tl.store(mean_out + row, mean, mask=row < rows)
    tl.store(scale_out + row, scale, mask=row < rows)


@triton.jit
def _row_of(given, whole, mean_in, scale_in, row, rows, at, width):
    """A row of the gradient and of what was normalised, its mean and its scale; nought behind the last row."""
    inside = (at < width) & (row < rows)
    place = tl.cast(row, tl.int64) * width + at
    grad = tl.load(given + place, mask=inside, other=0.0)
    value = tl.load(whole + place, mask=inside, other=0.0)
    mean = tl.load(mean_in + row, mask=row < rows, other=0.0)
    return grad, value, mean, tl.load(scale_in + row, mask=row < rows, other=0.0)


@triton.jit(do_not_specialize=["site", "threshold", "rows"])
def _add_norm_backward(
    given, whole, mean_in, scale_in, weight, to_states, to_residual, sums, seed, site, threshold, rescale, rows, width,
    HAS_DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    gain = tl.load(weight + at, mask=inside, other=0.0)
    to_weight = tl.zeros([BLOCK], tl.float32)
    to_shift = tl.zeros([BLOCK], tl.float32)
    to_bias = tl.zeros([BLOCK], tl.float32)
    grad, value, mean, scale = _row_of(given, whole, mean_in, scale_in, program, rows, at, width)
    for row in range(program, rows, programs):
        upcoming = _row_of(given, whole, mean_in, scale_in, row + programs, rows, at, width)  # on its way meanwhile
        place = tl.cast(row, tl.int64) * width + at
        normed = tl.where(inside, (value.to(tl.float32) - mean) * scale, 0.0)
        scaled = grad.to(tl.float32) * gain
        along = tl.sum(normed * scaled, 0) / width
        level = tl.sum(scaled, 0) / width
        found = (scaled - (normed * along + level)) * scale
        tl.store(to_residual + place, found, mask=inside)
        if HAS_DROPOUT:
            found = tl.where(_kept(seed, site, place, threshold), found * rescale, 0.0)
        tl.store(to_states + place, found, mask=inside)
        to_weight += grad.to(tl.float32) * normed
        to_shift += grad.to(tl.float32)
        to_bias += tl.where(inside, found, 0.0)
        grad, value, mean, scale = upcoming
    tl.store(sums + program * width + at, to_weight, mask=inside)
    tl.store(sums + (programs + program) * width + at, to_shift, mask=inside)
    tl.store(sums + (2 * programs + program) * width + at, to_bias, mask=inside)


@triton.jit
def _looked_up(ids, positions, words, places, extra, row, at, width, HAS_EXTRA: tl.constexpr):
    inside = at < width
    found = tl.load(words + tl.load(ids + row).to(tl.int64) * width + at, mask=inside, other=0.0)
    found += tl.load(places + tl.load(positions + row).to(tl.int64) * width + at, mask=inside, other=0.0)
    if HAS_EXTRA:
        found += tl.load(extra + at, mask=inside, other=0.0)
    return found


@triton.jit(do_not_specialize=["site", "threshold"])
def _embed(
    ids, positions, words, places, extra, weight, shift, out, mean_out, scale_out, seed, site, threshold, rescale, eps,
    width, HAS_EXTRA: tl.constexpr, HAS_DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    value = _looked_up(ids, positions, words, places, extra, row, at, width, HAS_EXTRA)
    mean = tl.sum(value, 0) / width
    centred = tl.where(inside, value - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
    gain = tl.load(weight + at, mask=inside, other=0.0)
    found = centred * scale * gain + tl.load(shift + at, mask=inside, other=0.0)
    place = row.to(tl.int64) * width + at
    if HAS_DROPOUT:
        found = tl.where(_kept(seed, site, place, threshold), found * rescale, 0.0)
    tl.store(out + place, found, mask=inside)
    tl.store(mean_out + row, mean)
    tl.store(scale_out + row, scale)


@triton.jit(do_not_specialize=["site", "threshold", "rows"])
def _embed_backward(
    given, ids, positions, words, places, extra, weight, mean_in, scale_in, to_sum, sums, seed, site, threshold,
    rescale, rows, width, HAS_EXTRA: tl.constexpr, HAS_DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    gain = tl.load(weight + at, mask=inside, other=0.0)
    to_weight = tl.zeros([BLOCK], tl.float32)
    to_shift = tl.zeros([BLOCK], tl.float32)
    to_extra = tl.zeros([BLOCK], tl.float32)
    for row in range(program, rows, programs):
        place = tl.cast(row, tl.int64) * width + at
        grad = tl.load(given + place, mask=inside, other=0.0).to(tl.float32)
        if HAS_DROPOUT:
            grad = tl.where(_kept(seed, site, place, threshold), grad * rescale, 0.0)
        value = _looked_up(ids, positions, words, places, extra, row, at, width, HAS_EXTRA)
        scale = tl.load(scale_in + row)
        normed = tl.where(inside, (value - tl.load(mean_in + row)) * scale, 0.0)
        scaled = grad * gain
        along = tl.sum(normed * scaled, 0) / width
        level = tl.sum(scaled, 0) / width
        found = tl.where(inside, (scaled - (normed * along + level)) * scale, 0.0)
        tl.store(to_sum + place, found, mask=inside)
        to_weight += grad * normed
        to_shift += tl.where(inside, grad, 0.0)
        to_extra += found
    tl.store(sums + program * width + at, to_weight, mask=inside)
    tl.store(sums + (programs + program) * width + at, to_shift, mask=inside)
    tl.store(sums + (2 * programs + program) * width + at, to_extra, mask=inside)


@triton.jit(do_not_specialize=["padding"])
def _add_rows(taken, each, target, padding, width, BLOCK: tl.constexpr):
    row = tl.load(each + tl.program_id(0))
    if (row < 0) | (row == padding):
        return
    at = tl.arange(0, BLOCK)
    place = target + row.to(tl.int64) * width + at
    found = tl.load(taken + tl.program_id(0).to(tl.int64) * width + at, mask=at < width)
    tl.store(place, tl.load(place, mask=at < width).to(tl.float32) + found, mask=at < width)


@triton.jit(do_not_specialize=["rows"])
def _gelu(states, bias, out, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (at < width)
    place = row.to(tl.int64) * width + at
    value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + at, mask=at < width, other=0.0)
    below, _ = _below(value)
    tl.store(out + place, value * below, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _gelu_backward(
    given, states, bias, to_states, sums, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    added = tl.load(bias + at, mask=at < width, other=0.0)[None, :]
    to_bias = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(program * ROWS, rows, programs * ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & (at < width)[None, :]
        place = row.to(tl.int64) * width + at[None, :]
        value = tl.load(states + place, mask=inside, other=0.0).to(tl.float32) + added
        grad = tl.load(given + place, mask=inside, other=0.0).to(tl.float32)
        below, falls = _below(value)
        found = grad * (below + value * 0.3989422804014327 * falls)
        tl.store(to_states + place, found, mask=inside)
        to_bias += found
    tl.store(sums + program * width + at, tl.sum(to_bias, 0), mask=at < width)


@triton.jit(do_not_specialize=["rows"])
def _summed(states, sums, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    found = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(program * ROWS, rows, programs * ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & (at < width)[None, :]
        found += tl.load(states + row.to(tl.int64) * width + at[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(sums + program * width + at, tl.sum(found, 0), mask=at < width)


@triton.jit
def _chosen(which, first, second, third, fourth):
    """By selection, through which the compiler follows how even its arguments are."""
    return tl.where(which < 2, tl.where(which == 0, first, second), tl.where(which == 2, third, fourth))


@triton.jit(do_not_specialize=SIZES_ADDED)
def _added(
    sums0, sums1, sums2, sums3, out0, out1, out2, out3, parts0, parts1, parts2, parts3, units0, units1, units2, units3,
    tiles0, tiles1, tiles2, UNIT: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The programs up to ``tiles0`` are of the first sums, those up to ``tiles1`` of the second, and so on."""
    tile = tl.program_id(0)
    which = (tile >= tiles0).to(tl.int32) + (tile >= tiles1).to(tl.int32) + (tile >= tiles2).to(tl.int32)
    tile -= _chosen(which, 0, tiles0, tiles1, tiles2)
    parts = _chosen(which, parts0, parts1, parts2, parts3)
    width = _chosen(which, units0, units1, units2, units3) * UNIT
    tiles = tl.cdiv(width, BLOCK)
    kind, at = tile // tiles, tile % tiles * BLOCK + tl.arange(0, BLOCK)
    sums = _chosen(which, sums0, sums1, sums2, sums3) + kind.to(tl.int64) * parts * width
    found = tl.zeros([PARTS, BLOCK], tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        found += tl.load(sums + part * width + at[None, :], mask=(part < parts) & (at < width)[None, :], other=0.0)
    tl.store(_chosen(which, out0, out1, out2, out3) + kind * width + at, tl.sum(found, 0), mask=at < width)


@triton.jit
def _cross_entropy(
    logits, labels, losses, count, columns, outputs, smoothing, IGNORED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    label = tl.load(labels + row)
    logits += row.to(tl.int64) * columns
    most, total, plain = float("-inf"), 0.0, 0.0
    for first in range(0, outputs, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = tl.load(logits + at, mask=at < outputs, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(most, tl.max(value, 0))
        total = total * tl.exp(most - larger) + tl.sum(tl.exp(value - larger), 0)
        plain += tl.sum(tl.where(at < outputs, value, 0.0), 0)
        most = larger
    level = most + tl.log(total)
    own = tl.load(logits + tl.maximum(label, 0)).to(tl.float32)
    loss = level - (1.0 - smoothing) * own - smoothing * plain / outputs
    tl.store(losses + row, tl.where(label == IGNORED, 0.0, loss))
    share = tl.where(label == IGNORED, 0.0, 1.0 / tl.load(count))
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = tl.load(logits + at, mask=at < outputs, other=float("-inf")).to(tl.float32)
        grad = tl.exp(value - level) - smoothing / outputs - tl.where(at == label, 1.0 - smoothing, 0.0)
        tl.store(logits + at, tl.where(at < outputs, grad * share, 0.0), mask=at < columns)


def cross_entropy(logits: Tensor, labels: Tensor, outputs: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """See :func:`ablations.naming.fused.cross_entropy`."""
    rows, columns = logits.shape
    losses = torch.empty(rows, device=logits.device, dtype=torch.float32)
    count = (labels != IGNORED).sum()
    block = min(4 * COLUMNS, triton.next_power_of_2(columns))
    _cross_entropy[(rows,)](
        logits, labels, losses, count, columns, outputs, smoothing, IGNORED=IGNORED, BLOCK=block, num_warps=8
    )
    return losses.sum() / count, logits


def added(several: Sequence[Tensor]) -> list[Tensor]:
    """See :func:`ablations.naming.fused.added`."""
    found = []
    for start in range(0, len(several), AT_ONCE):
        found += _added_at_once(several[start : start + AT_ONCE])
    return found


def _added_at_once(several: Sequence[Tensor]) -> list[Tensor]:
    outs = [torch.empty(len(each), each.shape[2], device=each.device, dtype=torch.float32) for each in several]
    empty = AT_ONCE - len(several)
    sums, targets = ([*each, *[each[0]] * empty] for each in (several, outs))
    parts, widths = ([each.shape[at] for each in sums] for at in (1, 2))
    unit = math.gcd(16, *widths)
    tiles = [len(each) * triton.cdiv(each.shape[2], COLUMNS_ADDED) for each in several] + [0] * empty
    ends = list(itertools.accumulate(tiles))
    units = [width // unit for width in widths]
    _added[(ends[-1],)](*sums, *targets, *parts, *units, *ends[:-1], UNIT=unit, PARTS=PARTS_ADDED, BLOCK=COLUMNS_ADDED)
    return outs


def summed(states: Tensor) -> Tensor:
    """See :func:`ablations.naming.fused.summed`."""
    rows, width = states.shape
    columns = triton.cdiv(width, COLUMNS_SUMMED)
    programs = max(1, min(PROGRAMS // columns, rows // ROWS_SUMMED))
    sums = torch.empty(1, programs, width, device=states.device, dtype=torch.float32)
    _summed[(programs, columns)](states, sums, rows, width, ROWS=ROWS_SUMMED, BLOCK=COLUMNS_SUMMED)
    return sums


def kept_from(share: float) -> tuple[int, float]:
    """From which random number on (an int32) what it is drawn for is kept, and by what that is multiplied.

    Args:
        share: That is dropped, 0 to 1.
    """
    threshold = min(round(share * 2**32) - 2**31, 2**31 - 1)
    return threshold, 1.0 / (1.0 - share) if share < 1.0 else 0.0


def _programs(rows: int, most: int) -> int:
    return max(1, min(most, rows // 8))


def embed(
    ids: Tensor, positions: Tensor, words: Tensor, places: Tensor, extra: Tensor | None, weight: Tensor, shift: Tensor,
    eps: float, dropout: Dropout, kind: torch.dtype,
) -> tuple[Tensor, Pulls]:  # fmt: skip
    """See :func:`ablations.naming.fused.embed`; the pull's first is the gradient by the sum of the rows."""
    rows, width = len(ids), words.shape[1]
    block, drops, more = triton.next_power_of_2(width), dropout.share > 0.0, extra is not None
    drawn = dropout.seed, dropout.site, *kept_from(dropout.share)
    out = torch.empty(rows, width, device=words.device, dtype=kind)
    mean, scale = (torch.empty(rows, device=words.device, dtype=torch.float32) for _ in range(2))
    tables = ids, positions, words, places, extra if more else words
    _embed[(rows,)](
        *tables, weight, shift, out, mean, scale, *drawn, eps, width, HAS_EXTRA=more, HAS_DROPOUT=drops, BLOCK=block
    )

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        programs = _programs(rows, PROGRAMS)
        to_sum = torch.empty(rows, width, device=words.device, dtype=torch.float32)
        sums = torch.empty(3, programs, width, device=words.device, dtype=torch.float32)
        _embed_backward[(programs,)](
            given, *tables, weight, mean, scale, to_sum, sums, *drawn, rows, width,
            HAS_EXTRA=more, HAS_DROPOUT=drops, BLOCK=block, num_warps=1,
        )  # fmt: skip
        return to_sum, sums

    return out, pull


def add_rows(taken: Tensor, each: Tensor, target: Tensor, padding: int) -> None:
    """Adds rows to those of a table.

    Args:
        taken: ``(rows, width)``, float32.
        each: Where each row goes, ``(rows,)``, int32; negative: nowhere.
        target: The table.
        padding: A row of it that stays as it is.
    """
    width = taken.shape[1]
    _add_rows[(len(each),)](taken, each, target, padding, width, BLOCK=triton.next_power_of_2(width))


def add_norm(
    states: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, eps: float, dropout: Dropout
) -> tuple[Tensor, Pulls]:
    """See :func:`ablations.naming.fused.add_norm`."""
    rows, width = states.shape
    block, drops = triton.next_power_of_2(width), dropout.share > 0.0
    drawn = dropout.seed, dropout.site, *kept_from(dropout.share)
    out, whole = torch.empty_like(residual), torch.empty_like(residual)
    mean, scale = (torch.empty(rows, device=states.device, dtype=torch.float32) for _ in range(2))
    _add_norm[(rows,)](
        states, bias, residual, weight, shift, out, whole, mean, scale, *drawn, eps, rows, width,
        HAS_DROPOUT=drops, ROWS=1, BLOCK=block, num_warps=2,
    )  # fmt: skip

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        programs = _programs(rows, PROGRAMS_NORM)
        to_states, to_residual = torch.empty_like(states), torch.empty_like(whole)
        sums = torch.empty(3, programs, width, device=whole.device, dtype=torch.float32)
        _add_norm_backward[(programs,)](
            given, whole, mean, scale, weight, to_states, to_residual, sums, *drawn, rows, width,
            HAS_DROPOUT=drops, BLOCK=block, num_warps=2,
        )  # fmt: skip
        return to_states, to_residual, sums

    return out, pull


def gelu(states: Tensor, bias: Tensor) -> tuple[Tensor, Pulls]:
    """See :func:`ablations.naming.fused.gelu`."""
    rows, width = states.shape
    block = min(COLUMNS, triton.next_power_of_2(width))
    columns, out = triton.cdiv(width, block), torch.empty_like(states)
    _gelu[(triton.cdiv(rows, ROWS), columns)](states, bias, out, rows, width, ROWS=ROWS, BLOCK=block, num_warps=WARPS)

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        programs = _programs(rows, 2 * PROGRAMS // columns)
        to_states = torch.empty_like(states)
        sums = torch.empty(1, programs, width, device=states.device, dtype=torch.float32)
        _gelu_backward[(programs, columns)](
            given, states, bias, to_states, sums, rows, width, ROWS=ROWS_BACKWARD, BLOCK=block, num_warps=WARPS
        )
        return to_states, sums

    return out, pull


def try_out(device: str) -> None:
    """Runs each kernel once.

    Raises:
        Exception: Whatever keeps Triton from it.
    """
    states, bias = torch.ones(2, 16, device=device), torch.zeros(16, device=device)
    dropout = Dropout(0.1, torch.zeros(1, dtype=torch.int64, device=device), 0)
    ids = torch.zeros(2, dtype=torch.int32, device=device)
    for out, pull in (
        embed(ids, ids, states, states, None, bias, bias, 1e-5, dropout, torch.float32),
        add_norm(states, bias, states, bias, bias, 1e-5, dropout),
        gelu(states, bias),
    ):
        added([pull(out)[-1]])
    added([summed(states)])
    cross_entropy(states, ids, 16, 0.1)
    add_rows(states, ids, torch.zeros_like(states), 0)
