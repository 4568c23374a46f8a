"""The loss over packed batches (``packed.py``) and its gradients, layer by layer, forwards and backwards by hand.

It is computed from the parameters of Transformers' modules as these do it, in fewer and larger kernels: the products of
one input are one product, those of the bodies for all layers of the decoder too; attention goes by the lengths of the
sequences; matrices are brought to the precision of the products once a step; what lies between the products is fused
(``fused.py``); and where a gradient is a sum, one summand is added in the product that yields the other.

Each part returns what it computes together with its pull: that takes the gradient of the loss by the result to those by
the inputs, and leaves those by the parameters where an optimizer looks for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming.config import Config
from ablations.naming.fused import add_norm, added, attention, cross_entropy, embed, gelu, numbers, summed
from ablations.naming.heads import NamingModel
from ablations.naming.operands import AT_ONCE, Dropout, Spans
from ablations.naming.packed import Packed
from ablations.naming.stacks import Stacks, give

ROWS = 64  # of stacked matrices: to this they are filled up, for a GPU's products of odd widths are slow

Pull = Callable[[Tensor], Tensor]


class PackedLoss:
    """The loss of a model in training; see this module.

    Args:
        model: One that is known (:func:`~ablations.naming.packed.is_known`).
        config: The experiment's config.
        kind: Precision of the products.

    Attributes:
        stacks: The matrices; see there for who brings parameters and copies into line.
        seed: Of dropout, int64, ``(1,)``, on the device.
    """

    def __init__(self, model: NamingModel, config: Config, kind: torch.dtype):
        self._model, self._config, self._kind = model, config, kind
        self.stacks = Stacks(kind)
        self.seed = torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device)
        self._site, self._sums = 0, _Sums()
        rows = ROWS if self.seed.device.type == "cuda" else 1
        stacks, sums, names = self.stacks, self._sums, model.decoder.bert.encoder.layer
        self._bodies = [_Layer(layer, stacks, sums) for layer in model.encoder.encoder.layer]
        self._names = [_Layer(layer, stacks, sums) for layer in names]
        crossings = [layer.crossattention.self for layer in names]
        self._seen = _Product(stacks, sums, [part for each in crossings for part in (each.key, each.value)])
        self._head = _Product(stacks, sums, [model.decoder.lm_head.decoder], multiple=rows)
        self._to_words, self._to_name_words = (
            stacks.gradient(part.word_embeddings.weight)
            for part in (model.encoder.embeddings, model.decoder.bert.embeddings)
        )

    @torch.no_grad()
    def backward(self, batch: Packed, longest: int, longest_name: int, label_smoothing: float = 0.0) -> Tensor:
        """Mean of the cross-entropies of the names' tokens; leaves its gradients with the parameters, which have none.

        Args:
            batch: On the device.
            longest: No body (nor the fillers) has more tokens.
            longest_name: No name has.
            label_smoothing: Share of the probability spread over all tokens, 0 to 1.
        """
        self._site = 0
        self._sums.drop()
        encoder, decoder = self._model.encoder, self._model.decoder
        drawn = numbers(self.seed, max(longest, longest_name), self._kind)
        bodies, names = Spans(batch.bodies, longest, drawn), Spans(batch.names, longest_name, drawn)
        embedded, pull_embedded = embed(
            batch.ids, batch.positions, encoder.embeddings, self._hidden_dropout(encoder), self._kind, self._to_words
        )
        encoded, pull_bodies = self._encode(embedded, bodies)
        own = decoder.bert.embeddings, self._hidden_dropout(decoder), self._kind, self._to_name_words
        named, pull_named = embed(batch.name_ids, batch.name_positions, *own)
        states, pull_names = self._decode(named, encoded, names, bodies)
        loss, to_logits = cross_entropy(self._head(states), batch.labels, self._model.outputs, label_smoothing)
        to_named, to_encoded = pull_names(self._head.pull(to_logits, states))
        pull_named(to_named)
        pull_embedded(pull_bodies(to_encoded))
        self._sums.give()
        self.stacks.collect()
        return loss

    def _encode(self, states: Tensor, bodies: Spans) -> tuple[Tensor, Pull]:
        pulls, config = list[Pull](), self._model.encoder.config
        for layer in self._bodies:
            for part in (self._over_itself(layer, config, bodies, causal=False), self._fed_forward(layer, config)):
                states, pull = part(states)
                pulls.append(pull)
        return states, _one_after_another(pulls)

    def _decode(
        self, states: Tensor, encoded: Tensor, names: Spans, bodies: Spans
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        pulls, config = list[Pull](), self._model.decoder.config
        seen = _by_head(self._seen(encoded), 2 * len(self._names), config)
        to_seen = torch.empty_like(seen)
        for index, layer in enumerate(self._names):
            pair = slice(2 * index, 2 * index + 2)
            over_bodies = self._over_bodies(layer, config, names, bodies, seen[:, pair], to_seen[:, pair])
            over_itself = self._over_itself(layer, config, names, causal=True)
            for part in (over_itself, over_bodies, self._fed_forward(layer, config)):
                states, pull = part(states)
                pulls.append(pull)

        def pull_all(given: Tensor) -> tuple[Tensor, Tensor]:
            return _one_after_another(pulls)(given), self._seen.pull(to_seen.flatten(1), encoded)

        return states, pull_all

    def _over_itself(self, layer: _Layer, config: Any, spans: Spans, *, causal: bool) -> Part:
        def part(states: Tensor) -> tuple[Tensor, Pull]:
            joint = _by_head(layer.own(states), 3, config)
            seen, pull_seen = self._attention(joint.unbind(1), spans, spans, config, causal=causal)
            out, pull_out = self._joined(layer.own_out, layer.module.attention.output, seen.flatten(1), states, config)

            def pull(given: Tensor) -> Tensor:
                to_seen, to_states = pull_out(given)
                to_joint = torch.empty_like(joint)
                pull_seen(to_seen.view(seen.shape), *to_joint.unbind(1))
                return layer.own.pull(to_joint.flatten(1), states, to_states)

            return out, pull

        return part

    def _over_bodies(
        self, layer: _Layer, config: Any, names: Spans, bodies: Spans, pair: Tensor, to_pair: Tensor
    ) -> Part:
        def part(states: Tensor) -> tuple[Tensor, Pull]:
            query = _by_head(layer.query(states), 1, config)[:, 0]
            seen, pull_seen = self._attention((query, *pair.unbind(1)), names, bodies, config, causal=False)
            module = layer.module.crossattention.output
            out, pull_out = self._joined(layer.bodies_out, module, seen.flatten(1), states, config)

            def pull(given: Tensor) -> Tensor:
                to_seen, to_states = pull_out(given)
                to_query = torch.empty_like(query)
                pull_seen(to_seen.view(seen.shape), to_query, *to_pair.unbind(1))
                return layer.query.pull(to_query.flatten(1), states, to_states)

            return out, pull

        return part

    def _attention(
        self, states: Sequence[Tensor], asking: Spans, seen: Spans, config: Any, *, causal: bool
    ) -> tuple[Tensor, Callable[..., None]]:
        dropout = self._dropout(config.attention_probs_dropout_prob)
        query, key, value = states
        return attention(query, key, value, asking, seen, dropout, causal=causal)

    def _hidden_dropout(self, part: Any) -> Dropout:
        return self._dropout(part.config.hidden_dropout_prob)

    def _dropout(self, share: float) -> Dropout:
        self._site += 1
        return Dropout(share, self.seed, self._site)

    def _fed_forward(self, layer: _Layer, config: Any) -> Part:
        def part(states: Tensor) -> tuple[Tensor, Pull]:
            bias = layer.module.intermediate.dense.bias
            wide, pull_wide = gelu(layer.wide(states), bias)
            out, pull_out = self._joined(layer.narrow, layer.module.output, wide, states, config)

            def pull(given: Tensor) -> Tensor:
                to_wide, to_states = pull_out(given)
                to_product, sums = pull_wide(to_wide)
                self._sums.take([bias], sums)
                return layer.wide.pull(to_product, states, to_states)

            return out, pull

        return part

    def _joined(
        self, product: _Product, module: Any, states: Tensor, residual: Tensor, config: Any
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        dropout, norm = self._dropout(config.hidden_dropout_prob), module.LayerNorm
        out, pull_norm = add_norm(product(states), module.dense.bias, residual, norm, dropout)
        parameters = [norm.weight, norm.bias, module.dense.bias]

        def pull(given: Tensor) -> tuple[Tensor, Tensor]:
            to_product, to_residual, sums = pull_norm(given)
            self._sums.take(parameters, sums)
            return product.pull(to_product, states), to_residual

        return out, pull


Part = Callable[[Tensor], tuple[Tensor, Pull]]


class _Sums:
    """Gradients that are sums over tokens: they are left in parts until there are enough to be added at once."""

    def __init__(self) -> None:
        self._taken: list[tuple[Sequence[nn.Parameter], Tensor]] = []

    def take(self, parameters: Sequence[nn.Parameter], parts: Tensor) -> None:
        """Takes parts, ``(kinds, parts, width)``: of each kind, and of so many columns, is what each parameter gets."""
        self._taken.append((parameters, parts))
        if len(self._taken) == AT_ONCE:
            self.give()

    def drop(self) -> None:
        """Forgets what a step that was broken off has left."""
        self._taken.clear()

    def give(self) -> None:
        """Adds what was taken and leaves it with the parameters."""
        if not self._taken:
            return
        for (parameters, _), sums in zip(self._taken, added([parts for _, parts in self._taken]), strict=True):
            grads, end = sums.flatten(), 0
            for parameter in parameters:
                end += len(parameter)
                give(parameter, grads[end - len(parameter) : end])
        self._taken.clear()


class _Product:
    """Products of one input as one; with biases where more than one is joined, or asked for.

    Args:
        stacks: Where the matrices go.
        sums: Where the gradients by the biases go.
        parts: The products.
        biased: Whether their biases are added here.
        multiple: Of which the number of outputs is to be one.
    """

    def __init__(self, stacks: Stacks, sums: _Sums, parts: Sequence[Any], *, biased: bool = True, multiple: int = 1):
        self._sums, self._matrix = sums, stacks.stack([each.weight for each in parts], multiple)
        self._biases: list[Any] = [each.bias for each in parts] if biased else []
        self._bias = stacks.copy(self._biases, multiple) if biased else None

    def __call__(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self._matrix.value, self._bias)

    def pull(self, given: Tensor, states: Tensor, plus: Tensor | None = None) -> Tensor:
        """The gradient by the states, and what is to be added to it, which is overwritten."""
        torch.mm(given.t(), states, out=self._matrix.grad)
        if self._biases:
            self._sums.take(self._biases, summed(given))
        return given @ self._matrix.value if plus is None else plus.addmm_(given, self._matrix.value)


class _Layer:
    """The matrices of one layer."""

    def __init__(self, module: Any, stacks: Stacks, sums: _Sums):
        own, product = module.attention.self, functools.partial(_Product, stacks, sums)
        self.module = module
        self.own = product([own.query, own.key, own.value])
        self.own_out = product([module.attention.output.dense], biased=False)
        if hasattr(module, "crossattention"):
            self.query = product([module.crossattention.self.query])
            self.bodies_out = product([module.crossattention.output.dense], biased=False)
        self.wide = product([module.intermediate.dense], biased=False)
        self.narrow = product([module.output.dense], biased=False)


def _by_head(projected: Tensor, parts: int, config: Any) -> Tensor:
    """``(tokens, parts, heads, width)`` of ``(tokens, parts * heads * width)``."""
    return projected.view(len(projected), parts, config.num_attention_heads, -1)


def _one_after_another(pulls: list[Pull]) -> Pull:
    """The last one first; each is forgotten with what it has kept."""

    def pull(given: Tensor) -> Tensor:
        while pulls:
            given = pulls.pop()(given)
        return given

    return pull
