import contextlib
import io
import json
import logging
import random
import shutil
import uuid

import pytest
from rich.console import Console

from ablations.importing.choices import Choices
from ablations.importing.importer import import_runs
from ablations.importing.reading import tools_of
from ablations.standing import standing
from ablations.store import Store
from ablations.study import load_study


class Place:
    """A folder into which runs are imported; ``said`` is what the last import printed."""

    def __init__(self, folder):
        self.folder, self.study, self.results = folder, folder / "study.yaml", folder / "results"
        self.said = ""

    def take(self, *sources, tool=None, **choices):
        out = io.StringIO()
        paths = [self.folder / source for source in sources]
        console = Console(file=out, width=200, markup=False, highlight=False)
        import_runs(tools_of(paths, tool), Choices(**choices), self.study, self.results, console)
        self.said = out.getvalue()
        return self

    @property
    def loaded(self):
        return standing(load_study(self.study), Store(self.results))

    def records(self):
        """The record of each run that counts, by arm and seed."""
        found = [json.loads(path.read_text()) for path in self.results.glob("runs/*/record.json")]
        return {(record["variant"], record["seed"]): record for record in found}

    def write(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")
        return name


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)  # nobody pulls the plug here
    return Place(tmp_path)


@pytest.fixture(scope="session")
def sacred_runs(tmp_path_factory):
    """Folders that Sacred's FileStorageObserver has written: a baseline, two rates and a depth on three seeds, both
    together, and runs that broke, were stopped and diverged."""
    import numpy as np
    from sacred import SETTINGS, Experiment
    from sacred.observers import FileStorageObserver

    SETTINGS.CAPTURE_MODE = "no"
    SETTINGS.HOST_INFO.INCLUDE_GPU_INFO = False
    root = tmp_path_factory.mktemp("made") / "runs_sacred"

    def make(seed, trouble="", **updates):
        ex = Experiment("digits", save_git_info=False)
        ex.add_config({"model": {"depth": 2, "act": "relu"}, "lr": 0.1, "sizes": [3, 4], "out": f"out/{uuid.uuid4()}"})
        ex.observers = [FileStorageObserver(root, copy_sources=False)]

        @ex.main
        def run(model, lr, _run):
            rng = random.Random(f"{seed}{lr}{model['depth']}")
            score = 0.5 + 0.02 * random.Random(seed).random() + model["depth"] / 20 - abs(lr - 0.1)
            for step in (0, 10, 20):
                score += 0.05 + rng.gauss(0, 0.002)
                _run.log_scalar("accuracy", float("nan") if trouble == "nan" and step else score, step)
                _run.log_scalar("loss", 1 - score, step)
            if trouble == "error":
                raise ValueError("the data are gone")
            if trouble == "stop":
                raise KeyboardInterrupt
            score = float("nan") if trouble == "nan" else score
            return {"test": {"accuracy": np.float64(score)}, "n": np.int64(9)}

        with contextlib.suppress(ValueError, KeyboardInterrupt):
            ex.run(config_updates={"seed": seed, **updates}, options={"--loglevel": "CRITICAL"})

    level = logging.getLogger().level  # Sacred sets that of all loggers
    for seed in (1, 2, 3):
        make(seed)
        make(seed, lr=0.2)
        make(seed, lr=np.float64(0.4))
        make(seed, model={"depth": 4})
        make(seed, model={"depth": 4}, lr=0.2)
    make(4, "error", lr=0.2)
    make(4, "stop")
    make(4, "nan", lr=0.4)
    logging.getLogger().setLevel(level)
    return root


@pytest.fixture
def from_sacred(place, sacred_runs):
    """A place beside whose study lie Sacred's folders, which a test may change."""
    shutil.copytree(sacred_runs, place.folder / "runs_sacred")
    return place
