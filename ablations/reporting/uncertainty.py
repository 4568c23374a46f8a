"""What stands behind the verdicts: other test sets, other tests, diverged runs, the choice of the best, the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ablations.analysis.bayes import posterior
from ablations.analysis.compare import study_table
from ablations.analysis.failures import share_of_failures
from ablations.analysis.power import detectable
from ablations.analysis.results import FLAGS, Comparison
from ablations.analysis.selection import pick
from ablations.analysis.signflip import floor
from ablations.analysis.verdict import LEAST_SEEDS
from ablations.reporting import example_scores, prose_uncertainty, tables
from ablations.reporting.context import Context
from ablations.reporting.markdown import Column, bullets, join, section, table
from ablations.reporting.numbers import table_decimals
from ablations.reporting.prose import SCOPE
from ablations.reporting.text import (
    DASH,
    code,
    count,
    escape,
    evidence,
    evident,
    interval,
    number,
    p_value,
    share,
    tied,
    tied_figures,
)

ARM = "ARM"  # where its name goes, which the figures in it must not be taken from
TESTED_FLAGS = ("depends_on_normality", "pooled_disagrees")


def uncertainty(ctx: Context, folder: Path) -> str:
    """The section; empty where nothing was tested."""
    return section(
        "How sure this is",
        "uncertainty",
        section("On other test sets", "test-sets", other_test_sets(ctx), level=2),
        section("By other tests", "other-tests", other_tests(ctx), level=2),
        section("With diverged runs", "diverged", diverged(ctx), level=2),
        section("As a pick of the best", "pick", best_pick(ctx), level=2),
    )


def scope(ctx: Context) -> str:
    """What the verdicts speak about, and where more is said."""
    more = " What holds on test sets like this one, @sec-test-sets says." if example_scores.kept(ctx) else ""
    return escape(SCOPE) + more


def other_test_sets(ctx: Context) -> str:
    """Intervals over seeds and test examples beside those over seeds; empty where no run has kept its examples."""
    found = example_scores.find(ctx)
    decimals, rows = table_decimals(ctx), []
    for arm, wider in found.intervals.items():
        comparison, ids = ctx.by_arm[arm], ctx.pair_ids(arm)
        part = 1 - wider.se_seeds**2 / wider.se**2 if wider.se else math.nan
        rows.append(
            [
                code(arm),
                count(wider.n),
                evidence(number(wider.difference, decimals, signed=True), ids),
                evidence(interval(comparison.ci_low, comparison.ci_high, decimals), ids),
                evidence(interval(wider.low, wider.high, decimals), ids),
                evidence(share(part), ids),
            ]
        )
    notes = bullets(_unused(found))
    if not rows:
        return notes
    columns = [
        Column("Arm"),
        Column("n", "right"),
        Column("Difference", "right"),
        Column("On this test set", "right"),
        Column("On test sets like this one", "right"),
        Column("Examples' part", "right"),
    ]
    examples = next(iter(found.intervals.values())).examples
    caption = (
        "95 % intervals of the difference over new seeds, on this test set (paired t), and over new seeds and new test "
        f"examples, on test sets like this one (two-way random effects, {count(examples)} examples; never narrower). "
        "Examples' part: share of the second variance that more seeds would not reduce, and a larger test set would."
    )
    return join(_claims(ctx, found), table(columns, rows, label="test-sets", caption=caption), notes)


def _claims(ctx: Context, found: example_scores.Found) -> str:
    """How many claims hold on other test sets, and which do not."""
    metric, unit, decimals = tables.words_of(ctx.study.metric), ctx.study.unit, table_decimals(ctx)
    ids = [run_id for variant in ctx.variants for run_id in ctx.ids[variant.name]]
    summary = evident(tied_figures(escape(prose_uncertainty.summary_sentence(ctx.comparisons, found.intervals))), ids)
    items = []
    for arm, wider in found.intervals.items():
        text = prose_uncertainty.wider_sentence(
            ctx.by_arm[arm], wider, decimals=decimals, metric=metric, unit=unit, label=ARM
        )
        if text:
            items.append(_worded(ctx, text, arm))
    return join(summary, bullets(items))


def _unused(found: example_scores.Found) -> list[str]:
    """Examples that are there and are not used."""
    out = []
    if found.others:
        out.append(f"Not compared, since their test examples are others: {', '.join(map(code, found.others))}.")
    if found.damaged:
        out.append(f"Examples that could not be read, of the runs {', '.join(map(code, found.damaged))}.")
    if found.no_mean:
        runs = ", ".join(map(code, found.no_mean[:8])) + (" and others" if len(found.no_mean) > 8 else "")
        out.append(f"The score is not the mean over the examples, so that these say nothing about it: {runs}.")
    return out


def other_tests(ctx: Context) -> str:
    """The comparisons by other measures and other tests; empty where nothing was tested."""
    tested = [each for each in ctx.comparisons if each.p is not None or each.p_signflip is not None]
    if not tested:
        return ""
    notes = [prose_uncertainty.pooled_sentence(ctx.comparisons)]
    sizes = {(each.n or each.itt_n, each.first_step, each.alpha) for each in tested}
    notes += [prose_uncertainty.floor_sentence(*size) for size in sorted(sizes)]
    said = [tied_figures(escape(note)) for note in notes if note]
    effects = [each for each in tested if each.p is not None]
    return join(_effects_table(ctx, effects) if effects else "", _tests_table(ctx, tested), bullets(said))


def _effects_table(ctx: Context, tested: Sequence[Comparison]) -> str:
    columns = [Column("Arm"), *(Column(head, "right") for head in ("Better on", "r", "g~z~", escape("δ*")))]
    beliefs = {each.arm: posterior(each) for each in tested}
    believed = any(beliefs.values())
    if believed:
        columns += [Column(head, "right") for head in ("P(better)", "P(same)", "P(worse)")]
    decimals, rows = table_decimals(ctx), []
    for each in tested:
        ids, belief = ctx.pair_ids(each.arm), beliefs[each.arm]
        bound = each.smallest_bound
        cells = [
            f"{each.better} of {each.n}" if each.n else DASH,
            number(each.r, 2),
            number(each.g_z, 2, signed=True),
            DASH if bound is None else number(math.ceil(bound * 10**decimals - 1e-9) / 10**decimals, decimals),
        ]
        if believed:
            cells += [_chance(getattr(belief, name) if belief else None) for name in ("better", "same", "worse")]
        rows.append([code(each.arm), *(evidence(cell, ids) for cell in cells)])
    caption = (
        "r: correlation of arm and baseline over the seeds, which is what pairing gains by. g~z~: mean difference / sd "
        "of the differences, with Hedges' correction. δ\\*: smallest bound on the size of the effect that the data "
        f"rule out at {tied(f'{100 * (1 - tested[0].alpha):.4g} %')}, one-sided each way, rounded up."
    )
    if believed:
        effect = f"{ctx.study.smallest_effect:g}"
        caption += (
            f" P: probability, given a flat prior, that the difference is better than {effect}, within it, or worse: "
            "the one-sided tests in other words, no second source of evidence."
        )
    return table(columns, rows, label="effects", caption=caption)


def _chance(p: float | None) -> str:
    """A probability in percent, never certain."""
    if p is None:
        return DASH
    return tied("< 0.1 %" if p < 0.0005 else "> 99.9 %" if p > 0.9995 else f"{100 * p:.1f} %")


def _tests_table(ctx: Context, tested: Sequence[Comparison]) -> str:
    heads = ("n", "Adj. p", "Sign-flip p", "its least", "Sign-flip, adj. p", "Pooled p")
    columns = [Column("Arm"), *(Column(head, "right") for head in heads), Column("Remark")]
    rows: list[list[str]] = []
    for each in tested:
        unstable = each.p is None
        n, ids = each.itt_n if unstable else each.n, _outcomes(ctx, each) if unstable else ctx.pair_ids(each.arm)
        cells = [
            p_value(each.p_adjusted, each.alpha),
            p_value(each.p_signflip, each.alpha),
            p_value(floor(n)),
            p_value(each.p_signflip_adjusted, each.alpha),
            p_value(each.p_pooled, each.alpha),
        ]
        remarks = "runs diverged" if unstable else "; ".join(FLAGS[flag] for flag in TESTED_FLAGS if flag in each.flags)
        rows.append([code(each.arm), count(n), *(evidence(cell, ids) for cell in cells), remarks])
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    caption = (
        "Adj. p: what the verdicts rest on, from the paired t-test (from the sign-flip test where runs diverged). The "
        "sign-flip test needs no normal distribution and has few values at few seeds; the pooled-variance test takes "
        "one residual variance for all arms (arms and seeds, Dunnett), which finds more and errs where one arm is "
        "noisier. Neither decides."
    )
    return table(columns, rows, label="tests", caption=caption)


def diverged(ctx: Context) -> str:
    """What diverged, what that says about rates, and the differences with and without; empty where nothing did."""
    failing = [each for each in ctx.comparisons if each.n_diverged or each.baseline_diverged]
    if not failing:
        return ""
    decimals = table_decimals(ctx)
    heads = (
        "Diverged",
        "95 % of the rate",
        "McNemar p",
        "With the failure value",
        "Adj. p",
        "Finished runs",
    )
    columns = [Column("Arm"), *(Column(head, "right") for head in heads)]
    first = failing[0]
    low, high = share_of_failures(first.baseline_diverged, max(1, first.baseline_ok + first.baseline_diverged))
    base = ctx.baseline.name
    rows = [
        [
            f"**{code(base)}**",
            _rate(ctx, base, first.baseline_diverged, first.baseline_ok),
            tied(f"{share(low)} to {share(high)}"),
            *[DASH] * 4,
        ]
    ]
    rows += [_diverged_row(ctx, each, decimals) for each in failing]
    value = ctx.study.failure_value
    counted = f"{value:g}" if value is not None else "nothing, since none was declared: these arms are not tested"
    caption = (
        "Diverged runs are outcomes, not missing data. Rate: Clopper-Pearson interval. McNemar: exact test of whether "
        f"arm and baseline diverge equally often. With the failure value: a diverged run counts as {counted}; adj. p: "
        "of the sign-flip test on these values, in its family. Finished runs: difference and 95 % interval among runs "
        "that finished, on both sides; not what decides."
    )
    others = [each for each in ctx.comparisons if not each.n_diverged and each.n_ok]
    calm = ""
    if others:
        fewest = min(each.n_ok for each in others)
        upper = share_of_failures(0, fewest)[1]
        calm = escape(prose_uncertainty.stable_sentence(len(others), fewest, upper))
    return join(table(columns, rows, label="diverged", caption=caption), tied_figures(calm))


def _outcomes(ctx: Context, each: Comparison) -> tuple[str, ...]:
    """The runs of an arm and of the baseline that completed or diverged."""
    runs = ctx.runs[
        ctx.runs["variant"].isin((each.arm, each.baseline)) & ctx.runs["status"].isin(("completed", "diverged"))
    ]
    return tuple(runs["run_id"])


def _rate(ctx: Context, variant: str, failed: int, ok: int) -> str:
    runs = ctx.runs[(ctx.runs["variant"] == variant) & ctx.runs["status"].isin(("completed", "diverged"))]
    return evidence(f"{failed} of {failed + ok}", runs["run_id"])


def _diverged_row(ctx: Context, each: Comparison, decimals: int) -> list[str]:
    ids = _outcomes(ctx, each)
    finished = number(each.difference, decimals, signed=True)
    if each.ci_low is not None:
        finished += f" {interval(each.ci_low, each.ci_high, decimals)}"
    rate = DASH if each.failure_low is None else f"{share(each.failure_low)} to {share(each.failure_high)}"
    return [
        code(each.arm),
        _rate(ctx, each.arm, each.n_diverged, each.n_ok),
        tied(rate),
        evidence(p_value(each.p_mcnemar), ids),
        evidence(number(each.itt_difference, decimals, signed=True), ids),
        evidence(p_value(each.p_adjusted, each.alpha), ids),
        evidence(finished, ctx.pair_ids(each.arm)),
    ]


def best_pick(ctx: Context) -> str:
    """What picking the arm that looks best promises; empty where there is nothing to pick."""
    study = ctx.study
    if not ctx.comparisons:
        return ""
    found = pick(study_table(ctx.scores, study, study.metric), "max" if study.direction == "max" else "min")
    if found is None:
        return ""
    text = prose_uncertainty.pick_sentence(
        found, decimals=table_decimals(ctx), metric=tables.words_of(study.metric), unit=study.unit, label=ARM
    )
    return _worded(ctx, text, found.arm)


def _worded(ctx: Context, text: str, arm: str) -> str:
    """A sentence about an arm as Markdown, its figures leading to their runs."""
    safe = evident(tied_figures(escape(text)), ctx.pair_ids(arm), (ctx.study.smallest_effect,))
    return safe.replace(ARM, code(arm), 1)


def design(ctx: Context, folder: Path) -> str:
    """What the seeds of the study can find: one sentence a family."""
    said: dict[str, None] = {}
    several, families = len(ctx.families) > 1, list(ctx.families)
    for each in sorted(ctx.comparisons, key=lambda c: (families.index(c.family), c.n_planned)):
        if each.n_planned < max(ctx.study.min_seeds, LEAST_SEEDS):
            continue
        tested = [c for c in ctx.comparisons if c.family == each.family and c.p is not None]
        effect = detectable(each.n_planned, each.alpha / each.first_step, each.power)
        text = prose_uncertainty.power_sentence(
            each.n_planned,
            each.first_step,
            effect,
            power=each.power,
            sd=median(c.sd_difference or 0.0 for c in tested) if tested else None,
            decimals=table_decimals(ctx),
            unit=ctx.study.unit,
            family=ARM if several else "",
        )
        ids = [run_id for c in tested for run_id in ctx.pair_ids(c.arm)]
        safe = evident(tied_figures(escape(text)), dict.fromkeys(ids), (round(effect, 2),))
        said[safe.replace(ARM, code(each.family), 1)] = None
    return bullets(said) if len(said) > 1 else join(*said)
