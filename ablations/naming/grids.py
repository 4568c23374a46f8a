"""Attention on a CPU: packed sequences, all at once.

They are laid out on a grid, each head of each sequence a matrix that is filled up to the longest sequence; then all
products of matrices are one batch. PyTorch's own kernel for CPUs is slower for sequences of a few dozen tokens; it
takes the long ones, for it keeps no weights (where it is asked to drop some, it does).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ablations.naming.pulls import Pulls, by_autograd, drawn

MOST_WEIGHTS = 1 << 22  # of attention that are computed and kept at once


class Grid:
    """Where the tokens of packed sequences are on a grid.

    Args:
        starts: Where each sequence begins, and the end, ``(sequences + 1,)``.
    """

    def __init__(self, starts: Tensor):
        sizes = starts.diff()
        self.longest = int(sizes.max())
        self._real = torch.arange(self.longest) < sizes[:, None]
        self._sequence, self._place = self._real.nonzero(as_tuple=True)
        self._is_full = len(self._place) == self._real.numel()
        self._masks, self._by_token = dict[int, Tensor](), dict[int, Tensor]()
        self._by_row = dict[tuple[int, int], Tensor]()

    def lay_out(self, states: Tensor) -> Tensor:
        """``(sequences * heads, longest, width)`` of ``(tokens, heads, width)``; what is behind an end is any token."""
        heads, width = states.shape[1:]
        apart = states.stride(0) // width
        rows = states.as_strided(((len(states) - 1) * apart + heads, width), (width, 1))
        return rows.index_select(0, self._sources(heads, apart)).view(-1, self.longest, width)

    def lay_out_alone(self, states: Tensor) -> Tensor:
        """As :meth:`lay_out`; behind an end there are zeros."""
        heads, width = states.shape[1:]
        grid = states.new_zeros(self._real.numel() * heads, width)
        grid.index_copy_(0, self._targets(heads), states.reshape(-1, width))
        return grid.view(-1, self.longest, width)

    def collect(self, grid: Tensor, heads: int) -> Tensor:
        """Back to ``(tokens, heads, width)``."""
        return grid.flatten(0, 1).index_select(0, self._targets(heads)).view(-1, heads, grid.shape[2])

    def hidden(self, heads: int) -> Tensor | None:
        """What hides the keys behind an end, ``(sequences * heads, 1, longest)``; None where there are none."""
        if self._is_full:
            return None
        if heads not in self._masks:
            mask = torch.zeros(self._real.shape).masked_fill_(~self._real, -math.inf)
            self._masks[heads] = mask.repeat_interleave(heads, 0)[:, None]
        return self._masks[heads]

    def _targets(self, heads: int) -> Tensor:
        """Which row of the grid each head of each token is, ``(tokens * heads,)``."""
        if heads not in self._by_token:
            first = self._sequence * (heads * self.longest) + self._place
            self._by_token[heads] = (first[:, None] + torch.arange(heads) * self.longest).flatten()
        return self._by_token[heads]

    def _sources(self, heads: int, apart: int) -> Tensor:
        """Which row each row of the grid is taken from, where tokens are so many rows apart; 0 behind an end."""
        if (heads, apart) not in self._by_row:
            rows = torch.arange(len(self._place))[:, None] * apart + torch.arange(heads)
            sources = torch.zeros(self._real.numel() * heads, dtype=torch.int64)
            self._by_row[heads, apart] = sources.index_copy_(0, self._targets(heads), rows.flatten())
        return self._by_row[heads, apart]


def attention(
    query: Tensor, key: Tensor, value: Tensor, asking: Grid, seen: Grid, dropout: float, *, causal: bool
) -> tuple[Tensor, Callable[..., None]]:
    """See :func:`ablations.naming.fused.attention`; in float32.

    Args:
        query: ``(tokens, heads, width)``; heads lie one behind the other, as in all three.
        key: ``(seen tokens, heads, width)``.
        value: Likewise.
        asking: The queries' sequences.
        seen: Those of keys and values.
        dropout: Share of the weights.
        causal: Whether a token sees none behind itself.
    """
    heads = query.shape[1]
    queries, keys, values = asking.lay_out(query), seen.lay_out(key), seen.lay_out(value)
    mask = _later(asking.longest) if causal else seen.hidden(heads)
    by_hand = len(queries) * asking.longest * seen.longest <= MOST_WEIGHTS
    compute = _by_hand if by_hand else _by_pytorch
    out, pull_grids = compute(queries, keys, values, mask, dropout)

    def pull(given: Tensor, *targets: Tensor) -> None:
        grads = pull_grids(asking.lay_out_alone(given))
        for target, grid, grad in zip(targets, (asking, seen, seen), grads, strict=True):
            target.copy_(grid.collect(grad, heads))

    return asking.collect(out, heads), pull


def _by_hand(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Pulls]:
    """Of matrices, ``(matrices, rows, width)``; the pull gives the gradients by query, key and value."""
    scale, nothing = query.shape[2] ** -0.5, query.new_empty(())
    added, beta = (nothing, 0) if mask is None else (mask, 1)
    weights = torch.softmax(torch.baddbmm(added, query, key.transpose(1, 2), beta=beta, alpha=scale), -1)
    kept = drawn(weights, dropout)
    taken = weights if kept is None else weights * kept

    def pull(given: Tensor) -> tuple[Tensor, ...]:
        to_weights = torch.bmm(given, value.transpose(1, 2))
        if kept is not None:
            to_weights *= kept
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        to_query = torch.baddbmm(nothing, to_scores, key, beta=0, alpha=scale)
        to_key = torch.baddbmm(nothing, to_scores.transpose(1, 2), query, beta=0, alpha=scale)
        return to_query, to_key, torch.bmm(taken.transpose(1, 2), given)

    return torch.bmm(taken, value), pull


def _by_pytorch(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Pulls]:
    """The same in less memory, where nothing is dropped."""
    shape = len(query), query.shape[1], key.shape[1]

    def compute(*states: Tensor) -> Tensor:
        query, key, value = (each[:, None] for each in states)
        shown = None if mask is None else mask.expand(shape)[:, None]
        return nn.functional.scaled_dot_product_attention(query, key, value, shown, dropout)[:, 0]

    return by_autograd(compute, query, key, value)


@functools.cache
def _later(size: int) -> Tensor:
    """What hides the keys behind a query, ``(1, size, size)``."""
    return torch.full((size, size), -math.inf).triu(1)[None]
