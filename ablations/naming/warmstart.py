"""Starting the decoder from a pretrained encoder's weights; cross-attention has none there and stays new.

Source: Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks" (BERT2BERT, RoBERTaShare).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from ablations.errors import DataError
from ablations.naming import encoding
from ablations.naming.config import Config, reserved_positions, warm_start_problems

WORDS, POSITIONS, TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))


def load_pretrained(key: str, name: str, **settings: Any) -> Any:
    """A pretrained encoder in 32 bits, without a pooling layer.

    Args:
        key: Tunable that names it, for the message.
        name: Local folder or hub name.
        settings: What to change in its config.

    Raises:
        DataError: There is none of that name.
    """
    options = {"config": load_settings(key, name, **settings), "attn_implementation": "sdpa", "dtype": torch.float32}
    try:
        try:
            model = AutoModel.from_pretrained(name, add_pooling_layer=False, **options)
        except TypeError:  # it has no pooling layer to leave out
            model = AutoModel.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise _not_there(key, name, error) from error
    for each in model.parameters():
        each.data = each.data.contiguous()  # a file can keep them transposed; kernels read rows one after the other
    return model


def load_settings(key: str, name: str, **settings: Any) -> Any:
    """The config of a pretrained encoder, with some settings changed.

    Raises:
        DataError: There is none of that name.
    """
    try:
        return AutoConfig.from_pretrained(name, **settings)
    except (OSError, ValueError) as error:
        raise _not_there(key, name, error) from error


def _not_there(key: str, name: str, error: Exception) -> DataError:
    return DataError(f"{key}: expected a model folder or hub name, found {name!r}: {str(error).partition(chr(10))[0]}")


def warm_start(decoder: Any, encoder: Any, config: Config) -> dict[str, Any]:
    """Copies a checkpoint's weights into the decoder, wherever name and shape agree.

    A decoder with fewer layers takes the checkpoint's lowest. Word embeddings are copied where both tokenizers have the
    same vocabulary and the decoder does not share the encoder's. See :func:`_offered` for the others.

    Args:
        decoder: A BertGenerationDecoder, initialised; changed here.
        encoder: The model's encoder before training; it may be the checkpoint itself.
        config: The experiment's config; ``decoder.pretrained`` is set.

    Returns:
        What was copied, what is new, and what the decoder did not take of the checkpoint (JSON-ready): tensors,
        parameters and names, of which a number of layers share one (``*``).

    Raises:
        DataError: There is no such checkpoint, its sizes are not the decoder's, or none of its layers fits.
    """
    name = config.decoder.pretrained or ""
    source = encoder if name == config.encoder.pretrained else load_pretrained("decoder.pretrained", name)
    problems = warm_start_problems(source.config.to_dict(), encoder.config.hidden_size, config)
    if problems:
        raise DataError("; ".join(f"{key}: {message}" for key, message in problems))
    offered, own = _offered(source), _own(decoder, config)
    if not _same_vocabulary(config):
        own.pop(WORDS, None)
    copied = {each: min(len(own[each]), len(offered[each])) for each in own if _fits(each, own, offered)}
    if not any(each.startswith("encoder.layer.") for each in copied):
        raise DataError(
            f"decoder.pretrained: expected a checkpoint laid out like BERT, RoBERTa or BertGeneration, found {name!r} "
            f"(model type {source.config.model_type}), of which no layer fits the decoder"
        )
    with torch.no_grad():
        for each, rows in copied.items():
            own[each][:rows] = offered[each][:rows]
    taken = {id(own[each]) for each in copied}
    return {
        "checkpoint": name,
        "model_type": source.config.model_type,
        "copied": _summary({each: own[each][:rows] for each, rows in copied.items()}),
        "new": _summary({each: weight for each, weight in decoder.named_parameters()
                         if id(weight) not in taken and weight is not encoder.get_input_embeddings().weight}),
        "not_taken": _summary({each: weight for each, weight in offered.items() if each not in copied}),
    }  # fmt: skip


def _own(decoder: Any, config: Config) -> dict[str, Tensor]:
    """The decoder's parameters under the names that an encoder has for them, but for embeddings that are shared."""
    own: dict[str, Tensor] = dict(decoder.bert.named_parameters())
    if config.model.tie_embeddings and config.decoder.kind == "parallel":  # which has them as its output layer alone
        own[WORDS] = decoder.lm_head.decoder.weight
    if config.model.share_embeddings:
        own.pop(WORDS, None)
    return own


def _offered(source: Any) -> dict[str, Tensor]:
    """The checkpoint's parameters as the decoder can use them.

    Positions start at row 0: RoBERTa keeps two rows for padding. The embedding of the first token type, which BERT and
    RoBERTa add to every token and this decoder does not have, is added to the positions.
    """
    offered = {name: weight.detach().clone() for name, weight in source.named_parameters()}
    if POSITIONS in offered:
        offered[POSITIONS] = offered[POSITIONS][reserved_positions(source.config.to_dict()) :]
        if TYPES in offered:
            offered[POSITIONS] += offered.pop(TYPES)[0]
    return offered


def _fits(name: str, own: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> bool:
    """Whether all of a tensor can be copied; of positions, as many as there are on both sides."""
    if name not in offered:
        return False
    rows = slice(0, 0) if name == POSITIONS else slice(None)
    return own[name][rows].shape == offered[name][rows].shape


def _same_vocabulary(config: Config) -> bool:
    """Whether the decoder's checkpoint was trained on the very tokens that the study's data have."""
    if config.data.encoding != "pretrained" or not config.encoder.pretrained or not config.decoder.pretrained:
        return False
    if config.encoder.pretrained == config.decoder.pretrained:
        return True
    try:
        codecs = [encoding.pretrained(name) for name in (config.encoder.pretrained, config.decoder.pretrained)]
    except DataError:  # a checkpoint without a tokenizer that the task could use
        return False
    first, second = (json.loads(codec.text)["model"].get("vocab") for codec in codecs)
    return bool(first == second)


def _summary(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    names = Counter(re.sub(r"\.layer\.\d+\.", ".layer.*.", name) for name in weights)
    return {
        "tensors": len(weights),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "names": dict(sorted(names.items())),
    }
