from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.analysis.compare import compare
from ablations.analysis.importance import factorial, ranked
from ablations.errors import AblationsError


def design(seeds: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (layers, rate, seed, 0.5 + 0.1 * layers + 0.02 * rate + 0.01 * seed + rng.normal(0, 0.01))
        for layers in (0, 1)
        for rate in (0, 1, 2)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["decoder.layers", "lr", "seed", "value"])


def test_the_shares_are_those_of_an_analysis_by_hand():
    frame = design()
    layers, rate, both = factorial(frame, ["decoder.layers", "lr"])
    # By hand, balanced design: SS = runs per level x squared deviations of the level's mean; error is what is left.
    y, grand = frame["value"], frame["value"].mean()

    def between(columns: list[str]) -> float:
        means = frame.groupby(columns)["value"].agg(["mean", "size"])
        return float((means["size"] * (means["mean"] - grand) ** 2).sum())

    ss_layers, ss_rate, ss_seed = between(["decoder.layers"]), between(["lr"]), between(["seed"])
    ss_both = between(["decoder.layers", "lr"]) - ss_layers - ss_rate
    total = float(((y - grand) ** 2).sum())
    error = total - ss_layers - ss_rate - ss_both - ss_seed
    mean_square = error / (24 - 1 - 1 - 2 - 2 - 3)
    assert (layers.factors, rate.factors, both.factors) == (("decoder.layers",), ("lr",), ("decoder.layers", "lr"))
    assert layers.partial_eta2 == pytest.approx(ss_layers / (ss_layers + error))
    assert rate.omega2 == pytest.approx((ss_rate - 2 * mean_square) / (total + mean_square))
    assert both.f == pytest.approx(ss_both / 2 / mean_square)
    assert both.p == pytest.approx(stats.f.sf(both.f, 2, 15))
    assert layers.omega2 > rate.omega2 > both.omega2


def test_designs_that_have_no_shares_are_refused():
    frame = design()
    one_at_a_time = frame[(frame["decoder.layers"] == 0) | (frame["lr"] == 0)]
    with pytest.raises(AblationsError, match=r"no run with decoder.layers = 1, lr = 1; rank the differences"):
        factorial(one_at_a_time, ["decoder.layers", "lr"])
    with pytest.raises(AblationsError, match="two factors or more"):
        factorial(frame, ["lr"])
    with pytest.raises(AblationsError, match="unknown column 'l_r'; did you mean 'lr'"):
        factorial(frame, ["l_r", "decoder.layers"])


def test_one_at_a_time_arms_are_ranked_by_the_size_of_their_difference(scores):
    frame = scores(base=[0.5, 0.5, 0.6], up=[0.6, 0.61, 0.7], down=[0.2, 0.3, 0.3], lost=["failed"] * 3)
    assert [c.arm for c in ranked(compare(frame, baseline="base", metric="f1"))] == ["down", "up"]
