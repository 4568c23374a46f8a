"""The splits on the device: moved once, and each batch put together there from its rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ablations.naming.batches import Batch
from ablations.naming.data import Split
from ablations.naming.encoding import Specials
from ablations.naming.heads import Tensors, moved


class _Ragged(NamedTuple):
    """Sequences one after the other; sequence ``i`` is ``flat[offsets[i]:offsets[i + 1]]``."""

    flat: Tensor
    offsets: Tensor

    def padded(self, rows: Tensor, width: int, pad: int) -> tuple[Tensor, Tensor]:
        """Some of them side by side, ``(rows, width)``, and where they are no padding."""
        starts = self.offsets[rows]
        at = torch.arange(width, device=rows.device)
        real = at < (self.offsets[rows + 1] - starts)[:, None]
        found = self.flat[torch.where(real, starts[:, None] + at, 0)].long()
        return torch.where(real, found, pad), real


class ResidentSplit:
    """A split on the device: its ids (int32) and offsets; what a step sends there are the batch's rows.

    Args:
        split: The samples.
        specials: Ids of the special tokens.
        device: Where to keep them.
    """

    def __init__(self, split: Split, specials: Specials, device: torch.device):
        self._specials, self._device = specials, device
        arrays = (split.inputs, split.input_offsets, split.outputs, split.output_offsets)
        inputs, input_offsets, outputs, output_offsets = (moved(np.array(each), device) for each in arrays)
        self._inputs, self._outputs = _Ragged(inputs, input_offsets), _Ragged(outputs, output_offsets)

    def tensors(self, batch: Batch) -> Tensors:
        """The batch as :meth:`~ablations.naming.heads.NamingModel.tensors` gives it; of its arrays only shapes,
        rows and the places of labels are used, none of which has to be asked of the device.

        Args:
            batch: Of the split's own samples; names that were augmented are not here.
        """
        special, rows = self._specials, moved(batch.rows, self._device)
        inputs, mask = self._inputs.padded(rows, batch.inputs.shape[1], special.pad)
        labels, _ = self._outputs.padded(rows, batch.labels.shape[1], special.pad)
        shifted = torch.cat([labels.new_full((len(rows), 1), special.bos), labels[:, :-1]], dim=1)
        places = moved(np.flatnonzero(batch.real), self._device)
        return Tensors(
            inputs,
            None if batch.mask.all() else mask[:, None, None],
            shifted,
            labels.flatten().index_select(0, places),
            places,
            moved(batch.starts, self._device),
        )
