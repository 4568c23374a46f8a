"""Where the command line prints: in any encoding, and for whoever is still there to read it."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGNS = {"✓": "+", "✗": "x", "→": ">", "…": ".", "·": ".", "±": "~", "≈": "~", "–": "-", "−": "-", "▲": "^", "▼": "v"}


def prepare() -> None:
    """Makes standard output and standard error print whatever comes, for whoever reads it, if anybody does.

    Where the encoding lacks a character, a sign that stands for it is printed, or its number. When a reader goes away
    (``| head``), all else that would be printed there is dropped, and nothing else changes: no run is stopped by it,
    and the exit code still says what was found, as scripts that say ``set -o pipefail`` want it.
    """
    codecs.register_error("ablations", _plain)
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def _prepared(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # a test's, or none at all
        return stream
    stream.flush()
    raw = _Outliving(stream.fileno(), "wb", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors if codecs.lookup(stream.encoding).name == "utf-8" else "ablations",
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SIGNS.get(each) or ascii(each)[1:-1] for each in text), error.end


class _Outliving(io.FileIO):
    """A file that is none any more once nobody can read what is written to it."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for processes that will inherit it
            os.close(nowhere)
            return super().write(data)
