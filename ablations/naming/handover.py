"""What a training leaves for others that begin as it does, and what it takes over from one.

In the folder ``trunk/`` of a run that was told to: ``state.pt``, all that the steps after its last one depend on, and,
where others have its weights scored anew, ``weights-<step>.pt`` of each validation. A run that takes over copies the
values that were logged up to there, so that its curves are whole.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablations import sharing
from ablations.errors import AblationsError
from ablations.naming.graphs import arithmetic
from ablations.naming.tensorfiles import read_tensors, write_tensors
from ablations.plan import config_hash
from ablations.schema import Trunk
from ablations.store import read_metrics

FORMAT = 1
SCORED = ("validation_", "train_eval_")  # how the names of what is measured by looking at the weights begin
Logged = tuple[str, int, float, float]  # metric, step, value, seconds


@dataclass(frozen=True)
class TakenOver:
    """What a run takes over.

    Attributes:
        run_id: The run that it is from.
        state: What that run left at its last step, see ``Trainer``.
        alike: Whether it was scored as this run is: then its scores are taken over, too, else its weights are scored.
        logged: Its logged values up to there.
    """

    run_id: str
    state: dict[str, Any]
    alike: bool
    logged: list[Logged]
    _folder: Path
    _key: str

    @property
    def steps(self) -> int:
        """Optimizer steps that are taken over."""
        return int(self.state["step"])

    def weights(self, step: int) -> dict[str, Any]:
        """The weights as they were validated after a step."""
        weights: dict[str, Any] = _read(_weights(self._folder, step), self._key)["model"]
        return weights

    def has_weights(self, steps: list[int]) -> bool:
        """Whether the weights of all these steps are there and whole."""
        try:
            return all(self.weights(step) for step in steps)
        except _Unusable:
            return False

    def pass_on(self, to: Path | None, steps: list[int]) -> None:
        """Leaves the same weights in another folder."""
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            for step in steps:
                with contextlib.suppress(OSError):  # whoever misses them trains whole
                    os.link(_weights(self._folder, step), _weights(to, step))

    def entries(self, scored_at: list[int]) -> Iterator[tuple[str, int, float, float]]:
        """The logged values as this run would have logged them: metric, step, value, and the seconds that each took.

        Args:
            scored_at: Steps whose scores are this run's, too.
        """
        before = 0.0
        for metric, step, value, seconds in self.logged:
            if not metric.startswith(SCORED) or step in scored_at:
                yield metric, step, value, max(0.0, seconds - before)
            before = seconds


class Handover:
    """Leaves and takes; without a folder it does neither.

    Args:
        key: Says what training this is, on which code, data and device: another's is never taken over.
        scored: How it is scored (see :class:`~ablations.schema.Trunk`).
        leaves: Where to leave what others take over; None to leave nothing.
        trail: Whether the weights of each validation are left, too.
        source: The folder of the run to take over from; None for none.
    """

    def __init__(
        self,
        key: str = "",
        scored: Mapping[str, Any] | None = None,
        leaves: Path | None = None,
        trail: bool = False,
        source: Path | None = None,
    ):
        self._key, self._scored, self._leaves, self._trail, self._source = (
            key,
            dict(scored or {}),
            leaves,
            trail,
            source,
        )

    @property
    def trail(self) -> Path | None:
        """Where the weights of each validation are left; None where they are not."""
        return self._leaves if self._trail else None

    def leave_weights(self, step: int, weights: Mapping[str, Any]) -> None:
        """Leaves the weights that were validated after a step, where others need them."""
        if self.trail is not None:
            self._write(_weights(self.trail, step), {"model": dict(weights)})

    def leave(self, state: Mapping[str, Any]) -> None:
        """Leaves all that the next steps depend on, where others need it."""
        if self._leaves is not None:
            self._write(self._leaves / "state.pt", {**state, "scored": self._scored})

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        try:
            write_tensors(path, {"format": FORMAT, "key": self._key, **state})
        except (OSError, RuntimeError) as error:
            print(f"nothing could be left for other runs: {error}", file=sys.stderr)

    def take(self) -> TakenOver | None:
        """What another run has left for this one; None, which is said, where it does not fit or is damaged."""
        if self._source is None:
            return None
        folder = self._source / sharing.NAME
        try:
            state = _read(folder / "state.pt", self._key)
            logged = [each for each in read_metrics(self._source / "metrics.jsonl") if each[1] <= state["step"]]
        except (_Unusable, AblationsError, OSError) as error:
            print(f"nothing is taken over from {self._source.name}: {error}", file=sys.stderr)
            return None
        alike = state["scored"] == self._scored
        return TakenOver(self._source.name, state, alike, logged, folder, self._key)


class _Unusable(Exception):
    """What was left cannot be taken over; its text says why."""


def _weights(folder: Path, step: int) -> Path:
    return folder / f"weights-{step}.pt"


def _read(path: Path, key: str) -> dict[str, Any]:
    try:
        found = read_tensors(path)
    except Exception as error:  # damaged bytes make the readers of zip and pickle raise whatever comes to them
        raise _Unusable(f"{path.name} is unreadable ({type(error).__name__})") from error
    if found.get("key") != key or found.get("format") != FORMAT:
        raise _Unusable(f"{path.name} is of another training, code, data or device")
    return found


def handover_of(trunk: Trunk | None, seed: int, device: torch.device, fingerprint: str) -> Handover:
    """What the run that the runner has named is to leave and to take over; neither for a run outside a folder.

    Args:
        trunk: Of its config; None where nothing of it can be shared.
        seed: The run's seed.
        device: Where it computes.
        fingerprint: Of its data.
    """
    folder, run = os.environ.get("ABLATIONS_RUN_DIR"), os.environ.get("ABLATIONS_RUN_KEY")
    if trunk is None or not folder or not run:
        return Handover()
    code = run.rpartition("-")[2]
    threads = torch.get_num_threads() if device.type == "cpu" else "any"
    parts = (config_hash("", trunk.decides), seed, code, fingerprint, torch.__version__, arithmetic(device), threads)
    keeps, source = os.environ.get("ABLATIONS_KEEPS"), os.environ.get("ABLATIONS_TAKES_OVER")
    return Handover(
        key="|".join(map(str, parts)),
        scored=trunk.scored,
        leaves=Path(folder) / sharing.NAME if keeps else None,
        trail=keeps == "trail",
        source=Path(source) if source else None,
    )
