"""What lies between the matrix products of a layer, forwards and backwards in few kernels.

On a GPU by Triton (``_kernels.py``), which comes with PyTorch there and needs a C compiler; elsewhere, and without it,
by PyTorch's own operations (``plain.py``), which compute the same but for the random numbers of dropout.

Each function returns what it computes and its pull: that takes the gradient by the result to those by the inputs.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming import grids, plain
from ablations.naming.operands import Dropout, Rows, Spans
from ablations.naming.pulls import Pulls, by_autograd
from ablations.naming.stacks import give

INTERPRETED = "TRITON_INTERPRET"  # 1: Triton's kernels run on a CPU, slowly: that is how tests compare them
HALVES = (torch.bfloat16, torch.float16)

Pull = Callable[[Tensor], None]


@functools.cache
def kernels(device: str) -> Any:
    """The module of Triton's kernels where they can run on this type of device, else None."""
    if importlib.util.find_spec("triton") is None:
        return None
    if device != "cuda" and not (device == "cpu" and os.environ.get(INTERPRETED) == "1"):
        return None
    try:
        from ablations.naming import _adamw, _attention, _kernels

        for module in (_kernels, _adamw, _attention):
            module.try_out(device)
    except Exception:  # no C compiler, a GPU that this Triton does not know: many libraries' own errors
        return None
    return _kernels


def _operations(tensor: Tensor) -> Any:
    return kernels(tensor.device.type) or plain


def embed(
    rows: Rows, positions: Tensor, module: Any, dropout: Dropout, kind: torch.dtype, to_words: Tensor
) -> tuple[Tensor, Pull]:
    """``dropout(norm(word + position))`` of each token, ``(tokens, width)``, computed in float32.

    The pull adds the gradient by the words and leaves those by the other parameters with them; it returns nothing.

    Args:
        rows: Of the words.
        positions: Of the tokens, ``(tokens,)``, int32.
        module: A model's embeddings; where it knows types of tokens, all are of the first.
        dropout: Of the normalised sum.
        kind: Precision of the result.
        to_words: The gradient by the words, as the table.
    """
    words, places, norm = module.word_embeddings, module.position_embeddings, module.LayerNorm
    extra = module.token_type_embeddings.weight if hasattr(module, "token_type_embeddings") else None
    first = extra[0] if extra is not None else None
    tables = words.weight, places.weight, first, norm.weight, norm.bias
    out, pull_sum = _operations(positions).embed(rows.ids, positions, *tables, norm.eps, dropout, kind)

    def pull(given: Tensor) -> None:
        to_sum, sums = pull_sum(given)
        to_weight, to_shift, to_extra = added([sums])[0]
        _add_rows(to_sum, rows, words, to_words)
        give(places.weight, _by_row(to_sum, positions, len(places.weight), _padding(places)))
        if extra is not None:
            give(extra, torch.cat([to_extra[None], torch.zeros_like(extra[1:])]))
        give(norm.weight, to_weight)
        give(norm.bias, to_shift)

    return out, pull


def _add_rows(grad: Tensor, rows: Rows, table: nn.Embedding, target: Tensor) -> None:
    """Adds the gradient by a table, of whose rows a batch takes few; none goes to that of the padding."""
    found, padding = kernels(grad.device.type), _padding(table)
    if found is not None:
        found.add_rows(_by_row(grad, rows.slots, len(rows.slots), -1), rows.each, target, padding)
    elif grad.device.type == "cpu":
        is_padding = rows.ids == padding
        taken = grad.masked_fill(is_padding[:, None], 0.0) if bool(is_padding.any()) else grad
        target.index_add_(0, rows.ids, taken.to(target))
    else:
        target += _by_row(grad, rows.ids, len(table.weight), padding)


def _by_row(grad: Tensor, rows: Tensor, count: int, padding: int) -> Tensor:
    """Sums over the tokens that take a row, for each of so many rows."""
    found: Tensor = torch.ops.aten.embedding_dense_backward(grad, rows, count, padding, False)
    return found


def _padding(table: nn.Embedding) -> int:
    return -1 if table.padding_idx is None else table.padding_idx


def add_norm(
    states: Tensor, bias: Tensor, residual: Tensor, norm: nn.LayerNorm, dropout: Dropout
) -> tuple[Tensor, Pulls]:
    """``norm(dropout(states + bias) + residual)``, in the residual's precision, computed in float32.

    The pull gives the gradients by states and residual, which may be one tensor, and parts of those by the norm's
    weight and bias, and by the bias, ``(3, parts, width)``: see :func:`added`.

    Args:
        states: What a product left, ``(tokens, width)``; their memory may be taken.
        bias: Of that product, ``(width,)``, float32.
        residual: ``(tokens, width)``.
        norm: Weight and bias in float32.
        dropout: Of the product.
    """
    rule = norm.weight, norm.bias, norm.eps
    ours: tuple[Tensor, Pulls] = _operations(states).add_norm(states, bias, residual, *rule, dropout)
    return ours


def gelu(states: Tensor, bias: Tensor) -> tuple[Tensor, Pulls]:
    """``gelu(states + bias)``, the exact one (by erf), in the states' precision, computed in float32.

    The pull gives the gradient by the states, and parts of that by the bias, ``(1, parts, width)``: see :func:`added`.

    Args:
        states: What a product left, ``(tokens, width)``; their memory may be taken.
        bias: Of that product, ``(width,)``, float32.
    """
    ours: tuple[Tensor, Pulls] = _operations(states).gelu(states, bias)
    return ours


def cross_entropy(logits: Tensor, labels: Tensor, outputs: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """Mean of the cross-entropies, and its gradient by the logits, for which their memory may be taken.

    Args:
        logits: ``(tokens, columns)``.
        labels: ``(tokens,)`` int32; ``IGNORED`` are passed over.
        outputs: Columns that stand for something; those behind them are nothing.
        smoothing: Share of the probability spread over all outputs, 0 to 1.
    """
    ours: tuple[Tensor, Tensor] = _operations(logits).cross_entropy(logits, labels, outputs, smoothing)
    return ours


def summed(states: Tensor) -> Tensor:
    """Parts of the sums over the tokens, in float32, ``(1, parts, width)``: see :func:`added`.

    Args:
        states: ``(tokens, width)``.
    """
    ours: Tensor = _operations(states).summed(states)
    return ours


def added(several: Sequence[Tensor]) -> list[Tensor]:
    """Sums over the parts, ``(kinds, width)`` of each.

    Args:
        several: ``(kinds, parts, width)``; one alone is too little to keep a GPU busy.
    """
    ours: list[Tensor] = _operations(several[0]).added(several)
    return ours


def numbers(seed: Tensor, longest: int, kind: torch.dtype) -> Tensor | None:
    """By what :func:`attention` draws in a step; None where it needs nothing.

    Args:
        seed: Of the step, int64, ``(1,)``, on the device.
        longest: No sequence has more tokens.
        kind: Precision of keys and values.
    """
    if kernels(seed.device.type) is None or kind not in HALVES:
        return None
    from ablations.naming import _attention

    return _attention.numbers(seed, longest)


def attention(
    query: Tensor, key: Tensor, value: Tensor, asking: Spans, seen: Spans, dropout: Dropout, *, causal: bool
) -> tuple[Tensor, Callable[..., None]]:
    """Attention of each sequence to the one with the same place, ``(tokens, heads, width)``.

    The pull writes the gradients by query, key and value into the three tensors that it is given besides.

    Source: Dao 2023, "FlashAttention-2", over sequences of any length; in float32 PyTorch's memory-efficient one, and
    on a CPU that of ``grids.py``.

    Args:
        query: ``(tokens, heads, width)``.
        key: ``(seen tokens, heads, width)``.
        value: Likewise.
        asking: The queries' sequences.
        seen: Those of keys and values.
        dropout: Of the weights.
        causal: Whether a token sees none behind itself.
    """
    if kernels(query.device.type) is not None and query.dtype in HALVES:
        from ablations.naming import _attention

        sizes = query.shape[2], asking.longest, seen.longest
        if _attention.launches(query.device, query.dtype, *sizes, causal):
            return _attention.attention(query, key, value, asking, seen, dropout, causal=causal)
    if query.device.type == "cpu":
        return grids.attention(query, key, value, asking.sequences, seen.sequences, dropout.share, causal=causal)
    compute = functools.partial(_plain_attention, asking=asking, seen=seen, dropout=dropout.share, causal=causal)
    out, pull = by_autograd(compute, query, key, value)

    def pull_into(given: Tensor, *targets: Tensor) -> None:
        for target, grad in zip(targets, pull(given), strict=True):
            target.copy_(grad)

    return out, pull_into


def _plain_attention(
    query: Tensor, key: Tensor, value: Tensor, asking: Spans, seen: Spans, dropout: float, *, causal: bool
) -> Tensor:
    spans = (asking.starts, seen.starts, asking.longest, seen.longest)
    if query.dtype in HALVES:
        found: Tensor = torch.ops.aten._flash_attention_forward(query, key, value, *spans, dropout, causal, False)[0]
        return found
    batched = (each[None] for each in (query, key, value))
    return torch.ops.aten._efficient_attention_forward(*batched, None, *spans, dropout, int(causal), True)[0][0]  # type: ignore[no-any-return]
