"""Where a run can return to: its best weights, and its last checkpoint as a whole."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 1


class Best:
    """The checkpoint with the best validation score so far; of equal ones, the earliest (method §7)."""

    def __init__(self, select_by: str):
        self.step = 0
        self.scores: dict[str, float] = {}
        self._name = select_by.removeprefix("validation_")
        self._weights: dict[str, Tensor] = {}

    def offer(self, step: int, scores: dict[str, float], model: nn.Module) -> None:
        """Keeps the model's weights if its validation scores are the best yet."""
        if self.step and not self._better(scores):
            return
        self.step, self.scores = step, scores
        self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def _better(self, scores: Mapping[str, float]) -> bool:
        if self._name == "last":
            return True
        new, old = scores[self._name], self.scores[self._name]
        return new < old if self._name == "loss" else new > old

    def restore(self, model: nn.Module) -> None:
        """Puts the kept weights back."""
        model.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"step": self.step, "scores": self.scores, "weights": self._weights}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on from that."""
        self.step, self.scores, self._weights = state["step"], state["scores"], state["weights"]


class Checkpoints:
    """The last checkpoint of a run: a file in its folder, or a copy in memory where it has none.

    Args:
        path: The file, or None to keep checkpoints in memory.
        key: Says which run, code and data a checkpoint belongs to; another's is never loaded.
    """

    def __init__(self, path: Path | None = None, key: str = ""):
        self._path, self._key = path, key
        self._held: dict[str, Any] | None = None

    @property
    def lasting(self) -> bool:
        """Whether a checkpoint survives the process."""
        return self._path is not None

    def save(self, state: Mapping[str, Any]) -> None:
        """Keeps a checkpoint in place of the one before.

        The file is replaced as a whole: whoever is killed while writing leaves the earlier one. Where it cannot be
        written (disk full), the run goes on with a copy in memory.

        Args:
            state: Tensors and plain values, in dicts and lists.
        """
        whole = {"format": FORMAT, "key": self._key, **state}
        if self._path is not None:
            try:
                _write(self._path, whole)
            except (OSError, RuntimeError) as error:
                print(f"no checkpoint could be written: {error}; training goes on without", file=sys.stderr)
                self._path.unlink(missing_ok=True)  # a rollback must not find one that is older than it thinks
            else:
                self._held = None
                return
        self._held = _copied(whole)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, its tensors in main memory; None where there is none that this run can use."""
        if self._held is not None:
            return dict(_copied(self._held))
        if self._path is None or not self._path.exists():
            return None
        try:
            _check_sums(self._path)
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
            problem = "of another run, code, data or device" if state["key"] != self._key else ""
            problem = problem or ("of another version" if state["format"] != FORMAT else "")
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError,
                zipfile.BadZipFile) as error:  # fmt: skip
            problem = f"unreadable ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if problem:
            print(f"a checkpoint is left aside: it is {problem}", file=sys.stderr)
            return None
        return state


def _check_sums(path: Path) -> None:
    """Raises BadZipFile where the bytes are not those that were written: torch itself does not look."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"checksum of {damaged} does not match")


def _write(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # one name: a run that is killed again and again leaves one such file
    try:
        with open(part, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError):
        part.unlink(missing_ok=True)
        raise


def _copied(tree: Any) -> Any:
    """The same with every tensor copied to main memory."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {name: _copied(each) for name, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copied(each) for each in tree]
    return tree
