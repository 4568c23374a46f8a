"""The package as others get it: built, installed without the checkout, and taken from a study to its report."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def done(command, **options):
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_wheel_brings_all_that_a_study_needs_up_to_its_report(tmp_path, coin_study):
    clone = tmp_path / "clone"  # builds leave folders behind
    done(["git", "clone", "--quiet", str(REPOSITORY), str(clone)])
    done([*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(clone)])
    [wheel] = tmp_path.glob("ablations-*.whl")
    home = tmp_path / "env"
    venv.create(home)
    python = home / "bin" / "python"
    done([*PIP, "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)])
    [installed] = home.glob("lib/python*/site-packages")
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # but not this checkout: no finder of it
    folder = coin_study().parent
    environment = {**os.environ, "ABLATIONS_RENDERER": "builtin"}
    where = done([str(python), "-c", "import ablations; print(ablations.__file__)"], cwd=folder, env=environment)
    assert where.startswith(str(installed))
    done([str(home / "bin" / "ablations"), "run"], cwd=folder, env=environment)
    done([str(home / "bin" / "ablations"), "report"], cwd=folder, env=environment)
    assert (folder / "results" / "report" / "report.html").stat().st_size > 10_000
    assert (folder / "results" / "report" / "report.pdf").read_bytes().startswith(b"%PDF")
