"""Tensors and plain values in files that are whole or not there, and that execute nothing when they are read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def read_tensors(path: Path) -> dict[str, Any]:
    """What :func:`write_tensors` wrote, in main memory; its checksums are verified, and nothing in it is executed.

    Raises:
        Exception: It is damaged, in whatever way.
    """
    _check_sums(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def write_tensors(path: Path, state: Mapping[str, Any], keep: Path | None = None) -> None:
    """Writes tensors and plain values so that a reader sees the whole file or none.

    Args:
        path: The file.
        state: What to write.
        keep: Where the file goes that was there before; None to replace it.

    Raises:
        OSError: It could not be written.
        RuntimeError: The same, as torch says it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # one name: a run that is killed again and again leaves one such file
    try:
        with open(part, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    except (OSError, RuntimeError):
        part.unlink(missing_ok=True)
        raise


def _check_sums(path: Path) -> None:
    """Raises BadZipFile where the bytes are not those that were written: torch itself does not look."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise zipfile.BadZipFile("compressed, which no checkpoint is")  # what it unpacks to has no bound
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"checksum of {damaged} does not match")
