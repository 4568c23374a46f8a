"""Which words of a name are found, missed, invented, and taken for which others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

NOTHING = ""  # what stands in a missed word's place where no word was invented


@dataclass
class Confusion:
    """Counts over the examples of any number of runs; words are compared as sets.

    Attributes:
        examples: Pairs of names counted.
        true: How often each word was to be found.
        predicted: How often each word was predicted.
        found: How often it was both.
        taken: Share-outs of missed words: (true word, predicted word) to a count. Where several words were invented in
            one name, a missed word is shared out evenly over them; where none was, it is taken for :data:`NOTHING`.
    """

    examples: int = 0
    true: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    taken: dict[tuple[str, str], float] = field(default_factory=dict)

    def recall(self, word: str) -> float | None:
        """Share of the word's occurrences that were found; None where it was never to be found."""
        return self.found[word] / self.true[word] if self.true[word] else None

    def precision(self, word: str) -> float | None:
        """Share of the word's predictions that were right; None where it was never predicted."""
        return self.found[word] / self.predicted[word] if self.predicted[word] else None

    def missed(self) -> list[tuple[str, int]]:
        """Words by how often they were missed, the most first."""
        return _ordered({word: n - self.found[word] for word, n in self.true.items()})

    def invented(self) -> list[tuple[str, int]]:
        """Words by how often they were predicted and not true, the most first."""
        return _ordered({word: n - self.found[word] for word, n in self.predicted.items()})

    def instead_of(self, word: str) -> list[tuple[str, float]]:
        """What a missed word was taken for, the most frequent first."""
        found = {other: n for (true, other), n in self.taken.items() if true == word}
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def confusion(names: Iterable[tuple[str, str]]) -> Confusion:
    """Counts true and predicted names, each its words between blanks."""
    counts = Confusion()
    for true, predicted in names:
        wanted, said = set(true.split()), set(predicted.split())
        counts.examples += 1
        counts.true.update(wanted)
        counts.predicted.update(said)
        counts.found.update(wanted & said)
        invented = sorted(said - wanted) or [NOTHING]
        for word in wanted - said:
            for other in invented:
                pair = (word, other)
                counts.taken[pair] = counts.taken.get(pair, 0.0) + 1 / len(invented)
    return counts


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(((word, n) for word, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
