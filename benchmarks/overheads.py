"""What the commands that compute nothing cost: ``python benchmarks/overheads.py [--runs 10]``.

The CPU time of each command in a process of its own, user and system, the least of several runs; beside it the same in
units of an interpreter that starts and does nothing, which is what compares between machines. On the repository's own
study; ``run`` is on a study of which every run has ended. "one more run" is a training of one step with the small
profile's model and data, in a process that has its modules as every run has: what a run costs beside training.
Then the least time on the clock that building a model of 48 M parameters takes, and where its modules draw first values
of their own before.

Aims: help under 0.15 s, validate, plan and one more run under 0.5 s, a run with nothing left to do under 1 s.

On two idle server cores, Python 3.11, typer 0.29, the study of 26 ablations and three profiles:

    python -c pass           0.02 s     1.0
    ablations --help         0.13 s     5.3
    ablations validate       0.39 s    15.4
    ablations plan           0.48 s    19.0
    ablations run (done)     0.41 s    16.3
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FURTHER = """
import dataclasses, sys, tempfile, time
from ablations import runner
from ablations.plan import RunKey, config_hash, expand
from ablations.store import Store
from ablations.study import load_study
study = load_study("study.yaml", "cpu")
few = {"training.max_steps": 1, "data.validation_samples": 8, "data.test_samples": 8, "evaluation.train_samples": None}
config = {**expand(study)[0].config, **few}
variant = dataclasses.replace(expand(study)[0], config=config, config_hash=config_hash(study.experiment, config))
runner.preload(study.experiment)
runner.prepare(study.experiment, [config], lambda line: None)
store, taken = Store(tempfile.mkdtemp()), []
for seed in range(int(sys.argv[1]) + 1):
    folder = store.prepare(RunKey("baseline", seed, variant.config_hash), variant, study.experiment, threads=1)
    begun = time.process_time()
    assert runner.run(folder) == "completed"
    taken.append(time.process_time() - begun)
print("FURTHER", min(taken[1:]))
"""
BUILDING = """
import contextlib, sys, time
sys.path.insert(0, "benchmarks")
from sizes import sized
from ablations.naming import model
config, data = sized("small")
taken = {"once": [], "twice": []}
undrawn = model._Undrawn
for _ in range(3):
    for name, way in (("once", undrawn), ("twice", contextlib.nullcontext)):
        model._Undrawn = way
        begun = time.perf_counter()
        model.model_for(config, data, 0)
        taken[name].append(time.perf_counter() - begun)
print("BUILDING", *(min(each) for each in taken.values()))
"""
COIN = """
study: coin
experiment: coin.experiment:ex
metric: heads
seeds: 5
ablations:
  loaded: {sweep: {coin.weight: [0.6, 0.7, 0.8, 0.9]}}
"""


def cpu_s(command: list[str], folder: Path) -> float:
    """User and system time of a command and all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="the least of so many")
    runs = parser.parse_args().runs
    os.environ["PYTHONPATH"] = str(REPOSITORY / "tests" / "toys")
    cli = [sys.executable, "-m", "ablations.cli"]
    with tempfile.TemporaryDirectory() as made:
        done = Path(made)
        (done / "study.yaml").write_text(COIN, encoding="utf-8")
        subprocess.run([*cli, "run"], cwd=done, check=True, capture_output=True)
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], REPOSITORY),
            "ablations --help": ([*cli, "--help"], REPOSITORY),
            "ablations validate": ([*cli, "validate"], REPOSITORY),
            "ablations plan": ([*cli, "plan"], REPOSITORY),
            "ablations run (done)": ([*cli, "run"], done),
        }
        unit = None
        for name, (command, folder) in commands.items():
            least = min(cpu_s(command, folder) for _ in range(runs))
            unit = unit or least
            print(f"{name:22} {least:6.2f} s  {least / unit:6.1f}", flush=True)
        further = [sys.executable, "-c", FURTHER, str(runs)]
        said = subprocess.run(further, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
        least = float(said.rpartition("FURTHER")[2])
        print(f"{'one more run':22} {least:6.2f} s  {least / (unit or 1.0):6.1f}")
        building = [sys.executable, "-c", BUILDING]
        said = subprocess.run(building, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
        once, twice = (float(each) for each in said.rpartition("BUILDING")[2].split())
        print(f"{'building 48 M':22} {once:6.2f} s  drawn twice {twice:.2f} s, {twice / once:.1f}x")


if __name__ == "__main__":
    main()
