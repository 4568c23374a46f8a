"""Lays Java sources out like java-small, for ``data.corpus: java-small``: see the README beside this file.

A folder a split (``training``, ``validation``, ``test``), in each a folder a project, in each its ``.java`` files
without their folders. Where files of a project have the same name, all but the first in the order of their paths are
numbered.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ablations.errors import AblationsError, DataError
from ablations.naming.archives import SUFFIXES, unpacked
from ablations.naming.corpora import files_below
from ablations.naming.corpora.java_small import FOLDERS


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    sources = {split: [_named(each) for each in getattr(options, split)] for split in FOLDERS}
    try:
        _refuse(options.out, sources)
        with tempfile.TemporaryDirectory(dir=_parent(options.out), prefix=".lay_out-") as scratch:
            unfinished = Path(scratch) / "corpus"
            for split, projects in sources.items():
                for name, source in projects:
                    folder = unfinished / split / name
                    files, renamed = lay_out(source, folder, Path(scratch) / "unpacked")
                    print(f"{split}/{name}: {files:,} files, {renamed:,} of them numbered")
            unfinished.chmod(0o755)
            unfinished.rename(options.out)
    except (AblationsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def lay_out(source: Path, folder: Path, scratch: Path) -> tuple[int, int]:
    """Copies a project's ``.java`` files into one folder.

    Args:
        source: A folder, or an archive, which may be hostile.
        folder: Where to put them; must not exist.
        scratch: Where to unpack an archive.

    Returns:
        How many files there are, and how many had to be numbered.

    Raises:
        DataError: The source is not there, is no folder or archive, is a hostile archive, or holds no ``.java`` file.
    """
    if not source.exists():
        raise DataError(f"there is no {source}")
    if source.is_file() and not source.name.endswith(SUFFIXES):
        raise DataError(f"expected a folder or an archive ({', '.join(SUFFIXES)}), found the file {source}")
    root = source if source.is_dir() else unpacked(source, ".java", scratch, lambda message: None)
    paths = [path for path in files_below(root, ".java", [".git"]) if not (root / path).is_symlink()]
    if not paths:
        raise DataError(f"{source}: expected .java files, found none")
    folder.mkdir(parents=True)
    renamed = 0
    for path, name in flat_names(paths):
        shutil.copyfile(root / path, folder / name)
        renamed += name != os.path.basename(path)
    return len(paths), renamed


def flat_names(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields each path, in alphabetical order, with a file name of its own: ``A.java``, ``A_2.java``, ...

    Names that differ only in case count as the same: some file systems take them for one.
    """
    ordered = sorted(paths)
    own = {os.path.basename(path).casefold() for path in ordered}
    used: set[str] = set()
    for path in ordered:
        name, number = os.path.basename(path), 1
        stem = name.removesuffix(".java")
        while name.casefold() in used or (number > 1 and name.casefold() in own):
            number += 1
            name = f"{stem}_{number}.java"
        used.add(name.casefold())
        yield path, name


def project_name(path: Path) -> str:
    """The project that a folder or archive is called after.

    >>> project_name(Path("sources/ant_1.10.13.orig.tar.xz")), project_name(Path("gradle-8.5.zip"))
    ('ant', 'gradle-8.5')
    """
    name = path.resolve().name
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return re.sub(r"(_[^_]+)?\.orig$", "", name.removesuffix(suffix))
    return name


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Lays Java sources out like java-small.")
    parser.add_argument("out", type=Path, help="folder to make")
    for split in FOLDERS:
        parser.add_argument(
            f"--{split}", nargs="+", required=True, metavar="SOURCE", help="folders or archives, or NAME=SOURCE"
        )
    return parser.parse_args(arguments)


def _named(argument: str) -> tuple[str, Path]:
    name, equals, path = argument.partition("=")
    return (name, Path(path)) if equals else (project_name(Path(argument)), Path(argument))


def _parent(out: Path) -> Path:
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _refuse(out: Path, sources: dict[str, list[tuple[str, Path]]]) -> None:
    if out.exists():
        raise DataError(f"{out} is there already")
    found: dict[str, Path] = {}
    for name, source in (each for projects in sources.values() for each in projects):
        if name in found:
            raise DataError(f"two projects are called {name!r}: {found[name]} and {source}; say NAME=SOURCE")
        if not re.fullmatch(r"[\w.+~-]+", name) or name.startswith("."):
            raise DataError(f"{name!r} is no name for a folder; say NAME=SOURCE")
        found[name] = source


if __name__ == "__main__":
    sys.exit(main())
