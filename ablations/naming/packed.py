"""Batches of real tokens alone: bodies one after the other, names one after the other, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablations.naming.batches import Batch
from ablations.naming.bodies import FAMILY
from ablations.naming.encoding import Specials
from ablations.naming.heads import NamingModel, SequenceModel
from ablations.naming.operands import IGNORED, Rows

LIMIT = 2**31  # elements from the first key of a body to the last: kernels count them in 32 bits
FLASH = (8, 0)  # compute capability that flash attention needs; its heads are at most 256 wide


def fits(model: NamingModel, device: torch.device) -> bool:
    """Whether the loss of a model is computed here, and fast: names token by token, layers as BERT has them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= FLASH and is_known(model) and _suits_kernels(model)
    return device.type == "cpu" and is_known(model)


def is_known(model: NamingModel) -> bool:
    """Whether this module knows the model's layers."""
    if not isinstance(model, SequenceModel) or model.encoder.config.model_type not in FAMILY:
        return False
    return all(part.config.hidden_act == "gelu" for part in (model.encoder, model.decoder))


def _suits_kernels(model: NamingModel) -> bool:
    parts = (model.encoder.config, model.decoder.config)
    keys_apart = 2 * parts[1].num_hidden_layers * parts[1].hidden_size
    if parts[0].max_position_embeddings * keys_apart >= LIMIT:
        return False
    widths = [part.hidden_size // part.num_attention_heads for part in parts]
    return all(width % 8 == 0 and width <= 256 for width in widths)


@dataclass(frozen=True)
class Packed:
    """A batch on the device; behind the samples come sequences of fillers, whose labels are ignored.

    Attributes:
        ids: Of the bodies' tokens.
        positions: As the encoder counts them, ``(tokens,)``.
        bodies: Where each body begins, and the end, ``(sequences + 1,)``.
        name_ids: Start mark and tokens of the names but the last.
        name_positions: ``(name tokens,)``.
        names: Where each name begins, and the end, ``(sequences + 1,)``.
        labels: The names' tokens, ``(name tokens,)``.
    """

    ids: Rows
    positions: Tensor
    bodies: Tensor
    name_ids: Rows
    name_positions: Tensor
    names: Tensor
    labels: Tensor

    @classmethod
    def of(cls, buffer: Tensor, tokens: int, name_tokens: int, sequences: int) -> Packed:
        """Views of what :func:`pack` has made."""
        sizes = [tokens] * 4 + [sequences + 1] + [name_tokens] * 4 + [sequences + 1, name_tokens]
        parts = torch.split(buffer, sizes)
        return cls(Rows(*parts[:3]), parts[3], parts[4], Rows(*parts[5:8]), *parts[8:])


def pack(
    batch: Batch, special: Specials, first: int, tokens: int, name_tokens: int, sequences: int
) -> NDArray[np.int32]:
    """All of a batch in one array, filled up.

    Args:
        batch: Padded.
        special: Ids of the special tokens.
        first: See :func:`~ablations.naming.bodies.first_position`.
        tokens: Of the bodies, fillers included.
        name_tokens: Of the names, likewise.
        sequences: Bodies, or names, and sequences to fill up with: these have a token each at least.
    """
    pad, fillers = special.pad, sequences - len(batch.rows)
    in_bodies, bodies = _spans(batch.mask.astype(bool), tokens, fillers)
    in_names, names = _spans(batch.real, name_tokens, fillers)
    parts = (
        *_rows(_filled(batch.inputs[in_bodies], tokens, pad)),
        _filled(in_bodies[1] + first, tokens, max(0, first - 1)),
        bodies,
        *_rows(_filled(batch.shifted[in_names], name_tokens, pad)),
        _filled(in_names[1], name_tokens, 0),
        names,
        _filled(batch.labels[in_names], name_tokens, IGNORED),
    )
    return np.concatenate(parts).astype(np.int32)


def _rows(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """See :class:`~ablations.naming.operands.Rows`."""
    places = np.arange(len(ids))
    last = np.empty(ids.max() + 1, dtype=np.int64)
    last[ids] = places  # where each id comes last: that token stands for all that have it
    standing = last[ids]
    stands = standing == places
    return ids, _filled(ids[stands], len(ids), -1), (stands.cumsum() - 1)[standing]


def _spans(real: NDArray[np.bool_], size: int, fillers: int) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    ends = np.concatenate([[0], real.sum(1).cumsum()])
    rest = size - ends[-1]
    return real.nonzero(), np.concatenate([ends, ends[-1] + rest * np.arange(1, fillers + 1) // fillers])


def _filled(values: NDArray[Any], size: int, filler: int) -> NDArray[np.int64]:
    found = np.full(size, filler, dtype=np.int64)
    found[: len(values)] = values
    return found
