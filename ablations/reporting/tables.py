"""The report's tables, as Quarto Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ablations.plan import Variant, seed_words, seeds_of
from ablations.recorded import IMPORTED, is_imported, origin
from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, table
from ablations.reporting.numbers import (
    best_variants,
    column_of,
    deviation,
    mean,
    scores_of,
    seconds_of,
    table_decimals,
    timed,
)
from ablations.reporting.prose_uncertainty import families_words
from ablations.reporting.text import (
    DASH,
    code,
    count,
    decimals_for,
    defined,
    duration,
    escape,
    evidence,
    interval,
    magnitude,
    number,
    p_value,
    plain,
    plural,
    share,
    spread,
    tied,
    tied_figures,
)
from ablations.reporting.verdicts import verdict_cell
from ablations.schema import ABSENT

EXPECTATIONS = {"better": "better", "worse": "worse", "same": "the same", None: DASH}


def group_row(title: str, columns: int) -> list[str]:
    """A line that names the group of the lines below it."""
    return [f"**{escape(title)}**", *[""] * (columns - 1)]


def variants_table(ctx: Context) -> str:
    """The study as declared: every variant, what it changes, asks and expects."""
    columns = [
        Column("Arm"),
        Column("Change from the baseline"),
        Column("Question"),
        Column("Expected"),
    ]
    declared = {each.name: each for each in ctx.study.ablations}
    rows = [[code(ctx.baseline.name), "the parameters of @tbl-parameters", DASH, DASH]]
    for group in ctx.groups:
        if group.name:
            rows.append(group_row(group.title, len(columns)))
        asked = ""
        for variant in group.variants:
            ablation = declared[str(variant.ablation)]
            question = escape(ablation.question) or DASH
            if question != DASH and question == asked:
                question = "as above"
            else:
                asked = question
            rows.append([code(variant.name), change(variant), question, EXPECTATIONS[ablation.expect]])
    arms = plural(len(ctx.variants) - 1, "arm")
    caption = f"The study as declared: the baseline and {arms}, each on {seed_words(ctx.study)}."
    return table(*telling(columns, rows), label="variants", caption=caption)


def telling(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[list[Column], list[list[str]]]:
    """A table without the columns in which no row has anything."""
    kept = [at for at in range(len(columns)) if not rows or any(row[at] not in ("", DASH) for row in rows)]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def change(variant: Variant) -> str:
    """What a variant changes, fit for a table's cell: a combination of many changes wraps at its commas."""
    return escape(variant.label)


def main_table(ctx: Context) -> str:
    """Every arm against the baseline on the primary metric, with verdict and cost."""
    metric = escape(metric_name(ctx))
    columns = [
        Column("Arm"),
        Column("n", "right"),
        Column(tied_figures(f"{metric}, mean ± sd"), "right"),
        Column("Difference", "right"),
        Column("95 % interval", "right"),
        Column("Adj. p", "right"),
        Column("Verdict"),
        Column("Params", "right"),
        Column("Time", "right"),
    ]
    decimals, best = table_decimals(ctx), best_variants(ctx)
    rows = [_baseline_row(ctx, decimals, best)]
    for group in ctx.groups:
        if group.name:
            rows.append(group_row(group.title, len(columns)))
        rows += [_arm_row(ctx, variant, decimals, best) for variant in group.variants]
    rows += _reference_rows(ctx, decimals, len(columns))
    bold = " Bold: the best mean and all that paired tests cannot tell from it." if best else ""
    caption = (
        f"Every arm against the baseline on {metric} ({'more' if ctx.study.direction == 'max' else 'less'} is better). "
        "n: runs with a result of those planned. Difference: arm minus baseline, mean over shared seeds, with its 95 % "
        f"paired-t interval. p: {_correction(ctx)}. Params, time: parameters and training time, means over runs.{bold}"
    )
    if any(each.n_diverged or each.baseline_diverged for each in ctx.comparisons):
        caption += (
            " Where runs diverged, mean, difference and interval are among runs that finished, and p counts all of "
            "them (@tbl-diverged)."
        )
    return table(columns, rows, label="main", caption=caption)


def _correction(ctx: Context) -> str:
    tested = "paired t-test (sign-flip test where runs diverged)"
    if ctx.study.looks > 1:
        tested += f" at the level {ctx.study.alpha / ctx.study.looks:.3g}"
    if ctx.study.correction == "none":
        return f"{tested}, not corrected for multiple testing"
    families = escape(families_words(ctx.families))
    return f"{tested}, adjusted by {escape(ctx.study.correction.capitalize())}'s method over {families}"


def _baseline_row(ctx: Context, decimals: int, best: Collection[str]) -> list[str]:
    name = ctx.baseline.name
    ids, values = ctx.ids[name], scores_of(ctx, name, ctx.study.metric)
    return [
        f"**{code(name)}**",
        _counted(ctx, name),
        evidence(_bold(spread(mean(values), deviation(values), decimals), name in best), ids),
        *[DASH] * 4,
        *_cost_cells(ctx, name),
    ]


def _arm_row(ctx: Context, variant: Variant, decimals: int, best: Collection[str]) -> list[str]:
    found = ctx.by_arm[variant.name]
    pairs = ctx.pair_ids(variant.name)
    return [
        code(variant.name),
        _counted(ctx, variant.name),
        evidence(_bold(spread(found.arm_mean, found.arm_sd, decimals), variant.name in best), ctx.ids[variant.name]),
        evidence(number(found.difference, decimals, signed=True), pairs),
        evidence(interval(found.ci_low, found.ci_high, decimals), pairs),
        evidence(p_value(found.p_adjusted, found.alpha), pairs),
        verdict_cell(ctx.concluded[variant.name]),
        *_cost_cells(ctx, variant.name),
    ]


def _bold(cell: str, is_best: bool) -> str:
    return f"**{cell}**" if is_best else cell


def _counted(ctx: Context, variant: str) -> str:
    return evidence(f"{len(ctx.ids[variant])}/{len(seeds_of(ctx.study, variant))}", ctx.ids[variant])


def _cost_cells(ctx: Context, variant: str) -> list[str]:
    ids = ctx.ids[variant]
    return [
        evidence(magnitude(mean(column_of(ctx, variant, "parameters"))), ids, "parameters"),
        evidence(duration(mean(seconds_of(ctx, variant))), ids, timed(ctx, variant)),
    ]


MOST_SCORES = 5  # what an upright page of the PDF holds beside the arms


def _reference_rows(ctx: Context, decimals: int, columns: int) -> list[list[str]]:
    found = references(ctx)
    if not found:
        return []
    rows = []
    for name, answer, value in found:
        label = f"for reference: {escape(name)}" + (f" ({code(answer)})" if answer else "")
        ids = ctx.ids[ctx.baseline.name]
        rows.append([label, DASH, evidence(number(value, decimals), ids), *[DASH] * (columns - 3)])
    return rows


def references(ctx: Context) -> list[tuple[str, str, float]]:
    """Name, answer and primary metric of each reference that the baseline's records carry."""
    for record in ctx.records_of(ctx.baseline.name):
        kept = (record.get("info") or {}).get("references") or {}
        return [
            (str(name), plain(each.get("answer", "")), float(each[ctx.study.metric]))
            for name, each in kept.items()
            if defined(each.get(ctx.study.metric))
        ]
    return []


def metric_name(ctx: Context) -> str:
    """The primary metric for readers, with its unit."""
    unit = f" ({ctx.study.unit})" if ctx.study.unit else ""
    return words_of(ctx.study.metric) + unit


def words_of(metric: str) -> str:
    """A metric's name in words.

    >>> words_of("test_f1")
    'test F1'
    """
    return re.sub(r"\bf(\d)\b", r"F\1", metric.replace("_", " "))


def secondary_table(ctx: Context) -> str:
    """Means of all other scores; empty where there are none."""
    names = [name for name in dict.fromkeys(ctx.scores["metric"]) if name != ctx.study.metric]
    names = [name for name in names if any(scores_of(ctx, each.name, name) for each in ctx.variants)]
    counterpart = "validation_" + ctx.study.metric.removeprefix("test_")
    names.sort(key=lambda name: (not name.startswith("test_"), name != counterpart))
    further, names = names[MOST_SCORES:], names[:MOST_SCORES]
    if not names:
        return ""
    columns = [Column("Arm")]
    columns += [Column(escape(words_of(name)), "right") for name in names]
    decimals = {name: _decimals_of(ctx, name) for name in names}
    rows = []
    for variant in ctx.variants:
        cells = []
        for name in names:
            values = scores_of(ctx, variant.name, name)
            shown = spread(mean(values), deviation(values), decimals[name])
            cells.append(evidence(shown, ctx.ids[variant.name], name))
        rows.append([code(variant.name), *cells])
    caption = "The other scores, mean ± sd over runs. Exploratory: no verdict rests on them."
    if further:
        caption += f" Recorded, too: {', '.join(escape(words_of(name)) for name in further)}."
    return table(columns, rows, label="scores", caption=caption)


def _decimals_of(ctx: Context, metric: str) -> int:
    spreads = [deviation(scores_of(ctx, variant.name, metric)) for variant in ctx.variants]
    return decimals_for(spreads, fewest=1, most=4)


def parameters_table(ctx: Context) -> str:
    """Every parameter of the baseline, with its meaning."""
    columns = [Column("Parameter"), Column("Value"), Column("Meaning")]
    rows, section = [], ""
    ordered = sorted(ctx.study.schema.tunables.items(), key=lambda item: "." in item[0])  # those of no section first
    for key, tunable in ordered:
        if key not in ctx.study.baseline:  # an experiment's own config may have entries under some conditions only
            continue
        if key.rpartition(".")[0] != section:
            section = key.rpartition(".")[0]
            rows.append(group_row(section, len(columns)))
        value = ctx.study.baseline[key]
        unit = f" {tunable.unit}" if tunable.unit and value is not None else ""
        shown = code(shown_value(value)) + (f"\u00a0{escape(unit.strip())}" if unit else "")
        default = (
            ""
            if value == tunable.default or tunable.default is ABSENT
            else f"; default {code(shown_value(tunable.default))}"
        )
        rows.append([code(key), shown, escape(tunable.help) + default])
    caption = "The baseline's parameters. A default is given where the baseline departs from it."
    return table(columns, rows, label="parameters", caption=caption)


def shown_value(value: Any) -> str:
    """A parameter's value as it is written in the study file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def ledger_table(ctx: Context) -> str:
    """Every planned run and what became of it."""
    columns = [
        Column("Run"),
        Column("Arm"),
        Column("Seed", "right"),
        Column("Status"),
        Column(escape(metric_name(ctx)), "right"),
        Column("Time", "right"),
        Column("Cause, remarks"),
    ]
    order = {variant.name: at for at, variant in enumerate(ctx.variants)}
    decimals = min(table_decimals(ctx) + 1, 5)
    values = ctx.scores[ctx.scores["metric"] == ctx.study.metric].set_index("run_id")["value"].to_dict()
    runs = sorted(
        ctx.runs.to_dict("records"), key=lambda run: (order[run["variant"]], ctx.study.seeds.index(run["seed"]))
    )
    rows = []
    for run in runs:
        status = str(run["status"])
        rows.append(
            [
                code(run["run_id"]),
                code(run["variant"]),
                str(run["seed"]),
                status if status == "completed" else f"**{escape(status)}**",
                evidence(number(values.get(run["run_id"]), decimals), [run["run_id"]]),
                evidence(duration(_float(run["seconds"])), [run["run_id"]], "seconds"),
                _remarks(run, ctx.records.get(run["run_id"])),
            ]
        )
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    what = "imported" if ctx.study.experiment == IMPORTED else "planned"
    caption = f"Every {what} run: {ctx.completed} of {ctx.planned} completed."
    return table(columns, rows, label="ledger", caption=caption)


def _float(value: Any) -> float | None:
    return float(value) if defined(value) or hasattr(value, "dtype") else None


def _remarks(run: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    parts = []
    if record and is_imported(record):
        parts.append(escape(shortened(origin(record), 120)))
    if isinstance(run["error"], str) and run["error"]:
        parts.append(escape(shortened(run["error"], 160)))
    if defined(_float(run["attempt"])) and float(run["attempt"]) > 1:
        parts.append(f"attempt {int(run['attempt'])}")
    if isinstance(run["taken_from"], str):
        parts.append(
            f"the training up to step {int(run['taken_steps'])} is that of {code(run['taken_from'])} "
            f"({duration(_float(run['taken_seconds']))} of the time)"
        )
    if run["git_dirty"] is True:
        parts.append("sources not committed")
    return "; ".join(parts)


def shortened(text: object, longest: int) -> str:
    """One line of at most so many characters."""
    line = plain(text)
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def attempts_table(ctx: Context) -> str:
    """Earlier attempts of planned runs, and runs in the folder that the study does not plan; empty without any."""
    found: list[tuple[str, Mapping[str, Any]]] = [(_replaced(each), each) for each in ctx.superseded]
    found += [("not planned by this study as it is now", each) for each in ctx.strangers]
    if not found:
        return ""
    columns = [
        Column("Run"),
        Column("Arm, as it was called"),
        Column("Seed", "right"),
        Column("Status"),
        Column("Why it is left out, and its cause of failure"),
    ]
    rows = []
    for why, record in found:
        error = record.get("error")
        cause = f"; {escape(shortened(error['type'] + ': ' + error['message'], 120))}" if error else ""
        cells = [code(record["run_id"]), code(record["variant"]), str(record["seed"]), escape(record["status"])]
        rows.append([*cells, why + cause])
    return table(
        columns, rows, label="attempts", caption="Runs in the results folder that no figure of this report uses."
    )


def _replaced(record: Mapping[str, Any]) -> str:
    if is_imported(record):
        return f"another run of the same config and seed counts; this is {escape(shortened(origin(record), 120))}"
    return "replaced by a later attempt"


SPLITS = ("train", "validation", "test")


def data_table(ctx: Context) -> str:
    """What the runs were trained and tested on, one line a distinct set of data; empty where nothing is recorded."""
    found = data_facts(ctx)
    if not found:
        return ""
    columns = [
        Column("Data of"),
        Column("Corpus"),
        Column("Functions: train", "right"),
        Column("validation", "right"),
        Column("test", "right"),
        Column("Inputs cut: train", "right"),
        Column("test", "right"),
        Column("Fingerprint"),
    ]
    rows = []
    for names, facts in found:
        counts, cut = facts.get("counts") or {}, facts.get("truncated") or {}
        ids = [ctx.ids[name][0] for name in names]
        rows.append(
            [
                ", ".join(code(name) for name in names)
                if len(names) < 5
                else f"{code(names[0])} and {len(names) - 1} more",
                code(facts.get("corpus", DASH)),
                *(evidence(count(counts.get(split)), ids) for split in SPLITS),
                *(evidence(share(cut.get(split)), ids) for split in ("train", "test")),
                code(str(facts.get("fingerprint", DASH))[:12]),
            ]
        )
    caption = "The data of each arm. Inputs cut: share of inputs longer than the arm's limit."
    return table(columns, rows, label="data", caption=caption)


def data_facts(ctx: Context) -> list[tuple[list[str], Mapping[str, Any]]]:
    """The distinct data of the study with the variants that used them, the baseline's first."""
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for variant in ctx.variants:
        for record in ctx.records_of(variant.name)[:1]:
            facts = (record.get("info") or {}).get("data") or {}
            if facts:
                key = repr((facts.get("fingerprint"), facts.get("counts"), facts.get("truncated")))
                found.setdefault(key, ([], facts))[0].append(variant.name)
    return list(found.values())


def provenance_table(ctx: Context) -> str:
    """Code, data and machines of the runs; several values where runs differ; empty where nothing ran."""
    records = list(ctx.records.values())
    if not records:
        return ""
    environment = [record.get("environment") or {} for record in records]
    codes = [record.get("code") or {} for record in records]
    packages = sorted({name for each in environment for name in each.get("packages") or {}})
    rows = [
        ["Commit", _values(_commit(each) for each in codes)],
        ["Hash of the sources", _values(code(str(each.get("package_hash") or DASH)[:16]) for each in codes)],
        ["Data fingerprint", _values(_fingerprint(record) for record in records)],
        ["Python", _values(escape(each.get("python", DASH)) for each in environment)],
        ["Platform", _values(escape(each.get("platform", DASH)) for each in environment)],
        ["Device", _values(_device(each) for each in environment)],
        ["Packages", _values(_versions(each, packages) for each in environment)],
    ]
    columns = [Column("What"), Column("Value (number of runs where they differ)")]
    return table(columns, rows, label="provenance", caption="What the runs ran on.")


def _values(cells: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    if len(counts) == 1:
        return next(iter(counts))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{cell} ({n}×)" for cell, n in ordered)


def _commit(code_of: Mapping[str, Any]) -> str:
    commit = code_of.get("git_commit")
    if not commit and not code_of.get("package_hash"):
        return "not recorded"
    if not commit:
        return "not in a Git checkout"
    return code(str(commit)[:12]) + (" with uncommitted changes" if code_of.get("git_dirty") else "")


def _fingerprint(record: Mapping[str, Any]) -> str:
    return code(str(((record.get("info") or {}).get("data") or {}).get("fingerprint", DASH))[:16])


def _device(environment: Mapping[str, Any]) -> str:
    device = str(environment.get("device", DASH))
    shown = environment.get("cpu", device) if device == "cpu" else device
    threads = environment.get("threads")
    return escape(shown) + (f", {threads} {'thread' if threads == 1 else 'threads'} a run" if threads else "")


def _versions(environment: Mapping[str, Any], packages: Sequence[str]) -> str:
    versions = environment.get("packages") or {}
    return ", ".join(tied(f"{escape(name)} {escape(versions[name])}") for name in packages if name in versions) or DASH
