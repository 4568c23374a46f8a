"""Checks of the data: warnings, overlap, archives, augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ablations.reporting import checks
from ablations.reporting.context import Context, load_context

State = Callable[[str], Any]
HOSTILE = "files in train: expected 8,944, found 3 | <script> {{< include x >}}"


def more(variant: str, seed: int, info: dict[str, Any]) -> Iterable[tuple[str, int, float, float]]:
    data = info["data"]
    shares = {"names": 0.61, "bodies": 0.02, "functions": 0.0, "name_words": 0.96, "body_words": 0.98}
    data["overlap"] = {"validation": shares, "test": {**shares, "names": 0.58}}
    data["duplicates"] = {"train": 900, "validation": 80, "test": 70}
    data["archive"] = {"name": "java-small.tar.gz", "size": 379_000_000, "sha256": "ab" * 32}
    data["known"] = {"expected": {"files": {"train": 8944, "test": 527}}, "found": {"files": {"train": 3, "test": 527}}}
    data["warnings"] = [HOSTILE]
    data["scored"] = {"validation": "cd" * 32, "test": ("ef" if variant == "input" else "ab") * 32}
    if variant == "dropout":
        data["warnings"] = [HOSTILE, "data.augmentation_rate 0.1 changes nothing"]
        data["augmentation"] = {"source": "learnt", "pairs": 155, "first_pairs": [["msg", "message", 0.9]],
                                "replaceable_share": 0.12}  # fmt: skip
    return ()


@pytest.fixture(scope="module")
def ctx(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("checked")
    study = synthetic.write_study(folder)
    synthetic.write_results(study, folder / "results", more=more)
    return load_context(study, folder / "results")


def test_warnings_stand_in_a_callout_with_the_arms_they_concern(ctx: Context, tmp_path: Path) -> None:
    said = checks.warnings(ctx, tmp_path)
    assert said.startswith("::: {.callout-warning}")
    assert r"\<script\>" in said
    assert "{{<" not in said
    assert "changes nothing (`dropout`)." in said
    assert said.count("8,944") == 1


def test_arms_that_are_scored_on_other_functions_are_warned_of(ctx: Context, tmp_path: Path) -> None:
    said = checks.warnings(ctx, tmp_path)
    assert "`input`: scored on other functions than the baseline" in said
    assert said.count("scored on other functions") == 1


def test_overlap_is_a_table_of_shares(ctx: Context, tmp_path: Path) -> None:
    said = checks.checks(ctx, tmp_path).replace("\u00a0", " ")
    assert "| functions whose name is that of a training function | 61.0 % | 58.0 % |" in said
    assert "{#tbl-overlap " in said


def test_where_the_data_of_arms_differ_their_overlap_is_a_row_each(synthetic: ModuleType, tmp_path: Path) -> None:
    def differing(variant: str, seed: int, info: dict[str, Any]) -> Iterable[tuple[str, int, float, float]]:
        own = {"names": 0.25 if variant == "input" else 0.61, "body_words": 0.98}
        info["data"]["overlap"] = {"validation": own, "test": {**own, "names": 0.58}}
        return ()

    study = synthetic.write_study(tmp_path)
    synthetic.write_results(study, tmp_path / "results", more=differing)
    said = checks.checks(load_context(study, tmp_path / "results"), tmp_path).replace("\u00a0", " ")
    assert [line for line in said.splitlines() if line.startswith("|")] == [
        "| Data of | Names | Words of code |",
        "| :-- | --: | --: |",
        "| `baseline` and 6 more | 61.0 / 58.0 % | 98.0 / 98.0 % |",
        "| `input` | 25.0 / 58.0 % | 98.0 / 98.0 % |",
    ]
    assert "Each on validation / test, of names: functions whose name is that of a training function; words of" in said


def test_duplicates_archive_counts_and_augmentation_are_said(ctx: Context, tmp_path: Path) -> None:
    said = checks.checks(ctx, tmp_path).replace("\u00a0", " ").replace("\u2009", " ").replace("\u202f", " ")
    assert "occur in an earlier split or file: train 900, validation 80, test 70." in said
    assert f"`java-small.tar.gz`: 379.0 MB, SHA-256 begins with `{'ab' * 8}`." in said
    assert "files: train 3 of 8 944, test 527 of 527." in said
    assert "155 pairs of near-synonyms learnt from the training split" in said
    assert "the first are `msg` ~ `message` (`dropout`)." in said


@pytest.mark.parametrize("name", ["complete", "one seed", "unfinished", "failures", "nothing"])
def test_records_without_any_of_it_get_no_section(name: str, state: State, tmp_path: Path) -> None:
    plain = state(name).context()
    assert checks.warnings(plain, tmp_path) == checks.checks(plain, tmp_path) == ""
