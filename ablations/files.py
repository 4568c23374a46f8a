"""Files that are whole or absent, whoever is killed while writing them. The stdlib alone."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import uuid
from pathlib import Path
from typing import Any

from ablations.errors import AblationsError


def write_atomic(path: Path, text: str) -> None:
    """Writes a whole file or nothing: a reader, a crash or a loss of power never sees half of it.

    Raises:
        OSError: It could not be written; what was there before is still there.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")  # on two hosts, two processes may have one id
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()  # on a full disk it would keep the room that the next one needs
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder last, where the file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_whole(path: Path) -> bytes:
    """The bytes of a file; a pipe or a device in its place is neither waited for nor read without end.

    Raises:
        AblationsError: There is something else than a file.
        OSError: It cannot be read.
    """
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise AblationsError(f"{path}: expected a file, found a pipe, socket or device")
        return file.read()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, or None where the file is absent.

    Raises:
        AblationsError: The file is not a whole JSON object.
    """
    try:
        content = json.loads(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise AblationsError(f"{path}: expected a JSON object, found a damaged file ({error})") from error
    if not isinstance(content, dict):
        raise AblationsError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def read_versioned(path: Path, kind: str, newest: int) -> dict[str, Any] | None:
    """A JSON object that says in ``format`` which version of its layout it has, or None where the file is absent.

    Args:
        path: The file.
        kind: What it is, in a message.
        newest: The newest layout that this version of the package knows.

    Raises:
        AblationsError: It is damaged, says no version, or one that is newer: nothing is guessed from it.
    """
    content = read_json(path)
    if content is None:
        return None
    found = content.get("format")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise AblationsError(f"{path}: expected a {kind} with its format, from 1 to {newest}, found {found!r}")
    if found > newest:
        raise AblationsError(
            f"{path}: a {kind} of format {found}, this version reads up to {newest}: it was written by a newer version "
            "of ablations; use that one, or another results folder"
        )
    return content


def cache_dir() -> Path:
    """Where what can be made again is kept: $ABLATIONS_CACHE, else the user's cache folder."""
    chosen = os.environ.get("ABLATIONS_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ablations"
