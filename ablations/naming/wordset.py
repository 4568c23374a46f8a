"""The words that names are made of, as the outputs of a model that predicts sets of words. numpy alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ablations.naming.data import Split

Decode = Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class NameWords:
    """Whole words, whatever the encoding of the names: one output each.

    Attributes:
        words: The commonest of the training names first; ties by the alphabet.
        share: Of the training names that hold each word, ``(words,)``.
        decode: From the token ids of a name to its words.
    """

    words: tuple[str, ...]
    share: NDArray[np.float64]
    decode: Decode
    _seen: dict[bytes, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @staticmethod
    def learn(train: Split, decode: Decode, size: int, unk: int) -> NameWords:
        """The ``size`` commonest words of the training names, as far as their tokens tell them.

        Args:
            train: The training split.
            decode: From the token ids of a name to its words.
            size: Most words.
            unk: Id of the token for what has none; how it is written is no word.
        """
        names = Counter(
            train.outputs[start:end].tobytes()
            for start, end in zip(train.output_offsets, train.output_offsets[1:], strict=False)
        )
        held, no_words = Counter[str](), set(decode([unk]))
        for name, times in names.items():
            for word in set(decode(np.frombuffer(name, dtype=train.outputs.dtype).tolist())) - no_words:
                held[word] += times
        words = sorted(held, key=lambda word: (-held[word], word))[:size]
        share = np.array([held[word] for word in words], dtype=np.float64) / len(train)
        return NameWords(tuple(words), share, decode)

    def held(self, labels: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[np.float32]:
        """1 at the words that each name holds.

        Args:
            labels: Token ids of the names, ``(batch, name tokens)``.
            real: True at real ones, ``(batch, name tokens)``.

        Returns:
            ``(batch, words)``.
        """
        found = np.zeros((len(labels), len(self.words)), dtype=np.float32)
        for row, (ids, there) in enumerate(zip(labels, real, strict=True)):
            found[row, self._indices(ids[there])] = 1.0
        return found

    def words_at(self, indices: Sequence[int]) -> list[str]:
        """The words of some indices; negative ones are padding."""
        return [self.words[index] for index in indices if index >= 0]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def _indices(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        key = ids.tobytes()
        if key not in self._seen:
            words = set(self.decode(ids.tolist()))
            self._seen[key] = np.array(sorted(self._index[word] for word in words if word in self._index), np.int64)
        return self._seen[key]
