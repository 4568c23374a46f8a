"""Where functions come from: one module a corpus, found by being here.

A module registers a function that looks at the study's ``data`` section and says what there is to read::

    @corpus("my-corpus")
    def my_corpus(data: Data, cache: Path, say: Say) -> Corpus: ...
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.errors import DataError, one_of
from ablations.naming.caching import Say
from ablations.naming.config import Data
from ablations.naming.extraction import Source

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Corpus:
    """What a corpus holds, before any of it is read.

    Attributes:
        language: ``python`` or ``java``.
        state: Changes when the content may have changed, e.g. with a file's time; cheap to find out.
        sources: Lists files or rows, the same in every process.
        unit: What goes to one split as a whole, in the plural: ``files``, ``projects``, ``distinct rows``.
        facts: What the record says of where it came from (JSON-ready), e.g. an archive's hash.
        known: Counts that others have published of it, to compare with: ``files`` and ``functions`` by split.
    """

    language: str
    state: object
    sources: Callable[[], Sequence[Source]]
    unit: str = "files"
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


Finder = Callable[[Data, Path, Say], Corpus]
_found: dict[str, Finder] = {}


def corpus(name: str) -> Callable[[Finder], Finder]:
    """Registers a corpus under the name that ``data.corpus`` gives it."""

    def register(finder: Finder) -> Finder:
        if name in _found and _found[name].__module__ != finder.__module__:
            raise ValueError(f"two corpora are called {name!r}: {_found[name].__module__} and {finder.__module__}")
        _found[name] = finder
        return finder

    return register


def corpora() -> dict[str, Finder]:
    """All corpora by name: those of the modules in this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_found.items()))


def find(data: Data, cache: Path, say: Say) -> Corpus:
    """The corpus that a study names.

    Raises:
        DataError: There is none of that name, or it is not there or not what it should be.
    """
    known = corpora()
    if data.corpus not in known:
        raise DataError(one_of("corpus", data.corpus, known))
    return known[data.corpus](data, cache, say)


def files_below(folder: Path, suffix: str, excluded: Iterable[str] = ()) -> list[str]:
    """Relative paths, with ``/``, of a folder's files with that suffix at any depth, sorted.

    Args:
        folder: Where to look; links to folders are not followed.
        suffix: How the names end, e.g. ``.py``.
        excluded: Names of folders to pass by.
    """
    passed, found, root = frozenset(excluded), list[str](), str(folder)
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in passed]
        inside = place[len(root) :].replace(os.sep, "/").strip("/")
        found += [f"{inside}/{name}" if inside else name for name in names if name.endswith(suffix)]
    return sorted(found)


def file_sources(files: Iterable[tuple[str, str, str | None, str]]) -> tuple[list[Source], list[object]]:
    """Sources of (name, group, split, path), and their state: size and time of each.

    Raises:
        DataError: A file vanished meanwhile.
    """
    sources, state = [], list[object]()
    for name, group, split, path in files:
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        source = Source(_printable(name), _printable(group), path, split=split, size=status.st_size)
        sources.append(source)
        state.append([source.name, split, source.size, status.st_mtime_ns])
    return sources, state


def _printable(name: str) -> str:
    """The name of a file, which on Linux may be any bytes, as text that every record can hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
