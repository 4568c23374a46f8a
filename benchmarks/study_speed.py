"""The cpu study by ``ablations run`` beside the same runs by the recipe, one after another on all cores::

    python benchmarks/study_speed.py               # the whole study: 50 runs of 500 steps
    python benchmarks/study_speed.py --share 0.2   # steps, steps between validations and test samples at a fifth
    python benchmarks/study_speed.py --only layers --seeds 2

Both train, validate at the same steps (the validation split and the fixed training samples) and test the same arms and
seeds on the same data, which lie in the cache beforehand. Ours is the command as a user gives it, start-up, records and
checkpoints included; the recipe (``recipe.py``) is one process that pays its imports once and keeps no record. Figures
that were measured are in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from ablations.plan import Variant, expand
from ablations.study import load_study

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2): Linux alone
STUDY = Path(__file__).resolve().parent.parent / "study.yaml"


def main() -> None:
    options = _options()
    ctypes.CDLL(None).prctl(SUBREAPER, 1)  # processes that outlive their parents become children of this one
    with tempfile.TemporaryDirectory() as made:
        study = options.study or _scaled(options, Path(made))
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
        ours = [sys.executable, "-m", "ablations.cli", "run", "-s", str(study), "-p", "cpu", "-r", f"{made}/results"]
        again = [__file__, "--recipe", "--study", str(study), "--seeds", str(options.seeds)]
        theirs = [sys.executable, "-W", "ignore", *again, *(["--only", *options.only] if options.only else [])]
        wall, cpu = measured("ablations run", [*ours, *(only if options.only else [])])
        recipe_wall, recipe_cpu = measured("the recipe", theirs)
    print(f"ratio: {recipe_wall / wall:.2f}x on the clock, {recipe_cpu / cpu:.2f}x in CPU time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps and test samples")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="ablations or variants; the baseline is always among them")
    parser.add_argument("--recipe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _scaled(options: argparse.Namespace, folder: Path) -> Path:
    """The study with fewer seeds and steps, and as many validations per run."""
    yaml = YAML()
    document = yaml.load(STUDY.read_text(encoding="utf-8"))
    profile = document["profiles"]["cpu"]
    profile["seeds"] = options.seeds
    base = profile["baseline"]
    base["training"]["max_steps"] = round(base["training"]["max_steps"] * options.share)
    base["evaluation"]["every_steps"] = round(base["evaluation"]["every_steps"] * options.share)
    for name in ("validation_samples", "test_samples"):
        base["data"][name] = max(20, round({"validation_samples": 400, "test_samples": 1329}[name] * options.share))
    document["baseline"]["evaluation"]["train_samples"] = max(20, round(200 * options.share))
    path = folder / "study.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return path


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
    cpu = torch.device("cpu")
    for variant in chosen:
        config = Config.from_flat({key: value for key, value in variant.config.items() if key != "seed"})
        data, size, every = load_data(config, cache_dir()), config.training.batch_samples, config.evaluation.every_steps
        splits = [data.validation, fixed_subset(data.train, config.evaluation.train_samples or 1)]
        for seed in range(seeds):
            steps = config.training.max_steps or 1
            recipe = Recipe(model_for(config, data, seed), data, config, steps, seed, cpu)

            def between(step: int, recipe: Recipe = recipe, every: int = every, size: int = size) -> None:
                if step % every == 0:
                    for split in splits:  # noqa: B023  # called before the loop goes on
                        recipe.evaluate(split, size)

            recipe.train(between)
            recipe.evaluate(data.test, size)


if __name__ == "__main__":
    main()
