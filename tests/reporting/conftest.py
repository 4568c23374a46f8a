"""Results folders in every state, built once a session."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from ablations.reporting.context import Context, load_context


def _load(name: str) -> ModuleType:
    """A helper module beside this file, whatever pytest's import mode."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    return _load("synthetic")


@dataclass(frozen=True)
class State:
    study: Path
    results: Path

    def context(self) -> Context:
        return load_context(self.study, self.results)


@pytest.fixture(scope="session")
def state(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], State]:
    """Gives the study and results folder of a named state of ``synthetic.STATES``."""
    made: dict[str, State] = {}

    def make(name: str) -> State:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            state = synthetic.STATES[name]
            study = synthetic.write_study(folder, state.text, state.seeds)
            if state.outcomes:
                synthetic.write_results(study, folder / "results", state.outcomes, state.effects)
            made[name] = State(study, folder / "results")
        return made[name]

    return make
