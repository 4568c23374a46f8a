"""Source files out of an archive that nobody has to trust."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ablations.errors import DataError
from ablations.naming.caching import Say, digest, locked

LARGEST_MEMBER = 32 << 20  # bytes unpacked
LARGEST_TOTAL = 16 << 30  # bytes unpacked, all members together
MOST_MEMBERS = 4_000_000
SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip")
_DONE = ".complete"


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # "file", "folder", or what else it is
    open: Callable[[], IO[bytes] | None]


def unpacked(archive: Path, suffix: str, cache: Path, say: Say) -> Path:
    """A folder with the archive's files of that suffix, unpacked once.

    Args:
        archive: A tar (plain, gzip, xz, bzip2) or zip file.
        suffix: Which files to take, e.g. ``.java``; what else is in it is passed by, but must not be hostile.
        cache: Where to unpack.
        say: Hears what is being done.

    Raises:
        DataError: It is no archive, is damaged, or has members that lead out of it, are links, or are too large.
    """
    status = archive.stat()
    key = digest(archive.name, status.st_size, status.st_mtime_ns, suffix)[:24]
    folder = cache / "archives" / key
    if (folder / _DONE).is_file():
        return folder
    with locked(folder, say):
        if (folder / _DONE).is_file():
            return folder
        say(f"unpacking {archive.name}")
        unfinished = folder.with_name(f"{key}.unfinished")
        for leftover in (unfinished, folder):  # of a process that died meanwhile
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            _unpack(archive, suffix, unfinished)
            (unfinished / _DONE).touch()
            unfinished.rename(folder)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{archive}: expected an archive ({', '.join(SUFFIXES)}), found damage: {error}") from error
        except OSError as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _unpack(archive: Path, suffix: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    total = count = 0
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    for member in members:
        count += 1
        place = _place(archive, member)
        if count > MOST_MEMBERS:
            raise DataError(f"{archive}: more than {MOST_MEMBERS:,} members; refused")
        if member.kind != "file" or not member.name.endswith(suffix) or place.name.startswith("._"):
            continue
        target = folder.joinpath(*place.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        total += _copy(archive, member, target)
        if total > LARGEST_TOTAL:
            raise DataError(f"{archive}: more than {LARGEST_TOTAL >> 30} GiB unpacked; refused")


def _place(archive: Path, member: _Member) -> PurePosixPath:
    """The member's place inside the archive."""
    path = PurePosixPath(member.name)
    if member.kind not in {"file", "folder"}:
        raise DataError(f"{archive}: member {member.name!r} is a {member.kind}, only files and folders are allowed")
    if path.is_absolute() or ".." in path.parts or re.search(r"[\0\\]|^[A-Za-z]:", member.name):
        raise DataError(f"{archive}: member {member.name!r} leads out of the archive; refused")
    return path


def _copy(archive: Path, member: _Member, target: Path) -> int:
    """Copies what the member really holds, whatever size it claims; returns the bytes."""
    if member.size > LARGEST_MEMBER:
        raise DataError(f"{archive}: member {member.name!r} is larger than {LARGEST_MEMBER >> 20} MiB; refused")
    stream = member.open()
    if stream is None:
        return 0
    with stream:
        content = stream.read(LARGEST_MEMBER + 1)
    if len(content) > LARGEST_MEMBER:
        raise DataError(f"{archive}: member {member.name!r} is larger than {LARGEST_MEMBER >> 20} MiB; refused")
    target.write_bytes(content)
    return len(content)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"
            yield _Member(info.name, info.size, kind, lambda info=info: opened.extractfile(info))  # type: ignore[misc]
            opened.members = []  # type: ignore[attr-defined]  # or it keeps every header in memory


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 28  # of a Unix file: 8 regular, 4 folder, 10 link
            kind = "folder" if info.is_dir() else "file" if mode in {0, 8} else "link or device"
            yield _Member(info.filename, info.file_size, kind, lambda info=info: opened.open(info))  # type: ignore[misc]
