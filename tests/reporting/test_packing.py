"""Packed results: small, and as good as the whole ones for a report."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from ablations.errors import AblationsError
from ablations.packing import pack
from ablations.plan import run_keys
from ablations.reporting import fragments
from ablations.reporting.context import load_context
from ablations.store import Store
from ablations.study import Study, load_study


@pytest.fixture
def made(synthetic: ModuleType, tmp_path: Path) -> tuple[Study, Store]:
    file = synthetic.write_study(tmp_path)
    synthetic.write_results(file, tmp_path / "results")
    return load_study(file), Store(tmp_path / "results")


def written(study: Path, results: Path, folder: Path) -> dict[str, bytes]:
    """All fragments of a report and their figures, by name."""
    fragments.write(load_context(study, results), folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_a_report_of_packed_results_is_the_same_to_the_byte(made: tuple[Study, Store], tmp_path: Path) -> None:
    study, store = made
    for run in sorted(store.root.glob("runs/*")):
        (run / "log.txt").write_text("a line\n" * 1000)
    packed = pack(study, store, tmp_path / "packed")
    assert sorted(packed) == sorted(
        {key.run_id for key in run_keys(study)} & {p.name for p in store.root.glob("runs/*")}
    )
    whole = written(study.path, store.root, tmp_path / "whole")
    assert whole == written(study.path, tmp_path / "packed", tmp_path / "again")
    sizes = [sum(path.stat().st_size for path in root.rglob("*")) for root in (store.root, tmp_path / "packed")]
    assert sizes[1] < sizes[0] / 2


def test_packed_results_are_packed_again_to_the_same_bytes(made: tuple[Study, Store], tmp_path: Path) -> None:
    study, store = made
    pack(study, store, tmp_path / "one")
    pack(study, Store(tmp_path / "one"), tmp_path / "two")
    one, two = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert any(name.endswith("metrics.jsonl.gz") for name in one)


def test_nothing_is_packed_over_something_or_of_nothing(made: tuple[Study, Store], tmp_path: Path) -> None:
    study, store = made
    with pytest.raises(AblationsError, match="expected a new or empty folder"):
        pack(study, store, store.root)
    with pytest.raises(AblationsError, match="has a record yet; nothing was packed"):
        pack(study, Store(tmp_path / "nowhere"), tmp_path / "target")
    assert not (tmp_path / "target").exists()
