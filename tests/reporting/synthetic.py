"""Results folders that were never run: a study file and records as the runner writes them, for any state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.plan import expand, run_keys
from ablations.store import Store
from ablations.study import Study, load_study

SMALL = """\
study: tiny
question: What helps?
metric: test_f1
smallest_effect: 0.02
seeds: {seeds}
baseline:
  training.schedule: linear
ablations:
  constant-lr:
    group: learning rate
    question: Does decaying the rate cost accuracy?
    expect: better
    set: {{training.schedule: constant}}
  lr:
    group: learning rate
    question: Is the rate too low?
    sweep: {{training.learning_rate: [3.0e-4, 4.0e-3]}}
  input:
    group: input
    question: Does more input help?
    expect: better
    set: {{data.input_tokens: 96}}
  layers:
    group: decoder
    question: Is deeper better?
    expect: better
    sweep: {{decoder.layers: [4, 6]}}
  dropout:
    question: Does dropout hurt?
    expect: same
    set: {{decoder.dropout: 0.2}}
"""

EFFECTS = {"constant-lr": 0.035, "lr=0.0003": 0.012, "lr=0.004": -0.14, "input": 0.001, "layers=4": 0.028,
           "layers=6": 0.031, "dropout": -0.012}  # fmt: skip
NOISE = {"input": 0.002}
EDGES = [0, 8, 16, 32, 48, 64, 96, 128, 256, 512]
LENGTHS = [120, 900, 2200, 1800, 1100, 900, 400, 300, 80]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a status of the store, and its cause."""

    status: str = "completed"
    cause: str = ""


Outcomes = Callable[[str, int], Outcome]


More = Callable[[str, int, dict[str, Any]], Iterable[tuple[str, int, float, float]]]
"""From variant, seed and the record's info, which it may change, to further rows of the metrics log."""


def nothing_more(variant: str, seed: int, info: dict[str, Any]) -> Iterable[tuple[str, int, float, float]]:
    return ()


def everything_completes(variant: str, seed: int) -> Outcome:
    return Outcome()


def write_study(folder: Path, text: str | None = None, seeds: int = 3) -> Path:
    """A study file in a folder; the small one where no text is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(text or SMALL.format(seeds=seeds), encoding="utf-8")
    return path


def write_results(
    study_path: Path,
    root: Path,
    outcomes: Outcomes = everything_completes,
    effects: Mapping[str, float] | None = None,
    *,
    steps: int = 200,
    more: More = nothing_more,
) -> Study:
    """Writes a record and a metrics log for each planned run that did not stay away; ``more`` adds to both."""
    study = load_study(study_path)
    store = Store(root)
    effects = EFFECTS if effects is None else effects
    variants = {each.name: each for each in expand(study)}
    for key in run_keys(study):
        outcome = outcomes(key.variant, key.seed)
        if outcome.status == "missing":
            continue
        folder = store.prepare(key, variants[key.variant], study.experiment, threads=1)
        value = _score(key.variant, key.seed, effects)
        _write_metrics(folder, value, key.seed, steps, diverged=outcome.status != "completed")
        record = _record(json.loads((folder / "job.json").read_text()), outcome, value, steps)
        rows = more(key.variant, key.seed, record["info"])
        with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return study


def _score(variant: str, seed: int, effects: Mapping[str, float]) -> float:
    """Seeds move all arms together; each arm adds its effect and a noise of its own."""
    shared = 0.2 + 0.012 * math.sin(2.3 * seed)
    own = NOISE.get(variant, 0.006) * math.cos(7.3 * seed + sum(map(ord, variant)))
    return round(shared + effects.get(variant, 0.0) + (own if variant != "baseline" else 0.0), 6)


def _write_metrics(folder: Path, value: float, seed: int, steps: int, *, diverged: bool) -> None:
    rng = np.random.default_rng(seed)
    last = steps * 2 // 3 if diverged else steps
    rows: list[tuple[str, int, float, float]] = []
    for step in range(1, last + 1):
        loss = 2.2 + 4 * math.exp(-step / 60) + 0.25 * rng.standard_normal() + (3 if diverged and step == last else 0)
        rows.append(("train_loss", step, loss, step * 0.05))
        if step % 50 == 0:
            reached = value * (1 - math.exp(-2.5 * step / steps))
            rows.append(("validation_f1", step, reached, step * 0.05))
            rows.append(("validation_loss", step, loss + 0.4, step * 0.05))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _record(job: Mapping[str, Any], outcome: Outcome, value: float, steps: int) -> dict[str, Any]:
    config, seed = job["config"], job["seed"]
    completed = outcome.status == "completed"
    layers = config["decoder.layers"]
    seconds = 20.0 + 6 * layers + 0.1 * config["data.input_tokens"] + 0.4 * seed
    cut = 0.3 if config["data.input_tokens"] <= 48 else 0.12
    scores = {"test_f1": value, "test_precision": value * 1.3, "test_recall": value * 0.8, "test_loss": 4.4 - 3 * value}
    facts = {
        "corpus": config["data.corpus"],
        "fingerprint": "ab12cd34ef56" * 4,
        "counts": {"train": 12001, "validation": 1502, "test": 1498},
        "files": {"train": 480, "validation": 60, "test": 60},
        "truncated": {"train": cut, "validation": cut + 0.01, "test": cut - 0.01},
        "lengths": {"edges": EDGES, "counts": LENGTHS},
        "dropped": {"duplicate": 312, "no words": 14},
        "unparsed": 3,
        "unparsed_reasons": {"too deep": 3},
        "unseen_words": {"validation": 0.04, "test": 0.043},
        "own_name_share": 0.23,
        "split_by": "files",
    }
    info: dict[str, Any] = {
        "cost": {"parameters": 1_200_000 + 330_000 * layers, "flops": 2e13, "steps": steps, "samples_per_s": 90.0,
                 "peak_memory_mb": 800.0, "seconds_training": seconds - 3, "seconds_evaluation": 2.0},
    }  # fmt: skip
    if completed:
        info |= {
            "selected_step": steps,
            "data": facts,
            "references": {"always the commonest name": {"test_f1": 0.041, "answer": "init"}},
        }
    error = None if completed else {"type": "RuntimeError", "message": outcome.cause or "lost", "traceback": ""}
    return {
        "format": 1,
        **{key: job[key] for key in ("run_id", "variant", "seed", "config_hash", "experiment", "config", "attempt")},
        "status": outcome.status,
        "error": error,
        "started": f"2026-01-02T03:{seed:02d}:00+00:00",
        "ended": f"2026-01-02T04:{seed:02d}:00+00:00",
        "seconds": seconds,
        "sacred": f"sacred/{job['run_id']}-a{job['attempt']}",
        "scores": scores if completed else {},
        "info": info,
        "environment": {"python": "3.11.7", "platform": "Linux-test", "cpu": "Test CPU @ 2.0 GHz", "device": "cpu",
                        "host": "test", "threads": 1, "packages": {"numpy": "2.4.0", "torch": "2.13.0"}},
        "code": {"package_hash": "0123456789abcdef" * 4, "git_commit": "fedcba98" * 5, "git_dirty": False},
    }  # fmt: skip


def _unfinished(variant: str, seed: int) -> Outcome:
    return Outcome("missing") if seed == 2 or variant in ("dropout", "layers=6") else Outcome()


HOSTILE = '<script>alert(1)</script> | $x$ {{< include x >}} ```{=html} @tbl-main [a](b) \\textbf{x} #eval("1")'


def _with_failures(variant: str, seed: int) -> Outcome:
    if variant == "lr=0.004":
        return Outcome("diverged", "loss is nan at step 120")
    return Outcome("failed", HOSTILE) if variant == "layers=6" and seed == 1 else Outcome()


GROUPS = ("learning rate", "input", "decoder", "regularisation")


def of_arms(arms: int, seeds: int) -> tuple[str, dict[str, float]]:
    """The text of a study of so many arms in four groups, and the effect of each."""
    lines = ["study: big", "metric: test_f1", "smallest_effect: 0.02", f"seeds: {seeds}", "baseline:"]
    lines += ["  training.schedule: linear", "ablations:"]
    effects = {}
    for arm in range(arms):
        lines += [f"  arm-{arm:03d}:", f"    group: {GROUPS[arm % len(GROUPS)]}"]
        lines += [f"    set: {{training.learning_rate: {1.1e-5 + 1e-8 * arm:.5e}}}"]
        effects[f"arm-{arm:03d}"] = 0.05 * math.sin(1.7 * arm)
    return "\n".join(lines) + "\n", effects


@dataclass(frozen=True)
class Made:
    """What a state consists of.

    Attributes:
        seeds: Of the small study.
        outcomes: Of its runs; None where nothing was launched.
        text: Another study instead.
        effects: Of its arms.
    """

    seeds: int = 3
    outcomes: Outcomes | None = everything_completes
    text: str | None = None
    effects: Mapping[str, float] | None = None


STATES = {
    "complete": Made(seeds=5),
    "three seeds": Made(),
    "one seed": Made(seeds=1),
    "unfinished": Made(outcomes=_unfinished),
    "failures": Made(outcomes=_with_failures),
    "nothing": Made(outcomes=None),
    "one arm": Made(text=of_arms(1, 5)[0], effects={"arm-000": 0.03}),
    "forty arms": Made(text=of_arms(40, 5)[0], effects=of_arms(40, 5)[1]),
    "nothing helps": Made(seeds=5, effects={"dropout": -0.03, "lr=0.004": -0.14}),
}
"""The small study, or another, in the states that a report has to do with, by name."""
