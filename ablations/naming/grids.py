"""Attention on a CPU: packed sequences, as many at once as pays.

Those of like length are laid out on a grid, each head of each sequence a matrix that is filled up to the longest of
them; then all their products of matrices are one batch. PyTorch's own kernel for CPUs is slower for sequences of a few
dozen tokens. It takes each of the long ones, for it keeps no weights, unless some are to be dropped: then it would.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablations.naming.pulls import Pulls, by_autograd, drawn

MOST_WEIGHTS = 1 << 20  # of attention on a grid, 4 MiB
MOST_FILLED = 1 << 14  # weights of a head on it that stand for nothing: more cost as much as another grid
LONG = 1 << 15  # weights of a head: with more, PyTorch's kernel takes about as long, and keeps none


class Sequences:
    """Sequences, one after the other, each of a token at least.

    Args:
        starts: Where each begins, and the end, ``(sequences + 1,)``.

    Attributes:
        starts: Likewise.
        sizes: Tokens of each.
    """

    def __init__(self, starts: Tensor):
        self.starts: list[int] = starts.tolist()
        self.sizes: tuple[int, ...] = tuple(starts.diff().tolist())
        self._grids = dict[range, Grid]()

    def grid(self, some: range) -> Grid:
        """Where the tokens of some of them are on a grid."""
        if some not in self._grids:
            self._grids[some] = Grid(torch.tensor(self.sizes[some.start : some.stop]))
        return self._grids[some]

    def tokens(self, some: range) -> slice:
        """Which tokens are theirs."""
        return slice(self.starts[some.start], self.starts[some.stop])


@dataclass(frozen=True)
class Limits:
    """Of a grid, each in weights of a head.

    Attributes:
        weights: On it.
        filled: Those of them that stand for nothing.
        long: Of a sequence that shares it.
    """

    weights: int
    filled: int
    long: float


@functools.lru_cache(maxsize=16)
def bands(asking: tuple[int, ...], seen: tuple[int, ...], limits: Limits) -> tuple[range, ...]:
    """Which sequences, in their order, share a grid; one that exceeds a limit by itself is alone.

    Args:
        asking: Tokens that look, of each sequence.
        seen: Tokens that are looked at, of each.
        limits: Of each grid.
    """
    found, first, high, wide, real = list[range](), 0, 0, 0, 0
    for at, (rows, columns) in enumerate(zip(asking, seen, strict=True)):
        high, wide, real = max(high, rows), max(wide, columns), real + rows * columns
        whole = (at + 1 - first) * high * wide
        is_too_much = whole > limits.weights or whole - real > limits.filled or high * wide > limits.long
        if at > first and is_too_much:
            found.append(range(first, at))
            first, high, wide, real = at, rows, columns, rows * columns
    return (*found, range(first, len(asking)))


class Grid:
    """Where the tokens of packed sequences are on a grid.

    Args:
        sizes: Tokens of each sequence, ``(sequences,)``.
    """

    def __init__(self, sizes: Tensor):
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

    def collect(self, grid: Tensor, out: Tensor) -> Tensor:
        """Back to ``(tokens, heads, width)``, into ``out``, which it returns."""
        rows = out.view(-1, grid.shape[2])
        torch.index_select(grid.flatten(0, 1), 0, self._targets(out.shape[1]), out=rows)
        return out

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
    query: Tensor, key: Tensor, value: Tensor, asking: Sequences, seen: Sequences, dropout: float, *, causal: bool
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
    heads, long = query.shape[1], math.inf if dropout else LONG
    shared, pulls = bands(asking.sizes, seen.sizes, Limits(MOST_WEIGHTS // heads, MOST_FILLED, long)), list[Pulls]()
    out = query.new_empty(*query.shape[:2], value.shape[2])
    for some in shared:
        own, others, grid, seen_grid = asking.tokens(some), seen.tokens(some), asking.grid(some), seen.grid(some)
        states = grid.lay_out(query[own]), seen_grid.lay_out(key[others]), seen_grid.lay_out(value[others])
        if grid.longest * seen_grid.longest > long:
            found, pull = _by_pytorch(*states, causal=causal)
        else:
            found, pull = _by_hand(*states, _later(grid.longest) if causal else seen_grid.hidden(heads), dropout)
        grid.collect(found, out[own])
        pulls.append(pull)

    def pull_all(given: Tensor, *targets: Tensor) -> None:
        for some, pull in zip(shared, pulls, strict=True):
            grads = pull(asking.grid(some).lay_out_alone(given[asking.tokens(some)]))
            for target, sequences, grad in zip(targets, (asking, seen, seen), grads, strict=True):
                part = target[sequences.tokens(some)]
                part.copy_(sequences.grid(some).collect(grad, grad.new_empty(part.shape)))

    return out, pull_all


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


def _by_pytorch(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> tuple[Tensor, Pulls]:
    """The same of one sequence, without dropout, in less memory."""

    def compute(*states: Tensor) -> Tensor:
        query, key, value = (each[None] for each in states)
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)[0]

    return by_autograd(compute, query, key, value)


@functools.cache
def _later(size: int) -> Tensor:
    """What hides the keys behind a query, ``(1, size, size)``."""
    return torch.full((size, size), -math.inf).triu(1)[None]
