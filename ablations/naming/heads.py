"""From a body to a name: token by token, all positions at once, or as a set of words.

All three put the same decoder layers (cross-attention to the encoder included) over the encoded body and differ in what
goes in and what comes out, so that a study can compare them at the same depth and width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ablations.naming import bodies
from ablations.naming.batches import Batch
from ablations.naming.decoding import Decoding, Generated, generate, likeliest
from ablations.naming.encoding import Specials
from ablations.naming.flops import Sizes, forward_flops, real_flops, regeneration_flops, steps_flops
from ablations.naming.wordset import NameWords

Decode = Callable[[Sequence[int]], list[str]]


class Tensors(NamedTuple):
    """A :class:`~ablations.naming.batches.Batch` on the device. Nothing in it has to be read back to be used.

    Attributes:
        inputs: Token ids of the bodies, ``(batch, tokens)``.
        mask: True at real tokens of the bodies, ``(batch, 1, 1, tokens)``, as attention takes it; None where all are.
        shifted: Start token and the name's tokens but the last, ``(batch, name tokens)``.
        labels: The names' tokens one after the other, without padding, ``(labels,)``.
        places: Where in ``shifted`` each label is predicted, rows one after the other, ``(labels,)``.
        starts: Which label is the first of each name, ``(batch,)``.
    """

    inputs: Tensor
    mask: Tensor | None
    shifted: Tensor
    labels: Tensor
    places: Tensor
    starts: Tensor


class Scored(NamedTuple):
    """A batch's losses, as :meth:`NamingModel.loss` gives them, and its predicted names.

    Attributes:
        total: Sum of the losses.
        losses: Their number.
        ids: Of the predicted names, as :meth:`NamingModel.predict` gives them.
        steps: Samples that went through the decoder for each further token of the prediction; empty where none did.
    """

    total: Tensor
    losses: int
    ids: Tensor
    steps: tuple[int, ...]


class NamingModel(nn.Module, ABC):
    """Predicts a name from the tokens of a body.

    Source: reference study; encoder of Liu et al. 2019 (RoBERTa), decoder of Rothe et al. 2020
    (BertGeneration) with cross-attention.

    Attributes:
        loss_unit: What one of the summed losses is; kinds that differ in it cannot be compared by their loss.
        facts: What the record says of the model (JSON-ready).
        asks: Whether predicting reads values back, to end with the last name: not while it is recorded.
    """

    loss_unit: ClassVar[str]

    def __init__(self, encoder: Any, decoder: Any, special: Specials, decode: Decode | None = None):
        super().__init__()
        self.encoder: Any = encoder  # a PreTrainedModel: its attributes are untyped
        self.decoder: Any = decoder
        self.special = special
        self.facts: dict[str, Any] = {"loss_unit": self.loss_unit}
        self.asks = True
        self._decode = decode

    @abstractmethod
    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """Sum of the losses and their number; see ``loss_unit``.

        Args:
            batch: Bodies and names, from :meth:`tensors`.
            label_smoothing: Share of the probability spread over all tokens, 0 to 1.
        """

    @abstractmethod
    def predict(self, inputs: Tensor, mask: Tensor | None, max_tokens: int) -> Tensor:
        """Ids of the predicted names, ``(batch, up to max_tokens)``, which :meth:`words` turns into words.

        Args:
            inputs: Token ids of the bodies, ``(batch, tokens)``.
            mask: See :class:`Tensors`.
            max_tokens: Longest name, end mark included.
        """

    @abstractmethod
    def score(self, batch: Tensors, max_tokens: int) -> Scored:
        """:meth:`loss` and :meth:`predict` in one: what they have in common is computed once.

        Args:
            batch: Bodies and names, from :meth:`tensors`.
            max_tokens: Longest predicted name, end mark included.
        """

    @abstractmethod
    def loss_flops(self, batch: Batch) -> float:
        """Floating-point operations of :meth:`loss` over a padded batch, without the backward pass."""

    @abstractmethod
    def real_flops(self, batch: Batch) -> float:
        """Those over the real tokens of a batch alone."""

    @abstractmethod
    def score_flops(self, batch: Batch, scored: Scored) -> float:
        """Floating-point operations of :meth:`score` over a padded batch."""

    def initialise_head(self) -> None:
        """Sets what a kind wants other than all new parameters start."""

    def words(self, ids: Sequence[int]) -> list[str]:
        """Words of one predicted name."""
        if self._decode is None:
            raise ValueError("a model built without data cannot turn ids into words")
        return self._decode(ids)

    def tensors(self, batch: Batch, device: torch.device) -> Tensors:
        """A padded batch as :meth:`loss` takes it, on the device."""
        whole = (
            batch.mask.all() and device.type == "cpu"
        )  # Transformers 5.17 makes another mask of None under a recording
        mask = None if whole else batch.mask.astype(bool)[:, None, None]
        return Tensors(
            moved(batch.inputs, device),
            None if mask is None else moved(mask, device),
            moved(batch.shifted, device),
            moved(batch.labels[batch.real], device),
            moved(np.flatnonzero(batch.real), device),
            moved(batch.starts, device),
        )

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

    def encode(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Bodies ``(batch, tokens)`` and their mask (see :class:`Tensors`) to states ``(batch, tokens, hidden)``.

        What they are behind a body's end is nothing that may be looked at.
        """
        if bodies.can_encode(self.encoder, inputs.device):
            return bodies.encode(self.encoder, inputs, mask)
        config = self.encoder.config
        if mask is not None and not (config.model_type in bodies.FAMILY and config._attn_implementation == "sdpa"):
            mask = mask[:, 0, 0].long()
        states: Tensor = self.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state
        return states


class SequenceModel(NamingModel):
    """One token after the other, each given those before it. Causality comes from the decoder.

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
        logits = self.logits(batch.inputs, batch.mask, batch.shifted, batch.places)
        return _cross_entropy(logits, batch.labels, label_smoothing)

    def logits(self, inputs: Tensor, mask: Tensor | None, shifted: Tensor, places: Tensor) -> Tensor:
        """Teacher-forced logits at some places only; for the arguments see :class:`Tensors`.

        Returns:
            Logits ``(places, vocabulary)``.
        """
        return self._logits(self.encode(inputs, mask), mask, shifted, places)

    def _logits(self, encoded: Tensor, mask: Tensor | None, shifted: Tensor, places: Tensor) -> Tensor:
        states = self.decoder.bert(
            input_ids=shifted, encoder_hidden_states=encoded, encoder_attention_mask=mask, use_cache=False
        ).last_hidden_state
        logits: Tensor = self.decoder.lm_head(_taken(states, places))
        return logits

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor | None, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: greedy, padded behind the end mark."""
        encoded = self.encode(inputs, mask)
        if not self.cache:
            return self._regenerated(encoded, mask, max_tokens)
        decoding = Decoding(self.decoder.bert, encoded, mask, max_tokens)
        states = decoding.advance(inputs.new_full((len(inputs), 1), self.special.bos))
        return self._generated(decoding, self.decoder.lm_head(states[:, 0]), max_tokens).ids

    @torch.inference_mode()
    def score(self, batch: Tensors, max_tokens: int) -> Scored:
        """See :meth:`NamingModel.score`.

        With a cache the first step of generation is that of the loss: the start token is all that both have seen.
        """
        encoded = self.encode(batch.inputs, batch.mask)
        if not self.cache:
            logits = self._logits(encoded, batch.mask, batch.shifted, batch.places)
            ids = self._regenerated(encoded, batch.mask, max_tokens)
            return Scored(*_cross_entropy(logits, batch.labels, 0.0), ids, (len(ids),) * ids.shape[1])
        longest = max(max_tokens, batch.shifted.shape[1])
        decoding = Decoding(self.decoder.bert, encoded, batch.mask, longest)
        logits = self.decoder.lm_head(_taken(decoding.advance(batch.shifted), batch.places))
        decoding.rewind(1)
        names = self._generated(decoding, logits.index_select(0, batch.starts), max_tokens)
        return Scored(*_cross_entropy(logits, batch.labels, 0.0), names.ids, names.steps)

    def _generated(self, decoding: Decoding, first: Tensor, max_tokens: int) -> Generated:
        first, head, special = likeliest(first), self.decoder.lm_head, self.special
        return generate(decoding, first, head, max_tokens, special.eos, special.pad, asks=self.asks)

    def _regenerated(self, encoded: Tensor, mask: Tensor | None, max_tokens: int) -> Tensor:
        """Without a cache: every step computes all positions so far."""
        name = torch.full((len(encoded), 1), self.special.bos, device=encoded.device)
        ended = torch.zeros_like(name, dtype=torch.bool)
        for _ in range(max_tokens):
            states = self.decoder.bert(
                input_ids=name,
                attention_mask=None if self.causal else _open_mask(name.shape[1], encoded.device),
                encoder_hidden_states=encoded,
                encoder_attention_mask=mask,
                use_cache=False,
            ).last_hidden_state
            token = likeliest(self.decoder.lm_head(states[:, -1:])).masked_fill(ended, self.special.pad)
            name = torch.cat([name, token], dim=1)
            ended |= token == self.special.eos
            if bool(ended.all()):
                break
        return name[:, 1:]

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), batch.labels.shape[1], int(batch.real.sum()))

    def real_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.real_flops`."""
        names = batch.real.sum(1)
        return real_flops(self.sizes, batch.mask.sum(1), names, names)

    def score_flops(self, batch: Batch, scored: Scored) -> float:
        """See :meth:`NamingModel.score_flops`."""
        further = steps_flops if self.cache else regeneration_flops
        return self.loss_flops(batch) + further(self.sizes, batch.inputs.shape[1], scored.steps)


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
        states = self._states(batch.inputs, batch.mask)[:, : batch.shifted.shape[1]]
        return _cross_entropy(self.decoder.lm_head(_taken(states, batch.places)), batch.labels, label_smoothing)

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor | None, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: the likeliest token of each position, padded behind the end mark."""
        return self._ended(self.decoder.lm_head(self._states(inputs, mask)[:, :max_tokens]))

    @torch.inference_mode()
    def score(self, batch: Tensors, max_tokens: int) -> Scored:
        """See :meth:`NamingModel.score`: losses and names come from the same logits."""
        logits = self.decoder.lm_head(self._states(batch.inputs, batch.mask))
        places = _taken(logits[:, : batch.shifted.shape[1]], batch.places)
        return Scored(*_cross_entropy(places, batch.labels, 0.0), self._ended(logits[:, :max_tokens]), ())

    def _ended(self, logits: Tensor) -> Tensor:
        tokens = likeliest(logits)
        ends = (tokens == self.special.eos).long()
        return tokens.masked_fill(ends.cumsum(1) - ends > 0, self.special.pad)

    def _states(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        return _queried(self.decoder.bert, self.encode(inputs, mask), mask, self.positions)

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), self.positions, int(batch.real.sum()))

    def real_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.real_flops`."""
        return real_flops(self.sizes, batch.mask.sum(1), self.positions, batch.real.sum(1))

    def score_flops(self, batch: Batch, scored: Scored) -> float:
        """See :meth:`NamingModel.score_flops`."""
        return forward_flops(self.sizes, *_shape(batch), self.positions, len(batch.rows) * self.positions)


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
        held = self.names.held(batch.labels, batch.real)
        return super().tensors(batch, device)._replace(labels=moved(held, device))

    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """See :meth:`NamingModel.loss`: binary cross-entropy of each name's words.

        Raises:
            ValueError: Label smoothing is asked for; it is of losses that choose one token of many.
        """
        if label_smoothing:
            raise ValueError("a set of words knows no label smoothing")
        return self._loss(self.logits(batch.inputs, batch.mask), batch)

    def _loss(self, logits: Tensor, batch: Tensors) -> tuple[Tensor, int]:
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum"), len(batch.inputs)

    def logits(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Log odds of each word, float32, ``(batch, words)``."""
        state = _queried(self.decoder.bert, self.encode(inputs, mask), mask, 1)[:, 0]
        logits: Tensor = self.decoder.lm_head(state)
        return logits.float()

    @torch.inference_mode()
    def predict(self, inputs: Tensor, mask: Tensor | None, max_tokens: int) -> Tensor:
        """See :meth:`NamingModel.predict`: indices of words, the likeliest first, then -1."""
        return best_sets(self.logits(inputs, mask).sigmoid(), max_tokens - 1)

    @torch.inference_mode()
    def score(self, batch: Tensors, max_tokens: int) -> Scored:
        """See :meth:`NamingModel.score`: losses and sets come from the same logits."""
        logits = self.logits(batch.inputs, batch.mask)
        return Scored(*self._loss(logits, batch), best_sets(logits.sigmoid(), max_tokens - 1), ())

    def loss_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.loss_flops`."""
        return forward_flops(self.sizes, *_shape(batch), 1, len(batch.rows))

    def real_flops(self, batch: Batch) -> float:
        """See :meth:`NamingModel.real_flops`."""
        return real_flops(self.sizes, batch.mask.sum(1), 1, 1)

    def score_flops(self, batch: Batch, scored: Scored) -> float:
        """See :meth:`NamingModel.score_flops`."""
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


def _queried(bert: Any, encoded: Tensor, mask: Tensor | None, queries: int) -> Tensor:
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


def _taken(states: Tensor, places: Tensor) -> Tensor:
    """Rows of ``(batch, tokens, width)`` at flat places; a mask in their stead would make a GPU wait."""
    return states.flatten(0, 1).index_select(0, places)


def moved(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device; a GPU takes it while the host goes on."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
