"""``ablations explain NAME``: what an arm is, how it differs from the baseline, how its runs stand, and why its verdict
is what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ablations.console import duration, plain_table, status_text
from ablations.drafts import value_text
from ablations.errors import UnknownName, one_of
from ablations.plan import RunKey, Variant, expand, run_keys
from ablations.schema import ABSENT, Tunable
from ablations.sharing import taken_over
from ablations.store import Store
from ablations.study import Ablation, Study
from ablations.view import change_label

if TYPE_CHECKING:
    from ablations.analysis.results import Comparison, Conclusion


@dataclass(frozen=True)
class Explained:
    """One variant and all there is to say about it.

    Attributes:
        variant: The variant.
        ablation: The ablation it belongs to; None for the baseline.
        runs: A row a planned run: seed, status, score, the baseline's score, seconds, folder.
        sentence: The conclusion in words; empty for the baseline.
        verdict: The verdict; empty for the baseline.
        why: The steps that lead to the verdict, in order.
    """

    variant: Variant
    ablation: Ablation | None
    runs: tuple[Mapping[str, Any], ...]
    sentence: str = ""
    verdict: str = ""
    why: tuple[str, ...] = ()


def explain(study: Study, store: Store, name: str) -> list[Explained]:
    """Explains a variant, or all variants of an ablation.

    Args:
        study: The study, with what its results say of searches and seeds.
        store: Its results.
        name: Of a variant or an ablation.

    Raises:
        UnknownName: There is none of that name.
    """
    variants, ablations = expand(study), {each.name: each for each in study.ablations}
    chosen = [each for each in variants if each.name == name] or [
        each
        for each in variants
        if name in ablations and (each.ablation == name or each.name in _used(ablations[name]))
    ]
    if not chosen:
        known = dict.fromkeys((*(each.name for each in variants), *ablations))
        raise UnknownName(one_of("variant or ablation", name, known))
    concluded = _concluded(study, store)
    return [
        _explained(study, store, each, ablations.get(each.ablation or ""), concluded.get(each.name)) for each in chosen
    ]


def _used(ablation: Ablation) -> set[str]:
    """The variants whose runs serve an ablation that has few or none of its own."""
    return {step.variant for step in ablation.steps}


def _concluded(study: Study, store: Store) -> Mapping[str, Conclusion]:
    from ablations.analysis.compare import compare_study
    from ablations.analysis.conclude import conclude_study

    if not study.ablations:
        return {}
    comparisons = compare_study(store.read_scores(study), study)
    return {each.arm: each for each in conclude_study(comparisons, study)}


def _explained(
    study: Study, store: Store, variant: Variant, ablation: Ablation | None, conclusion: Conclusion | None
) -> Explained:
    keys = run_keys(study)
    base = {key.seed: key for key in keys if key.variant == expand(study)[0].name}
    runs = tuple(_run(study, store, key, base.get(key.seed)) for key in keys if key.variant == variant.name)
    if conclusion is None:
        return Explained(variant, ablation, runs)
    from ablations.reporting.prose import sentence

    worded = sentence(conclusion, unit=study.unit)
    return Explained(
        variant, ablation, runs, worded, conclusion.verdict, tuple(why(conclusion.primary, study.min_seeds))
    )


def _run(study: Study, store: Store, key: RunKey, base: RunKey | None) -> dict[str, Any]:
    status = store.status(key.run_id)
    record = store.read_record(key.run_id) if status in ("completed", "diverged", "failed") else {}
    return {
        "seed": key.seed,
        "status": status,
        "score": _score(store, key, study.metric),
        "baseline": _score(store, base, study.metric) if base and base.run_id != key.run_id else None,
        "seconds": record.get("seconds"),
        "taken_over": dict(taken_over(record)),
        "folder": str(store.run_dir(key.run_id)),
    }


def _score(store: Store, key: RunKey, metric: str) -> float | None:
    if store.status(key.run_id) != "completed":
        return None
    score: float | None = store.read_record(key.run_id)["scores"].get(metric)
    return score


# -- why a verdict is what it is ------------------------------------------------------------------------------


def why(comparison: Comparison, min_seeds: int) -> Iterator[str]:
    """The steps from the numbers to the verdict, in the order in which they are tried (docs/glossary.md, Verdict).

    Args:
        comparison: A comparison that has its verdict.
        min_seeds: Fewest pairs that get one.
    """
    from ablations.analysis.results import FLAGS, VERDICTS

    c = comparison
    yield f"{_count(c.n, 'pair')} of runs at seeds {', '.join(map(str, c.seeds)) or '–'}"
    if c.n_diverged or c.baseline_diverged:
        yield f"{c.n_diverged} of {c.n_planned} runs of the arm diverged, {c.baseline_diverged} of the baseline's"
    if c.verdict == "not_assessed":
        yield f"a verdict needs {min_seeds} pairs (min_seeds)"
    elif c.difference is not None:
        yield from _tests(c)
    yield f"so: {c.verdict.replace('_', ' ')}: {VERDICTS[c.verdict]}"
    yield from (f"{flag.replace('_', ' ')}: {FLAGS[flag]}" for flag in c.flags)


def _tests(c: Comparison) -> Iterator[str]:
    """The numbers of the tests that were made, and how they compare with the declared levels."""
    interval = f", 95 % interval {c.ci_low:+.4g} to {c.ci_high:+.4g}" if c.ci_low is not None else ""
    yield f"mean difference {c.difference:+.4g}{interval}; better at {c.better} of {_count(c.n, 'seed')}"
    if c.p is None and c.p_adjusted is None:
        yield "the difference is the same at every seed, so there is nothing to test it against"
    if c.p_adjusted is not None:
        side = "at most" if c.p_adjusted <= c.alpha else "above"
        alone = f"p = {c.p:.3g}, " if c.p is not None else ""
        yield (
            f"does it differ? {alone}corrected for {_count(c.family_size, 'arm')} ({c.correction}) "
            f"{c.p_adjusted:.3g}: {side} {c.alpha:.3g}"
        )
    if c.smallest_effect is None:
        yield "is it small? no smallest_effect is declared, so that cannot be shown"
    elif c.p_tost_adjusted is not None:
        side = "at most" if c.p_tost_adjusted <= c.alpha else "above"
        yield f"is it smaller than {c.smallest_effect:g}? p = {c.p_tost_adjusted:.3g}: {side} {c.alpha:.3g}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


# -- words ----------------------------------------------------------------------------------------------------


def show(study: Study, found: Sequence[Explained], out: Console, as_json: bool) -> None:
    """Prints what there is to say; the whole config where one variant is asked for."""
    if as_json:
        print(json.dumps([_plain(each) for each in found], indent=1))
        return
    for number, each in enumerate(found):
        if number:
            out.print()
        _show_one(study, each, out)
    if len(found) == 1:
        _show_config(study, found[0].variant, out)


def _plain(each: Explained) -> dict[str, Any]:
    return {
        "variant": each.variant.name,
        "ablation": each.variant.ablation,
        "changes": dict(each.variant.changes),
        "config": dict(each.variant.config),
        "config_hash": each.variant.config_hash,
        "verdict": each.verdict,
        "sentence": each.sentence,
        "why": each.why,
        "runs": each.runs,
    }


def _show_one(study: Study, each: Explained, out: Console) -> None:
    variant, ablation = each.variant, each.ablation
    out.print(Text(variant.name, style="bold"))
    if ablation is not None:
        expected = f"Expected: {ablation.expect}." if ablation.expect else ""
        where = f"{study.path}:{ablation.line}, {ablation.kind}" + (
            f", group {ablation.group}" if ablation.group else ""
        )
        out.print(Text("\n".join(filter(None, (where, ablation.question, expected)))), soft_wrap=True)
    if variant.waits_for:
        out.print(Text(f"Not known yet: {variant.waits_for}."), soft_wrap=True)
    for key, value in variant.changes.items():
        tunable = study.schema.tunables.get(key, Tunable(key, object, None, ""))
        unit = f" {tunable.unit}" if tunable.unit and tunable.unit not in tunable.help else ""
        line = f"  {change_label({key: value}, study.baseline)}{unit}"
        out.print(Text.assemble(line, (f"  {tunable.help}", "dim")), soft_wrap=True)
    for line in _following(variant, study.baseline):
        out.print(Text.assemble(f"  {line}", ("  follows", "dim")), soft_wrap=True)
    out.print()
    _show_runs(study, each, out)
    if each.sentence:
        out.print()
        out.print(Text(each.sentence), soft_wrap=True)
        for step in each.why:
            out.print(Text(f"  · {step}"), soft_wrap=True)


def _following(variant: Variant, baseline: Mapping[str, Any]) -> Iterator[str]:
    """What the experiment derives differently because of the changes."""
    if variant.waits_for:
        return
    for key, value in variant.config.items():
        if key not in variant.changes and baseline.get(key, ABSENT) != value:
            yield change_label({key: value}, baseline)
    yield from (f"{key} {value_text(baseline[key])} → not there" for key in baseline if key not in variant.config)


def _show_runs(study: Study, each: Explained, out: Console) -> None:
    rows = []
    for run in each.runs:
        score, base = run["score"], run["baseline"]
        apart = f"{score - base:+.4f}" if score is not None and base is not None else ""
        taken = duration(run["seconds"]) if run["seconds"] is not None else ""
        name = Text(Path(run["folder"]).name, style="dim")
        rows.append((str(run["seed"]), status_text(run["status"]), _number(score), apart, taken, name))
    columns = ("seed", "status", study.metric, "difference", "took", "run")
    out.print(plain_table(columns, rows, right=("seed", study.metric, "difference", "took")))
    for run in each.runs:
        taken = run["taken_over"]
        if taken:
            line = f"seed {run['seed']}: the training up to step {taken['steps']} is that of {taken['run_id']}"
            out.print(Text(f"{line} ({duration(taken['seconds'])} of the time)", style="dim"), soft_wrap=True)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _show_config(study: Study, variant: Variant, out: Console) -> None:
    """Every parameter; those that differ from the baseline are marked, and those of the experiment's default faint."""
    defaults = study.schema.defaults()
    out.print(Text(f"\nConfig {variant.config_hash[:12]}  (* differs from the baseline)", style="bold"))
    for key, value in variant.config.items():
        mark = " " if study.baseline.get(key, ABSENT) == value else "*"
        style = "dim" if defaults.get(key) == value and mark == " " else "default"
        out.print(Text(f"{mark} {key}: {value_text(value)}", style=style), soft_wrap=True)
