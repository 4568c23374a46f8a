"""Scoring a split with a model: the same for training, validation and test samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablations.naming import ragged
from ablations.naming.batches import evaluation_order, fixed_widths, make_batch
from ablations.naming.caching import pack
from ablations.naming.config import Config
from ablations.naming.cost import Cost
from ablations.naming.data import Encoded, Split
from ablations.naming.graphs import Scorer
from ablations.naming.heads import NamingModel
from ablations.naming.metrics import score
from ablations.plan import seed_for


@dataclass(frozen=True)
class Evaluated:
    """A split scored by one model.

    Attributes:
        scores: Mean of each metric over the samples, and ``loss``: the mean of what ``model.loss_unit`` says.
        per_sample: Each metric of each sample, ``(samples,)`` in the split's order.
        predictions: The predicted words of each sample.
    """

    scores: dict[str, float]
    per_sample: dict[str, list[float]]
    predictions: list[list[str]]


def evaluate(
    model: NamingModel,
    data: Encoded,
    split: Split,
    config: Config,
    device: torch.device,
    cost: Cost,
    scorer: Scorer | None = None,
) -> Evaluated:
    """Scores a split: the loss as in training, and the metrics of the predicted names.

    Args:
        model: Put into evaluation mode.
        data: Gives special tokens.
        split: The samples.
        config: The experiment's config.
        device: Where to compute.
        cost: Its FLOPs are added to.
        scorer: Of this model, where the split will be scored again.
    """
    model.eval()
    scorer = scorer or Scorer(model, config, device)
    loss_sum, losses = torch.zeros((), dtype=torch.float64, device=device), 0
    found: list[tuple[NDArray[np.int64], Tensor]] = []
    for index, rows in enumerate(evaluation_order(split.input_lengths_uncut, config.evaluation.batch_samples)):
        batch = make_batch(split, rows, data.specials.pad, data.specials.bos, fixed_widths(config))
        scored = scorer.score(split, index, batch)
        loss_sum += scored.total.double()
        losses += scored.losses
        found.append((rows, scored.ids))
        cost.flops += model.score_flops(batch, scored)
    predictions: list[list[str]] = [[] for _ in range(len(split))]
    for rows, ids in found:  # read when all is computed: each reading waits for the device
        for row, name in zip(rows, ids.cpu().tolist(), strict=True):
            predictions[row] = model.words(name)
    per_sample = score(split.targets, predictions)
    scores = {name: float(np.mean(values)) for name, values in per_sample.items()}
    return Evaluated(scores | {"loss": float(loss_sum) / losses}, per_sample, predictions)


def fixed_subset(split: Split, samples: int) -> Split:
    """So many samples of a split, drawn once and for all: the same in every arm and for every seed.

    Args:
        split: Where they are from; all of it where it has no more.
        samples: How many.
    """
    if samples >= len(split):
        return split
    rng = np.random.default_rng(seed_for("evaluation/train_samples", 0))
    return samples_of(split, np.sort(rng.choice(len(split), samples, replace=False)))


def samples_of(split: Split, rows: NDArray[np.int64]) -> Split:
    """These samples of a split, in this order."""
    inputs, input_offsets = ragged.taken(split.inputs, split.input_offsets, rows)
    outputs, output_offsets = ragged.taken(split.outputs, split.output_offsets, rows)
    return Split(
        inputs=inputs,
        input_offsets=input_offsets,
        outputs=outputs,
        output_offsets=output_offsets,
        input_lengths_uncut=split.input_lengths_uncut[rows],
        packed_targets=pack([" ".join(split.targets[row]) for row in rows]),
        packed_ids=pack([split.ids[row] for row in rows]),
    )
