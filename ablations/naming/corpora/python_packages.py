"""Functions of installed packages, split by project: all of a package goes to one split."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
from pathlib import Path

from ablations.errors import DataError, one_of
from ablations.naming.caching import Say
from ablations.naming.config import Data
from ablations.naming.corpora import Corpus, corpus, file_sources, files_below

EXCLUDED = ("__pycache__", "test", "tests", "node_modules")  # many installations come without tests


@corpus("python-packages")
def python_packages(data: Data, cache: Path, say: Say) -> Corpus:
    """Python files of the packages that a study names by distribution or import name; none of them is imported.

    Raises:
        DataError: A package is not installed, holds no Python files, or is named twice.
    """
    places = {name: _folders(name) for name in data.packages}
    _refuse_overlaps(places)
    files = []
    for name, folders in places.items():
        own = [file for folder in folders for file in _files(folder)]
        if not own:
            raise DataError(f"data.packages: expected Python files in package {name!r}, found none")
        files += [(f"{name}/{inside}", name, None, path) for inside, path in own[:: data.every_nth_file]]
    sources, state = file_sources(sorted(files))
    return Corpus("python", state, lambda: sources, unit="projects")


def _files(place: Path) -> list[tuple[str, str]]:
    """Name from the import name on, and path, of each Python file."""
    if place.is_file():
        return [(place.name, str(place))]
    return [(f"{place.name}/{name}", f"{place}/{name}") for name in files_below(place, ".py", EXCLUDED)]


def _folders(name: str) -> list[Path]:
    """Folders, or single modules, of an import name or else of a distribution."""
    found = _import_folders(name)
    if found:
        return found
    try:
        distribution = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        installed = sorted({each.name for each in importlib.metadata.distributions() if each.name}, key=str.lower)
        raise DataError(f"data.packages: {one_of('installed package', name, installed)}") from None
    tops = {file.parts[0] for file in distribution.files or () if file.suffix == ".py" and file.parts[0] != ".."}
    tops |= set((distribution.read_text("top_level.txt") or "").split())
    return [folder for top in sorted(tops) for folder in _import_folders(top.removesuffix(".py"))]


def _import_folders(name: str) -> list[Path]:
    if not name.isidentifier():
        return []
    spec = importlib.machinery.PathFinder.find_spec(name) or importlib.util.find_spec(name)
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations if Path(place).is_dir()]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _refuse_overlaps(places: dict[str, list[Path]]) -> None:
    owner: dict[Path, str] = {}
    for name, folders in places.items():
        for folder in folders:
            if owner.setdefault(folder, name) != name:
                raise DataError(f"data.packages: {owner[folder]!r} and {name!r} are the same package: name it once")
