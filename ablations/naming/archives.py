"""Source files out of an archive that nobody has to trust."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ablations.errors import DataError
from ablations.naming.caching import Say, atomic, digest, locked

LARGEST_MEMBER = 32 << 20  # bytes unpacked
LARGEST_TOTAL = 16 << 30  # bytes unpacked, all members together, those that are passed by too
LARGEST_HEADER = 1 << 20  # bytes of a long name or of extended attributes, which are read into memory
MOST_MEMBERS = 4_000_000
DEEPEST = 64  # folders inside one another
SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip")
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
_DONE = ".complete"
_SAID = 64 << 20  # bytes: to hash more takes long enough to say so


@dataclass(frozen=True)
class Identity:
    """What an archive is, wherever it lies and whatever it is called.

    Attributes:
        size: Bytes.
        sha256: Of its bytes, hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # "file", "folder", or what else it is
    open: Callable[[], IO[bytes] | None]


def identity(archive: Path, cache: Path, say: Say) -> Identity:
    """Size and SHA-256 of an archive; hashed again when its place, size or time has changed.

    Raises:
        DataError: It cannot be read, or changed meanwhile.
    """
    try:
        state = _state(archive)
        known = cache / "archives" / f"{digest(str(archive.resolve()), state)[:24]}.json"
        try:
            return Identity(**json.loads(known.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # not there, or damaged
            pass
        if state[0] > _SAID:
            say(f"checking {archive.name}")
        with archive.open("rb") as stream:
            found = Identity(state[0], hashlib.file_digest(stream, "sha256").hexdigest())
        _refuse_change(archive, state)
    except OSError as error:
        raise DataError(f"{archive}: cannot be read: {error.strerror}") from error
    with atomic(known) as temporary:
        temporary.write_text(json.dumps(vars(found)), encoding="utf-8")
    return found


def unpacked(archive: Path, suffix: str, cache: Path, say: Say, sha256: str | None = None) -> Path:
    """A folder with the archive's files of that suffix, unpacked once.

    Args:
        archive: A tar (plain, gzip, xz, bzip2) or zip file.
        suffix: Which files to take, e.g. ``.java``; what else is in it is passed by, but must not be hostile.
        cache: Where to unpack.
        say: Hears what is being done.
        sha256: What the archive must be, hexadecimal; None where that is not known.

    Raises:
        DataError: It is another archive, or none, is damaged, or has members that lead out of it, are links, or are
            too large.
    """
    found = identity(archive, cache, say)
    if sha256 is not None and found.sha256 != sha256.lower():
        raise DataError(
            f"{archive}: expected an archive with SHA-256 {sha256.lower()} (data.sha256), found {found.sha256} "
            f"({found.size:,} bytes): damaged on the way, or another one"
        )
    key = digest(found.sha256, suffix)[:24]
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
            state = _state(archive)
            _unpack(archive, suffix, unfinished)
            _refuse_change(archive, state)
            (unfinished / _DONE).touch()
            unfinished.rename(folder)
        except _DAMAGE as error:
            raise DataError(f"{archive}: expected an archive ({', '.join(SUFFIXES)}), found damage: {error}") from error
        except OSError as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _state(archive: Path) -> list[int]:
    status = archive.stat()
    return [status.st_size, status.st_mtime_ns]


def _refuse_change(archive: Path, before: list[int]) -> None:
    if _state(archive) != before:
        raise DataError(f"{archive}: changed while it was read")


def _unpack(archive: Path, suffix: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    total = 0
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    for count, member in enumerate(members, start=1):
        place = _place(archive, member)
        if count > MOST_MEMBERS:
            raise DataError(f"{archive}: more than {MOST_MEMBERS:,} members; refused")
        if member.kind != "file" or not member.name.endswith(suffix) or place.name.startswith("._"):
            total += member.size  # of a tar, these bytes are unpacked to get past them
        else:
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
    if len(path.parts) > DEEPEST:
        raise DataError(f"{archive}: member {member.name[:80]!r} lies more than {DEEPEST} folders deep; refused")
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


class _BoundedInfo(tarfile.TarInfo):
    """Refuses, before they are read into memory, headers that grow without bound."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile's hook for subclasses
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._sparse()
        reads = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
                 tarfile.SOLARIS_XHDTYPE}  # fmt: skip
        if self.type in reads and self.size > LARGEST_HEADER:
            raise ValueError(f"a header of {self.size:,} bytes")
        return super()._proc_member(opened)  # type: ignore[misc,no-any-return]

    def _sparse(self, *header: object) -> None:
        raise ValueError("a sparse file, whose list of pieces has no bound")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*", tarinfo=_BoundedInfo) as opened:
        for info in opened:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"
            yield _Member(info.name, info.size, kind, lambda info=info: opened.extractfile(info))  # type: ignore[misc]
            opened.members = []  # type: ignore[attr-defined]  # or it keeps every header in memory
        _read_to_the_end(opened)


def _read_to_the_end(opened: tarfile.TarFile) -> None:
    """Reads what follows the last member: the checksum of a gzip stream stands at its very end."""
    left = LARGEST_TOTAL
    while opened.fileobj is not None and (read := len(opened.fileobj.read(1 << 20))):
        left -= read
        if left < 0:
            raise ValueError(f"more than {LARGEST_TOTAL >> 30} GiB after its last member")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 28  # of a Unix file: 8 regular, 4 folder, 10 link
            kind = "folder" if info.is_dir() else "file" if mode in {0, 8} else "link or device"
            yield _Member(info.filename, info.file_size, kind, lambda info=info: opened.open(info))  # type: ignore[misc]
