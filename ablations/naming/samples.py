"""From functions to samples: which are kept, what of them is shown, in which split; after the options of a study."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.errors import DataError
from ablations.naming.config import Data
from ablations.naming.corpora import SPLITS, Corpus
from ablations.naming.extraction import Source, Table
from ablations.naming.functions import ABSTRACT, DEEP, EMPTY, OVERRIDE
from ablations.naming.overlap import overlap
from ablations.naming.splits import assign
from ablations.naming.words import split_words, without_keywords

VERSION = 4  # part of cache keys: raise it when the same functions and options would give other samples
_LISTED = 50  # names of projects or files in the record at most
_NEAR = 0.01  # a known count of functions may be missed by so much: parsers differ in what they can read
MASK = "\0"  # stands where a name was; no source text holds it


@dataclass
class Split:
    """Samples of one split, in the order of their files and places.

    Attributes:
        codes: Source of each function, its name replaced by ``MASK``.
        targets: Words of each name, lower-cased, joined by spaces.
        ids: ``file:line:column`` of each function, the same on every machine.
        digests: Of each sample's code (up to blank space) and name.
        own_names: Whether each function holds its own name a second time.
        duplicates: How many functions occurred in an earlier split or file, whether they were dropped or not.
    """

    codes: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    own_names: list[bool] = field(default_factory=list)
    duplicates: int = 0


@dataclass(frozen=True)
class Samples:
    """All samples of a study's data section.

    Attributes:
        splits: By name: train, validation, test.
        facts: Counts for the record, see docs/data.md: counts, files, groups, dropped, unparsed, overlap, ...
        fingerprint: SHA-256 over splits, codes and targets.
    """

    splits: Mapping[str, Split]
    facts: dict[str, Any]
    fingerprint: str


def make_samples(table: Table, sources: Sequence[Source], corpus: Corpus, data: Data) -> Samples:
    """Splits, filters, masks and caps the functions of a corpus.

    Raises:
        DataError: Too few groups to split, or a split without samples.
    """
    split_of = _split_sources(table, sources, corpus, data)
    caps = {"train": data.train_samples, "validation": data.validation_samples, "test": data.test_samples}
    chosen = _Choice(data, corpus.language, sources, Counter(table.left_out), set())
    by_split: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(table.numbers[:, 0].tolist()):
        by_split[split_of[file]].append(index)
    splits = {
        split: _capped(chosen.fill(_rows(table, by_split[split]), split), caps[split], chosen.dropped)
        for split in SPLITS
    }
    empty = [split for split in SPLITS if not splits[split].codes]
    if empty:
        raise DataError(
            f"corpus {data.corpus} gave {len(table.codes):,} functions of {len(sources):,} files or rows, "
            f"and none of them is left for {' and '.join(empty)}; left out: {dict(chosen.dropped) or 'none'}; "
            f"not read: {len(table.unparsed):,}"
        )
    counts = _counts(splits, sources, split_of, corpus)
    found = {"files": counts["files"], "functions": {split: len(by_split[split]) for split in SPLITS}}
    facts = {
        **counts,
        **_losses(table, sources, chosen.dropped),
        **_words(splits),
        "duplicates": {split: splits[split].duplicates for split in SPLITS},
        "scored": {split: _scored(splits[split]) for split in SPLITS if split != "train"},
        "overlap": overlap(splits["train"], {split: splits[split] for split in SPLITS if split != "train"}),
        **({"known": {"expected": corpus.known, "found": found}} if corpus.known else {}),
        "warnings": list(_misses(corpus.known, found, data)),
    }
    return Samples(splits, facts, _fingerprint(splits))


def _split_sources(table: Table, sources: Sequence[Source], corpus: Corpus, data: Data) -> list[str]:
    sizes: dict[str, int] = {source.group: 0 for source in sources if source.split is None}
    for file in table.numbers[:, 0].tolist():
        if sources[file].split is None:
            sizes[sources[file].group] += 1
    shares = {"validation": data.validation_share, "test": data.test_share}
    given = {source.split for source in sources}
    carved = {split: share for split, share in shares.items() if split not in given}
    chosen = assign(sizes, carved, data.split_seed, corpus.unit) if sizes else {}
    return [source.split or chosen[source.group] for source in sources]


@dataclass(frozen=True)
class _Row:
    code: str
    name: str
    file: int
    name_start: int
    line: int
    column: int
    flags: int
    comments: Sequence[tuple[int, int]]


def _rows(table: Table, indices: Sequence[int]) -> Iterator[_Row]:
    comments: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, start, end in table.comments.tolist():
        comments[index].append((start, end))
    numbers = table.numbers.tolist()
    for index in indices:
        file, name_start, line, column, flags = numbers[index]
        yield _Row(
            table.codes[index], table.names[index], file, name_start, line, column, flags, comments.get(index, ())
        )


@dataclass(frozen=True)
class _Choice:
    """Which functions are kept; remembers what it saw and counts what it dropped."""

    data: Data
    language: str
    sources: Sequence[Source]
    dropped: Counter[str]
    seen: set[bytes]

    def fill(self, rows: Iterator[_Row], name: str) -> Split:
        split = Split()
        applies = name == "train" or self.data.drop_from == "all"
        for row in rows:
            target = " ".join(split_words(row.name))
            shown = _shown(row, self.data, self.language)
            reason = self._prescribed(row) or (self._unwanted(row, shown) if applies else "")
            digest = _digest(row.name, shown.unmasked)
            if not reason and digest in self.seen:
                split.duplicates += 1
                reason = "duplicate" if self.data.drop_duplicates else ""
            self.seen.add(digest)  # of what is dropped, too: what one split loses must not change another
            reason = reason if target else "no word in its name"
            if reason:
                self.dropped[reason] += 1
                continue
            split.codes.append(shown.code)
            split.targets.append(target)
            split.ids.append(f"{self.sources[row.file].name}:{row.line}:{row.column}")
            split.digests.append(digest)
            split.own_names.append(shown.own_name)
        return split

    def _prescribed(self, row: _Row) -> str:
        """Why a function is no part of the task; empty where it is one."""
        special = self.language == "python" and row.name.startswith("__") and row.name.endswith("__")
        return "special method" if special and not self.data.special_methods else ""

    def _unwanted(self, row: _Row, shown: _Shown) -> str:
        """Why a function is dropped for what it is; empty where it is kept."""
        reasons = {
            "abstract": row.flags & ABSTRACT and not self.data.abstract_methods,
            "empty body": row.flags & EMPTY and not self.data.empty_bodies,
            "override": row.flags & OVERRIDE and not self.data.overrides,
            "deep file": row.flags & DEEP and not self.data.deep_files,
            "own name in its body": shown.own_name and self.data.recursive_calls == "drop",
        }
        return next((reason for reason, holds in reasons.items() if holds), "")


@dataclass(frozen=True)
class _Shown:
    """What a model gets of a function.

    Attributes:
        code: With MASK for the name, and for its other occurrences where they are masked.
        unmasked: The same with the other occurrences left: what makes two functions duplicates.
        own_name: Whether the name occurs a second time.
    """

    code: str
    unmasked: str
    own_name: bool


def _shown(row: _Row, data: Data, language: str) -> _Shown:
    hidden = [] if data.docstrings else row.comments
    spans = [(row.name_start, row.name_start + len(row.name), MASK), *((start, end, " ") for start, end in hidden)]
    pieces, at = [], 0
    for start, end, instead in sorted(spans):
        pieces += [row.code[at:start], instead]
        at = end
    code = "".join([*pieces, row.code[at:]])
    if hidden:
        code = re.sub(r"\s*\n", "\n", code)  # lines that held nothing but a comment
    places = list(_occurrences(code, row.name)) if row.name in code else []
    masked = code
    if places and data.recursive_calls == "mask":
        for start in reversed(places):
            masked = masked[:start] + MASK + masked[start + len(row.name) :]
    if not data.keywords:
        same = masked is code
        code = without_keywords(code, language)
        masked = code if same else without_keywords(masked, language)
    return _Shown(masked, code, bool(places))


def _digest(name: str, code: str) -> bytes:
    """Of a function's name and what is shown of it, up to blank space."""
    return hashlib.blake2b(" ".join([name, *code.split()]).encode("utf-8"), digest_size=16).digest()


def _occurrences(code: str, name: str) -> Iterator[int]:
    """Where a name stands as a whole word."""
    at = code.find(name)
    while at >= 0:
        after = code[at + len(name) : at + len(name) + 1]
        if not (at and _in_identifier(code[at - 1])) and not (after and _in_identifier(after)):
            yield at
        at = code.find(name, at + len(name))


def _in_identifier(character: str) -> bool:
    return character.isalnum() or character in "_$"


def _capped(split: Split, most: int | None, dropped: Counter[str]) -> Split:
    """The samples with the smallest digests: the same ones for every seed, and those of a smaller cap among them."""
    count = len(split.codes)
    if most is None or count <= most:
        return split
    dropped["over the cap"] += count - most
    kept = sorted(sorted(range(count), key=lambda index: (split.digests[index], split.ids[index]))[:most])
    return Split(
        codes=[split.codes[index] for index in kept],
        targets=[split.targets[index] for index in kept],
        ids=[split.ids[index] for index in kept],
        digests=[split.digests[index] for index in kept],
        own_names=[split.own_names[index] for index in kept],
        duplicates=split.duplicates,
    )


def _counts(
    splits: Mapping[str, Split], sources: Sequence[Source], split_of: Sequence[str], corpus: Corpus
) -> dict[str, Any]:
    files = Counter(split_of)
    groups = {split: set[str]() for split in SPLITS}
    for source, split in zip(sources, split_of, strict=True):
        groups[split].add(source.group)
    return {
        "counts": {split: len(splits[split].codes) for split in SPLITS},
        "files": {split: files[split] for split in SPLITS},
        "split_by": corpus.unit,
        "groups": {split: len(groups[split]) for split in SPLITS},
        "projects": {split: sorted(groups[split])[:_LISTED] for split in SPLITS} if corpus.unit == "projects" else {},
    }


def _misses(
    known: Mapping[str, Mapping[str, int]], found: Mapping[str, Mapping[str, int]], data: Data
) -> Iterator[str]:
    """Says where counts differ from those that are known of the corpus: files at all, functions by more than 1 %."""
    for what, expected in known.items():
        tolerance = _NEAR if what == "functions" else 0.0
        if all(abs(found[what][split] - count) <= tolerance * count for split, count in expected.items()):
            continue
        seen, wanted = (" / ".join(f"{counts[split]:,}" for split in SPLITS) for counts in (found[what], expected))
        yield (
            f"{Path(data.path).name if data.path else data.corpus} is not the {data.corpus} of the reference study: "
            f"{what} in {', '.join(SPLITS)}: expected {wanted}, found {seen}"
        )


def _losses(table: Table, sources: Sequence[Source], dropped: Counter[str]) -> dict[str, Any]:
    return {
        "functions_found": len(table.codes),
        "dropped": dict(sorted(dropped.items())),
        "unparsed": len(table.unparsed),
        "unparsed_reasons": dict(sorted(Counter(reason for _, reason in table.unparsed).items())),
        "unparsed_files": [sources[file].name for file, _ in table.unparsed[:_LISTED]],
    }


def _words(splits: Mapping[str, Split]) -> dict[str, Any]:
    train = splits["train"].targets
    name, times = Counter(train).most_common(1)[0]
    known = {word for target in train for word in target.split()}
    own_names = [own_name for split in splits.values() for own_name in split.own_names]
    return {
        "own_name_share": sum(own_names) / len(own_names),
        "unseen_words": {split: _unseen(splits[split].targets, known) for split in SPLITS if split != "train"},
        "commonest_name": {"words": name.split(), "share": times / len(train)},
    }


def _unseen(targets: Sequence[str], known: set[str]) -> float:
    """Share of the names' words that occur in no name of the training split."""
    words = [word for target in targets for word in target.split()]
    return sum(word not in known for word in words) / len(words)


def _scored(split: Split) -> str:
    """SHA-256 over which functions a split scores, whatever is shown of them."""
    functions = sorted(zip(split.ids, split.targets, strict=True))
    return hashlib.sha256("\n".join(f"{place} {target}" for place, target in functions).encode()).hexdigest()


def _fingerprint(splits: Mapping[str, Split]) -> str:
    content = hashlib.sha256()
    for name, split in splits.items():
        content.update(f"{name}:{len(split.codes)}\n".encode())
        for code, target in zip(split.codes, split.targets, strict=True):
            content.update(f"{len(code)}:{code}{target}\n".encode())
    return content.hexdigest()
