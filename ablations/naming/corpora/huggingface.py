"""A Hugging Face dataset, by hub name or local folder; each row of a column holds a function or a file."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.errors import DataError, one_of
from ablations.naming.caching import Say
from ablations.naming.config import Data
from ablations.naming.corpora import SPLITS, Corpus, corpus, file_sources, files_below
from ablations.naming.extraction import Source

# Names by which datasets call their splits.
ALIASES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
           "val": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip


@corpus("huggingface")
def huggingface(data: Data, cache: Path, say: Say) -> Corpus:
    """Rows of a dataset; its own splits where it has them, the missing ones carved out of ``train``.

    A dataset of the hub is read once and then comes from the cache; a folder is read again when its files change.

    Raises:
        DataError: No such dataset, or no such column, or its rows are no texts.
    """
    if not data.dataset and not data.path:
        raise DataError("corpus huggingface needs data.dataset (a hub name) or data.path (a local folder)")
    state: list[object] = [data.dataset, data.code_column, data.language, data.every_nth_file]
    if data.path:
        state.append(_folder_state(Path(data.path).expanduser()))
    return Corpus(data.language, state, _Rows(data, cache, say).sources, unit="distinct rows")


class _Rows:
    """The rows, read when they are first asked for: a run that finds its data cached needs none."""

    def __init__(self, data: Data, cache: Path, say: Say):
        self.data, self.cache, self.say = data, cache, say
        self._sources: list[Source] | None = None

    def sources(self) -> Sequence[Source]:
        if self._sources is None:
            dataset = _load(self.data, self.cache, self.say)
            split_of = self._splits(list(dataset))
            self._sources = [
                source for own, split in split_of.items() for source in self._rows(dataset[own], own, split)
            ]
        return self._sources

    def _splits(self, own: list[str]) -> dict[str, str | None]:
        """By the dataset's own name of each split that is used: ours, or None for one to carve splits out of."""
        known = {name: ALIASES[name.lower()] for name in own if name.lower() in ALIASES}
        if len(own) == 1:
            return {own[0]: None}
        if "train" not in known.values():
            raise DataError(f"dataset {self.data.dataset or self.data.path}: {one_of('split', 'train', own)}")
        unused = sorted(set(own) - set(known))
        if unused:
            self.say(f"splits of the dataset that are not used: {', '.join(unused)}")
        whole = set(known.values()) == set(SPLITS)
        return {name: None if split == "train" and not whole else split for name, split in known.items()}

    def _rows(self, rows: Any, own: str, split: str | None) -> list[Source]:
        column = self.data.code_column
        if column not in rows.column_names:
            raise DataError(f"data.code_column: {one_of('column', column, rows.column_names)}")
        sources = []
        for index, text in enumerate(rows[column]):
            if index % self.data.every_nth_file:
                continue
            if not isinstance(text, str | None):
                raise DataError(f"data.code_column: expected texts in column {column!r}, found {type(text).__name__}")
            code = textwrap.dedent(text or "") if self.data.language == "python" else text or ""
            group = hashlib.sha256(code.strip().encode("utf-8", "surrogatepass")).hexdigest()
            sources.append(Source(f"{own}/{index}", group, text=code, split=split, size=len(code)))
        return sources


def _load(data: Data, cache: Path, say: Say) -> Mapping[str, Any]:
    """The dataset's splits by its own names for them."""
    name = data.path or data.dataset or ""
    say(f"reading dataset {name}")
    import datasets

    datasets.disable_progress_bars()
    try:
        if data.path:
            folder = Path(data.path).expanduser()
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                loaded = datasets.load_from_disk(str(folder))
            else:
                loaded = datasets.load_dataset(str(folder), cache_dir=str(cache / "huggingface"))
        else:
            hub, _, configuration = name.partition(":")
            loaded = datasets.load_dataset(hub, configuration or None, cache_dir=str(cache / "huggingface"))
    except Exception as error:  # whatever the file formats and the hub come up with
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"cannot load the dataset {name!r}: {reason}") from error
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _folder_state(folder: Path) -> list[object]:
    if not folder.is_dir():
        raise DataError(f"data.path: expected the folder of a dataset, found no folder {folder}")
    return file_sources((name, "", None, f"{folder}/{name}") for name in files_below(folder, ""))[1]
