"""The README's picture is one of a real report, made by a command."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "readme_picture.py"


def made(study: Path, results: Path, out: Path, *options: str) -> bytes:
    command = [sys.executable, str(SCRIPT), "--study", str(study), "--results", str(results), "--out", str(out)]
    command += options
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes()


@pytest.mark.slow
def test_the_picture_is_the_same_to_the_byte_and_small(state: Callable[[str], Any], tmp_path: Path) -> None:
    given = state("complete")
    before = sorted(path.relative_to(given.results) for path in given.results.rglob("*"))
    picture = made(given.study, given.results, tmp_path / "one.png")
    assert picture == made(given.study, given.results, tmp_path / "two.png")
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert width > height > 700
    assert len(picture) < 300_000
    after = sorted(path.relative_to(given.results) for path in given.results.rglob("*"))
    assert set(after) - set(before) <= {Path("index.json")}  # derived, and made by any reader


@pytest.mark.slow
def test_the_readme_shows_the_report_of_the_reference_study(tmp_path: Path) -> None:
    assert "(docs/images/report.png)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert (REPOSITORY / "docs" / "images" / "report.png").is_file()
    reference = tmp_path / "reference"
    shutil.copytree(REPOSITORY / "results" / "reference", reference, ignore=shutil.ignore_patterns("report"))
    picture = made(REPOSITORY / "study.yaml", reference, tmp_path / "report.png", "--profile", "cpu-whole")
    assert 100_000 < len(picture) < 400_000
