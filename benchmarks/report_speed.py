"""How long a report of 40 arms on 5 seeds takes, and how long 10,000 runs take to load.

    python benchmarks/report_speed.py [--runs 10000] [--arms 40] [--seeds 5]

Everything is made up and lies in a temporary folder. Each figure is of a process of its own: CPU seconds of it and of
the programs that it starts, and seconds by the clock, of which the promises are on two cores that are free:

    HTML and PDF together                      under 15 s, the page under 5 MB
    scores of 10,000 runs                      under 2 s
    the index of 10,000 runs, made anew        under 15 s
    `ablations status` of 10,000 runs          under 1 s
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reporting"))
import synthetic

LOAD = """
import sys, time
from ablations.store import Store
from ablations.study import load_study
study, store = load_study(sys.argv[1]), Store(sys.argv[2])
begun = time.perf_counter(), time.process_time()
rows = len(store.read_scores(study))
print(rows, time.perf_counter() - begun[0], time.process_time() - begun[1])
"""


def big_study(folder: Path, arms: int, seeds: int) -> tuple[Path, dict[str, float]]:
    """A study file of so many arms, and the effect of each."""
    text, effects = synthetic.of_arms(arms, seeds)
    return synthetic.write_study(folder, text), effects


def measured(*command: str) -> tuple[str, float, float]:
    """What a command printed, its CPU seconds with those of its children, and seconds by the clock."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, cpu, time.perf_counter() - begun


def time_report(folder: Path, arms: int, seeds: int) -> None:
    study, effects = big_study(folder, arms, seeds)
    synthetic.write_results(study, folder / "results", effects=effects)
    command = [sys.executable, "-m", "ablations.cli", "report", "--study", str(study), "--results"]
    _, cpu, clock = measured(*command, str(folder / "results"))
    page = folder / "results" / "report" / "report.html"
    size = page.stat().st_size / 1e6
    print(f"report, {arms} arms x {seeds} seeds: {cpu:.1f} s of CPU, {clock:.1f} s by the clock; page {size:.1f} MB")


def time_loading(folder: Path, runs: int) -> None:
    """Loads runs that all have the record of one: reading is timed, not writing."""
    from ablations.plan import run_keys

    seeds = 100
    study, effects = big_study(folder, runs // seeds - 1, seeds)
    results = folder / "results"
    loaded = synthetic.load_study(study)
    first = synthetic.write_results(big_study(folder / "one", 1, 1)[0], folder / "one" / "results", effects=effects)
    record = json.loads(next((folder / "one" / "results" / "runs").glob("*/record.json")).read_text())
    assert first
    for key in run_keys(loaded):
        run = results / "runs" / key.run_id
        run.mkdir(parents=True)
        own = {"run_id": key.run_id, "seed": key.seed, "variant": key.variant, "config_hash": key.config_hash}
        (run / "record.json").write_text(json.dumps({**record, **own}))
        os.utime(run / "record.json")
    time.sleep(3)  # younger records are not trusted to the index
    for name in ("index made anew", "index there"):
        rows, clock, cpu = measured(sys.executable, "-c", LOAD, str(study), str(results))[0].split()
        print(
            f"scores of {runs} runs, {name}: {float(cpu):.2f} s of CPU, {float(clock):.2f} s by the clock ({rows} rows)"
        )
    command = [
        sys.executable,
        "-m",
        "ablations.cli",
        "status",
        "--json",
        "--study",
        str(study),
        "--results",
        str(results),
    ]
    _, cpu, clock = measured(*command)
    print(
        f"ablations status of {runs} runs: {cpu:.2f} s of CPU, {clock:.2f} s by the clock, the program's start included"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args()
    os.environ["ABLATIONS_RENDERER"] = "builtin"
    folder = Path(tempfile.mkdtemp(prefix="report-speed-"))
    try:
        time_report(folder / "report", given.arms, given.seeds)
        time_loading(folder / "many", given.runs)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
