"""How much of validation and test the training split has shown already."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ablations.naming.words import LETTERS, split_run


class Texts(Protocol):
    """What is compared of a split: see :class:`ablations.naming.samples.Split`."""

    codes: list[str]
    targets: list[str]


def overlap(train: Texts, others: Mapping[str, Texts]) -> dict[str, dict[str, float]]:
    """Shares of other splits that occur in the training split.

    Args:
        train: The training split.
        others: By name, the splits to compare with it; none is empty.

    Returns:
        By split: ``names``: share of functions whose whole name does; ``bodies``: whose code, the name masked, does,
        up to the width of blank space; ``functions``: whose name and code occur there together; ``name_words`` and
        ``body_words``: share of the words of names and of code, counted as often as they occur, that some training
        name, or some training code, holds. What is missing to 1 is unseen.
    """
    known = _Known(train)
    return {name: known.shares(split) for name, split in others.items()}


@dataclass(frozen=True)
class _Known:
    train: Texts

    @cached_property
    def _names(self) -> set[str]:
        return set(self.train.targets)

    @cached_property
    def _functions(self) -> set[tuple[str, bytes]]:
        return set(zip(self.train.targets, map(_digest, self.train.codes), strict=True))

    @cached_property
    def _bodies(self) -> set[bytes]:
        return {body for _, body in self._functions}

    @cached_property
    def _name_words(self) -> set[str]:
        return {word for name in self._names for word in name.split()}

    @cached_property
    def _body_words(self) -> Collection[str]:
        return body_words(self.train.codes).keys()

    def shares(self, split: Texts) -> dict[str, float]:
        bodies = [_digest(code) for code in split.codes]
        return {
            "names": _share([name in self._names for name in split.targets]),
            "bodies": _share([body in self._bodies for body in bodies]),
            "functions": _share([each in self._functions for each in zip(split.targets, bodies, strict=True)]),
            "name_words": _counted(Counter(word for name in split.targets for word in name.split()), self._name_words),
            "body_words": _counted(body_words(split.codes), self._body_words),
        }


def body_words(codes: Iterable[str]) -> Counter[str]:
    """How often each word of identifiers, keywords, literals and comments occurs, lower-cased."""
    runs, words = Counter[str](), Counter[str]()
    for code in codes:
        runs.update(LETTERS.findall(code))
    for run, times in runs.items():  # each distinct run is split once
        for word in split_run(run):
            words[word] += times
    return words


def _digest(code: str) -> bytes:
    return hashlib.blake2b(" ".join(code.split()).encode("utf-8"), digest_size=16).digest()


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def _counted(words: Counter[str], known: Collection[str]) -> float:
    """Share of the words' occurrences; of none, all are known."""
    total = words.total()
    return sum(times for word, times in words.items() if word in known) / total if total else 1.0
