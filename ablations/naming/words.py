"""Identifiers as words: ``getHTTPServer2`` is get, http, server."""

from __future__ import annotations

import re
from functools import lru_cache

LETTERS = re.compile(r"[^\W\d_]+")  # runs of letters of any script: digits, "_" and punctuation separate
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


def split_words(identifier: str) -> tuple[str, ...]:
    """Splits at lowerUpper and UPPERUpper-lower boundaries, ``_`` and digits; lower-cased.

    Digits and ``_`` are separators and vanish, so that a name such as ``_`` has no words at all.

    >>> split_words("parseHTTPHeader2_text")
    ('parse', 'http', 'header', 'text')
    """
    return tuple(word for run in LETTERS.findall(identifier) for word in split_run(run))


_PYTHON = """False None True and as assert async await break class continue def del elif else except finally for from
global if import in is lambda nonlocal not or pass raise return try while with yield self cls super"""
_JAVA = """abstract assert boolean break byte case catch char class const continue default do double else enum extends
false final finally float for goto if implements import instanceof int interface long native new null package private
protected public return short static strictfp super switch synchronized this throw throws transient true try void
volatile while"""
_KEYWORDS = {
    language: re.compile(rf"(?<!\w)(?:{'|'.join(words.split())})(?!\w)")
    for language, words in {"python": _PYTHON, "java": _JAVA}.items()
}


def without_keywords(code: str, language: str) -> str:
    """Leaves out a language's keywords where they stand alone; parts of a longer identifier stay.

    >>> without_keywords("def is_open(self): return self.is_open", "python").split()
    ['is_open():', '.is_open']
    """
    return _KEYWORDS[language].sub("", code)


@lru_cache(maxsize=1 << 17)
def split_run(run: str) -> tuple[str, ...]:
    """Splits a run of letters at its changes of case; lower-cased."""
    if run.islower():
        return (run.lower(),)
    if run.isascii():
        return tuple(word.lower() for word in _CAMEL.findall(run))
    starts = [
        place
        for place in range(1, len(run))
        if run[place].isupper() and (run[place - 1].islower() or run[place + 1 : place + 2].islower())
    ]
    return tuple(run[start:end].lower() for start, end in zip([0, *starts], [*starts, len(run)], strict=True))
