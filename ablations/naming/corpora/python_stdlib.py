"""The standard library of the running interpreter: on every machine, no download."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from ablations.errors import DataError
from ablations.naming.caching import Say
from ablations.naming.config import Data
from ablations.naming.corpora import Corpus, corpus, file_sources, files_below

# Installed packages are no part of it; tests are left out because many installations come without them.
EXCLUDED = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib-dynload")


@corpus("python-stdlib")
def python_stdlib(data: Data, cache: Path, say: Say) -> Corpus:
    """Python files of the standard library, split by file."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [
        (file.relative_to(folder).as_posix(), file)
        for file in files_below(folder, ".py", EXCLUDED)
        if not file.relative_to(folder).parts[0].startswith("config-")  # made for one machine
    ]
    if not files:
        raise DataError(f"expected the standard library's .py files in {folder}, found none")
    kept = files[:: data.every_nth_file]
    sources, state = file_sources((name, name, None, file) for name, file in kept)
    return Corpus("python", [sys.version, state], lambda: sources)
