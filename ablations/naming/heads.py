"""From a body to a name: token by token, all positions at once, or as a set of words.

All three put the same decoder layers (cross-attention to the encoder included) over the encoded body and differ in what
goes in and what comes out, so that a study can compare them at the same depth and width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ablations.naming.batches import Batch
from ablations.naming.encoding import Specials
from ablations.naming.flops import Sizes, forward_flops, generation_flops
from ablations.naming.wordset import NameWords

Decode = Callable[[Sequence[int]], list[str]]


class Tensors(NamedTuple):
    """A :class:`~ablations.naming.batches.Batch` on the device; shapes are given there."""

    inputs: Tensor
    mask: Tensor
    shifted: Tensor
    labels: Tensor
    real: Tensor


class NamingModel(nn.Module, ABC):
    """Predicts a name from the tokens of a body.

    Source: reference study; encoder of Liu et al. 2019 (RoBERTa), decoder of Rothe et al. 2020
    (BertGeneration) with cross-attention.

    Attributes:
        loss_unit: What one of the summed losses is; kinds that differ in it cannot be compared by their loss.
        facts: What the record says of the model (JSON-ready).
    """

    loss_unit: ClassVar[str]

    def __init__(self, encoder: Any, decoder: Any, special: Specials, decode: Decode | None = None):
        super().__init__()
        self.encoder: Any = encoder  # a PreTrainedModel: its attributes are untyped
        self.decoder: Any = decoder
        self.special = special
        self.facts: dict[str, Any] = {"loss_unit": self.loss_unit}
        self._decode = decode

    @abstractmethod
    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """Sum of the losses and their number; see ``loss_unit``.

        Args:
            batch: Bodies and names, from :meth:`tensors`.
            label_smoothing: Share of the probability spread over all tokens, 0 to 1.
        """

    @abstractmethod
    def predict(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """Ids of the predicted names, ``(batch, up to max_tokens)``, which :meth:`words` turns into words.

        Args:
            inputs: Token ids of the bodies, ``(batch, tokens)``.
            mask: 1 at real tokens, ``(batch, tokens)``.
            max_tokens: Longest name, end mark included.
        """

    @abstractmethod
    def loss_flops(self, batch: Batch) -> float:
        """Floating-point operations of :meth:`loss` over a padded batch, without the backward pass."""

    @abstractmethod
    def predict_flops(self, batch: Batch, predicted: int) -> float:
        """Floating-point operations of :meth:`predict` over a padded batch.

        Args:
            batch: The samples.
            predicted: Ids per sample that came out, padding included.
        """

    def initialise_head(self) -> None:
        """Sets what a kind wants other than all new parameters start."""

    def words(self, ids: Sequence[int]) -> list[str]:
        """Words of one predicted name."""
        if self._decode is None:
            raise ValueError("a model built without data cannot turn ids into words")
        return self._decode(ids)

    def tensors(self, batch: Batch, device: torch.device) -> Tensors:
        """A padded batch as :meth:`loss` takes it, on the device."""
        arrays = (batch.inputs, batch.mask, batch.shifted, batch.labels, batch.real)
        return Tensors(*(_moved(torch.from_numpy(array), device) for array in arrays))

    @property
    def sizes(self) -> Sizes:
        """What the count of operations depends on."""
        encoder, decoder = self.encoder.config, self.decoder.config
        return Sizes(
            hidden=encoder.hidden_size,
            encoder_layers=encoder.num_hidden_layers,
            encoder_intermediate=encoder.intermediate_size,
            decoder_layers=decoder.num_hidden_layers,
            decoder_intermediate=decoder.intermediate_size,
            vocabulary=self.outputs,
        )

    @property
    def outputs(self) -> int:
        """Width of the output layer."""
        return int(self.encoder.config.vocab_size)

    def encode(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Bodies ``(batch, tokens)`` and their mask to states ``(batch, tokens, hidden)``."""
        states: Tensor = self.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state
        return states


class SequenceModel(NamingModel):
    """One token after the other, each given those before it. Causality comes from the decoder; masks are 2-D.

    Args:
        encoder: Over the body.
        decoder: A BertGenerationDecoder.
        special: Ids of the special tokens.
        decode: From token ids to words.
        cache: Whether generation keeps keys and values, or computes every position anew at each step.
        causal: False drops the mask of generation, so that earlier positions see later ones: without a cache only.
    """

    loss_unit = "nats per token of the name, given the true tokens before it"

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        special: Specials,
        decode: Decode | None = None,
        cache: bool = True,
        causal: bool = True,
    ):
        super().__init__(encoder, decoder, special, decode)
        self.cache, self.causal = cache, causal

    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """See :meth:`NamingModel.loss`: cross-entropy of each real token."""
        logits = self.logits(batch.inputs, batch.mask, batch.shifted, batch.real)
        return _cross_entropy(logits, batch.labels[batch.real], label_smoothing)

    def logits(self, inputs: Tensor, mask: Tensor, shifted: Tensor, real: Tensor) -> Tensor:
        """Teacher-forced logits, at real positions only.

        Args:
            inputs: Token ids of the bodies, ``(batch, tokens)``.
            mask: 1 at real tokens of the bodies, ``(batch, tokens)``.
            shifted: Name tokens shifted right behind the start token, ``(batch, name tokens)``.
            real: True where ``shifted`` predicts a token of the name, ``(batch, name tokens)``.

        Returns:
            Logits ``(real.sum(), vocabulary)``, row-major over ``real``.
        """
        states = self.decoder.bert(
            input_ids=shifted,
            encoder_hidden_states=self.encode(inputs, mask),
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        logits: Tensor = self.decoder.lm_head(states[real])
        return logits

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: greedy, padded behind the end mark."""
        encoded = self.encode(inputs, mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if self.cache else None
        name = torch.full((len(inputs), 1), self.special.bos, device=inputs.device)
        ended = torch.zeros_like(name, dtype=torch.bool)
        for _ in range(max_tokens):
            seen = name[:, -1:] if self.cache else name
            states = self.decoder.bert(
                input_ids=seen,
                attention_mask=None if self.causal else _open_mask(seen.shape[1], inputs.device),
                encoder_hidden_states=encoded,
                encoder_attention_mask=mask,
                past_key_values=cache,
                use_cache=self.cache,
            ).last_hidden_state
            token = self.decoder.lm_head(states[:, -1:]).argmax(-1).masked_fill(ended, self.special.pad)
            name = torch.cat([name, token], dim=1)
            ended |= token == self.special.eos
            if bool(ended.all()):
                break
        return name[:, 1:]

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), batch.labels.shape[1], int(batch.real.sum()))

    def predict_flops(self, batch: Batch, predicted: int) -> float:
        """See :meth:`NamingModel.predict_flops`."""
        return generation_flops(self.sizes, *_shape(batch), predicted, self.cache)


class ParallelModel(NamingModel):
    """All tokens at once: learned position queries see each other and the body, and no token.

    The queries are the decoder's position embeddings. Each position's token is chosen by itself, so a name can hold
    a word twice or mix two good names (the multimodality problem of Gu et al. 2018, "Non-Autoregressive Neural
    Machine Translation"); its end is the first end mark.

    Args:
        encoder: Over the body.
        decoder: A BertGenerationDecoder.
        special: Ids of the special tokens.
        decode: From token ids to words.
        positions: Queries: the longest name, end mark included.
    """

    loss_unit = "nats per token of the name, not knowing the others"

    def __init__(
        self, encoder: Any, decoder: Any, special: Specials, decode: Decode | None = None, positions: int = 10
    ):
        super().__init__(encoder, decoder, special, decode)
        self.positions = positions

    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """See :meth:`NamingModel.loss`: cross-entropy of each real token."""
        states = self._states(batch.inputs, batch.mask)[:, : batch.real.shape[1]]
        logits = self.decoder.lm_head(states[batch.real])
        return _cross_entropy(logits, batch.labels[batch.real], label_smoothing)

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: the likeliest token of each position, padded behind the end mark."""
        tokens: Tensor = self.decoder.lm_head(self._states(inputs, mask)[:, :max_tokens]).argmax(-1)
        ends = (tokens == self.special.eos).long()
        return tokens.masked_fill(ends.cumsum(1) - ends > 0, self.special.pad)

    def _states(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return _queried(self.decoder.bert, self.encode(inputs, mask), mask, self.positions)

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), self.positions, int(batch.real.sum()))

    def predict_flops(self, batch: Batch, predicted: int) -> float:
        """See :meth:`NamingModel.predict_flops`."""
        return forward_flops(self.sizes, *_shape(batch), self.positions, len(batch.rows) * predicted)


class SetModel(NamingModel):
    """A set of words, without order: one learned query reads the body and scores every word that names have.

    Words are scored as independent yes or no questions (binary relevance). The predicted set is that of the k
    likeliest words, with the k that maximises the expected F1 under the model's own probabilities, E|true| taken for
    the unknown |true|; neither a threshold nor a predicted size has to be tuned on validation.

    Source: Lewis 1995, "Evaluating and optimizing autonomous text classification systems", and Ye et al. 2012,
    "Optimizing F-measures: a tale of two approaches", for expected F1 over independent labels, of which
    2 E|true and predicted| / (k + E|true|) is the first-order value. Biases start at the words' log odds among the
    training names: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4.1.

    Args:
        encoder: Over the body.
        decoder: A BertGenerationDecoder; its output layer is replaced.
        special: Ids of the special tokens.
        names: The words to choose from.
    """

    def __init__(self, encoder: Any, decoder: Any, special: Specials, names: NameWords):
        self.loss_unit = f"nats per name, summed over {len(names.words)} words, each there or not"  # type: ignore[misc]
        super().__init__(encoder, decoder, special, names.words_at)
        self.names = names
        decoder.lm_head = nn.Linear(encoder.config.hidden_size, len(names.words))

    @property
    def outputs(self) -> int:
        """Width of the output layer."""
        return len(self.names.words)

    @torch.no_grad()
    def initialise_head(self) -> None:
        """Biases to the words' log odds."""
        share = torch.from_numpy(self.names.share).clamp(1e-6, 1 - 1e-6)
        self.decoder.lm_head.bias.copy_(share.logit())

    def tensors(self, batch: Batch, device: torch.device) -> Tensors:
        """See :meth:`NamingModel.tensors`; labels are 1.0 at the words of each name, ``(batch, words)``."""
        held = torch.from_numpy(self.names.held(batch.labels, batch.real))
        return super().tensors(batch, device)._replace(labels=_moved(held, device))

    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """See :meth:`NamingModel.loss`: binary cross-entropy of each name's words.

        Raises:
            ValueError: Label smoothing is asked for; it is of losses that choose one token of many.
        """
        if label_smoothing:
            raise ValueError("a set of words knows no label smoothing")
        logits = self.logits(batch.inputs, batch.mask)
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum"), len(batch.inputs)

    def logits(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Log odds of each word, float32, ``(batch, words)``."""
        state = _queried(self.decoder.bert, self.encode(inputs, mask), mask, 1)[:, 0]
        logits: Tensor = self.decoder.lm_head(state)
        return logits.float()

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: indices of words, the likeliest first, then -1."""
        return best_sets(self.logits(inputs, mask).sigmoid(), max_tokens - 1)

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), 1, len(batch.rows))

    def predict_flops(self, batch: Batch, predicted: int) -> float:
        """See :meth:`NamingModel.predict_flops`."""
        return self.loss_flops(batch)


def best_sets(probabilities: Tensor, largest: int) -> Tensor:
    """The sets of greatest expected F1, to first order.

    Args:
        probabilities: Of each word, ``(batch, words)``.
        largest: Most words of a set.

    Returns:
        Indices of words, the likeliest first, then -1, ``(batch, up to largest)``.
    """
    ordered, order = probabilities.sort(dim=1, descending=True, stable=True)  # topk breaks ties as it likes
    likeliest, index = ordered[:, :largest], order[:, :largest]
    size = torch.arange(1, likeliest.shape[1] + 1, device=likeliest.device)
    upto = (size[:, None] <= size).double()  # cumsum of floats is not deterministic on CUDA, and refused there
    held = (likeliest.double()[:, :, None] * upto).sum(1)
    expected = 2 * held / (size + probabilities.double().sum(1, keepdim=True))
    return index.masked_fill(size > expected.argmax(1, keepdim=True) + 1, -1)


def _queried(bert: Any, encoded: Tensor, mask: Tensor, queries: int) -> Tensor:
    """States of position queries that see each other and the body, ``(batch, queries, hidden)``."""
    states: Tensor = bert(
        inputs_embeds=encoded.new_zeros(len(encoded), queries, encoded.shape[2]),
        attention_mask=_open_mask(queries, encoded.device),
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return states


def _open_mask(tokens: int, device: torch.device) -> Tensor:
    """A mask that hides nothing; being 4-D, it takes the place of the decoder's causal one."""
    return torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device)


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> tuple[Tensor, int]:
    total = nn.functional.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=label_smoothing)
    return total, len(labels)


def _shape(batch: Batch) -> tuple[int, int]:
    samples, tokens = batch.inputs.shape
    return samples, tokens


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
