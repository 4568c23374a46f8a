"""Where a run can return to: its best weights, and its last checkpoints as a whole."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ablations.naming.handover import Handover
from ablations.naming.tensorfiles import read_tensors, write_tensors

FORMAT = 2
LARGE = 100e6  # bytes: from here on a checkpoint is written when it pays
SHARE = 0.1  # of a run's time, that writing large ones may take


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
    """The last two checkpoints of a run: files in its folder, or a copy of the last in memory where it has none.

    Two, because a file can be damaged after it was written whole. One that cannot be used is left aside: it is removed,
    which is said on stderr and in :attr:`left_aside`, and the one before it takes its place.

    Args:
        path: The file of the last one, or None to keep it in memory; the one before lies beside it.
        key: Says which run, code and data a checkpoint belongs to; another's is never loaded.
        handover: What is left for other runs and taken over from one; nothing without it.

    Attributes:
        left_aside: What could not be used and why, in this attempt and in those whose work is taken up.
    """

    def __init__(self, path: Path | None = None, key: str = "", handover: Handover | None = None):
        self.handover = handover or Handover()
        self._path, self._key = path, key
        self._held: dict[str, Any] | None = None
        self._written_at, self._took = -math.inf, 0.0
        self.left_aside: list[str] = []

    @property
    def pays(self) -> bool:
        """Whether to write one now: always, but for large ones, which are to take a small share of the time.

        So a run that is killed loses no more of its work than ten times what writing a checkpoint takes, and what lies
        between two validations.
        """
        return (time.monotonic() - self._written_at) * SHARE >= self._took

    @property
    def lasting(self) -> bool:
        """Whether a checkpoint survives the process."""
        return self._path is not None

    def save(self, state: Mapping[str, Any]) -> None:
        """Keeps a checkpoint, and of those before it the last one.

        Each file is replaced as a whole: whoever is killed while writing leaves the earlier ones. Where it cannot be
        written (disk full), the run goes on with a copy in memory, and the files stay for whoever resumes it.

        Args:
            state: Tensors and plain values, in dicts and lists.
        """
        whole = {"format": FORMAT, "key": self._key, "left_aside": self.left_aside, **state}
        if self._path is not None:
            start = time.monotonic()
            try:
                write_tensors(self._path, whole, keep=_previous(self._path))
            except (OSError, RuntimeError) as error:
                print(f"no checkpoint could be written: {error}; training goes on without", file=sys.stderr)
            else:
                self._held, self._written_at = None, time.monotonic()
                self._took = self._written_at - start if self._path.stat().st_size >= LARGE else 0.0
                return
        self._held = _copied(whole)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, its tensors in main memory; None where there is none that this run can use."""
        if self._held is not None:
            return dict(_copied(self._held))
        for path in (self._path, _previous(self._path)) if self._path is not None else ():
            if not path.is_file():
                continue
            state, problem = self._read(path)
            if not problem:
                self.left_aside[:] = dict.fromkeys([*state["left_aside"], *self.left_aside])
                return state
            self.left_aside.append(f"{path.name}: {problem}")
            print(f"a checkpoint is left aside: {path.name} is {problem}", file=sys.stderr)
            with contextlib.suppress(OSError):
                path.unlink()  # the next one written must not put it in the place of the sound one before it
        return None

    def _read(self, path: Path) -> tuple[dict[str, Any], str]:
        """A file's checkpoint, and why it cannot be used; nothing in it is executed."""
        try:
            state = read_tensors(path)
            if state["key"] != self._key:
                return {}, "of another run, code, data or device"
            if state["format"] != FORMAT:
                return {}, "of another version"
            return {**state, "left_aside": [str(each) for each in state["left_aside"]]}, ""
        except Exception as error:  # damaged bytes make the readers of zip and pickle raise whatever comes to them
            said = str(error).splitlines()
            return {}, f"unreadable ({said[0] if said else type(error).__name__})"


def _previous(path: Path) -> Path:
    return path.with_name(f"previous{path.suffix}")


def _copied(tree: Any) -> Any:
    """The same with every tensor copied to main memory."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {name: _copied(each) for name, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copied(each) for each in tree]
    return tree
