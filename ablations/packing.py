"""A study's results in small: what a report needs of its runs, to keep with the sources or to send to a reader."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

from ablations.errors import AblationsError
from ablations.plan import run_keys
from ablations.store import Store
from ablations.study import Study
from ablations.trials import ledger_path, trial_runs

KEPT = ("record.json", "test_examples.jsonl.gz")
METRICS = "metrics.jsonl"


def pack(study: Study, store: Store, folder: Path) -> list[str]:
    """Copies records, curves (compressed) and scores by example of a study's runs, its trials' too, and its ledgers.

    What is left behind is what a run can make again or a reader does not need: logs, checkpoints, what Sacred keeps.
    The folder is one of results like any other: reports are rendered from it, and runs repeated from its records.

    Args:
        study: Whose runs are packed; others in the folder of results stay out.
        store: Where they are.
        folder: New or empty.

    Returns:
        The ids of the runs packed.

    Raises:
        AblationsError: The folder holds something, or no run of the study has a record.
    """
    if folder.exists() and any(folder.iterdir()):
        raise AblationsError(f"{folder}: expected a new or empty folder, found something in it")
    wanted = {key.run_id for key in run_keys(study)} | trial_runs(study, store)
    found = sorted(run_id for run_id in wanted if (store.run_dir(run_id) / KEPT[0]).is_file())
    if not found:
        raise AblationsError(f"{store.root}: no run of {study.name} has a record yet; nothing was packed")
    for run_id in found:
        _pack_run(store.run_dir(run_id), folder / "runs" / run_id)
    for path in _ledgers(study, store):
        target = folder / path.relative_to(store.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return found


def _pack_run(run_dir: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in KEPT:
        if (run_dir / name).is_file():
            shutil.copyfile(run_dir / name, target / name)
    metrics = run_dir / METRICS
    if metrics.is_file():
        (target / f"{METRICS}.gz").write_bytes(gzip.compress(metrics.read_bytes(), 9, mtime=0))
    elif metrics.with_name(f"{METRICS}.gz").is_file():
        shutil.copyfile(metrics.with_name(f"{METRICS}.gz"), target / f"{METRICS}.gz")


def _ledgers(study: Study, store: Store) -> Iterator[Path]:
    for ablation in study.ablations:
        if ablation.search and (path := ledger_path(study, ablation, store)).is_file():
            yield path
