"""Which parameter matters most: as far as the design lets one say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from ablations.analysis.results import Comparison
from ablations.errors import AblationsError, one_of


@dataclass(frozen=True)
class Share:
    """A factor's, or an interaction's, share of the variance in a factorial design.

    Attributes:
        factors: The factor, or the factors that interact.
        df: Degrees of freedom.
        f: F statistic.
        p: Its p.
        partial_eta2: SS / (SS + SS_error); biased upwards.
        omega2: (SS - df MSE) / (SS_total + MSE); may be negative.
    """

    factors: tuple[str, ...]
    df: int
    f: float
    p: float
    partial_eta2: float
    omega2: float


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
    table = anova_lm(fit, typ=2)
    error = float(table.loc["Residual", "sum_sq"])
    mean_square = error / float(table.loc["Residual", "df"])
    total = float(((plain["y"] - plain["y"].mean()) ** 2).sum())
    shares = []
    for name, term in names.items():
        square, df = float(table.loc[name, "sum_sq"]), int(table.loc[name, "df"])
        shares.append(
            Share(
                factors=term,
                df=df,
                f=float(table.loc[name, "F"]),
                p=float(table.loc[name, "PR(>F)"]),
                partial_eta2=square / (square + error),
                omega2=(square - df * mean_square) / (total + mean_square),
            )
        )
    return shares


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
