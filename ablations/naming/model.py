"""The model: an encoder over the body, a BertGenerationDecoder over the name's tokens."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertGenerationConfig, BertGenerationDecoder, RobertaConfig, RobertaModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ablations.errors import DataError
from ablations.naming.batches import Batch
from ablations.naming.config import Config
from ablations.naming.data import Encoded
from ablations.naming.encoding import Specials
from ablations.naming.flops import Sizes, decoder_flops, encoder_flops, forward_flops
from ablations.plan import seed_for


class Tensors(NamedTuple):
    """A :class:`~ablations.naming.batches.Batch` on the device, as the model takes it; shapes are given there."""

    inputs: Tensor
    mask: Tensor
    shifted: Tensor
    labels: Tensor
    real: Tensor


class NamingModel(nn.Module):
    """Predicts the tokens of a name from the tokens of a body.

    Source: reference study; encoder of Liu et al. 2019 (RoBERTa), decoder of Rothe et al. 2020
    (BertGeneration) with cross-attention. Causality comes from the decoder; masks are 2-D.
    """

    def __init__(self, encoder: Any, decoder: Any, special: Specials):
        super().__init__()
        self.encoder: Any = encoder  # a PreTrainedModel: its attributes are untyped
        self.decoder: Any = decoder
        self.special = special

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
            vocabulary=encoder.vocab_size,
        )

    def tensors(self, batch: Batch, device: torch.device) -> Tensors:
        """A padded batch as tensors on the device."""
        arrays = (batch.inputs, batch.mask, batch.shifted, batch.labels, batch.real)
        tensors = (torch.from_numpy(array) for array in arrays)
        if device.type == "cpu":
            return Tensors(*tensors)
        return Tensors(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))

    def loss(self, batch: Tensors, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """Sum of the losses and their number: one per token of the names, in nats.

        Args:
            batch: Bodies and names.
            label_smoothing: Share of the probability spread over all tokens, 0 to 1.
        """
        logits = self.logits(batch.inputs, batch.mask, batch.shifted, batch.real).float()
        labels = batch.labels[batch.real]
        total = nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
        return total, len(labels)

    def predict(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """Token ids of the predicted names, ``(batch, up to max_tokens)``; see :meth:`greedy`."""
        return self.greedy(inputs, mask, max_tokens)

    def loss_flops(self, batch: Batch) -> float:
        """Floating-point operations of :meth:`loss` over a padded batch, without the backward pass."""
        samples, input_tokens = batch.inputs.shape
        return forward_flops(self.sizes, samples, input_tokens, batch.labels.shape[1], int(batch.real.sum()))

    def predict_flops(self, batch: Batch, generated: int) -> float:
        """Floating-point operations of :meth:`predict` over a padded batch.

        Args:
            batch: The samples.
            generated: Tokens per sample that came out, padding included.
        """
        sizes = self.sizes
        samples, input_tokens = batch.inputs.shape
        outputs: float = 2.0 * sizes.hidden * sizes.vocabulary * samples * generated
        decoder = decoder_flops(sizes, samples, input_tokens, generated)
        return encoder_flops(sizes, samples, input_tokens) + decoder + outputs

    def encode(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Bodies ``(batch, tokens)`` and their mask to states ``(batch, tokens, hidden)``."""
        states: Tensor = self.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state
        return states

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
    def greedy(self, inputs: Tensor, mask: Tensor, max_tokens: int) -> Tensor:
        """Greedy names with a key-value cache.

        Args:
            inputs: Token ids of the bodies, ``(batch, tokens)``.
            mask: 1 at real tokens, ``(batch, tokens)``.
            max_tokens: Tokens to generate at most, end mark included.

        Returns:
            Token ids ``(batch, up to max_tokens)``, padded behind the end mark.
        """
        encoded = self.encode(inputs, mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        token = torch.full((len(inputs), 1), self.special.bos, device=inputs.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        names = []
        for _ in range(max_tokens):
            states = self.decoder.bert(
                input_ids=token,
                encoder_hidden_states=encoded,
                encoder_attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            token = self.decoder.lm_head(states[:, -1:]).argmax(-1).masked_fill(ended, self.special.pad)
            names.append(token)
            ended |= token == self.special.eos
            if bool(ended.all()):
                break
        return torch.cat(names, dim=1)


def model_for(config: Config, data: Encoded, seed: int) -> NamingModel:
    """The model of a run, initialised; see :func:`build_model`."""
    return build_model(config, data.vocabulary_size, data.specials, seed)


def build_model(config: Config, vocabulary: int, special: Specials, seed: int) -> NamingModel:
    """Builds and initialises the model.

    Every new parameter draws from a generator seeded by its own name, so that arms of one seed start from the same
    values wherever shapes agree, whatever else an arm adds.

    Args:
        config: The experiment's config.
        vocabulary: Number of tokens.
        special: Ids of the special tokens.
        seed: The run's seed.

    Raises:
        DataError: The pretrained encoder cannot be loaded.
    """
    encoder = _encoder(config, vocabulary, special)
    hidden = encoder.config.hidden_size
    decoder = BertGenerationDecoder(
        BertGenerationConfig(
            vocab_size=encoder.config.vocab_size,
            hidden_size=hidden,
            num_hidden_layers=config.decoder.layers,
            num_attention_heads=config.decoder.heads,
            intermediate_size=config.decoder.intermediate,
            hidden_dropout_prob=config.decoder.dropout,
            attention_probs_dropout_prob=config.decoder.attention_dropout,
            max_position_embeddings=max(512, config.data.output_tokens),
            pad_token_id=special.pad,
            bos_token_id=special.bos,
            eos_token_id=special.eos,
            is_decoder=True,
            add_cross_attention=True,
            tie_word_embeddings=False,
            attn_implementation="sdpa",
        )
    )
    if config.model.share_embeddings:
        decoder.bert.embeddings.word_embeddings = encoder.embeddings.word_embeddings
    if config.model.tie_embeddings:
        decoder.lm_head.decoder.weight = decoder.bert.embeddings.word_embeddings.weight
    model = NamingModel(encoder, decoder, special)
    _initialise(model, config, seed)
    return model


def _encoder(config: Config, vocabulary: int, special: Specials) -> Any:
    size = config.encoder
    if size.pretrained:
        return _pretrained_encoder(config)
    return RobertaModel(
        RobertaConfig(
            vocab_size=vocabulary,
            hidden_size=config.model.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.intermediate,
            hidden_dropout_prob=size.dropout,
            attention_probs_dropout_prob=size.attention_dropout,
            max_position_embeddings=config.data.input_tokens + special.pad + 1,
            type_vocab_size=1,
            pad_token_id=special.pad,
            bos_token_id=special.bos,
            eos_token_id=special.eos,
            attn_implementation="sdpa",
        ),
        add_pooling_layer=False,
    )


def _pretrained_encoder(config: Config) -> Any:
    name = config.encoder.pretrained
    try:
        settings = AutoConfig.from_pretrained(
            name,
            hidden_dropout_prob=config.encoder.dropout,
            attention_probs_dropout_prob=config.encoder.attention_dropout,
        )
        return AutoModel.from_pretrained(
            name, config=settings, add_pooling_layer=False, attn_implementation="sdpa", dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"encoder.pretrained: expected a model folder or hub name, found {name!r}: {reason}") from error


def _initialise(model: NamingModel, config: Config, seed: int) -> None:
    for name, parameter in model.named_parameters():
        if config.encoder.pretrained and name.startswith("encoder."):
            continue
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)  # the gain of a layer norm
        else:
            deviation = 0.02 if config.model.init == "bert" else 1 / math.sqrt(parameter.shape[1])
            generator = torch.Generator().manual_seed(seed_for(f"init/{name}", seed))
            with torch.no_grad():
                parameter.normal_(0.0, deviation, generator=generator)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
