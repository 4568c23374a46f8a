"""Arrays on disk, written once: a lock a file, a new file under a temporary name, then one rename."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Say = Callable[[str], None]
_META = "meta"
DAMAGED = "is damaged"  # in every message on a cached file that has to be made again


def digest(*parts: object) -> str:
    """SHA-256 of the parts' canonical JSON, hexadecimal."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def cached(file: Path, build: Callable[[], tuple[Arrays, dict[str, Any]]], say: Say) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and facts of ``file``; builds and stores them where it is missing or damaged.

    Processes that ask for the same file at once do the work once: the others wait for the first.
    """
    found = load(file, say)
    if found is None:
        with locked(file, say):
            found = load(file, lambda message: None)  # another process may have built it meanwhile
            if found is None:
                found = build()
                save(file, *found)
    return found


def load(file: Path, say: Say) -> tuple[Arrays, dict[str, Any]] | None:
    """Reads what :func:`save` wrote; None where there is nothing, or (said) where it is damaged.

    The checksums inside the file are verified, and nothing in it is executed.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        listed = json.loads(arrays.pop(_META).tobytes())
        if listed["arrays"] != _shapes(arrays):  # the list of members has no checksum
            raise ValueError("arrays are missing")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        say(f"cached file {file.name} {DAMAGED} ({error}): making it again")
        return None
    return arrays, listed["meta"]


def _shapes(arrays: Arrays) -> dict[str, list[object]]:
    return {name: [array.dtype.str, *array.shape] for name, array in sorted(arrays.items())}


def save(file: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Writes arrays and JSON facts so that a reader sees the whole file or none."""
    text = np.frombuffer(json.dumps({"arrays": _shapes(arrays), "meta": meta}).encode("utf-8"), dtype=np.uint8)
    with atomic(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{_META: text, **arrays})
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def atomic(file: Path) -> Iterator[Path]:
    """A temporary path beside ``file`` that takes its place at the end, or vanishes on an error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(file: Path, say: Say) -> Iterator[None]:
    """Holds the lock beside ``file``; the system releases it when its owner dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is making {file.name}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def pack(texts: list[str]) -> NDArray[np.uint8]:
    """Texts without NUL as one array of bytes."""
    return np.frombuffer("\0".join(texts).encode("utf-8"), dtype=np.uint8)


def unpack(packed: NDArray[np.uint8], count: int) -> list[str]:
    """The inverse of :func:`pack`; ``count`` tells no text from one empty text."""
    return packed.tobytes().decode("utf-8").split("\0") if count else []
