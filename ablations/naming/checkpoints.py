"""The best weights of a run so far."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


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
