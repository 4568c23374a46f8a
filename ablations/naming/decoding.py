"""Generating with the weights of a BertGenerationDecoder, without what its ``forward`` does around them at every step.

The layers' own modules compute. What is spared: masks built anew and looked through (which makes a GPU wait), caches
that grow by copying, keys and values of the body computed twice, and samples that have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WORTH_COPYING = 0.75  # of the samples still going: with fewer, the others are dropped, which copies what is kept


class _Kept(NamedTuple):
    """Keys and values of one layer, ``(samples, heads, tokens, width)`` each."""

    keys: Tensor
    values: Tensor

    def of(self, rows: Tensor) -> _Kept:
        return _Kept(self.keys[rows], self.values[rows])


class Decoding:
    """The decoder over one batch: what it has seen of the names so far, and the bodies. No dropout, no gradients.

    Args:
        bert: The decoder's layers (``BertGenerationDecoder.bert``).
        encoded: States of the bodies, ``(samples, tokens, hidden)``.
        mask: True at real tokens, ``(samples, 1, 1, tokens)``; None where all are.
        longest: Tokens of a name at most.

    Attributes:
        length: Tokens seen of each name.
    """

    def __init__(self, bert: Any, encoded: Tensor, mask: Tensor | None, longest: int):
        self.length = 0
        self._bert, self._mask, self._longest = bert, mask, longest
        self._bodies = [_projected(layer.crossattention.self, encoded) for layer in bert.encoder.layer]
        self._names: list[_Kept] = []

    def advance(self, tokens: Tensor) -> Tensor:
        """States of the next tokens, ``(samples, tokens, hidden)``, each seeing itself and those before it.

        Args:
            tokens: Their ids, ``(samples, tokens)``; more than one only at the beginning.

        Raises:
            ValueError: Several tokens come behind others.
        """
        start, self.length = self.length, self.length + tokens.shape[1]
        if start and tokens.shape[1] > 1:
            raise ValueError(f"expected one token behind {start} others, found {tokens.shape[1]}")
        embeddings = self._bert.embeddings
        states: Tensor = embeddings(input_ids=tokens, position_ids=embeddings.position_ids[:, start : self.length])
        for index, layer in enumerate(self._bert.encoder.layer):
            states = self._layer(index, layer, states, start)
        return states

    def rewind(self, length: int) -> None:
        """Forgets the tokens behind the first ``length``."""
        self.length = length

    def keep(self, rows: Tensor) -> None:
        """Goes on with these samples alone."""
        self._bodies = [kept.of(rows) for kept in self._bodies]
        self._names = [kept.of(rows) for kept in self._names]
        self._mask = self._mask[rows] if self._mask is not None else None

    def _layer(self, index: int, layer: Any, states: Tensor, start: int) -> Tensor:
        own, over_body = layer.attention, layer.crossattention
        new = _projected(own.self, states)
        if index == len(self._names):
            shape = (*new.keys.shape[:2], self._longest, new.keys.shape[3])
            self._names.append(_Kept(new.keys.new_empty(shape), new.values.new_empty(shape)))
        kept = self._names[index]
        kept.keys[:, :, start : self.length] = new.keys
        kept.values[:, :, start : self.length] = new.values
        seen = _Kept(kept.keys[:, :, : self.length], kept.values[:, :, : self.length])
        states = own.output(_attended(own.self, states, seen, None, causal=states.shape[1] > 1), states)
        crossed = _attended(over_body.self, states, self._bodies[index], self._mask, causal=False)
        found: Tensor = layer.feed_forward_chunk(over_body.output(crossed, states))
        return found


def _projected(attention: Any, states: Tensor) -> _Kept:
    return _Kept(_by_head(attention, attention.key(states)), _by_head(attention, attention.value(states)))


def _by_head(attention: Any, projected: Tensor) -> Tensor:
    samples, tokens, _ = projected.shape
    return projected.view(samples, tokens, attention.num_attention_heads, -1).transpose(1, 2)


def _attended(attention: Any, states: Tensor, kept: _Kept, mask: Tensor | None, causal: bool) -> Tensor:
    query = _by_head(attention, attention.query(states))
    seen = nn.functional.scaled_dot_product_attention(query, kept.keys, kept.values, mask, is_causal=causal)
    return seen.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Generated:
    """Names of a batch.

    Attributes:
        ids: Token ids, padded behind the end mark, ``(samples, up to longest)``.
        steps: Samples that went through the decoder for each token behind the first.
    """

    ids: Tensor
    steps: tuple[int, ...]


def generate(
    decoding: Decoding,
    first: Tensor,
    head: Callable[[Tensor], Tensor],
    longest: int,
    eos: int,
    pad: int,
    *,
    asks: bool = True,
) -> Generated:
    """Greedy names, from their first tokens on.

    The last sample that ends is the end of it. On a CPU those that have ended are dropped.

    Args:
        decoding: Has seen the start token alone.
        first: Likeliest first tokens, ``(samples,)``.
        head: From states ``(samples, hidden)`` to logits.
        longest: Tokens of a name at most, end mark included.
        eos: Id of the end mark.
        pad: Id of the padding.
        asks: Whether to know who has ended; without it every sample takes every step.
    """
    ids = first.new_full((len(first), longest), pad)
    ids[:, 0] = token = first
    rows, ended, steps = torch.arange(len(first), device=first.device), first == eos, list[int]()
    for place in range(1, longest):
        if asks:
            going = (~ended).nonzero()[:, 0]
            if not len(going):
                return Generated(ids[:, :place], tuple(steps))
            if first.device.type == "cpu" and len(going) <= WORTH_COPYING * len(ended):
                decoding.keep(going)
                rows, token, ended = rows[going], token[going], ended[going]
        token = likeliest(head(decoding.advance(token[:, None])[:, 0])).masked_fill(ended, pad)
        ids[rows, place] = token
        ended = ended | (token == eos)
        steps.append(len(rows))
    return Generated(ids, tuple(steps))


def likeliest(logits: Tensor) -> Tensor:
    """Index of the largest along the last dimension, the first of equals."""
    if logits.device.type == "cpu":  # numpy's is vectorised, and nine times as fast over 8,000 floats
        return torch.from_numpy(logits.float().numpy().argmax(-1))
    return logits.argmax(-1)
