"""Building the model: an encoder over the body, a BertGenerationDecoder, and one of the heads of ``heads.py``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import BertGenerationConfig, BertGenerationDecoder, RobertaConfig, RobertaModel

from ablations.naming.config import Config
from ablations.naming.data import Encoded
from ablations.naming.encoding import Specials
from ablations.naming.heads import Decode, NamingModel, ParallelModel, SequenceModel, SetModel
from ablations.naming.warmstart import load_pretrained, load_settings, warm_start
from ablations.naming.wordset import NameWords
from ablations.plan import seed_for

DRAWS = {
    *("normal_", "uniform_", "trunc_normal_"),
    *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"),
}


def model_for(config: Config, data: Encoded, seed: int) -> NamingModel:
    """The model of a run, initialised; see :func:`build_model`."""
    names = None
    if config.decoder.kind == "set":
        names = NameWords.learn(data.train, data.decode, config.decoder.words, data.specials.unk)
    return build_model(config, data.vocabulary_size, data.specials, seed, data.decode, names)


def build_model(
    config: Config,
    vocabulary: int,
    special: Specials,
    seed: int,
    decode: Decode | None = None,
    names: NameWords | None = None,
) -> NamingModel:
    """Builds and initialises the model.

    Every new parameter draws from a generator seeded by its own name, so that arms of one seed start from the same
    values wherever shapes agree, whatever else an arm adds.

    Args:
        config: The experiment's config.
        vocabulary: Number of tokens.
        special: Ids of the special tokens.
        seed: The run's seed.
        decode: From token ids to words; needed to turn predictions into words.
        names: The words to choose from; needed by kind ``set``.

    Raises:
        DataError: A pretrained encoder cannot be loaded, or does not fit the decoder that is to start from it.
    """
    encoder = _encoder(config, vocabulary, special)
    with _Undrawn():
        decoder = _decoder(config, encoder.config, special)
    model = _with_head(config, encoder, decoder, special, decode, names)
    _initialise(model, config, seed)
    if config.decoder.pretrained:
        model.facts["warm_start"] = warm_start(decoder, encoder, config)
    return model


class _Undrawn(TorchFunctionMode):
    """In this no module draws its first values: all of them would be drawn anew, and that takes longest in building."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in DRAWS:
            return self.leave(args[0] if args else kwargs["tensor"])
        return func(*args, **(kwargs or {}))

    def leave(self, tensor: Tensor) -> Tensor:
        """What is done in place of drawing: nothing."""
        return tensor


def _decoder(config: Config, encoder: Any, special: Specials) -> Any:
    start = config.decoder.pretrained
    settings = load_settings("decoder.pretrained", start).to_dict() if start else {}
    return BertGenerationDecoder(
        BertGenerationConfig(
            hidden_act=settings.get("hidden_act", "gelu"),
            layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
            vocab_size=encoder.vocab_size,
            hidden_size=encoder.hidden_size,
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


def _with_head(
    config: Config, encoder: Any, decoder: Any, special: Specials, decode: Decode | None, names: NameWords | None
) -> NamingModel:
    """Joins encoder and decoder; embeddings are shared and tied, those that a kind has no use for are left out."""
    kind, embeddings = config.decoder.kind, decoder.bert.embeddings
    decoder.lm_head.bias = decoder.lm_head.decoder.bias  # else there is a second one that nothing uses
    if config.model.share_embeddings:
        embeddings.word_embeddings = encoder.embeddings.word_embeddings
    if config.model.tie_embeddings:
        decoder.lm_head.decoder.weight = embeddings.word_embeddings.weight
    if kind != "sequence":
        embeddings.word_embeddings = nn.Identity()  # position queries come without a token
    if kind == "set":
        if names is None:
            raise ValueError("decoder.kind set needs the words of the training names")
        return SetModel(encoder, decoder, special, names)
    if kind == "parallel":
        return ParallelModel(encoder, decoder, special, decode, config.data.output_tokens)
    evaluation = config.evaluation
    return SequenceModel(encoder, decoder, special, decode, evaluation.cache, evaluation.causal)


def _encoder(config: Config, vocabulary: int, special: Specials) -> Any:
    size = config.encoder
    if size.pretrained:
        return load_pretrained(
            "encoder.pretrained",
            size.pretrained,
            hidden_dropout_prob=size.dropout,
            attention_probs_dropout_prob=size.attention_dropout,
        )
    with _Undrawn():
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


def _initialise(model: NamingModel, config: Config, seed: int) -> None:
    tied = {"decoder.lm_head.decoder.weight": "decoder.bert.embeddings.word_embeddings.weight"}
    for found, parameter in model.named_parameters():
        name = tied.get(found, found) if config.model.tie_embeddings else found
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
    model.initialise_head()


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
