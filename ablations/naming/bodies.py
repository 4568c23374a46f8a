"""Bodies encoded on a CPU to be scored: their real tokens alone, without gradients, in place where that can be.

It computes what Transformers' modules do, from their parameters, as training does (``layers.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming import plain
from ablations.naming.grids import Sequences, attention
from ablations.naming.operands import Dropout

FAMILY = {"roberta", "xlm-roberta", "camembert", "bert"}  # whose layers, and whose masks, are known


def first_position(encoder: Any) -> int:
    """What an encoder calls the first token's position: RoBERTa counts from behind the padding's, BERT from 0."""
    padding: int | None = getattr(encoder.embeddings, "padding_idx", None)
    return 0 if padding is None else padding + 1


def can_encode(encoder: Any, device: torch.device) -> bool:
    """Whether :func:`encode` takes the place of the encoder's own modules here."""
    if device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    config = encoder.config
    return config.model_type in FAMILY and config.hidden_act == "gelu" and encoder.dtype == torch.float32


def encode(encoder: Any, inputs: Tensor, mask: Tensor | None) -> Tensor:
    """States of the bodies, ``(batch, tokens, hidden)``, zeros behind their ends.

    Args:
        encoder: One that :func:`can_encode` knows.
        inputs: Token ids, ``(batch, tokens)``.
        mask: True at real tokens, the first ones of each body, ``(batch, 1, 1, tokens)``; None where all are.
    """
    real = torch.ones_like(inputs, dtype=torch.bool) if mask is None else mask[:, 0, 0]
    taken = real.nonzero(as_tuple=True)
    found = Sequences(nn.functional.pad(real.sum(1).cumsum(0), (1, 0)))
    states = _embedded(encoder, inputs[taken], taken[1] + first_position(encoder))
    for layer in encoder.encoder.layer:
        states = _through(layer, states, found, encoder.config.num_attention_heads)
    return states.new_zeros(*inputs.shape, states.shape[1]).index_put_(taken, states)


def _embedded(encoder: Any, ids: Tensor, positions: Tensor) -> Tensor:
    tables, norm = encoder.embeddings, encoder.embeddings.LayerNorm
    words, places = tables.word_embeddings.weight, tables.position_embeddings.weight
    first = tables.token_type_embeddings.weight[0]
    rule = norm.weight, norm.bias, norm.eps, _whole(ids), words.dtype
    return plain.embed(ids, positions, words, places, first, *rule)[0]


def _through(layer: Any, states: Tensor, sequences: Sequences, heads: int) -> Tensor:
    own, wide = layer.attention.self, layer.intermediate.dense
    query, key, value = (each(states).unflatten(1, (heads, -1)) for each in (own.query, own.key, own.value))
    seen = attention(query, key, value, sequences, sequences, 0.0, causal=False)[0]  # what gradients need is let go
    states = _joined(layer.attention.output, seen.flatten(1), states)
    found, _ = plain.gelu(nn.functional.linear(states, wide.weight), wide.bias)
    return _joined(layer.output, found, states)


def _joined(module: Any, found: Tensor, residual: Tensor) -> Tensor:
    product, norm = nn.functional.linear(found, module.dense.weight), module.LayerNorm
    rule = norm.weight, norm.bias, norm.eps, _whole(found)
    return plain.add_norm(product, module.dense.bias, residual, *rule)[0]


def _whole(tensor: Tensor) -> Dropout:
    return Dropout(0.0, tensor, 0)
