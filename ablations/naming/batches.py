"""Which samples go into which batch, and how they are padded. numpy alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablations.naming.config import Config
from ablations.naming.data import Encoded, Split
from ablations.naming.ragged import Ids, Offsets
from ablations.plan import seed_for

POOL_BATCHES = 4  # batches sorted by length together; 50 pad less, but learn worse: such batches are too much alike


@dataclass(frozen=True)
class Batch:
    """Padded arrays of one batch.

    Attributes:
        rows: Index of each sample in its split, ``(batch,)``.
        inputs: Token ids of the bodies, ``(batch, tokens)``.
        mask: 1 at real tokens of the bodies, ``(batch, tokens)``.
        shifted: Start token and the name's tokens but the last, ``(batch, name tokens)``.
        labels: The name's tokens, padded, ``(batch, name tokens)``.
        real: True at real tokens of the names, ``(batch, name tokens)``.
    """

    rows: NDArray[np.int64]
    inputs: NDArray[np.int64]
    mask: NDArray[np.int64]
    shifted: NDArray[np.int64]
    labels: NDArray[np.int64]
    real: NDArray[np.bool_]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Which of all real tokens of the names is the first of each, ``(batch,)``."""
        lengths: NDArray[np.int64] = self.real.sum(1)
        return np.cumsum(lengths) - lengths


def steps_of(samples: int, batch_samples: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run; an epoch's last batch may be smaller."""
    return max_steps if max_steps is not None else max(1, math.ceil(epochs * math.ceil(samples / batch_samples)))


def training_order(
    lengths: NDArray[np.int32], batch_samples: int, steps: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yields the rows of each training batch, ``steps`` of them.

    Every epoch is a fresh permutation; inside pools of ``POOL_BATCHES`` batches samples of like length go together.
    Lengths are those before the cut, so the batches of a seed are the same in arms that cut differently.

    Args:
        lengths: Tokens of each body before it is cut, ``(samples,)``.
        batch_samples: Samples per batch.
        steps: Batches to yield.
        seed: The run's seed.
    """
    done, epoch = 0, 0
    while done < steps:
        for rows in _epoch_order(lengths, batch_samples, np.random.default_rng(seed_for(f"order/{epoch}", seed))):
            if done == steps:
                return
            yield rows
            done += 1
        epoch += 1


def _epoch_order(
    lengths: NDArray[np.int32], batch_samples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(len(lengths))
    pool = batch_samples * POOL_BATCHES
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches = [rows[at : at + batch_samples] for at in range(0, len(rows), batch_samples)]
        for at in rng.permutation(len(batches)):
            yield batches[at]


def rearranged(
    order: Iterable[NDArray[np.int64]], steps: int, skipped: Collection[int], postponed: Collection[int]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yields place and rows of each batch of a training order, some of them left out or moved.

    Args:
        order: Rows of each batch; longer than ``steps`` by the batches that may be left out.
        steps: Of the run: the postponed batches are the last of so many.
        skipped: Places in ``order`` that are left out.
        postponed: Places that come last; those also in ``skipped`` are left out there, and batches from behind the
            end of the run take their part.
    """
    waiting = list[tuple[int, NDArray[np.int64]]]()
    first, taken = steps - len(postponed), 0
    for place, rows in enumerate(order):
        if place in skipped:
            continue
        if place in postponed:
            waiting.append((place, rows))
            continue
        if taken == first:
            yield from waiting
        yield place, rows
        taken += 1
    if taken <= first:
        yield from waiting


def evaluation_order(lengths: NDArray[np.int32], batch_samples: int) -> Iterator[NDArray[np.int64]]:
    """Yields all rows once, longest first, in batches of like length."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_samples):
        yield order[start : start + batch_samples]


def training_batch(data: Encoded, rows: NDArray[np.int64], config: Config, position: int, seed: int) -> Batch:
    """Pads training samples, their names augmented where the study asks for it.

    Args:
        data: The data of the run.
        rows: Indices in the training split, ``(batch,)``.
        config: The experiment's config.
        position: 0-based place of the batch in the training order, which tells the epoch.
        seed: The run's seed.
    """
    names = None
    if data.augmentation is not None:
        epoch = position // math.ceil(len(data.train) / config.training.batch_samples)
        names = data.augmentation.outputs(rows, epoch, seed)
    return make_batch(data.train, rows, data.specials.pad, data.specials.bos, fixed_widths(config), names)


def fixed_widths(config: Config) -> tuple[int, int] | None:
    """Lengths to pad to where padding is ``maximum``, else None."""
    return (config.data.input_tokens, config.data.output_tokens) if config.training.padding == "maximum" else None


def make_batch(
    split: Split,
    rows: NDArray[np.int64],
    pad: int,
    bos: int,
    widths: tuple[int, int] | None,
    names: tuple[Ids, Offsets] | None = None,
) -> Batch:
    """Pads the samples of ``rows``.

    Args:
        split: Where they are from.
        rows: Their indices, ``(batch,)``.
        pad: Id of the padding token.
        bos: Id of the start token.
        widths: Lengths to pad bodies and names to; None for the longest of the batch.
        names: Ids of the rows' names, in the rows' order, in place of the split's own.
    """
    wide_input, wide_output = widths or (None, None)
    inputs, mask = _padded(split.inputs, split.input_offsets, rows, pad, wide_input)
    flat, offsets, own = (
        (split.outputs, split.output_offsets, rows) if names is None else (*names, np.arange(len(rows)))
    )
    labels, real = _padded(flat, offsets, own, pad, wide_output)
    shifted = np.concatenate([np.full((len(rows), 1), bos), labels[:, :-1]], axis=1)
    return Batch(rows, inputs, mask.astype(np.int64), shifted, labels, real)


def _padded(
    flat: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.int64], pad: int, width: int | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    at = np.arange(width or lengths.max())
    real = at < lengths[:, None]
    values = flat[np.where(real, starts[:, None] + at, 0)]
    return np.where(real, values, pad).astype(np.int64), real
