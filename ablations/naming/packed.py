"""The loss over real tokens alone: bodies one after the other, names one after the other, without padding.

It is computed from the parameters of Transformers' modules as these do it, in fewer and larger kernels: the products of
one input are one product, attention goes by the lengths of the sequences, matrices are brought to the precision of the
products once a step, and what lies between the products is fused (``fused.py``). For GPUs; a CPU computes the same,
slowly, and so tests compare it with the modules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ablations.naming.batches import Batch
from ablations.naming.config import Config
from ablations.naming.encoding import Specials
from ablations.naming.fused import add_norm, gelu
from ablations.naming.heads import TAKE_4D_MASKS, NamingModel, SequenceModel

IGNORED = -100  # the label that cross-entropy passes over
ROWS = 64  # of stacked matrices: to this they are filled up, for products of odd widths are slow
FLASH = (8, 0)  # compute capability that flash attention needs; its heads are at most 256 wide


def fits(model: NamingModel, device: torch.device) -> bool:
    """Whether the loss of a model is computed here, and fast: names token by token, layers as BERT has them, a GPU."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FLASH:
        return False
    return is_known(model)


def is_known(model: NamingModel) -> bool:
    """Whether this module knows the model's layers."""
    if not isinstance(model, SequenceModel) or model.encoder.config.model_type not in TAKE_4D_MASKS:
        return False
    parts = (model.encoder.config, model.decoder.config)
    widths = [part.hidden_size // part.num_attention_heads for part in parts]
    return all(part.hidden_act == "gelu" for part in parts) and all(w % 8 == 0 and w <= 256 for w in widths)


@dataclass(frozen=True)
class Packed:
    """A batch on the device; behind the samples come sequences of fillers, whose labels are ignored.

    Attributes:
        ids: Of the bodies' tokens, ``(tokens,)``.
        positions: As the encoder counts them, ``(tokens,)``.
        bodies: Where each body begins, and the end, ``(sequences + 1,)``.
        name_ids: Start mark and tokens of the names but the last, ``(name tokens,)``.
        name_positions: ``(name tokens,)``.
        names: Where each name begins, and the end, ``(sequences + 1,)``.
        labels: The names' tokens, ``(name tokens,)``.
    """

    ids: Tensor
    positions: Tensor
    bodies: Tensor
    name_ids: Tensor
    name_positions: Tensor
    names: Tensor
    labels: Tensor

    @classmethod
    def of(cls, buffer: Tensor, sequences: int, tokens: int, name_tokens: int) -> Packed:
        """Views of what :func:`pack` has made."""
        body, name, spans = tokens, name_tokens, sequences + 1
        return cls(*torch.split(buffer, [body, body, spans, name, name, spans, name]))


def first_position(model: NamingModel) -> int:
    """What the encoder calls the first token's position: RoBERTa counts from behind the padding's, BERT from 0."""
    padding: int | None = getattr(model.encoder.embeddings, "padding_idx", None)
    return 0 if padding is None else padding + 1


def pack(batch: Batch, special: Specials, first: int, tokens: int, name_tokens: int, fillers: int) -> NDArray[np.int32]:
    """All of a batch in one array, filled up.

    Args:
        batch: Padded.
        special: Ids of the special tokens.
        first: See :func:`first_position`.
        tokens: Of the bodies, fillers included.
        name_tokens: Of the names, likewise.
        fillers: Sequences to fill up with: a token at least for each.
    """
    pad = special.pad
    in_bodies, bodies = _spans(batch.mask.astype(bool), tokens, fillers)
    in_names, names = _spans(batch.real, name_tokens, fillers)
    parts = (
        _filled(batch.inputs[in_bodies], tokens, pad),
        _filled(in_bodies[1] + first, tokens, max(0, first - 1)),
        bodies,
        _filled(batch.shifted[in_names], name_tokens, pad),
        _filled(in_names[1], name_tokens, 0),
        names,
        _filled(batch.labels[in_names], name_tokens, IGNORED),
    )
    return np.concatenate(parts).astype(np.int32)


def _spans(real: NDArray[np.bool_], size: int, fillers: int) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    ends = np.concatenate([[0], real.sum(1).cumsum()])
    rest = size - ends[-1]
    return real.nonzero(), np.concatenate([ends, ends[-1] + rest * np.arange(1, fillers + 1) // fillers])


def _filled(values: NDArray[Any], size: int, filler: int) -> NDArray[np.int64]:
    found = np.full(size, filler, dtype=np.int64)
    found[: len(values)] = values
    return found


class Stacks:
    """Matrices one above the other, in the precision of the products; their gradients go back to the parameters.

    Args:
        kind: Precision of the products.
    """

    def __init__(self, kind: torch.dtype):
        self._kind = kind
        self._leaves: list[tuple[Tensor, list[nn.Parameter]]] = []
        self._copies: list[Tensor] = []
        self._parameters: list[Tensor] = []

    def stack(self, parameters: Iterable[nn.Parameter], multiple: int = 1) -> Tensor:
        """A leaf of the parameters one above the other, with rows of zeros up to a multiple."""
        found = list(parameters)
        rows = sum(len(each) for each in found)
        rows += -rows % multiple
        leaf = torch.zeros(rows, *found[0].shape[1:], dtype=self._kind, device=found[0].device)
        for copy, parameter in zip(_parts(leaf, found), found, strict=True):
            self._copies.append(copy)
            self._parameters.append(parameter)
        self._leaves.append((leaf.requires_grad_(), found))
        return leaf

    def refresh(self) -> None:
        """Takes over the parameters' values."""
        with torch.no_grad():
            torch._foreach_copy_(self._copies, self._parameters)

    def collect(self) -> None:
        """Adds the leaves' gradients to those of the parameters, and forgets them."""
        new: tuple[list[Tensor], list[Tensor]] = ([], [])
        old: tuple[list[Tensor], list[Tensor]] = ([], [])
        for leaf, parameters in self._leaves:
            if leaf.grad is None:
                continue
            for grad, parameter in zip(_parts(leaf.grad, parameters), parameters, strict=True):
                if not parameter.requires_grad:
                    continue
                targets, grads = new if parameter.grad is None else old
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                targets.append(parameter.grad)
                grads.append(grad)
            leaf.grad = None
        if new[0]:
            torch._foreach_copy_(*new)
        for target, grad in zip(*old, strict=True):
            target.add_(grad)

    def forget(self) -> None:
        """Drops the leaves' gradients."""
        for leaf, _ in self._leaves:
            leaf.grad = None


def _parts(leaf: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    sizes = [len(each) for each in parameters]
    return torch.split(leaf.detach(), [*sizes, len(leaf) - sum(sizes)])[: len(sizes)]


class PackedLoss:
    """The loss of a model in training; see this module.

    Args:
        model: One that :func:`is_known`.
        config: The experiment's config.
        kind: Precision of the products.
    """

    def __init__(self, model: NamingModel, config: Config, kind: torch.dtype):
        self._model, self._config, self._kind = model, config, kind
        self.stacks = Stacks(kind)
        self.seed = torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device)
        self._site = 0
        stack = self.stacks.stack
        self._bodies = [_Layer(layer, stack) for layer in model.encoder.encoder.layer]
        self._names = [_Layer(layer, stack) for layer in model.decoder.bert.encoder.layer]
        head = model.decoder.lm_head.decoder
        self._head = stack([head.weight], ROWS), stack([head.bias], ROWS)

    def total(self, batch: Packed, longest: int, longest_name: int, label_smoothing: float = 0.0) -> Tensor:
        """Sum of the cross-entropies of the names' tokens.

        Args:
            batch: On the device.
            longest: No body (nor the fillers) has more tokens.
            longest_name: No name has.
            label_smoothing: Share of the probability spread over all tokens, 0 to 1.
        """
        self._site = 0
        encoder, decoder = self._model.encoder, self._model.decoder
        bodies, names = _Spans(batch.bodies, longest), _Spans(batch.names, longest_name)
        states = self._embedded(encoder.embeddings, encoder.config, batch.ids, batch.positions)
        for layer in self._bodies:
            states = self._over_itself(layer, states, bodies, encoder.config, causal=False)
            states = self._fed_forward(layer, states, encoder.config)
        encoded = states
        states = self._embedded(decoder.bert.embeddings, decoder.config, batch.name_ids, batch.name_positions)
        for layer in self._names:
            states = self._over_itself(layer, states, names, decoder.config, causal=True)
            states = self._over_bodies(layer, states, encoded, names, bodies, decoder.config)
            states = self._fed_forward(layer, states, decoder.config)
        logits = nn.functional.linear(states, *self._head)[:, : self._model.outputs].float()
        return nn.functional.cross_entropy(
            logits, batch.labels.long(), ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
        )

    def _embedded(self, embeddings: Any, config: Any, ids: Tensor, positions: Tensor) -> Tensor:
        found = embeddings.word_embeddings(ids) + embeddings.position_embeddings(positions)
        if hasattr(embeddings, "token_type_embeddings"):
            found = found + embeddings.token_type_embeddings.weight[0]
        return nn.functional.dropout(embeddings.LayerNorm(found), config.hidden_dropout_prob).to(self._kind)

    def _over_itself(self, layer: _Layer, states: Tensor, spans: _Spans, config: Any, *, causal: bool) -> Tensor:
        query, key, value = _by_head(nn.functional.linear(states, *layer.own), 3, config)
        dropout = config.attention_probs_dropout_prob
        seen = attention(query, key, value, spans, spans, dropout, causal=causal)
        return self._joined(layer.own_out, layer.module.attention.output, seen.flatten(1), states, config)

    def _over_bodies(
        self, layer: _Layer, states: Tensor, encoded: Tensor, names: _Spans, bodies: _Spans, config: Any
    ) -> Tensor:
        (query,) = _by_head(nn.functional.linear(states, *layer.query), 1, config)
        key, value = _by_head(nn.functional.linear(encoded, *layer.bodies), 2, config)
        dropout = config.attention_probs_dropout_prob
        seen = attention(query, key, value, names, bodies, dropout, causal=False)
        return self._joined(layer.bodies_out, layer.module.crossattention.output, seen.flatten(1), states, config)

    def _fed_forward(self, layer: _Layer, states: Tensor, config: Any) -> Tensor:
        wide = gelu(nn.functional.linear(states, layer.wide), layer.module.intermediate.dense.bias)
        return self._joined(layer.narrow, layer.module.output, wide, states, config)

    def _joined(self, matrix: Tensor, module: Any, states: Tensor, residual: Tensor, config: Any) -> Tensor:
        self._site += 1
        states, dropout = nn.functional.linear(states, matrix), config.hidden_dropout_prob
        return add_norm(states, module.dense.bias, residual, module.LayerNorm, dropout, self.seed, self._site)


@dataclass(frozen=True)
class _Spans:
    """Where sequences begin, and the end, ``(sequences + 1,)``, and the most tokens that one has."""

    starts: Tensor
    longest: int


class _Layer:
    """The matrices of one layer."""

    def __init__(self, module: Any, stack: Any):
        own = module.attention.self
        self.module = module
        self.own = _joint(stack, own.query, own.key, own.value)
        self.own_out = stack([module.attention.output.dense.weight])
        if hasattr(module, "crossattention"):
            over = module.crossattention.self
            self.query = _joint(stack, over.query)
            self.bodies = _joint(stack, over.key, over.value)
            self.bodies_out = stack([module.crossattention.output.dense.weight])
        self.wide = stack([module.intermediate.dense.weight])
        self.narrow = stack([module.output.dense.weight])


def _joint(stack: Any, *products: nn.Linear) -> tuple[Tensor, Tensor]:
    return stack([each.weight for each in products]), stack([each.bias for each in products])


def _by_head(projected: Tensor, parts: int, config: Any) -> tuple[Tensor, ...]:
    return projected.view(len(projected), parts, config.num_attention_heads, -1).unbind(1)


def attention(
    query: Tensor, key: Tensor, value: Tensor, asking: _Spans, seen: _Spans, dropout: float, *, causal: bool
) -> Tensor:
    """Attention of each sequence to the one with the same place, ``(tokens, heads, width)``.

    Source: Dao 2023, "FlashAttention-2", over sequences of any length; in float32 PyTorch's memory-efficient one.

    Args:
        query: ``(tokens, heads, width)``.
        key: ``(seen tokens, heads, width)``.
        value: Likewise.
        asking: The queries' sequences.
        seen: Those of keys and values.
        dropout: Probability, of the weights.
        causal: Whether a token sees none behind itself.
    """
    if query.device.type == "cpu":
        return _one_by_one(query, key, value, asking, seen, dropout, causal=causal)
    spans = (asking.starts, seen.starts, asking.longest, seen.longest)
    if query.dtype in (torch.bfloat16, torch.float16):
        found: Tensor = torch.ops.aten._flash_attention_forward(query, key, value, *spans, dropout, causal, False)[0]
        return found
    batched = (each[None] for each in (query, key, value))
    return torch.ops.aten._efficient_attention_forward(*batched, None, *spans, dropout, int(causal), True)[0][0]  # type: ignore[no-any-return]


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, asking: _Spans, seen: _Spans, dropout: float, *, causal: bool
) -> Tensor:
    sizes, seen_sizes = (each.starts.diff().tolist() for each in (asking, seen))
    found = []
    split = torch.split
    for part in zip(split(query, sizes), split(key, seen_sizes), split(value, seen_sizes), strict=True):
        q, k, v = (each.transpose(0, 1) for each in part)
        found.append(nn.functional.scaled_dot_product_attention(q, k, v, None, dropout, causal).transpose(0, 1))
    return torch.cat(found)
