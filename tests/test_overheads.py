"""Commands that compute nothing start at once: measured in CPU time, with a margin for a busy machine."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
CLI = [sys.executable, "-m", "ablations.cli"]
MARGIN = 3  # a shared core is slower than one that a program has for itself


def cpu_s(command, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("command", "limit_s"), [("--help", 0.15), ("validate", 0.5), ("plan", 0.5)])
def test_a_command_that_computes_nothing_takes_no_time(command, limit_s):
    assert min(cpu_s([*CLI, command], REPOSITORY) for _ in range(2)) < MARGIN * limit_s


@pytest.mark.slow
def test_a_study_that_is_done_is_known_to_be_done_at_once(coin_study):
    folder = coin_study().parent
    subprocess.run([*CLI, "run"], cwd=folder, check=True, capture_output=True)
    assert min(cpu_s([*CLI, "run"], folder) for _ in range(2)) < MARGIN * 1.0


def test_help_imports_nothing_of_what_commands_do():
    code = (
        "import sys; sys.argv = ['ablations', '--help']\n"
        "from ablations.cli import main\n"
        "try: main()\n"
        "finally: print('FOUND', {'rich', 'pydantic', 'ruamel', 'numpy', 'ablations.study'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("FOUND set()\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ver"], ["verify"]),
        (["run", "--only", "lo"], ["loaded"]),
        (["plan", "--profile", ""], []),
        (["plan", "--study", "broken.yaml", "--profile", ""], []),
    ],
)
def test_the_shell_completes_commands_and_the_names_of_the_study(coin_study, typed, offered):
    folder = coin_study().parent
    (folder / "broken.yaml").write_text("study: [")
    words = ["ablations", *typed]
    asked = {
        "_ABLATIONS_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    program = [sys.executable, "-c", "import sys; sys.argv = ['ablations']; from ablations.cli import main; main()"]
    done = subprocess.run(program, cwd=folder, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == offered, done.stderr
