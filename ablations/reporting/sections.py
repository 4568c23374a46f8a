"""What each part of the report says: a function a fragment, from the context to Quarto Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ablations.analysis.results import Comparison, Conclusion
from ablations.analysis.verdict import LEAST_SEEDS
from ablations.plan import seed_words
from ablations.reporting import imported, tables, uncertainty
from ablations.reporting.context import Context
from ablations.reporting.markdown import bullets, callout, code_block, join
from ablations.reporting.numbers import mean, scores_of, table_decimals
from ablations.reporting.prose import brief, sentence
from ablations.reporting.prose_rounds import level_shown
from ablations.reporting.text import (
    NBSP,
    code,
    defined,
    escape,
    evidence,
    evident,
    number,
    plain,
    plural,
    tied,
    tied_figures,
)
from ablations.reporting.verdicts import LOOKS
from ablations.study import Study


def head(ctx: Context, folder: Path) -> str:
    """What the report is about, in one paragraph."""
    study = ctx.study
    asked = f"**{escape(study.question)}**" if study.question else ""
    profile = f", profile {code(study.profile)}" if study.profile else ""
    ended = f" The newest run ended on {escape(ctx.newest[:10])}." if ctx.newest else ""
    kind = "imported run" if imported.is_imported(ctx) else "planned run"
    facts = (
        f"Study {code(study.name)}{profile}: a baseline and {plural(len(ctx.variants) - 1, 'arm')}, "
        f"{tied(seed_words(study))} each; {ctx.completed} of {plural(ctx.planned, kind)} "
        f"completed. Decided by {code(study.metric)}.{ended}"
    )
    return join(asked, facts)


def missing(ctx: Context, folder: Path) -> str:
    """A callout that says what an unfinished study lacks; nothing where every run has an outcome."""
    if ctx.finished:
        return ""
    if imported.is_imported(ctx):
        return imported.missing(ctx)
    if not ctx.completed:
        body = f"None of the {ctx.planned} planned runs has a result. What follows is the study as it was declared."
        return callout("warning", "Nothing has run to its end yet", join(body, bullets(_absent(ctx))))
    outcomes = set(ctx.runs.loc[ctx.runs["status"].isin(("completed", "diverged")), "variant"])
    without = [variant.name for variant in ctx.variants if variant.name not in outcomes]
    body = (
        f"{ctx.completed} of {ctx.planned} planned runs have a result. What is missing is not counted as zero and not "
        "estimated: intervals are wider for it, and arms without enough shared seeds get no verdict."
    )
    items = _absent(ctx)
    if without:
        items.append("No result at all: " + ", ".join(code(name) for name in without) + ".")
    return callout("warning", "This study is not finished", join(body, bullets(items)))


_ABSENT = {
    "missing": "not started",
    "queued": "queued while this report was made",
    "running": "running while this report was made",
    "interrupted": "interrupted",
    "failed": "failed",
}


def _absent(ctx: Context) -> list[str]:
    """One line a status, with the arms it concerns."""
    out = []
    for status, words in _ABSENT.items():
        runs = ctx.runs[ctx.runs["status"] == status]
        if not len(runs):
            continue
        names = list(dict.fromkeys(runs["variant"]))
        arms = ", ".join(code(name) for name in names) if len(names) <= 8 else plural(len(names), "arm")
        out.append(f"{plural(len(runs), 'run')} {words}: {arms}.")
    return out


def answer(ctx: Context, folder: Path) -> str:
    """One sentence an arm, grouped by verdict, the largest difference first."""
    if not ctx.completed:
        return "There is no answer yet: no run has a result."
    blocks = []
    for verdict, look in LOOKS.items():
        found = [each for each in ctx.conclusions if each.verdict == verdict]
        if not found:
            continue
        found.sort(key=lambda each: -abs(each.primary.difference or 0.0))
        title = f"**{look.sign}{NBSP}{look.heading}** ({plural(len(found), 'arm')})"
        if verdict == "not_assessed":
            blocks.append(join(title, bullets(_not_assessed(ctx, found))))
        else:
            blocks.append(join(title, bullets(worded(ctx, each, brief) for each in found)))
    if not blocks:
        return "The study has no arms beside its baseline."
    return join(_none_helps(ctx), *blocks, uncertainty.scope(ctx))


def _none_helps(ctx: Context) -> str:
    """Says so where arms were tested and none is better: a list that begins with what hurts leaves one to wonder."""
    verdicts = {each.verdict for each in ctx.conclusions if each.primary.p is not None}
    if not verdicts or "helps" in verdicts:
        return ""
    most = " by more than a negligible amount" if "helps_negligible" in verdicts else ""
    return f"No arm was shown to be better than the baseline{most}."


def _not_assessed(ctx: Context, found: Sequence[Conclusion]) -> list[str]:
    """Arms without any result in one line; the others speak for themselves."""
    silent = [each.arm for each in found if not each.primary.n_ok]
    out = [worded(ctx, each, brief) for each in found if each.primary.n_ok]
    if silent:
        out.append("Without any result: " + ", ".join(code(name) for name in silent) + ".")
    return out


def worded(ctx: Context, conclusion: Conclusion, wording: Callable[..., str] = sentence) -> str:
    """A conclusion as Markdown: its arm in bold, its figures unbreakable and leading to their runs."""
    mark = "\x01"
    text = wording(conclusion, label=mark, unit=ctx.study.unit, metric=tables.words_of(ctx.study.metric))
    safe = escape(text.replace(mark, "ARM", 1)) if mark in text else escape(text)
    declared = [ctx.study.smallest_effect, level_shown(conclusion.primary)]
    safe = evident(tied_figures(safe), ctx.pair_ids(conclusion.arm), declared)
    return safe.replace("ARM", f"**{code(conclusion.arm)}**", 1)


def todo(ctx: Context, folder: Path) -> str:
    """What to do next, from what is missing or undecided."""
    items = list(_next_steps(ctx))
    return bullets(items) if items else "Nothing is open: every arm has a verdict that needs no more runs."


def _next_steps(ctx: Context) -> Iterable[str]:
    status = ctx.statuses
    waiting = status.get("missing", 0) + status.get("interrupted", 0)
    if imported.is_imported(ctx):
        yield from imported.next_steps(ctx)
    elif waiting:
        yield f"Run what is missing ({plural(waiting, 'run')}): `ablations run`."
    if status.get("failed", 0) and not imported.is_imported(ctx):
        yield f"Find out why {plural(status['failed'], 'run')} failed (@tbl-ledger), then `ablations run --retry`."
    study, found = ctx.study, ctx.comparisons
    if ctx.finished and any(each.verdict == "not_assessed" for each in found):
        yield (
            f"Use more seeds: a verdict takes {study.min_seeds} that arm and baseline share, and is tentative with "
            f"fewer than {study.standard_seeds}."
        )
    open_ = [each for each in found if each.verdict == "inconclusive"]
    seeds = [each for each in open_ if each.more_seeds is not None]
    if seeds:
        most = sorted(seeds, key=lambda each: each.more_seeds or 0)
        names = ", ".join(f"{code(each.arm)} ({_more(each)})" for each in most[:8])
        rest = f" and {len(most) - 8} more arms" if len(most) > 8 else ""
        power = tied(f"{100 * seeds[0].power:.3g} %")
        yield f"More seeds would settle what is open, with {power} power: {names}{rest}."
    never = [each.arm for each in open_ if "not_resolvable" in each.flags]
    if never:
        names = ", ".join(map(code, never))
        yield f"Not resolvable by seeds: {names}. Enlarge the test set or the smallest effect of interest."
    if study.smallest_effect is None and found:
        yield "Declare `smallest_effect`: without it no arm can be called equivalent or negligible."
    odd = [each.arm for each in found if each.verdict in ("identical", "degenerate")]
    if odd:
        yield f"Check that the setting and the seeds are applied: {', '.join(map(code, odd))}."
    for arms in _alike(ctx):
        yield (
            f"Every score of {', '.join(map(code, arms[:-1]))} and {code(arms[-1])} is the same, seed by seed: what "
            "they differ in had no effect, or was not applied."
        )
    if any("failure_value_missing" in each.flags for each in found):
        yield "Declare `failure_value`, what a diverged run counts as: without it arms that diverge are not tested."
    best = next((each for each in ctx.conclusions if each.best_of and each.verdict == "helps"), None)
    if best is not None and ctx.finished:
        yield (
            f"Run {code(best.arm)} on fresh seeds before its figure is quoted: it is the best of "
            f"{plural(best.best_of, 'arm')}, and chance helped to make it so."
        )
    tentative = [each for each in found if "tentative" in each.flags]
    if tentative and len(study.seeds) < study.standard_seeds:
        yield (
            f"{plural(len(tentative), 'verdict')} of this report {'is' if len(tentative) == 1 else 'are'} tentative: "
            f"use {study.standard_seeds}{NBSP}seeds or more before building on them."
        )


def _alike(ctx: Context) -> list[list[str]]:
    """Arms with the same scores at each of three seeds or more, but for those that are the baseline's."""
    found: dict[tuple[object, ...], list[str]] = {}
    metrics = tuple(dict.fromkeys(metric for _, metric in ctx.values))
    for each in ctx.comparisons:
        if each.n_ok >= LEAST_SEEDS and each.verdict != "identical":
            seeds = tuple(run_id.rpartition("-")[2] for run_id in ctx.ids[each.arm])
            scores = (tuple(ctx.values.get((each.arm, metric), ())) for metric in metrics)
            found.setdefault((seeds, *scores), []).append(each.arm)
    return [arms for arms in found.values() if len(arms) > 1]


def _more(comparison: Comparison) -> str:
    safe = "over 200" if comparison.more_seeds_safe is None else str(comparison.more_seeds_safe)
    return f"{plural(comparison.more_seeds or 0, 'more seed')}, {safe} to be safe"


def compared(ctx: Context, folder: Path) -> str:
    """The study as declared."""
    study = ctx.study
    effect = f"{study.smallest_effect:g}" if study.smallest_effect else "not declared"
    skipped = ", ".join(code(name) for name in study.skipped)
    facts = [
        f"Primary metric: {code(study.metric)}, {'larger' if study.direction == 'max' else 'smaller'} is better.",
        f"Smallest effect of interest: {effect}. Level: {study.alpha:g}{_split(study)}; correction for multiple "
        f"testing: {escape(study.correction.capitalize())}.",
        *_families(ctx),
        _seeds_line(ctx),
        f"Experiment: {code(study.experiment)}.",
        f"Left out by the profile: {skipped}." if skipped else "",
    ]
    return join(bullets(each for each in facts if each), tables.variants_table(ctx))


def _families(ctx: Context) -> Iterable[str]:
    """Which ablations are corrected together, where not all are."""
    members: dict[str, list[str]] = {}
    for each in ctx.study.ablations:
        if each.levels:
            members.setdefault(each.family, []).append(code(each.name))
    if len(members) < 2 or ctx.study.correction == "none":
        return
    listed = "; ".join(
        f"{escape(family)}, {plural(ctx.families[family], 'arm')} ({', '.join(names)})"
        for family, names in members.items()
    )
    yield (
        f"Families of tests: {listed}. The level is the rate of false claims within a family, not over all of them "
        "together."
    )


def _seeds_line(ctx: Context) -> str:
    if imported.is_imported(ctx):
        return imported.seeds_line(ctx)
    return f"Seeds: {', '.join(map(str, ctx.study.seeds))}; {_shared(ctx.study)}, and arms are compared seed by seed."


def _split(study: Study) -> str:
    """What is left of the level for each of several looks."""
    return f", {study.alpha / study.looks:.3g} at each of {study.looks} looks" if study.looks > 1 else ""


def _shared(study: Study) -> str:
    """Which of the seeds an arm takes."""
    if not study.rounds:
        return "the same in every arm"
    *most, last = map(str, study.rounds)
    return f"every arm takes the first {', '.join(most)} or {last} of them (@sec-rounds)"


def parameters(ctx: Context, folder: Path) -> str:
    """The baseline's parameters."""
    return tables.parameters_table(ctx)


def main(ctx: Context, folder: Path) -> str:
    """The main table, and how it compares with not learning at all."""
    return join(_reference_sentence(ctx), tables.main_table(ctx))


def _reference_sentence(ctx: Context) -> str:
    average = mean(scores_of(ctx, ctx.baseline.name, ctx.study.metric))
    found = tables.references(ctx)
    if not found or average is None:
        return ""
    decimals = table_decimals(ctx)
    name, said, value = found[0]
    said = f" ({code(said)})" if said else ""
    ids = ctx.ids[ctx.baseline.name]
    reached, yardstick = evidence(number(average, decimals), ids), evidence(number(value, decimals), ids)
    more = value > 0 and average / value >= 1.5
    times = f", {evidence(number(average / value, 1), ids)} times as much" if more else ""
    return (
        f"A yardstick: {escape(name)}{said} would reach {yardstick} in {escape(tables.metric_name(ctx))} "
        f"without any learning; the baseline reaches {reached}{times}."
    )


def scores(ctx: Context, folder: Path) -> str:
    """The other scores."""
    return tables.secondary_table(ctx) or "There are no other scores."


def ledger(ctx: Context, folder: Path) -> str:
    """Every run."""
    return join(tables.ledger_table(ctx), tables.attempts_table(ctx))


def limits(ctx: Context, folder: Path) -> str:
    """What this state of the study cannot say."""
    items = [uncertainty.scope(ctx), *(imported.limits(ctx) if imported.is_imported(ctx) else ())]
    study, seeds = ctx.study, len(ctx.study.seeds)
    if seeds < study.standard_seeds:
        items.append(
            f"{plural(seeds, 'seed')}: verdicts are tentative; the exact sign-flip test could not go below "
            f"p{NBSP}={NBSP}{2 ** (1 - seeds):g} with so few."
        )
    exploratory = [each.arm for each in ctx.conclusions if each.exploratory]
    if exploratory:
        items.append(
            f"{plural(len(exploratory), 'arm')} of {len(ctx.conclusions)} declared no expectation before the runs; "
            "what is said of them is exploratory."
        )
    changed = {str((record.get("code") or {}).get("package_hash")) for record in ctx.records.values()}
    if len(changed) > 1:
        items.append(f"The runs were made with {len(changed)} different states of the sources (@tbl-provenance).")
    if any((record.get("code") or {}).get("git_dirty") for record in ctx.records.values()):
        items.append("Some runs were made with uncommitted changes of the sources (@tbl-ledger).")
    devices = {str((record.get("environment") or {}).get("device")) for record in ctx.records.values()}
    if len(devices) > 1:
        items.append(f"The runs were made on {len(devices)} kinds of device; their times do not compare.")
    threads = {(record.get("environment") or {}).get("threads") for record in ctx.records.values()}
    if len(threads) > 1:
        items.append("Runs had different numbers of threads: the same seed need not give the same bits.")
    data = tables.data_facts(ctx)
    prints = {str(facts.get("fingerprint")) for _, facts in data}
    if len(prints) > 1:
        items.append("Not all arms saw the same data (@tbl-data): their differences are also those of the data.")
    return bullets(items)


def reproduce(ctx: Context, folder: Path) -> str:
    """How to make these figures again."""
    study = ctx.study
    profile = f" --profile {study.profile}" if study.profile else ""
    file = study.path.name
    commits = {str((record.get("code") or {}).get("git_commit") or "") for record in ctx.records.values()} - {""}
    lines = [f"git checkout {commit}" for commit in sorted(commits)] if len(commits) == 1 else []
    if not imported.is_imported(ctx):
        lines.append(f"ablations run --study {file}{profile}")
    lines.append(f"ablations report --study {file}{profile}")
    steps = code_block("\n".join(lines))
    if imported.is_imported(ctx):
        steps = join(imported.sources_table(ctx), code_block(lines[-1]))
    hashed = f"The baseline's resolved config has the hash {code(ctx.baseline.config_hash[:16])}."
    return join(steps, hashed, tables.provenance_table(ctx), "The study file, as it was read:", code_block(study.text))


MEASURED = {"seconds": "run time, s", "seconds_training": "training time, s", "parameters": "parameters"}
"""Columns of the runs, beside their scores, whose values the evidence of a figure shows."""


def runs(ctx: Context, folder: Path) -> str:
    """The runs behind the figures, for the panel that a click on a figure opens."""
    scores = ctx.scores.pivot_table(index="run_id", columns="metric", values="value", sort=False)
    values: dict[str, dict[str, Any]] = scores.to_dict("index")
    columns = [ctx.study.metric, *(str(name) for name in scores.columns if name != ctx.study.metric), *MEASURED]
    rows: dict[str, Any] = {}
    for run in ctx.runs.to_dict("records"):
        own = {**{name: run[name] for name in MEASURED}, **values.get(run["run_id"], {})}
        rows[run["run_id"]] = [
            plain(run["variant"]),
            int(run["seed"]),
            str(run["status"]),
            str(run["config_hash"])[:12],
            (str(run["git_commit"])[:10] + ("+" if run["git_dirty"] else "")) if run["git_commit"] else "",
            [float(f"{own[name]:.6g}") if defined(own.get(name)) else None for name in columns],
        ]
    names = {name: plain(MEASURED.get(name, tables.words_of(name))) for name in columns}
    found = {"metric": ctx.study.metric, "names": names, "columns": columns, "runs": rows}
    payload = json.dumps(found, ensure_ascii=True, separators=(",", ":"))
    safe = payload.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("{{", "{ {")
    safe = safe.replace("`", "\\u0060")
    return f'```{{=html}}\n<script type="application/json" id="ablations-runs">{safe}</script>\n```\n'
