from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.analysis.compare import compare
from ablations.analysis.importance import factorial, grid_runs, ranked, searched
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


def test_the_shares_of_yates_s_pea_experiment_are_those_of_r():
    # R, `npk` (Yates 1935; Venables & Ripley 2002): anova(aov(yield ~ block + N*P*K, npk)), where NPK is confounded
    # with blocks. Plots in order, N P K and yield.
    plots = """011 49.5 110 62.8 000 46.8 101 57.0 100 59.8 111 58.5 001 55.5 010 56.0
        010 62.8 111 55.8 100 69.5 001 55.0 100 62.0 111 48.8 001 45.5 010 44.2 110 52.0 000 51.5 101 49.8 011 48.8
        101 57.2 110 59.0 011 53.2 000 56.0"""
    words = plots.split()
    rows = [(*cell, plot // 4, float(y)) for plot, (cell, y) in enumerate(zip(words[::2], words[1::2], strict=True))]
    frame = pd.DataFrame(rows, columns=["N", "P", "K", "block", "yield"])
    found = factorial(frame, ["N", "P", "K"], value="yield", seed="block")
    f = {"".join(each.factors): round(each.f, 3) for each in found}
    p = {"".join(each.factors): round(each.p, 5) for each in found}
    assert f == {"N": 12.259, "P": 0.544, "K": 6.166, "NP": 1.378, "NK": 2.146, "PK": 0.031}
    assert p == {"N": 0.00437, "P": 0.4749, "K": 0.0288, "NP": 0.26317, "NK": 0.16865, "PK": 0.86275}
    assert {each.df_error for each in found} == {12}
    assert found[0].partial_eta2 == pytest.approx(189.28 / (189.28 + 185.29), abs=1e-4)


def test_the_runs_of_a_grid_are_found_whoever_they_belong_to(scores):
    base = {"layers": 2, "rate": 0.1, "width": 8}
    configs = {
        "baseline": base,
        "deep": base | {"layers": 4},
        "fast": base | {"rate": 0.2},
        "wide": base | {"width": 9},
    }
    configs["deep,fast"] = base | {"layers": 4, "rate": 0.2}
    variants = [SimpleNamespace(name=name, config=config) for name, config in configs.items()]
    grid = SimpleNamespace(
        axes={"layers": (2, 4), "rate": (0.1, 0.2)},
        levels=(SimpleNamespace(name="deep"), SimpleNamespace(name="fast"), SimpleNamespace(name="deep,fast")),
    )
    values = {name: [0.1 * at, 0.1 * at + 0.01] for at, name in enumerate(configs)} | {"fast": [0.3, "failed"]}
    other = SimpleNamespace(levels=(SimpleNamespace(name="wide"),))
    study = SimpleNamespace(
        experiment="some.experiment:ex", metric="f1", seeds=(0, 1), rounds=(), ablations=(grid, other)
    )
    found = grid_runs(scores(**values), study, grid, variants)
    assert found[["layers", "rate"]].drop_duplicates().to_numpy().tolist() == [
        ["2", "0.1"], ["2", "0.2"], ["4", "0.1"], ["4", "0.2"]
    ]  # fmt: skip
    assert found["value"].tolist() == pytest.approx([0, 0.01, 0.3, 0.1, 0.11, 0.4, 0.41])
    assert found["seed"].tolist() == [0, 1, 0, 0, 1, 0, 1]


def test_designs_that_have_no_shares_are_refused():
    with pytest.raises(AblationsError, match="leave nothing to estimate the error by"):
        factorial(design(1), ["decoder.layers", "lr"])
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


def trials(count: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    a, b = rng.random(count), rng.random(count)
    kind = rng.choice(["x", "y"], count)
    value = 3 * a + b + rng.normal(0, 0.1, count)
    return pd.DataFrame({"a": a, "b": b, "kind": kind, "value": value, "state": "completed"})


@pytest.mark.slow
def test_a_random_search_tells_which_parameter_matters_most():
    found = searched(trials(), ["kind", "b", "a"], sampler="random")
    assert [each.parameter for each in found][:1] == ["a"]
    assert found[0].share > 0.8  # of the variance, 9 of 10 parts are a's: Var(3a) = 9 Var(b)
    assert sum(each.share for each in found) == pytest.approx(1)
    assert found[0].trials == 40
    assert found == searched(trials(), ["kind", "b", "a"], sampler="random")


@pytest.mark.slow
def test_a_rate_counts_on_the_scale_that_it_was_drawn_on():
    frame = trials()
    rates = frame.assign(rate=lambda rows: 10 ** (-5 + 2 * rows["a"]))
    shares = [
        {each.parameter: each.share for each in searched(table, list(names), sampler="random", log=log)}
        for table, names, log in ((rates, ("rate", "b"), ("rate",)), (frame, ("a", "b"), ()))
    ]
    assert shares[0]["rate"] == pytest.approx(shares[1]["a"], abs=0.005)  # linear in a; the forest rounds otherwise


def test_a_choice_can_matter_most():
    frame = trials().assign(value=lambda rows: (rows["kind"] == "x") + 0.1 * rows["b"])
    assert searched(frame, ["a", "b", "kind"], sampler="random")[0].parameter == "kind"


def test_diverged_trials_count_as_what_the_study_declares():
    frame = trials()
    frame.loc[frame["a"] > 0.5, ["state", "value"]] = ["diverged", np.nan]
    assert searched(frame, ["a", "b"], sampler="random", failure_value=-10.0)[0].share > 0.9
    with pytest.raises(AblationsError, match="trials diverged: without failure_value they cannot be counted"):
        searched(frame, ["a", "b"], sampler="random")


@pytest.mark.parametrize(
    ("frame", "options", "reason"),
    [
        (trials(29), {}, "needs 30 trials or more, found 29"),
        (trials(), {"sampler": "tpe"}, "needs trials drawn at random, found sampler tpe"),
        (trials().assign(state=["pruned"] * 3 + ["completed"] * 37), {}, "found 3 pruned: what is left is the best"),
        (trials().assign(a=1.0), {}, "a has one value in all trials"),
        (trials().assign(value=1.0), {}, "all trials have the same value"),
        (trials().drop(columns="b"), {}, "unknown column 'b'"),
    ],
)
def test_trials_that_cannot_tell_are_refused(frame, options, reason):
    with pytest.raises(AblationsError, match=reason):
        searched(frame, ["a", "b"], **{"sampler": "random", **options})
