"""Which parameter matters most: as far as the design lets one say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.analysis.compare import study_table
from ablations.analysis.paired import NEGLIGIBLE
from ablations.analysis.results import Comparison
from ablations.errors import AblationsError, one_of

if TYPE_CHECKING:
    from ablations.plan import Variant
    from ablations.study import Ablation, Study

MIN_TRIALS = 30


@dataclass(frozen=True)
class Share:
    """A factor's, or an interaction's, share of the variance in a factorial design.

    Attributes:
        factors: The factor, or the factors that interact.
        df: Degrees of freedom.
        f: F statistic.
        df_error: Degrees of freedom of the error.
        p: Its p.
        partial_eta2: SS / (SS + SS_error); biased upwards.
        omega2: (SS - df MSE) / (SS_total + MSE); may be negative.
    """

    factors: tuple[str, ...]
    df: int
    df_error: int
    f: float
    p: float
    partial_eta2: float
    omega2: float


@dataclass(frozen=True)
class Importance:
    """A searched parameter's share of what the score varies by, over the searched space; exploratory, without a test.

    Attributes:
        parameter: Its dotted key.
        share: Its own and its part of the interactions', 0 to 1; the shares of all parameters sum to 1.
        trials: Trials it rests on.
    """

    parameter: str
    share: float
    trials: int


def ranked(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Arms of a one-at-a-time design by the size of their difference; such a design has no shares of variance."""
    known = [c for c in comparisons if c.difference is not None]
    return sorted(known, key=lambda c: -abs(c.difference or 0.0))


def factorial(frame: pd.DataFrame, factors: Sequence[str], *, value: str = "value", seed: str = "seed") -> list[Share]:
    """Analysis of variance of a full factorial design, the seed as a block: main effects, then pairs of factors.

    Source: type-II sums of squares, statsmodels ``anova_lm(typ=2)``; omega squared, Hays 1963.

    Args:
        frame: One row per completed run, a column per factor.
        factors: Two or more columns.
        value: Column of the metric.
        seed: Column of the seed.

    Raises:
        AblationsError: If a column is missing or the design is not a full factorial one.
    """
    _check(frame, factors, value, seed)
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    terms = [(factor,) for factor in factors] + list(_pairs(factors))
    plain = frame.rename(
        columns={name: f"f{index}" for index, name in enumerate(factors)} | {value: "y", seed: "block"}
    )
    place = {name: f"C(f{index})" for index, name in enumerate(factors)}
    names = {":".join(place[factor] for factor in term): term for term in terms}
    fit = smf.ols("y ~ " + " + ".join([*names, "C(block)"]), plain).fit()
    df_error = int(fit.df_resid)
    if df_error < 1 or fit.ssr <= (NEGLIGIBLE * float(plain["y"].abs().max())) ** 2:
        raise AblationsError("the runs leave nothing to estimate the error by: shares of variance need several seeds")
    table = anova_lm(fit, typ=2)
    error = float(table.loc["Residual", "sum_sq"])
    mean_square = error / df_error
    total = float(((plain["y"] - plain["y"].mean()) ** 2).sum())
    shares = []
    for name, term in names.items():
        square, df = float(table.loc[name, "sum_sq"]), int(table.loc[name, "df"])
        shares.append(
            Share(
                factors=term,
                df=df,
                df_error=df_error,
                f=float(table.loc[name, "F"]),
                p=float(table.loc[name, "PR(>F)"]),
                partial_eta2=square / (square + error),
                omega2=(square - df * mean_square) / (total + mean_square),
            )
        )
    return shares


def grid_runs(scores: pd.DataFrame, study: Study, grid: Ablation, variants: Sequence[Variant]) -> pd.DataFrame:
    """The completed runs of a grid on the primary metric: a column for each factor, ``variant``, ``seed``
    and ``value``.

    A cell of the grid that another variant has, such as the baseline, is taken from that one.

    Args:
        scores: What ``Store.read_scores`` returns.
        study: The study as loaded.
        grid: An ablation of it that sweeps two parameters or more.
        variants: All variants of the study.
    """
    table = study_table(scores, study, study.metric)
    start = next(variant.config for variant in variants if variant.name == grid.levels[0].name)
    rows = []
    for cell in product(*grid.axes.values()):
        wanted = {**start, **dict(zip(grid.axes, cell, strict=True))}
        name = next((variant.name for variant in variants if dict(variant.config) == wanted), None)
        if name is None:
            continue
        values = table.values[table.arms.index(name)]
        rows += [
            (*map(str, cell), name, seed, value)
            for seed, value in zip(table.seeds, values, strict=True)
            if np.isfinite(value)
        ]
    return pd.DataFrame(rows, columns=[*grid.axes, "variant", "seed", "value"])


def searched(
    trials: pd.DataFrame,
    parameters: Sequence[str],
    *,
    sampler: str,
    log: Collection[str] = (),
    direction: str = "max",
    failure_value: float | None = None,
    seed: int = 0,
) -> list[Importance]:
    """Shares of the searched parameters in the variance of a random search's objective, the largest first.

    A sampler that learns draws where it expects good values, and a pruner keeps the good ones: what is left is no
    sample of the space, so both are refused.

    Source: functional ANOVA on a random forest, Hutter, Hoos and Leyton-Brown 2014, as in Optuna's
    ``FanovaImportanceEvaluator``; with 30 trials of 3 a + b (true shares .9 and .1) it gave .97 and .02, over 8 draws
    .01 apart.

    Args:
        trials: One row a trial: ``state``, ``value`` (the objective) and a column for each parameter.
        parameters: Columns of numbers or texts.
        log: Those of them that were drawn on a logarithmic scale.
        sampler: How values were proposed.
        direction: Which values of the objective are better, ``max`` or ``min``.
        failure_value: What a diverged trial counts as.
        seed: Of the forest.

    Raises:
        AblationsError: The trials cannot tell; the text says why.
    """
    rows = _sample_of_space(trials, parameters, sampler, failure_value)
    import warnings

    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns: dict[str, pd.Series] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name in parameters:
        if pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name]):
            columns[name] = np.log(rows[name].astype(float)) if name in log else rows[name].astype(float)
            distributions[name] = FloatDistribution(float(columns[name].min()), float(columns[name].max()))
        else:
            columns[name] = rows[name].map(repr)
            distributions[name] = CategoricalDistribution(sorted(columns[name].unique()))
    study = optuna.create_study(
        direction="maximize" if direction == "max" else "minimize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    for index, value in rows["value"].items():
        values = {name: column[index] for name, column in columns.items()}
        study.add_trial(optuna.create_trial(params=values, distributions=distributions, value=float(value)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(parameters))
    found = [Importance(name, float(share), len(rows)) for name, share in shares.items()]
    return sorted(found, key=lambda each: (-each.share, each.parameter))


def _sample_of_space(
    trials: pd.DataFrame, parameters: Sequence[str], sampler: str, failure_value: float | None
) -> pd.DataFrame:
    """The trials with a value, where they are a fair sample of the space.

    Raises:
        AblationsError: As ``searched``.
    """
    for name in (*parameters, "state", "value"):
        if name not in trials:
            raise AblationsError(f"the table of trials: {one_of('column', name, trials.columns)}")
    if sampler != "random":
        raise AblationsError(
            f"importance needs trials drawn at random, found sampler {sampler}: it draws more often where it expects "
            "good values, so that shares would speak of those alone"
        )
    counts = trials["state"].value_counts()
    if counts.get("pruned", 0):
        raise AblationsError(
            f"importance needs whole trials, found {counts['pruned']} pruned: what is left is the best"
        )
    diverged = trials["state"] == "diverged"
    if diverged.any() and failure_value is None:
        raise AblationsError(f"{diverged.sum()} trials diverged: without failure_value they cannot be counted")
    rows = trials[(trials["state"] == "completed") | diverged].copy()
    rows.loc[rows["state"] == "diverged", "value"] = failure_value
    if len(rows) < MIN_TRIALS:
        raise AblationsError(f"importance needs {MIN_TRIALS} trials or more, found {len(rows)}")
    for name in parameters:
        if rows[name].nunique() < 2:
            raise AblationsError(f"{name} has one value in all trials: nothing can be said of it")
    if rows["value"].nunique() < 2:
        raise AblationsError("all trials have the same value: there is nothing to share out")
    return rows


def _pairs(factors: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return ((a, b) for index, a in enumerate(factors) for b in factors[index + 1 :])


def _check(frame: pd.DataFrame, factors: Sequence[str], value: str, seed: str) -> None:
    """Refuses what is no full factorial design.

    Raises:
        AblationsError: As ``factorial``.
    """
    for name in (*factors, value, seed):
        if name not in frame:
            raise AblationsError(f"the table of runs: {one_of('column', name, frame.columns)}")
    if len(factors) < 2:
        raise AblationsError("shares of variance need a factorial design of two factors or more; rank the differences")
    levels = [frame[factor].unique() for factor in factors]
    seen = set(frame[list(factors)].itertuples(index=False, name=None))
    missing = [cell for cell in product(*levels) if cell not in seen]
    if missing:
        cell = ", ".join(f"{name} = {level}" for name, level in zip(factors, missing[0], strict=True))
        raise AblationsError(f"no full factorial design: there is no run with {cell}; rank the differences instead")
