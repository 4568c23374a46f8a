"""From a study to its runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.plan import (
    ASSUMED_FLOPS_PER_S,
    RunKey,
    Saved,
    config_hash,
    expand,
    forecast,
    run_keys,
    seed_for,
    seed_words,
    seeds_of,
)
from ablations.schema import Tunable
from ablations.study import Look, Study, load_study

CONFIGS = st.dictionaries(
    st.text(max_size=8), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none()
)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: a\nseeds: [3, 1]\nablations:\n  layers: {group: size, sweep: {decoder.layers: [4, 6]}}\n",
        encoding="utf-8",
    )
    return load_study(path)


def keys_of(variants):
    """A run of each variant."""
    return [RunKey(variant.name, 0, variant.config_hash) for variant in variants]


def test_the_baseline_comes_first_and_each_level_is_a_variant(study):
    baseline, four, six = expand(study)
    assert (baseline.name, baseline.ablation, dict(baseline.changes), baseline.label) == (
        "baseline", None, {}, "no change",
    )  # fmt: skip
    assert (four.name, four.ablation, four.group, four.label) == (
        "layers=4", "layers", "size", "decoder.layers 2 → 4",
    )  # fmt: skip
    assert dict(six.config) == {**baseline.config, "decoder.layers": 6}
    assert len({baseline.config_hash, four.config_hash, six.config_hash}) == 3


def test_a_parameter_that_was_added_later_leaves_the_runs_before_it_what_they_were(study):
    added = Tunable("decoder.twist", int, 0, "new", later=True)
    schema = replace(study.schema, tunables={**study.schema.tunables, added.key: added})
    same, other = (replace(study, schema=schema, baseline={**study.baseline, added.key: twist}) for twist in (0, 1))
    assert [each.config_hash for each in expand(same)] == [each.config_hash for each in expand(study)]
    assert not {each.config_hash for each in expand(other)} & {each.config_hash for each in expand(study)}
    baseline = expand(same)[0]
    assert (baseline.config[added.key], baseline.identifying) == (0, dict(expand(study)[0].identifying))
    assert expand(other)[0].identifying == {**baseline.identifying, added.key: 1}
    for each in (*expand(same), *expand(other)):  # a record's own hash is that of what it holds
        assert config_hash(study.experiment, each.identifying) == each.config_hash


def test_all_arms_of_a_seed_come_before_the_next_seed(study):
    assert [(key.variant, key.seed) for key in run_keys(study)] == [
        ("baseline", 3), ("layers=4", 3), ("layers=6", 3), ("baseline", 1), ("layers=4", 1), ("layers=6", 1),
    ]  # fmt: skip


ROUNDS = "study: a\nseeds: {min: 3, max: 6, step: 2}\nablations:\n  layers: {sweep: {decoder.layers: [4, 6]}}\n"


@pytest.mark.parametrize(
    ("taken", "seeds"),
    [
        ((), (3, 3, 3)),
        ((Look((), ("layers=4", "layers=6")),), (5, 5, 5)),
        ((Look(("layers=4",), ("layers=6",)),), (5, 3, 5)),
        ((Look(("layers=4", "layers=6"), ()),), (3, 3, 3)),
        ((Look(("layers=4",), ("layers=6",)), Look(("layers=6",), ())), (5, 3, 5)),
        ((Look((), ("layers=4", "layers=6")), Look(("layers=4",), ("layers=6",))), (6, 5, 6)),
        ((Look((), ("layers=4", "layers=6")), Look(("layers=4",), ("layers=6",)), Look((), ("layers=6",))), (6, 5, 6)),
    ],
)
def test_an_open_arm_and_the_baseline_take_the_next_rounds_seeds_and_a_settled_arm_no_more(tmp_path, taken, seeds):
    path = tmp_path / "study.yaml"
    path.write_text(ROUNDS, encoding="utf-8")
    study = replace(load_study(path), taken=taken)
    assert study.rounds == (3, 5, 6)
    assert [len(seeds_of(study, each.name)) for each in expand(study)] == list(seeds)
    assert len(run_keys(study)) == sum(seeds)
    assert seed_words(study) == "3 to 6 seeds"


def test_a_run_is_named_by_its_config_and_seed():
    assert RunKey("x", 3, "0123456789abcdef").run_id == "0123456789ab-s3"


def test_the_hash_of_a_config_is_that_of_its_canonical_json():
    # printf '{"config":{"a.b":1.0,"c":null},"experiment":"m:ex"}' | sha256sum
    expected = "529a7f4a575614703362b6f38b6ecc690c95669174a814e2eb9dba66dea8728f"
    assert config_hash("m:ex", {"c": None, "a.b": 1.0}) == expected


@given(CONFIGS)
def test_the_order_of_keys_does_not_change_the_hash(config):
    assert config_hash("m:ex", config) == config_hash("m:ex", dict(reversed(config.items())))


@given(CONFIGS, CONFIGS)
def test_only_equal_configs_have_equal_hashes(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (config_hash("m:ex", one) == config_hash("m:ex", other)) == same


def test_the_seed_of_a_part_is_the_same_in_every_version_and_process():
    # printf initialisation:0 | sha256sum, its first 8 bytes, without the last bit
    assert seed_for("initialisation", 0) == 0x645C9FD093E3E90B >> 1


@given(st.text(max_size=20), st.integers(0, 2**31 - 1))
def test_part_seeds_have_63_bits_and_differ_between_parts_and_seeds(part, seed):
    value = seed_for(part, seed)
    assert 0 <= value < 2**63
    assert value == seed_for(part, seed) != seed_for(part, seed + 1)
    assert value != seed_for(part + "x", seed)


def test_finished_runs_tell_the_time_of_their_variant(study):
    variants = expand(study)
    history = [{"config_hash": v.config_hash, "flops": None, "seconds": s} for v in variants for s in (10.0, 20.0)]
    told = forecast(variants, run_keys(study), history)
    assert dict(told.seconds) == {"baseline": 15.0, "layers=4": 15.0, "layers=6": 15.0}
    assert (told.total, told.runs, told.source) == (90.0, 6, "from 6 finished runs")  # 3 variants x 2 seeds x 15 s


def test_other_finished_runs_tell_the_rate_at_which_flops_are_done(study):
    variants = expand(study)
    history = [{"config_hash": variants[0].config_hash, "flops": 100.0, "seconds": 10.0}]
    told = forecast(variants, keys_of(variants), history, flops=lambda config: 50.0 * config["decoder.layers"])
    assert dict(told.seconds) == {"baseline": 10.0, "layers=4": 20.0, "layers=6": 30.0}  # at 10 FLOP/s
    assert told.source == "from 1 finished run; variants without one: counted FLOPs at their rate"


def test_the_rate_is_that_of_flops_counted_in_one_way_where_it_can_be(study):
    variants, recorded = expand(study), {"flops": 25.0, "seconds": 10.0}  # padding left out, or the like
    history = [{"config_hash": variants[0].config_hash, **recorded}, {"config_hash": "of another study", **recorded}]
    told = forecast(variants, keys_of(variants), history, flops=lambda config: 50.0 * config["decoder.layers"])
    assert dict(told.seconds) == {"baseline": 10.0, "layers=4": 20.0, "layers=6": 30.0}
    told = forecast(variants, keys_of(variants), history[1:], flops=lambda config: 50.0 * config["decoder.layers"])
    assert dict(told.seconds) == {"baseline": 40.0, "layers=4": 80.0, "layers=6": 120.0}


def test_without_finished_runs_the_rate_is_assumed_and_said_to_be(study):
    told = forecast(expand(study), keys_of(expand(study)), flops=lambda config: 60 * ASSUMED_FLOPS_PER_S)
    assert told.total == 180.0
    assert told.source == "rough: counted FLOPs at an assumed 80 GFLOP/s a worker"
    on_a_gpu = forecast(expand(study), keys_of(expand(study)), assumed=1e13, flops=lambda config: 60e13)
    assert on_a_gpu.total == 180.0
    assert on_a_gpu.source == "rough: counted FLOPs at an assumed 10,000 GFLOP/s a worker"


def test_where_nothing_is_known_nothing_is_forecast(study):
    told = forecast(expand(study), keys_of(expand(study)))
    assert (told.total, set(told.seconds.values())) == (None, {None})
    assert told.source == "unknown until a run has finished"


def test_only_the_runs_to_make_take_time(study):
    variants = expand(study)
    told = forecast(variants, keys_of(variants)[1:], flops=lambda config: ASSUMED_FLOPS_PER_S)
    assert (told.runs, told.total) == (2, 2.0)


def test_workers_share_the_runs_and_the_last_one_ends_the_study(study):
    variants = expand(study)
    history = [
        {"config_hash": variant.config_hash, "flops": None, "seconds": seconds}
        for variant, seconds in zip(variants, (10.0, 30.0, 10.0), strict=True)
    ]
    assert forecast(variants, keys_of(variants), history, workers=2).total == 30.0  # one does 30, the other 10 and 10
    assert forecast(variants, keys_of(variants), history, workers=9).total == 30.0


def test_runs_without_a_time_are_no_history(study):
    variants = expand(study)
    history = [{"config_hash": variants[0].config_hash, "flops": float("nan"), "seconds": float("nan")}]
    assert forecast(variants, keys_of(variants), history).seconds["baseline"] is None


def history_of(variants, seconds, **parts):
    return [{"config_hash": each.config_hash, "flops": None, "seconds": seconds, **parts} for each in variants]


def test_what_a_run_takes_over_from_another_one_is_not_counted_twice(study):
    variants = expand(study)
    keys = keys_of(variants)
    baseline, four, six = (key.run_id for key in keys)
    history = history_of(variants, 100.0, seconds_training=80.0, seconds_evaluation=10.0)
    saved = {four: Saved(baseline, training=0.5, validation=0.5), six: Saved(baseline, training=1.0, validation=0.0)}
    told = forecast(variants, keys, history, saved=saved)
    assert dict(told.seconds) == dict.fromkeys(told.seconds, 100.0)  # of a whole run
    # 100 - 0.5 x 80 - 0.5 x 10, and 100 - 80
    assert dict(told.own) == pytest.approx({"baseline": 100.0, "layers=4": 55.0, "layers=6": 20.0})
    assert told.total == pytest.approx(175.0)
    assert forecast(variants, keys, history).total == 300.0


def test_a_run_that_takes_over_waits_for_the_other_one_and_is_then_before_all_others(study):
    variants = expand(study)
    keys = keys_of(variants)
    baseline, four, _ = (key.run_id for key in keys)
    history = history_of(variants, 100.0)
    saved = {four: Saved(baseline, training=0.5, validation=0.5)}
    assert forecast(variants, keys, history, workers=3, saved=saved).total == 150.0
    assert forecast(variants, keys, history, workers=2, saved=saved).total == 150.0  # 100 and 50 beside 100
    assert forecast(variants, keys[1:], history, workers=2, saved=saved).total == 100.0  # it has ended: 50 beside 100


def test_of_a_variant_of_which_some_runs_take_over_and_others_do_not_the_mean_is_told(study):
    variants = expand(study)
    keys = [RunKey(variants[1].name, seed, variants[1].config_hash) for seed in (0, 1)]
    saved = {keys[0].run_id: Saved("left", training=0.5, validation=0.5)}
    told = forecast(variants, keys, history_of(variants, 100.0), saved=saved)
    assert (told.own["layers=4"], told.own["baseline"], told.total) == (75.0, 100.0, 150.0)


def test_what_nothing_is_known_of_is_unknown_also_where_it_takes_over(study):
    variants = expand(study)
    keys = keys_of(variants)
    saved = {keys[1].run_id: Saved(keys[0].run_id, training=1.0, validation=1.0)}
    assert forecast(variants, keys, saved=saved).total is None
