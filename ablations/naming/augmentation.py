"""Training names with some of their words replaced by near-synonyms, anew in every epoch. numpy alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.naming import ragged
from ablations.naming.encoding import Codec
from ablations.naming.ragged import Ids, Offsets
from ablations.plan import seed_for

SHOWN = 50  # entries of the table in the record


class Augmentation:
    """Replaces words of training names; knows how each word is written at a name's beginning and further on.

    A name whose ids are not its words' ids one after the other (no tokenizer seen does that) is left alone.
    """

    def __init__(
        self,
        table: Mapping[str, Sequence[str]],
        names: Sequence[Sequence[str]],
        encoded: tuple[Ids, Offsets],
        codec: Codec,
        rate: float,
        output_tokens: int,
    ):
        """Prepares the training split's names.

        Args:
            table: Near-synonyms by word.
            names: Words of each training name.
            encoded: Ids of each name, neither cut nor ended.
            codec: Encoded them.
            rate: Chance that a word with near-synonyms is replaced.
            output_tokens: Ids of a name at most, end mark included.
        """
        self._rate, self._output_tokens, self._eos = rate, output_tokens, codec.specials.eos
        words = sorted({word for name in names for word in name} | {each for some in table.values() for each in some})
        index = {word: at for at, word in enumerate(words)}
        flat, self._offsets = _numbered(names, index)
        written, bounds = _written(words, codec)  # word w first in a name: 2 w; further on: 2 w + 1
        unknown = _holds(written, bounds, codec.specials.unk)[1::2]
        kept = {
            index[word]: [index[each] for each in others if not unknown[index[each]]]
            for word, others in table.items()
            if word in index
        }
        self._others, self._other_offsets = _listed(kept, len(words))
        self._forms = 2 * flat + 1
        self._forms[self._offsets[:-1]] -= 1  # every name has a first word
        self._written, self._bounds, self._left_alone = self._left_as_they_are(written, bounds, encoded)
        self._replaceable = np.diff(self._other_offsets)[flat] > 0
        self._replaceable &= self._forms < 2 * len(words)
        self._drawn: tuple[tuple[int, int], NDArray[np.int64]] | None = None
        self.facts = self._facts(table, words, kept)

    def outputs(self, rows: NDArray[np.int64], epoch: int, seed: int) -> tuple[Ids, Offsets]:
        """Ids of the names of some training samples as an epoch shows them: cut, end mark included.

        Args:
            rows: Indices of the samples in the training split, ``(batch,)``.
            epoch: 0-based; a sample's words do not depend on the batch it is in.
            seed: The run's seed.

        Returns:
            Ids one after the other, and ``(batch + 1,)`` offsets.
        """
        forms = self._drawn_forms(epoch, seed)
        chosen, names = ragged.taken(forms, self._offsets, rows)
        ids, pieces = ragged.taken(self._written, self._bounds, chosen)
        ended = ragged.wrapped(ids, pieces[names], first=[], last=self._eos)
        return ragged.head(*ended, self._output_tokens)

    def _drawn_forms(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """Written form of each word of all names in an epoch; the last epoch asked for is kept."""
        if self._drawn is None or self._drawn[0] != (epoch, seed):
            rng = np.random.default_rng(seed_for(f"augmentation/{epoch}", seed))
            chance, choice = rng.random((2, len(self._forms)))
            at = np.flatnonzero(self._replaceable & (chance < self._rate))
            word, further = np.divmod(self._forms[at], 2)
            counts = np.diff(self._other_offsets)[word]
            others = self._others[self._other_offsets[word] + (choice[at] * counts).astype(np.int64)]
            forms = self._forms.copy()
            forms[at] = 2 * others + further
            self._drawn = (epoch, seed), forms
        return self._drawn[1]

    def _left_as_they_are(
        self, written: Ids, bounds: Offsets, encoded: tuple[Ids, Offsets]
    ) -> tuple[Ids, Offsets, int]:
        """Gives names that are not their words' ids one after the other a form of their own; says how many."""
        composed, pieces = ragged.taken(written, bounds, self._forms)
        places = pieces[self._offsets]
        lengths, wanted = np.diff(places), np.diff(encoded[1])
        differs = lengths != wanted
        same = np.flatnonzero(~differs)
        mine, theirs = ragged.taken(composed, places, same)[0], ragged.taken(*encoded, same)[0]
        differs[same[np.repeat(np.arange(len(same)), wanted[same])[mine != theirs]]] = True
        alone = np.flatnonzero(differs)
        if not len(alone):
            return written, bounds, 0
        whole, whole_bounds = ragged.taken(*encoded, alone)
        first_new = len(bounds) - 1
        grown = np.concatenate([bounds, bounds[-1] + whole_bounds[1:], [bounds[-1] + whole_bounds[-1]]])
        for number, name in enumerate(alone):
            start, end = self._offsets[name], self._offsets[name + 1]
            self._forms[start] = first_new + number
            self._forms[start + 1 : end] = first_new + len(alone)  # the empty form
        return np.concatenate([written, whole]), grown, len(alone)

    def _facts(
        self, table: Mapping[str, Sequence[str]], words: Sequence[str], kept: Mapping[int, Sequence[int]]
    ) -> dict[str, Any]:
        usable = {words[word]: [words[other] for other in others] for word, others in kept.items() if others}
        canonical = json.dumps({word: list(others) for word, others in sorted(table.items())}, sort_keys=True)
        return {
            "words": len(table),
            "usable_words": len(usable),
            "replaceable_share": float(self._replaceable.mean()),
            "names_left_alone": self._left_alone,
            "sha256": hashlib.sha256(canonical.encode("utf-8")).hexdigest(),
        }


def _numbered(names: Sequence[Sequence[str]], index: Mapping[str, int]) -> tuple[NDArray[np.int64], Offsets]:
    flat = np.array([index[word] for name in names for word in name], dtype=np.int64)
    return flat, ragged.offsets_of(np.array([len(name) for name in names], dtype=np.int64))


def _written(words: Sequence[str], codec: Codec) -> tuple[Ids, Offsets]:
    """Ids of each word at the beginning of a name and further on, in turn; ``2 * len(words)`` sequences."""
    first, first_bounds = codec.encode(words)
    before = "a"  # a tokenizer may write the blank before a word into its first piece
    skipped = len(codec.encode([before])[0])
    later, later_bounds = codec.encode([f"{before} {word}" for word in words])
    sequences = []
    for at in range(len(words)):
        sequences.append(first[first_bounds[at] : first_bounds[at + 1]])
        sequences.append(later[later_bounds[at] + skipped : later_bounds[at + 1]])
    lengths = np.array([len(each) for each in sequences], dtype=np.int64)
    return np.concatenate(sequences).astype(np.int32), ragged.offsets_of(lengths)


def _holds(flat: Ids, offsets: Offsets, token: int) -> NDArray[np.bool_]:
    """Whether each sequence holds the token, or nothing at all."""
    found = ragged.offsets_of(flat == token)
    holds: NDArray[np.bool_] = (found[offsets[1:]] > found[offsets[:-1]]) | (np.diff(offsets) == 0)
    return holds


def _listed(lists: Mapping[int, Sequence[int]], count: int) -> tuple[NDArray[np.int64], Offsets]:
    flat = np.array([each for at in range(count) for each in lists.get(at, ())], dtype=np.int64)
    return flat, ragged.offsets_of(np.array([len(lists.get(at, ())) for at in range(count)], dtype=np.int64))
