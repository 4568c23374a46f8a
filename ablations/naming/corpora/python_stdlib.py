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
    names = [
        name
        for name in files_below(folder, ".py", EXCLUDED)
        if not name.startswith("config-")  # made for one machine
    ]
    if not names:
        raise DataError(f"expected the standard library's .py files in {folder}, found none")
    kept = names[:: data.every_nth_file]
    sources, state = file_sources((name, name, None, f"{folder}/{name}") for name in kept)
    return Corpus("python", [sys.version, state], lambda: sources)
