"""Java in the layout of code2seq's java-small: a folder a split, in each a folder a project, in each .java files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablations.errors import DataError
from ablations.naming.archives import SUFFIXES, identity, unpacked
from ablations.naming.caching import Say
from ablations.naming.config import Data
from ablations.naming.corpora import Corpus, corpus, file_sources, files_below

FOLDERS = {"training": "train", "validation": "validation", "test": "test"}
KNOWN_EVERY = 10  # every 10th file of code2seq's java-small, as the reference study counted them:
KNOWN = {
    "files": {"train": 8_944, "validation": 188, "test": 527},
    "functions": {"train": 80_598, "validation": 2_337, "test": 5_161},
}


@corpus("java-small")
def java_small(data: Data, cache: Path, say: Say) -> Corpus:
    """Of each project's .java files, sorted by name, every ``data.every_nth_file``-th; the folders are the splits.

    Raises:
        DataError: The path is neither such a folder nor an archive of one, or not the archive that is asked for.
    """
    if data.path is None:
        raise DataError("data.path: corpus java-small needs the path of its folder or archive, found null")
    given = Path(data.path).expanduser()
    if not given.exists():
        raise DataError(f"data.path: {given} does not exist{_beside(given)}")
    if given.is_file() and not given.name.endswith(SUFFIXES):
        raise DataError(f"data.path: expected a folder or an archive ({', '.join(SUFFIXES)}), found the file {given}")
    facts: dict[str, Any] = {}
    if given.is_dir():
        if data.sha256:
            raise DataError(f"data.sha256: expected an archive at data.path, found the folder {given}")
        top = given
    else:
        top = unpacked(given, ".java", cache, say, data.sha256)
        facts["archive"] = {"name": given.name, **vars(identity(given, cache, say))}
    root = _root(top, given)
    files = []
    for folder, split in FOLDERS.items():
        for project in sorted(each for each in (root / folder).iterdir() if each.is_dir()):
            inside = f"{folder}/{project.name}"
            for name in files_below(project, ".java")[:: data.every_nth_file]:
                files.append((f"{inside}/{name}", inside, split, f"{project}/{name}"))
    sources, state = file_sources(files)
    known = KNOWN if data.every_nth_file == KNOWN_EVERY else {}
    return Corpus("java", state, lambda: sources, unit="projects", facts=facts, known=known)


def _root(folder: Path, given: Path) -> Path:
    """The folder that holds the splits: the given one, or the only one inside it."""
    candidates = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    for candidate in candidates:
        if all((candidate / split).is_dir() for split in FOLDERS):
            return candidate
    found = sorted(each.name + ("/" if each.is_dir() else "") for each in folder.iterdir() if each.name[0] != ".")
    shown = ", ".join(found[:12]) or "nothing"
    raise DataError(f"data.path: expected the folders {', '.join(FOLDERS)} in {given}, found {shown}")


def _beside(path: Path) -> str:
    """What lies where the path was expected."""
    parent = path.parent
    if not parent.is_dir():
        return f", nor does the folder {parent}"
    names = sorted(each.name for each in parent.iterdir() if not each.name.startswith("."))[:12]
    return f"; in {parent} there is: {', '.join(names) or 'nothing'}"
