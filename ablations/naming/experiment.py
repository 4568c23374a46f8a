"""The Sacred experiment: method-name prediction, one run.

What the runner looks for beside the experiment itself: ``prepare`` (once, before any run) and ``PRELOAD`` (modules
imported once for all runs of a machine).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacred import Experiment
from sacred.run import Run

from ablations import machine
from ablations.files import cache_dir
from ablations.naming.config import Config
from ablations.schema import flatten, nest, schema_of

if TYPE_CHECKING:
    import torch

    from ablations.naming.checkpoints import Checkpoints
    from ablations.naming.evaluation import Evaluated
    from ablations.naming.handover import Handover
    from ablations.naming.metrics import Words

KERNELS = ("ablations.naming._attention",) if machine.gpus() and importlib.util.find_spec("triton") else ()
PRELOAD = ("ablations.naming.training", *KERNELS)

ex = Experiment("method-naming", save_git_info=False)
ex.add_config(nest(schema_of(Config).defaults()))


def prepare(configs: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Extracts and encodes the data of every config, each once, into the cache.

    Args:
        configs: Flat configs.
        say: Called with a line on what is being done.

    Raises:
        DataError: A corpus or pretrained encoder is not there or not what it should be.
    """
    from ablations.naming.data import load_data

    for config in configs:
        load_data(Config.from_flat(config), cache_dir(), say)


@ex.main  # type: ignore[untyped-decorator]
def run(_config: Mapping[str, Any], _run: Run, seed: int) -> dict[str, float]:
    """Trains, validates and tests one model; returns its scores."""
    import torch

    from ablations.naming.data import load_data
    from ablations.naming.handover import handover_of
    from ablations.naming.optimisation import compute_repeatably
    from ablations.naming.training import train

    flat = {key: value for key, value in flatten(_config).items() if key != "seed"}
    config = Config.from_flat(flat)
    data = load_data(config, cache_dir())
    _run.info["data"] = data.facts
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute_repeatably(device)
    events = _run.info.setdefault("events", [])  # filled as training goes on: it is there, too, if that fails
    handover = handover_of(Config.trunk(flat), seed, device, data.facts["fingerprint"])
    checkpoints = checkpoints_of(device, data.facts["fingerprint"], handover)
    _run.info["checkpoints_left_aside"] = checkpoints.left_aside
    outcome = train(config, data, seed, device, _run.log_scalar, events=events, checkpoints=checkpoints)
    _run.info["cost"] = outcome.cost
    _run.info.update(outcome.model)
    _run.info["resumed_at"] = outcome.resumed_at
    if outcome.taken_over:
        _run.info["taken_over"] = outcome.taken_over
    _run.info["selected_step"] = outcome.selected_step
    _run.info["references"] = references(data.train.targets, data.test.targets)
    _keep_examples(_run, data.test.targets, outcome.test)
    return outcome.scores


def checkpoints_of(device: torch.device, fingerprint: str, handover: Handover | None = None) -> Checkpoints:
    """The checkpoints of the run that the runner has named, in its folder; in memory for a run outside a folder.

    A checkpoint is taken up only by the same run on the same code and data, with the same torch and kind of device and,
    on a CPU, as many threads: then a resumed run ends with the numbers of an unbroken one (on a CPU to the bit).

    Args:
        device: Where the run computes.
        fingerprint: Of its data.
        handover: What it shares with other runs.
    """
    import torch

    from ablations.naming.checkpoints import Checkpoints
    from ablations.naming.graphs import arithmetic

    folder, run = os.environ.get("ABLATIONS_RUN_DIR"), os.environ.get("ABLATIONS_RUN_KEY")
    if not folder or not run:
        return Checkpoints(handover=handover)
    threads = torch.get_num_threads() if device.type == "cpu" else "any"
    key = "|".join((run, fingerprint, torch.__version__, arithmetic(device), str(threads)))
    return Checkpoints(Path(folder) / "checkpoint" / "last.pt", key, handover)


def references(train: Sequence[Words], test: Sequence[Words]) -> dict[str, dict[str, Any]]:
    """What needs no learning: the scores on the test split of always answering the training split's commonest name.

    Args:
        train: Words of each training name.
        test: Words of each test name.
    """
    from collections import Counter

    from ablations.naming.metrics import score

    counts = Counter(tuple(words) for words in train)
    answer = min(counts, key=lambda words: (-counts[words], words))
    per_sample = score(test, [answer] * len(test))
    scores: dict[str, Any] = {f"test_{name}": sum(values) / len(values) for name, values in per_sample.items()}
    return {"always the commonest name": {"answer": " ".join(answer), **scores}}


def _keep_examples(run: Run, targets: Sequence[Words], test: Evaluated) -> None:
    """Stores the test split sample by sample, one JSON object a line."""
    folder = Path(os.environ.get("ABLATIONS_RUN_DIR", "."))
    path = folder / "test_examples.jsonl.gz"
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for index, (true, predicted) in enumerate(zip(targets, test.predictions, strict=True)):
            scores = {name: round(values[index], 6) for name, values in test.per_sample.items()}
            row = {"example": index, "true": " ".join(true), "predicted": " ".join(predicted), **scores}
            file.write(json.dumps(row).encode() + b"\n")
    run.add_artifact(path)
