"""Sequences of different lengths in one flat array: sequence ``i`` is ``flat[offsets[i]:offsets[i + 1]]``."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


def offsets_of(lengths: NDArray[Any]) -> Offsets:
    """Where each sequence begins, and at the end where the last one ends: ``(sequences + 1,)``."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def taken(flat: NDArray[Number], offsets: Offsets, which: NDArray[np.int64]) -> tuple[NDArray[Number], Offsets]:
    """The sequences ``which``, in that order, as often as they are named."""
    starts, lengths = offsets[:-1][which], np.diff(offsets)[which]
    bounds = offsets_of(lengths)
    within = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    return flat[np.repeat(starts, lengths) + within], bounds


def head(flat: Ids, offsets: Offsets, most: int) -> tuple[Ids, Offsets]:
    """The first ``most`` ids of each sequence."""
    lengths = np.diff(offsets)
    if not len(lengths) or lengths.max() <= most:
        return flat, offsets
    within = np.arange(len(flat)) - np.repeat(offsets[:-1], lengths)
    return flat[within < most], offsets_of(np.minimum(lengths, most))


def wrapped(flat: Ids, offsets: Offsets, first: list[int], last: int) -> tuple[Ids, Offsets]:
    """Each sequence between ``first`` (at most one id) and ``last``."""
    count, extra = len(offsets) - 1, len(first) + 1
    grown = offsets + extra * np.arange(count + 1)
    ids = np.full(len(flat) + extra * count, last, dtype=np.int32)
    if first:
        ids[grown[:-1]] = first[0]
    ids[np.arange(len(flat)) + np.repeat(extra * np.arange(count) + len(first), np.diff(offsets))] = flat
    return ids, grown
