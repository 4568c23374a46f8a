"""Near-synonyms of name words: learnt from the training split, or read from a table.

Learning follows what was measured on the standard library (benchmarks/near_synonyms.py): words with the same neighbours
are alike, but so are opposites and parts of one compound. These give themselves away, because one file holds both
(``start_server`` beside ``stop_server``), which nobody does with synonyms.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.errors import DataError
from ablations.naming.samples import MASK
from ablations.naming.words import LETTERS, split_run, split_words

VERSION = 1  # part of cache keys: raise it when the same samples would give other pairs
SMOOTHING = 0.75  # of the neighbours' frequencies (Levy, Goldberg and Dagan 2015)
MOST_WORDS = 20_000  # words of the code that get a vector
MOST_NAME_WORDS = 3_000  # words of names that get near-synonyms
LEAST_NAMES = 5  # training names that hold the word
LEAST_TIMES = 10  # times that a word occurs in code and names
LEAST_LIKENESS = 0.1  # cosine
NEAREST_SPELLED = 10  # a word and its abbreviation or inflection are among each other's so many nearest
LARGEST_TABLE = 16 << 20  # bytes of a supplied table

Pair = tuple[str, str, float]
Matrix = NDArray[np.float64]
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def learn(codes: Sequence[str], targets: Sequence[str], ids: Sequence[str]) -> list[Pair]:
    """Near-synonyms among the words of names.

    Two words are near-synonyms if each is the other's most alike, or if one is spelled like a short or inflected form
    of the other and both are much alike; but never if they are the only difference between two names of one file, or
    repeatedly between identifiers of one function, or parts of one identifier.

    Args:
        codes: Source of each training function, ``MASK`` for its name.
        targets: Words of each name, joined by spaces.
        ids: ``file:line:column`` of each function.

    Returns:
        (word, word, cosine of their vectors), each pair once, words in alphabetical order, the most alike first.

    Source: Levy, Goldberg and Dagan 2015, "Improving Distributional Similarity with Lessons Learned from Word
    Embeddings" (PPMI with smoothed contexts), on the nearest word to either side alone.
    """
    names = [tuple(target.split()) for target in targets]
    holding = Counter(word for name in names for word in set(name))
    texts = _texts(codes, names)
    times = Counter(itertools.chain.from_iterable(texts))
    known = _commonest(times, LEAST_TIMES, MOST_WORDS)
    frequent = set(known)
    words = [word for word in _commonest(holding, LEAST_NAMES, MOST_NAME_WORDS) if len(word) > 1 and word in frequent]
    if len(words) < 2:
        return []
    likeness = _likeness(texts, known, words)
    return _pairs(words, likeness, *_opposed(words, codes, names, ids))


def _texts(codes: Sequence[str], names: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Words of each function in their order, those of its name in their place."""
    return [
        [word for run in LETTERS.findall(code.replace(MASK, f" {' '.join(name)} ", 1)) for word in split_run(run)]
        for code, name in zip(codes, names, strict=True)
    ]


def _commonest(times: Counter[str], least: int, most: int) -> list[str]:
    ranked = sorted((word for word, count in times.items() if count >= least), key=lambda word: (-times[word], word))
    return ranked[:most]


def _likeness(texts: Iterable[Sequence[str]], known: Sequence[str], words: Sequence[str]) -> Matrix:
    """Cosines of the words' neighbours, ``(words, words)``: left ones and right ones apart, by their information."""
    from scipy import sparse

    index = {word: at for at, word in enumerate(known)}
    gap = -1  # the last word of a function is no neighbour of the first one of the next
    flat = np.array([at for text in texts for at in (*(index.get(word, gap) for word in text), gap)], dtype=np.int32)
    one, other = flat[:-1], flat[1:]
    real = (one >= 0) & (other >= 0)
    ones, shape = np.ones(int(real.sum())), (len(known), len(known))
    right = sparse.coo_matrix((ones, (one[real], other[real])), shape=shape).tocsr()
    counts = sparse.hstack([right, right.T]).tocoo()
    rows, columns = (np.asarray(counts.sum(axis)).ravel() for axis in (1, 0))
    smoothed = columns**SMOOTHING
    information = np.log(counts.data / (rows[counts.row] * smoothed[counts.col] / smoothed.sum()))
    kept = information > 0
    vectors = sparse.csr_matrix((information[kept], (counts.row[kept], counts.col[kept])), shape=counts.shape)
    chosen = vectors[[index[word] for word in words]]
    norms = np.sqrt(np.asarray(chosen.multiply(chosen).sum(1)).ravel())
    unit = sparse.diags(1 / np.where(norms > 0, norms, 1.0)) @ chosen
    likeness: Matrix = np.round((unit @ unit.T).toarray(), 4)  # so that the last bit decides no tie
    return likeness


def _opposed(
    words: Sequence[str], codes: Sequence[str], names: Sequence[tuple[str, ...]], ids: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pairs that no synonyms are, ``(words, words)``: surely opposed ones, and those that may be parts of compounds."""
    index = {word: at for at, word in enumerate(words)}
    of_file: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for name, place in zip(names, ids, strict=True):
        of_file[place.rsplit(":", 2)[0]].add(name)
    in_files = Counter[tuple[int, int]]()
    for inside in of_file.values():
        in_files.update(set(_differing(inside, index)))
    in_functions, together = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    parts: dict[str, tuple[str, ...]] = {}
    for code, name in zip(codes, names, strict=True):
        inside = {name}
        for identifier in set(_IDENTIFIER.findall(code)):
            if identifier not in parts:
                parts[identifier] = split_words(identifier)
            if len(parts[identifier]) > 1:
                inside.add(parts[identifier])
        in_functions.update(set(_differing((each for each in inside if len(each) > 1), index)))
        for each in inside:
            together.update(itertools.combinations(sorted({index[word] for word in each if word in index}), 2))
    size = len(words)
    opposed = _marked(in_files, 1, size) | _marked(in_functions, 4, size)
    return opposed, opposed | _marked(in_functions, 2, size) | _marked(together, 2, size)


def _differing(names: Iterable[tuple[str, ...]], index: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Pairs of words that are the only difference between two names."""
    fillers: dict[tuple[tuple[str, ...], tuple[str, ...]], set[int]] = defaultdict(set)
    for name in names:
        for place, word in enumerate(name):
            if word in index:
                fillers[name[:place], name[place + 1 :]].add(index[word])
    for alternatives in fillers.values():
        yield from itertools.combinations(sorted(alternatives), 2)


def _marked(times: Counter[tuple[int, int]], least: int, size: int) -> NDArray[np.bool_]:
    marks = np.zeros((size, size), dtype=bool)
    for (one, other), count in times.items():
        marks[one, other] = marks[other, one] = count >= least
    return marks


def _pairs(words: Sequence[str], likeness: Matrix, opposed: NDArray[np.bool_], unfit: NDArray[np.bool_]) -> list[Pair]:
    np.fill_diagonal(likeness, -1.0)
    nearest = _among(np.where(unfit, -1.0, likeness), 1)
    near = _among(likeness, NEAREST_SPELLED) & ~opposed
    found = list[Pair]()
    for one, other in np.argwhere(np.triu((nearest | near) & (likeness >= LEAST_LIKENESS))):
        if nearest[one, other] or spelled_alike(words[one], words[other]):
            first, second = sorted((words[one], words[other]))
            found.append((first, second, float(likeness[one, other])))
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _among(likeness: Matrix, most: int) -> NDArray[np.bool_]:
    """Whether each of two words is among the other's ``most`` most alike."""
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :most]
    marks = np.zeros(likeness.shape, dtype=bool)
    np.put_along_axis(marks, order, np.take_along_axis(likeness, order, axis=1) > 0, axis=1)
    return marks & marks.T


def spelled_alike(one: str, other: str) -> bool:
    """Whether the shorter word begins the longer one, or is made of its first letter and some later consonants.

    >>> spelled_alike("msg", "message"), spelled_alike("file", "files"), spelled_alike("stop", "step")
    (True, True, False)
    """
    short, long = sorted((one, other), key=len)
    if len(short) < 3 or short[0] != long[0]:
        return False
    letters = iter(long)
    return long.startswith(short) or (not set(short[1:]) & set("aeiou") and all(letter in letters for letter in short))


# --- tables -----------------------------------------------------------------------------------------------------


def alternatives(pairs: Iterable[tuple[str, str, float]]) -> dict[str, list[str]]:
    """Each word's near-synonyms, in alphabetical order."""
    found: dict[str, set[str]] = defaultdict(set)
    for one, other, _ in pairs:
        found[one].add(other)
        found[other].add(one)
    return {word: sorted(found[word]) for word in sorted(found)}


def read(path: Path) -> dict[str, list[str]]:
    """Near-synonyms of a table.

    Args:
        path: A ``.csv`` file, each row a group of words that may stand for one another; or a ``.json`` file, a list
            of such groups, or an object from a word to the list of words that may replace it.

    Raises:
        DataError: There is no such file, it is no such table, or an entry is no single word.
    """
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise DataError(f"data.synonyms: {path} is larger than {LARGEST_TABLE >> 20} MiB; refused")
        text = path.read_text(encoding="utf-8-sig")
        groups = _json_groups(path, json.loads(text)) if path.suffix == ".json" else _csv_groups(path, text)
    except OSError as error:
        raise DataError(f"data.synonyms: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"data.synonyms: {path} is no {path.suffix[1:] or 'CSV'} file: {error}") from error
    found: dict[str, set[str]] = defaultdict(set)
    for replaced, others in groups:
        for word in replaced:
            found[word] |= set(others) - {word}
    table = {word: sorted(others) for word, others in sorted(found.items()) if others}
    if not table:
        raise DataError(f"data.synonyms: {path} holds no word with a near-synonym")
    return table


_Group = tuple[list[str], list[str]]  # words to replace, and what by


def _csv_groups(path: Path, text: str) -> Iterator[_Group]:
    for line, row in enumerate(csv.reader(text.splitlines()), start=1):
        group = [_word(each, f"{path}:{line}") for each in row if each.strip()]
        yield group, group


def _json_groups(path: Path, content: Any) -> Iterator[_Group]:
    entries = content.items() if isinstance(content, dict) else [(None, each) for each in _listed(content, path)]
    for word, others in entries:
        group = [_word(each, str(path)) for each in _listed(others, path)]
        yield ([_word(word, str(path))] if word is not None else group), group


def _listed(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"data.synonyms: {path}: expected a list of words, found {type(value).__name__}")
    return value


def _word(value: Any, place: str) -> str:
    words = split_words(value.strip()) if isinstance(value, str) else ()
    if len(words) != 1:
        raise DataError(f"data.synonyms: {place}: expected a single word of letters, found {value!r}")
    return words[0]
