"""A study by ``ablations run`` beside the same runs by the recipe, one after another on all cores or on the GPU::

    python benchmarks/study_speed.py               # the whole study: 50 runs of 500 steps
    python benchmarks/study_speed.py --share 0.2   # steps, steps between validations and test samples at a fifth
    python benchmarks/study_speed.py --only layers --seeds 2
    python benchmarks/study_speed.py --size small --per-gpu 1 null --only layers constant-lr --seeds 2   # a GPU

Beside the whole it says what a run of ours spends its seconds on. On a GPU one run goes first, on its own: it compiles
the kernels that all others find compiled. With several numbers of runs per GPU the study is run
once with each, and their scores are compared.
Both train, validate at the same steps (the validation split and the fixed training samples) and test the same arms and
seeds on the same data, which lie in the cache beforehand. Ours is the command as a user gives it, start-up, records and
checkpoints included; the recipe (``recipe.py``) is one process that pays its imports once and keeps no record. Figures
that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from sizes import SIZES

from ablations import machine
from ablations.plan import Variant, expand
from ablations.study import load_study

PARTS = ("training", "evaluation", "checkpoints", "test")  # whose seconds a record tells apart
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2): Linux alone
STUDY = Path(__file__).resolve().parent.parent / "study.yaml"


def main() -> None:
    options = _options()
    ctypes.CDLL(None).prctl(SUBREAPER, 1)  # processes that outlive their parents become children of this one
    with tempfile.TemporaryDirectory() as made:
        study = options.study or scaled(options, Path(made), options.seeds)
        chosen = [variant for variant in expand(load_study(study, "cpu")) if _is_chosen(variant, options.only)]
        if options.recipe:
            by_recipe(chosen, options.seeds)
            return
        _fill_cache(chosen)
        names = [each.name for each in chosen]
        print(
            f"{len(chosen)} variants x {options.seeds} seeds, {chosen[0].config['training.max_steps']} steps each; ",
            end="",
        )
        print(f"{os.cpu_count()} cores; {', '.join(names)}", flush=True)
        only = [part for name in names if name != "baseline" for part in ("--only", name)]
        if options.only:
            only += ["--only", "baseline"]
        took: dict[str, tuple[float, float]] = {}
        if machine.gpus():
            alone = scaled(options, Path(made, "alone"), seeds=1)
            measured("one run, which compiles", ours(alone, Path(made, "alone"), ["--only", "baseline"]))
        for per_gpu in options.per_gpu or [None]:
            name = "ablations run" + (f", {per_gpu} a GPU" if per_gpu else "")
            more = [*(only if options.only else []), *(["-x", f"per_gpu={per_gpu}"] if per_gpu else [])]
            took[name] = measured(name, ours(study, Path(made, str(per_gpu)), more))
            say_runs(Path(made, str(per_gpu)))
        if len(took) > 1:
            compare([Path(made, each) for each in options.per_gpu])
        if options.no_recipe:
            return
        again = [__file__, "--recipe", "--study", str(study), "--seeds", str(options.seeds)]
        theirs = [sys.executable, "-W", "ignore", *again, *(["--only", *options.only] if options.only else [])]
        recipe_wall, recipe_cpu = measured("the recipe", theirs)
    for name, (wall, cpu) in took.items():
        print(f"{name}: {recipe_wall / wall:.2f}x on the clock, {recipe_cpu / cpu:.2f}x in CPU time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps and test samples")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="ablations or variants; the baseline is always among them")
    parser.add_argument("--size", choices=[each for each in SIZES if each != "reference"], default="cpu")
    parser.add_argument(
        "--per-gpu", nargs="+", help="runs on one GPU, one number for each time ours is run; null: as pays"
    )
    parser.add_argument("--no-recipe", action="store_true")
    parser.add_argument("--recipe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def ours(study: Path, results: Path, more: list[str]) -> list[str]:
    """The command that runs a study."""
    return [sys.executable, "-m", "ablations.cli", "run", "-s", str(study), "-p", "cpu", "-r", str(results), *more]


def scaled(options: argparse.Namespace, folder: Path, seeds: int) -> Path:
    """The study at a size, with fewer seeds and steps, and as many validations per run."""
    folder.mkdir(exist_ok=True)
    yaml = YAML()
    document = yaml.load(STUDY.read_text(encoding="utf-8"))
    profile = document["profiles"]["cpu"]
    profile["seeds"] = seeds
    base = profile["baseline"]
    for key, value in SIZES[options.size].items():
        if key != "training.max_steps":
            part, name = key.split(".")
            base.setdefault(part, {})[name] = value
    if options.size != "cpu":  # what the baseline has now is no ablation of it
        profile["ablations"]["layers"]["sweep"] = {"decoder.layers": [2, 6]}
        profile["ablations"]["heads"]["sweep"] = {"decoder.heads": [4]}
    base["training"]["max_steps"] = round(base["training"]["max_steps"] * options.share)
    base["evaluation"]["every_steps"] = round(base["evaluation"]["every_steps"] * options.share)
    for name in ("validation_samples", "test_samples"):
        base["data"][name] = max(20, round({"validation_samples": 400, "test_samples": 1329}[name] * options.share))
    document["baseline"]["evaluation"]["train_samples"] = max(20, round(200 * options.share))
    path = folder / "study.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return path


def records(folder: Path) -> list[dict[str, Any]]:
    """Of all runs in a results folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("runs/*/record.json"))]


def say_runs(folder: Path) -> None:
    """What the seconds of a run went to, in the mean; the first in its process waits for more than the others."""
    found = records(folder)
    parts = {name: [each["info"]["cost"][f"seconds_{name}"] for each in found] for name in PARTS}
    rest = [each["seconds"] - sum(parts[name][at] for name in PARTS) for at, each in enumerate(found)]
    said = ", ".join(f"{name} {np.mean(spent):.2f}" for name, spent in {**parts, "none of these": rest}.items())
    seconds = [each["seconds"] for each in found]
    print(f"  a run {np.mean(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}): {said}")
    how = {json.dumps(each["info"]["training_steps"]) for each in found if "training_steps" in each["info"]}
    print(*(f"  steps: {each}" for each in sorted(how)), sep="\n", end="\n" if how else "", flush=True)


def compare(folders: list[Path]) -> None:
    """Whether the runs of several results folders have the same scores, to the bit."""
    scores = []
    for folder in folders:
        scores.append({each["run_id"]: (each["variant"], each["scores"]) for each in records(folder)})
    same = [run for run, found in scores[0].items() if all(each.get(run) == found for each in scores[1:])]
    print(f"{len(same)} of {len(scores[0])} runs have the same scores to the bit", flush=True)
    for run in scores[0].keys() - set(same):
        print("  ", run, *(each.get(run) for each in scores))


def _is_chosen(variant: Variant, only: list[str] | None) -> bool:
    return not only or variant.name == "baseline" or variant.name in only or variant.name.split("=")[0] in only


def _fill_cache(chosen: list[Variant]) -> None:
    from ablations.naming.experiment import prepare

    prepare([{k: v for k, v in each.config.items() if k != "seed"} for each in chosen], lambda _: None)


def measured(name: str, command: list[str]) -> tuple[float, float]:
    """Seconds on the clock and of CPU of a command and all it starts.

    Raises:
        CalledProcessError: It failed; what it said is printed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=STUDY.parent, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    with contextlib.suppress(ChildProcessError):  # what it has left behind: the server that forked its runs
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])
        done.check_returncode()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:15}{wall:8.1f} s on the clock {cpu:8.1f} s of CPU   load {os.getloadavg()[0]:.1f}", flush=True)
    return wall, cpu


def by_recipe(chosen: list[Variant], seeds: int) -> None:
    """Every run of the study, one after another."""
    import torch
    from recipe import Recipe

    from ablations.naming.config import Config
    from ablations.naming.data import load_data
    from ablations.naming.evaluation import fixed_subset
    from ablations.naming.experiment import cache_dir
    from ablations.naming.model import model_for

    torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for variant in chosen:
        config = Config.from_flat({key: value for key, value in variant.config.items() if key != "seed"})
        data, size, every = load_data(config, cache_dir()), config.training.batch_samples, config.evaluation.every_steps
        splits = [data.validation, fixed_subset(data.train, config.evaluation.train_samples or 1)]
        for seed in range(seeds):
            steps = config.training.max_steps or 1
            recipe = Recipe(model_for(config, data, seed).to(device), data, config, steps, seed, device)

            def between(step: int, recipe: Recipe = recipe, every: int = every, size: int = size) -> None:
                if step % every == 0:
                    for split in splits:  # noqa: B023  # called before the loop goes on
                        recipe.evaluate(split, size)

            recipe.train(between)
            recipe.evaluate(data.test, size)


if __name__ == "__main__":
    main()
