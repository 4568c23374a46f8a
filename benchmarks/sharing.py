"""What it saves that runs begin with the training of others: ``python benchmarks/sharing.py [--seeds 1]``.

A small study with an arm that is only scored otherwise, one that is longer at a constant rate, and one that shares
nothing, run twice, in one process and with one thread: with ``--no-sharing`` and with sharing. CPU seconds, seconds by
the clock, the seconds that runs computed themselves, and whether every score is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
study: sharing
experiment: ablations.naming.experiment:ex
metric: test_f1
seeds: {seeds}
baseline:
  data: {{train_samples: 3000, validation_samples: 200, test_samples: 300, special_methods: false}}
  model: {{hidden: 128}}
  encoder: {{layers: 1}}
  decoder: {{layers: 1}}
  training: {{max_steps: {steps}, schedule: constant, learning_rate: 1.0e-3, precision: fp32}}
  evaluation: {{every_steps: {every}}}
ablations:
  unmasked: {{set: {{evaluation.causal: false, evaluation.cache: false}}}}
  longer: {{set: {{training.max_steps: {longer}}}}}
  decay: {{set: {{training.weight_decay: 0.1}}}}
"""


def run(folder: Path, *options: str) -> tuple[float, float, dict[str, dict[str, object]]]:
    """CPU seconds, seconds by the clock and records of one launch."""
    results = folder / f"results{''.join(options)}"
    command = [sys.executable, "-m", "ablations.cli", "run", "--study", "study.yaml", "--results", str(results)]
    command += ["--executor", "inprocess", "--workers", str(os.cpu_count())]  # one thread
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    records = {path.parent.name: json.loads(path.read_text()) for path in results.glob("runs/*/record.json")}
    return cpu, time.perf_counter() - begun, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--steps", type=int, default=120, help="of the baseline; the longer arm takes three times as many"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ.setdefault("ABLATIONS_CACHE", str(folder / "cache"))
        text = STUDY.format(seeds=given.seeds, steps=given.steps, every=given.steps // 4, longer=3 * given.steps)
        (folder / "study.yaml").write_text(text, encoding="utf-8")
        config = (
            "from ablations.study import load_study; from ablations.runner import prepare; "
            "s = load_study('study.yaml'); prepare(s.experiment, [s.baseline], print)"
        )
        subprocess.run([sys.executable, "-c", config], cwd=folder, check=True, capture_output=True)
        found = {name: run(folder, *options) for name, options in (("whole", ("--no-sharing",)), ("shared", ()))}
    for name, (cpu, clock, records) in found.items():
        taken = sum((each["info"].get("taken_over") or {}).get("seconds", 0.0) for each in records.values())
        own = sum(each["seconds"] for each in records.values()) - taken
        print(
            f"{name:7} {cpu:6.1f} s of CPU {clock:6.1f} s by the clock {own:6.1f} s in runs, {taken:5.1f} s taken over"
        )
    whole, shared = found["whole"], found["shared"]
    same = all(shared[2][run]["scores"] == record["scores"] for run, record in whole[2].items())
    print(f"ratio   {whole[0] / shared[0]:6.2f}          {whole[1] / shared[1]:6.2f}")
    print(f"every score of {len(whole[2])} runs the same to the bit: {'yes' if same else 'NO'}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
