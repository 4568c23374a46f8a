# ruff: noqa: PLR0913, PLR0917  # kernels take pointers, sizes and switches one by one
"""Triton's kernels for attention over packed sequences (``packed.py``), forwards and backwards, chosen for Hopper GPUs.

Source: Dao 2023, "FlashAttention-2". Each number of a result is made by one program, in a fixed order: the same numbers
at every run.

Dropout draws a random number for each weight three times, so it must be cheap: each query and each key have an odd
random number of 32 bits (a strong hash), and a weight's is the product of the two, modulo 2³². Products of one query by
two keys, or of two by one, are as good as independent, for the factor between them is random as well. A query's number
goes by its place in the batch, its head and the site, a key's by its place in its sequence alone: those of a step are
made once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import TritonError

from ablations.naming._kernels import _mixed, kept_from
from ablations.naming.operands import Dropout, Spans

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LARGEST = 128  # keys of a block
FEW = 16  # queries of a sequence, for which all gradients are computed at once whatever their width


@triton.jit
def _load(base, stride, size, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The first rows of a matrix ``(ROWS, BLOCK)``, with zeros behind the last row and the last column."""
    rows, at = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    places = base + rows[:, None] * stride + at[None, :]
    if WIDTH == BLOCK:
        return tl.load(places, mask=rows[:, None] < size, other=0.0)
    return tl.load(places, mask=(rows[:, None] < size) & (at[None, :] < WIDTH), other=0.0)


@triton.jit
def _store(base, stride, size, values, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    rows, at = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    places = base + rows[:, None] * stride + at[None, :]
    inside = rows[:, None] < size
    if WIDTH != BLOCK:
        inside = inside & (at[None, :] < WIDTH)
    tl.store(places, values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _span(starts, sequence):
    """Where a sequence begins, and its length."""
    begin = tl.load(starts + sequence)
    return begin.to(tl.int64), tl.load(starts + sequence + 1) - begin


@triton.jit
def _ends(block, size, seen_size, CAUSAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Up to which key a block of queries sees all of each block of keys, and up to which it sees some."""
    end = seen_size
    whole = seen_size // COLUMNS * COLUMNS
    if CAUSAL:
        end = tl.minimum(seen_size, (block + 1) * ROWS)
        whole = tl.minimum(whole, block * ROWS // COLUMNS * COLUMNS)
    return whole, end


@triton.jit
def _odd(places, key):
    """Odd random numbers of 32 bits."""
    return (_mixed(_mixed(places.to(tl.uint32) ^ key) ^ _mixed(key)) | 1).to(tl.int32, bitcast=True)


@triton.jit
def _numbers(places, seed, site):
    """The queries' numbers."""
    return _odd(places, _mixed(_mixed(tl.load(seed).to(tl.uint32)) + site))


@triton.jit
def _attention_numbers(numbers, seed, BLOCK: tl.constexpr):
    """The keys' numbers: to hash anew for each weight's thread would take too long."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(numbers + at, _odd(at, _mixed(_mixed(tl.load(seed).to(tl.uint32)) ^ 0x9E3779B9)))


@triton.jit(do_not_specialize=["tokens"])
def _attention_levels(
    given, out, delta, tokens, heads, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Of each query the sum of gradient times output, ``(heads, tokens)``."""
    first, head = tl.program_id(0) * ROWS, tl.program_id(1)
    stride = heads * WIDTH
    begin = first.to(tl.int64) * stride + head * WIDTH
    grad = _load(given + begin, stride, tokens - first, ROWS, WIDTH, BLOCK).to(tl.float32)
    found = _load(out + begin, stride, tokens - first, ROWS, WIDTH, BLOCK).to(tl.float32)
    rows = first + tl.arange(0, ROWS)
    tl.store(delta + head.to(tl.int64) * tokens + rows, tl.sum(grad * found, 1), mask=rows < tokens)


@triton.jit
def _seen(
    found, most, total, q, rows, key, value, key_stride, value_stride, size, whole, end, row_numbers, column_numbers,
    threshold, scale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """A block of queries over the keys to ``end``: weighted values, largest scores, sums of weights. See ``_ends``."""
    nought = scale * 0.0  # a constant LLVM would choose after the rounding, half by half: twice the steps
    tl.assume(end > 0)  # else products would not overlap
    for start in range(0, end, COLUMNS):
        k = _load(key + start * key_stride, key_stride, size - start, COLUMNS, WIDTH, BLOCK)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if start >= whole:
            columns = start + tl.arange(0, COLUMNS)
            sees = columns[None, :] < size
            if CAUSAL:
                sees = sees & (columns[None, :] <= rows[:, None])
            scores = tl.where(sees, scores, float("-inf"))
        larger = tl.maximum(most, tl.max(scores, 1) * scale)
        weights = tl.exp2(scores * scale - larger[:, None])
        shrink = tl.exp2(most - larger)
        total = total * shrink + tl.sum(weights, 1)
        if HAS_DROPOUT:
            drawn = tl.load(column_numbers + start + tl.arange(0, COLUMNS))
            weights = tl.where(row_numbers[:, None] * drawn[None, :] >= threshold, weights, nought)
        v = _load(value + start * value_stride, value_stride, size - start, COLUMNS, WIDTH, BLOCK)
        found = tl.dot(weights.to(v.dtype), v, found * shrink[:, None], input_precision="ieee")
        most = larger
    return found, most, total


@triton.jit(do_not_specialize=["site", "threshold", "tokens", "blocks"])
def _attention_forward(
    query, key, value, out, lse, numbers, seed, site, asking, seen, query_stride, key_stride, value_stride, tokens,
    heads, blocks, scale, threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    block, pair = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    sequence, head = pair // heads, pair % heads
    begin, size = _span(asking, sequence)
    if block * ROWS >= size:
        return
    seen_begin, seen_size = _span(seen, sequence)
    key += seen_begin * key_stride + head * WIDTH
    value += seen_begin * value_stride + head * WIDTH
    rows = block * ROWS + tl.arange(0, ROWS)
    place = head.to(tl.int64) * tokens + begin
    first = begin + block * ROWS
    q = _load(query + (first * query_stride + head * WIDTH), query_stride, size - block * ROWS, ROWS, WIDTH, BLOCK)
    row_numbers = rows
    if HAS_DROPOUT:
        row_numbers = _numbers((begin + rows) * heads + head, seed, site)
    found = tl.zeros([ROWS, BLOCK], tl.float32)
    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    whole, end = _ends(block, size, seen_size, CAUSAL, ROWS, COLUMNS)
    found, most, total = _seen(
        found, most, total, q, rows, key, value, key_stride, value_stride, seen_size, whole, end, row_numbers, numbers,
        threshold, scale, CAUSAL, HAS_DROPOUT, WIDTH, BLOCK, COLUMNS,
    )  # fmt: skip
    found = found * (rescale / total)[:, None]
    stride = heads * WIDTH
    _store(out + (first * stride + head * WIDTH), stride, size - block * ROWS, found, ROWS, WIDTH, BLOCK)
    tl.store(lse + place + rows, (most + tl.log2(total)) * LN2, mask=rows < size)


@triton.jit
def _to_keys(
    block, head, query, key, value, given, lse, delta, to_key, to_value, seed, site, begin, heads, column_numbers,
    query_stride, key_stride, value_stride, given_stride, to_key_stride, to_value_stride, size, seen_size, scale,
    threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradients of a block of keys and values, over all queries. Zeros behind their end add nothing."""
    first = block * COLUMNS
    columns = first + tl.arange(0, COLUMNS)
    left = seen_size - first
    k = _load(key + first * key_stride, key_stride, left, COLUMNS, WIDTH, BLOCK)
    v = _load(value + first * value_stride, value_stride, left, COLUMNS, WIDTH, BLOCK)
    drawn = columns
    if HAS_DROPOUT:
        drawn = tl.load(column_numbers + columns)
    key_grad = tl.zeros([COLUMNS, BLOCK], tl.float32)
    value_grad = tl.zeros([COLUMNS, BLOCK], tl.float32)
    low = 0
    if CAUSAL:
        low = block * COLUMNS // ROWS * ROWS
    tl.assume(low < size)  # else products would not overlap
    for start in range(low, size, ROWS):
        rows = start + tl.arange(0, ROWS)
        inside = rows < size
        q = _load(query + start * query_stride, query_stride, size - start, ROWS, WIDTH, BLOCK)
        level = tl.load(lse + rows, mask=inside, other=0.0) * LOG2E
        weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - level[:, None])
        if CAUSAL:
            weights = tl.where(columns[None, :] <= rows[:, None], weights, 0.0)
        if HAS_DROPOUT:  # the sign says which are kept: that takes fewer registers than their products
            own = _numbers((begin + rows) * heads + head, seed, site)
            weights = tl.where(own[:, None] * drawn[None, :] >= threshold, weights, -weights)
        grad = _load(given + start * given_stride, given_stride, size - start, ROWS, WIDTH, BLOCK)
        kept_weights = tl.maximum(weights, 0.0)
        value_grad = tl.dot(tl.trans(kept_weights.to(grad.dtype)), grad, value_grad, input_precision="ieee")
        slope = tl.dot(grad, tl.trans(v), input_precision="ieee")
        if HAS_DROPOUT:
            slope = tl.where(weights > 0.0, slope, 0.0) * rescale
        slope = tl.abs(weights) * (slope - tl.load(delta + rows, mask=inside, other=0.0)[:, None])
        key_grad = tl.dot(tl.trans(slope.to(q.dtype)), q, key_grad, input_precision="ieee")
    to_value += first * to_value_stride
    to_key += first * to_key_stride
    _store(to_value, to_value_stride, left, value_grad * rescale, COLUMNS, WIDTH, BLOCK)
    _store(to_key, to_key_stride, left, key_grad * (scale * LN2), COLUMNS, WIDTH, BLOCK)


@triton.jit
def _to_queries(
    query_grad, q, grad, rows, level, fall, key, value, key_stride, value_stride, size, whole, end, row_numbers,
    column_numbers, scale, threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of a block of queries, over the keys to ``end``; see ``_ends``."""
    tl.assume(end > 0)  # else products would not overlap
    for start in range(0, end, COLUMNS):
        k = _load(key + start * key_stride, key_stride, size - start, COLUMNS, WIDTH, BLOCK)
        weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - level[:, None])
        if start >= whole:
            columns = start + tl.arange(0, COLUMNS)
            sees = columns[None, :] < size
            if CAUSAL:
                sees = sees & (columns[None, :] <= rows[:, None])
            weights = tl.where(sees, weights, 0.0)
        v = _load(value + start * value_stride, value_stride, size - start, COLUMNS, WIDTH, BLOCK)
        slope = tl.dot(grad, tl.trans(v), input_precision="ieee")
        if HAS_DROPOUT:
            drawn = tl.load(column_numbers + start + tl.arange(0, COLUMNS))
            slope = tl.where(row_numbers[:, None] * drawn[None, :] >= threshold, slope, 0.0) * rescale
        slope = weights * (slope - fall[:, None])
        query_grad = tl.dot(slope.to(k.dtype), k, query_grad, input_precision="ieee")
    return query_grad


@triton.jit(do_not_specialize=["site", "threshold", "tokens", "key_blocks", "blocks"])
def _attention_backward(
    query, key, value, given, lse, delta, numbers, seed, site, to_query, to_key, to_value, asking, seen, query_stride,
    key_stride, value_stride, to_query_stride, to_key_stride, to_value_stride, tokens, heads, key_blocks, blocks,
    scale, threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, OWN_ROWS: tl.constexpr, OWN_COLUMNS: tl.constexpr,
):  # fmt: skip
    """A block of keys and values, or one of queries: side by side, so that the second finds in L2 what the first read.

    ``ROWS`` and ``COLUMNS`` are those of the blocks for keys, ``OWN_ROWS`` and ``OWN_COLUMNS`` of those for queries.
    """
    block, pair = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    sequence, head = pair // heads, pair % heads
    begin, size = _span(asking, sequence)
    seen_begin, seen_size = _span(seen, sequence)
    given_stride = heads * WIDTH
    query += begin * query_stride + head * WIDTH
    key += seen_begin * key_stride + head * WIDTH
    value += seen_begin * value_stride + head * WIDTH
    given += begin * given_stride + head * WIDTH
    place = head.to(tl.int64) * tokens + begin
    lse += place
    delta += place
    if block < key_blocks:
        if block * COLUMNS < seen_size:
            to_key += seen_begin * to_key_stride + head * WIDTH
            to_value += seen_begin * to_value_stride + head * WIDTH
            _to_keys(
                block, head, query, key, value, given, lse, delta, to_key, to_value, seed, site, begin, heads, numbers,
                query_stride, key_stride, value_stride, given_stride, to_key_stride, to_value_stride, size, seen_size,
                scale, threshold, rescale, CAUSAL, HAS_DROPOUT, WIDTH, BLOCK, ROWS, COLUMNS,
            )  # fmt: skip
    else:
        block -= key_blocks
        if block * OWN_ROWS < size:
            rows = block * OWN_ROWS + tl.arange(0, OWN_ROWS)
            inside = rows < size
            first = block * OWN_ROWS
            q = _load(query + first * query_stride, query_stride, size - first, OWN_ROWS, WIDTH, BLOCK)
            grad = _load(given + first * given_stride, given_stride, size - first, OWN_ROWS, WIDTH, BLOCK)
            level = tl.load(lse + rows, mask=inside, other=0.0) * LOG2E
            fall = tl.load(delta + rows, mask=inside, other=0.0)
            drawn = rows
            if HAS_DROPOUT:
                drawn = _numbers((begin + rows) * heads + head, seed, site)
            query_grad = tl.zeros([OWN_ROWS, BLOCK], tl.float32)
            whole, end = _ends(block, size, seen_size, CAUSAL, OWN_ROWS, OWN_COLUMNS)
            query_grad = _to_queries(
                query_grad, q, grad, rows, level, fall, key, value, key_stride, value_stride, seen_size, whole, end,
                drawn, numbers, scale, threshold, rescale, CAUSAL, HAS_DROPOUT, WIDTH, BLOCK, OWN_COLUMNS,
            )  # fmt: skip
            to_query += (begin + first) * to_query_stride + head * WIDTH
            _store(to_query, to_query_stride, size - first, query_grad * (scale * LN2), OWN_ROWS, WIDTH, BLOCK)


@triton.jit
def _across(weights, states):
    """``weights.T @ states``, by the transpose where that has more rows: Hopper multiplies 64 at once."""
    if weights.shape[1] < states.shape[1]:
        return tl.trans(tl.dot(tl.trans(states), weights, input_precision="ieee"))
    else:
        return tl.dot(tl.trans(weights), states, input_precision="ieee")


@triton.jit
def _all_gradients(
    q, grad, level, fall, own, rows, key, value, to_key, to_value, numbers, key_stride, value_stride, to_key_stride,
    to_value_stride, seen_size, goes_on, scale, threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SEVERAL: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of queries, returned, and of all keys and values, added to those there if that goes on."""
    query_grad = tl.zeros([ROWS, BLOCK], tl.float32)
    columns = tl.arange(0, COLUMNS)
    tl.assume(seen_size > 0)  # else products would not overlap
    for start in range(0, seen_size, COLUMNS):
        left = seen_size - start
        k = _load(key + start * key_stride, key_stride, left, COLUMNS, WIDTH, BLOCK)
        weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - level[:, None])
        if left < COLUMNS:
            weights = tl.where(columns[None, :] < left, weights, 0.0)
        if CAUSAL:
            weights = tl.where(start + columns[None, :] <= rows[:, None], weights, 0.0)
        if HAS_DROPOUT:  # the sign says which are kept: that takes fewer registers than their products
            drawn = tl.load(numbers + start + columns)
            weights = tl.where(own[:, None] * drawn[None, :] >= threshold, weights, -weights)
        value_grad = _across(tl.maximum(weights, 0.0).to(grad.dtype), grad) * rescale
        place = to_value + start * to_value_stride
        if SEVERAL and goes_on:
            value_grad += _load(place, to_value_stride, left, COLUMNS, WIDTH, BLOCK).to(tl.float32)
        _store(place, to_value_stride, left, value_grad, COLUMNS, WIDTH, BLOCK)
        v = _load(value + start * value_stride, value_stride, left, COLUMNS, WIDTH, BLOCK)
        slope = tl.dot(grad, tl.trans(v), input_precision="ieee")
        if HAS_DROPOUT:
            slope = tl.where(weights > 0.0, slope, 0.0) * rescale
        slope = (tl.abs(weights) * (slope - fall[:, None])).to(q.dtype)
        key_grad = _across(slope, q) * (scale * LN2)
        place = to_key + start * to_key_stride
        if SEVERAL and goes_on:
            key_grad += _load(place, to_key_stride, left, COLUMNS, WIDTH, BLOCK).to(tl.float32)
        _store(place, to_key_stride, left, key_grad, COLUMNS, WIDTH, BLOCK)
        query_grad = tl.dot(slope, k, query_grad, input_precision="ieee")
    return query_grad * (scale * LN2)


@triton.jit(do_not_specialize=["site", "threshold", "tokens"])
def _attention_at_once(
    query, key, value, given, out, lse, numbers, seed, site, to_query, to_key, to_value, asking, seen, query_stride,
    key_stride, value_stride, to_query_stride, to_key_stride, to_value_stride, tokens, heads, scale, threshold, rescale,
    CAUSAL: tl.constexpr, HAS_DROPOUT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SEVERAL: tl.constexpr,
):  # fmt: skip
    """All gradients of a head of a sequence, by five products for each block of queries and keys in place of seven.

    ``SEVERAL`` blocks of queries, one after the other, add to the gradients of keys and values, in their precision:
    each but the first rounds them once more.
    """
    sequence, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    begin, size = _span(asking, sequence)
    seen_begin, seen_size = _span(seen, sequence)
    stride = heads * WIDTH
    query += begin * query_stride + head * WIDTH
    given += begin * stride + head * WIDTH
    out += begin * stride + head * WIDTH
    to_query += begin * to_query_stride + head * WIDTH
    key += seen_begin * key_stride + head * WIDTH
    value += seen_begin * value_stride + head * WIDTH
    to_key += seen_begin * to_key_stride + head * WIDTH
    to_value += seen_begin * to_value_stride + head * WIDTH
    lse += head.to(tl.int64) * tokens + begin
    first = 0
    while first < size:
        left = size - first
        rows = first + tl.arange(0, ROWS)
        q = _load(query + first * query_stride, query_stride, left, ROWS, WIDTH, BLOCK)
        grad = _load(given + first * stride, stride, left, ROWS, WIDTH, BLOCK)
        found = _load(out + first * stride, stride, left, ROWS, WIDTH, BLOCK)
        fall = tl.sum(grad.to(tl.float32) * found.to(tl.float32), 1)
        level = tl.load(lse + rows, mask=rows < size, other=0.0) * LOG2E
        own = rows
        if HAS_DROPOUT:
            own = _numbers((begin + rows) * heads + head, seed, site)
        query_grad = _all_gradients(
            q, grad, level, fall, own, rows, key, value, to_key, to_value, numbers, key_stride, value_stride,
            to_key_stride, to_value_stride, seen_size, first > 0, scale, threshold, rescale,
            CAUSAL, HAS_DROPOUT, WIDTH, BLOCK, ROWS, COLUMNS, SEVERAL,
        )  # fmt: skip
        _store(to_query + first * to_query_stride, to_query_stride, left, query_grad, ROWS, WIDTH, BLOCK)
        first += ROWS
        if SEVERAL:
            tl.debug_barrier()  # what one thread has written another may read
        else:
            first = size


@dataclass(frozen=True)
class _Blocks:
    """Queries and keys of a block, warps of a program, and how many blocks are on their way at once."""

    rows: int
    columns: int
    warps: int
    stages: int
    registers: int | None = None  # of a thread at most, where more programs shall find room

    def options(self) -> dict[str, int]:
        """Arguments of a kernel."""
        found = {"ROWS": self.rows, "COLUMNS": self.columns, "num_warps": self.warps, "num_stages": self.stages}
        return found if self.registers is None else {**found, "maxnreg": self.registers}


def _block(longest: int, most: int) -> int:
    """Tokens of a block: a power of two, 16 at least for the products, no more than needed."""
    return int(min(most, max(16, triton.next_power_of_2(longest))))


def _forward_blocks(width: int, longest_asking: int, longest_seen: int) -> _Blocks:
    rows, columns = _block(longest_asking, 64), _block(longest_seen, 64)
    if width > 64:
        return _Blocks(rows, _block(longest_seen, 32), 4 if rows == FEW else 8, 2)
    return _Blocks(rows, columns, 4, 3)


def _backward_blocks(width: int, longest_asking: int, longest_seen: int) -> tuple[_Blocks, _Blocks]:
    """For the gradients of keys, and for those of queries; the warps are of both, for they are in one kernel."""
    if width > 64:
        both = _Blocks(_block(longest_asking, 32), _block(longest_seen, 32), 8, 1)
        return both, both
    both = _Blocks(_block(longest_asking, 64), _block(longest_seen, 64), 4, 2)
    return both, both


def _at_once_blocks(width: int, longest_asking: int, longest_seen: int, mean: float) -> _Blocks | None:
    """Where the queries of a sequence are two blocks at most, else None.

    Args:
        width: Of a head.
        longest_asking: Queries of a sequence at most.
        longest_seen: Keys likewise.
        mean: Queries of a sequence: where most sequences end in the first half of a block, smaller ones pay.
    """
    if longest_asking <= FEW:
        return _Blocks(_block(longest_asking, FEW), _block(longest_seen, 32 if width > 64 else 64), 4, 2)
    if longest_asking > 128 or width > 64:
        return None
    if longest_asking <= 64 or mean <= 96:
        return _Blocks(_block(longest_asking, 64), _block(longest_seen, 64), 4, 2)
    return _Blocks(128, _block(longest_seen, 32), 8, 2, 128)


def numbers(seed: Tensor, longest: int) -> Tensor:
    """Odd random numbers of a step by place in a sequence, int32; as many as blocks read: they read beyond its end.

    Args:
        seed: Of the step, int64, ``(1,)``, on the device.
        longest: No sequence has more tokens.
    """
    programs = triton.cdiv(longest, LARGEST)
    found = torch.empty(programs * LARGEST, device=seed.device, dtype=torch.int32)
    _attention_numbers[(programs,)](found, seed, BLOCK=LARGEST)
    return found


def _wide(width: int) -> int:
    return int(max(16, triton.next_power_of_2(width)))


def attention(
    query: Tensor, key: Tensor, value: Tensor, asking: Spans, seen: Spans, dropout: Dropout, *, causal: bool
) -> tuple[Tensor, Callable[..., None]]:
    """See :func:`ablations.naming.fused.attention`."""
    spans = asking.starts, seen.starts, asking.longest, seen.longest
    by_place = numbers(dropout.seed, seen.longest) if seen.numbers is None else seen.numbers
    drawn = dropout.share, dropout.seed, dropout.site, by_place
    out, lse = forward(query, key, value, *spans, *drawn, causal=causal)

    def pull(given: Tensor, to_query: Tensor, to_key: Tensor, to_value: Tensor) -> None:
        targets = to_query, to_key, to_value
        backward(given, query, key, value, out, lse, *spans, *drawn, *targets, causal=causal)

    return out, pull


@functools.cache
def launches(
    device: torch.device, kind: torch.dtype, width: int, longest_asking: int, longest_seen: int, causal: bool
) -> bool:
    """Whether a GPU has room for the blocks of :func:`attention`; found out by two tokens.

    Args:
        device: The GPU.
        kind: Precision.
        width: Of a head.
        longest_asking: Queries of a sequence at most.
        longest_seen: Keys likewise.
        causal: As there.
    """
    states = torch.ones(2, 2, width, device=device, dtype=kind)
    starts, seed = (torch.arange(2, device=device, dtype=kind) for kind in (torch.int32, torch.int64))
    asking, seen = Spans(2 * starts, longest_asking), Spans(2 * starts, longest_seen)
    try:
        _, pull = attention(states, states, states, asking, seen, Dropout(0.1, seed[:1], 0), causal=causal)
        pull(states, *(torch.empty_like(states) for _ in range(3)))
    except TritonError:  # shared memory or registers do not suffice
        return False
    return True


def forward(
    query: Tensor, key: Tensor, value: Tensor, asking: Tensor, seen: Tensor, longest_asking: int, longest_seen: int,
    dropout: float, seed: Tensor, site: int, numbers: Tensor, *, causal: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention of each sequence to the one with the same place, and the logarithm of each sum of exponentials.

    Source: Dao 2023, "FlashAttention-2".

    Args:
        query: ``(tokens, heads, width)``, heads one after the other, rows at any distance that 8 divides.
        key: ``(seen tokens, heads, width)``, likewise.
        value: Likewise.
        asking: Where each sequence of queries begins, and the end, ``(sequences + 1,)``, int32; none is empty.
        seen: Likewise of the keys.
        longest_asking: No sequence of queries has more tokens.
        longest_seen: None of keys has.
        dropout: Probability, of the weights.
        seed: Of the step, int64, ``(1,)``, on the device.
        site: Which of the step's calls this is: each draws other numbers.
        numbers: See :func:`numbers`.
        causal: Whether a token sees none behind itself; then both sequences are equally long.

    Returns:
        ``(tokens, heads, width)`` and, in float32, ``(heads, tokens)``.
    """
    tokens, heads, width = query.shape
    out = torch.empty(tokens, heads, width, device=query.device, dtype=query.dtype)
    lse = torch.empty(heads, tokens, device=query.device, dtype=torch.float32)
    blocks = _forward_blocks(_wide(width), longest_asking, longest_seen)
    of_each = triton.cdiv(longest_asking, blocks.rows)
    _attention_forward[of_each * (len(asking) - 1) * heads,](
        query, key, value, out, lse, numbers, seed, site, asking, seen, query.stride(0), key.stride(0), value.stride(0),
        tokens, heads, of_each, _scale(width), *kept_from(dropout), CAUSAL=causal, HAS_DROPOUT=dropout > 0.0,
        WIDTH=width, BLOCK=_wide(width), **blocks.options(),
    )  # fmt: skip
    return out, lse


def backward(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, asking: Tensor, seen: Tensor,
    longest_asking: int, longest_seen: int, dropout: float, seed: Tensor, site: int, numbers: Tensor, to_query: Tensor,
    to_key: Tensor, to_value: Tensor, *, causal: bool,
) -> None:  # fmt: skip
    """Writes the gradients of :func:`forward`; arguments as there.

    Args:
        given: Gradient of the output, ``(tokens, heads, width)``, contiguous.
        out: The output.
        lse: Its second result.
        to_query: Where the gradient goes, ``(tokens, heads, width)``, rows at any distance.
        to_key: ``(seen tokens, heads, width)``, likewise.
        to_value: Likewise.
    """
    tokens, heads, width = query.shape
    strides = [each.stride(0) for each in (query, key, value, to_query, to_key, to_value)]
    rest = (numbers, seed, site, to_query, to_key, to_value, asking, seen, *strides, tokens, heads)
    threshold, rescale = kept_from(dropout)
    switches = {
        "threshold": threshold,
        "rescale": rescale,
        "scale": _scale(width),
        "CAUSAL": causal,
        "HAS_DROPOUT": dropout > 0.0,
    }
    switches |= {"WIDTH": width, "BLOCK": _wide(width)}
    programs = (len(asking) - 1) * heads
    at_once = _at_once_blocks(_wide(width), longest_asking, longest_seen, tokens / (len(asking) - 1))
    if at_once is not None:
        several = longest_asking > at_once.rows
        _attention_at_once[(programs,)](
            query, key, value, given, out, lse, *rest, SEVERAL=several, **switches, **at_once.options()
        )
        return
    delta = torch.empty_like(lse)
    _attention_levels[(triton.cdiv(tokens, LARGEST), heads)](
        given, out, delta, tokens, heads, WIDTH=width, BLOCK=_wide(width), ROWS=LARGEST
    )
    blocks, own = _backward_blocks(_wide(width), longest_asking, longest_seen)
    key_blocks = triton.cdiv(longest_seen, blocks.columns)
    of_each = key_blocks + triton.cdiv(longest_asking, own.rows)
    _attention_backward[of_each * programs,](
        query, key, value, given, lse, delta, *rest, key_blocks, of_each, OWN_ROWS=own.rows, OWN_COLUMNS=own.columns,
        **switches, **blocks.options(),
    )  # fmt: skip


def _scale(width: int) -> float:
    """Of scores, to the base of two."""
    return float(LOG2E.value / math.sqrt(width))


def try_out(device: str) -> None:
    """Runs the kernel that does not depend on the sizes once; for the others see :func:`launches`.

    Raises:
        Exception: Whatever keeps Triton from it.
    """
    numbers(torch.zeros(1, dtype=torch.int64, device=device), 1)
