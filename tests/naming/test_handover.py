"""A run that begins with the training of another one is in every number a run that trained whole: to the bit."""

import dataclasses

import pytest
import torch
from tiny import CPU, config_of

from ablations.metricslog import MetricsLog
from ablations.naming.checkpoints import Checkpoints
from ablations.naming.config import Config
from ablations.naming.data import load_data
from ablations.naming.experiment import cache_dir
from ablations.naming.handover import Handover
from ablations.naming.training import train
from ablations.plan import config_hash
from ablations.schema import flatten
from ablations.store import read_metrics

pytestmark = [pytest.mark.usefixtures("deterministic"), pytest.mark.slow]


class Broken(Exception):
    """The end of an attempt."""


def config(steps=30, *, training=None, **evaluation):
    return config_of(
        decoder={"dropout": 0.1},
        training={"max_steps": steps, "schedule": "constant", "warmup_steps": 4, **(training or {})},
        evaluation={"every_steps": 6, "train_samples": 20, **evaluation},
    )


def trunk_of(config):
    return Config.trunk(flatten(dataclasses.asdict(config)))


def run(folder, config, keeps=None, source=None, stop_at=None):
    """Trains in a folder as a run does."""
    trunk = trunk_of(config)
    handover = Handover(
        config_hash("", trunk.decides), trunk.scored, folder / "trunk" if keeps else None, keeps == "trail", source
    )

    def hook(step, model, batch):
        if step == stop_at:
            raise Broken

    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoint" / "last.pt", "run", handover)
    with MetricsLog(folder) as log:
        data = load_data(config, cache_dir())
        return train(config, data, 0, CPU, log.add, checkpoints=checkpoints, before_step=hook)


def check_alike(found, expected, folder, whole):
    assert found.scores == expected.scores
    assert found.selected_step == expected.selected_step
    assert found.test.predictions == expected.test.predictions
    assert found.test.per_sample == expected.test.per_sample
    assert curves(folder) == curves(whole)
    assert found.resumed_at == []
    for name in ("flops", "steps", "parameters"):
        assert found.cost[name] == expected.cost[name]
    assert found.cost["seconds_training"] > 0


def curves(folder):
    entries = read_metrics(folder / "metrics.jsonl")
    seconds = [each[3] for each in entries]
    assert seconds == sorted(seconds)
    return [(name, step, value) for name, step, value, _ in entries if name != "tokens_per_s"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, deterministic):
    """Runs a config whole, once."""
    made = {}

    def find(config):
        key = repr(config)
        if key not in made:
            folder = tmp_path_factory.mktemp("whole")
            made[key] = run(folder, config), folder
        return made[key]

    return find


@pytest.mark.parametrize("shorter", [18, 15], ids=["ends with a validation", "ends between two"])
def test_a_longer_run_goes_on_where_a_shorter_one_ends(tmp_path, whole, shorter):
    expected, folder = whole(config(30))
    run(tmp_path / "short", config(shorter), keeps="state")
    found = run(tmp_path / "long", config(30), source=tmp_path / "short")
    assert found.taken_over["run_id"] == "short"
    assert (found.taken_over["steps"], found.taken_over["how"]) == (shorter, "continued")
    assert 0 < found.taken_over["seconds"] <= read_metrics(tmp_path / "short" / "metrics.jsonl")[-1][3]
    check_alike(found, expected, tmp_path / "long", folder)


@pytest.mark.parametrize(
    "scored",
    [
        {"causal": False, "cache": False},
        {"select_by": "last", "batch_samples": 7},
        {"select_by": "validation_loss", "train_samples": None, "at_start": True},
    ],
)
def test_a_run_that_is_only_scored_otherwise_has_the_same_weights_scored_again(tmp_path, whole, scored):
    expected, folder = whole(config(15, **scored))
    run(tmp_path / "first", config(15), keeps="trail")
    found = run(tmp_path / "again", config(15, **scored), source=tmp_path / "first")
    assert (found.taken_over["steps"], found.taken_over["how"]) == (15, "scored anew")
    check_alike(found, expected, tmp_path / "again", folder)


def test_a_run_that_is_scored_otherwise_and_longer_is_scored_and_goes_on(tmp_path, whole):
    longer = config(30, cache=False)
    expected, folder = whole(longer)
    run(tmp_path / "first", config(15), keeps="trail")
    found = run(tmp_path / "again", longer, source=tmp_path / "first")
    assert (found.taken_over["steps"], found.taken_over["how"]) == (15, "scored anew")
    check_alike(found, expected, tmp_path / "again", folder)


def test_what_was_taken_over_is_passed_on(tmp_path, whole):
    expected, folder = whole(config(30, cache=False))
    run(tmp_path / "first", config(12), keeps="trail")
    run(tmp_path / "second", config(30), keeps="trail", source=tmp_path / "first")
    found = run(tmp_path / "third", config(30, cache=False), source=tmp_path / "second")
    assert found.taken_over["steps"] == 30
    check_alike(found, expected, tmp_path / "third", folder)


def test_one_that_takes_over_and_is_broken_off_is_resumed_as_any_other(tmp_path, whole):
    expected, folder = whole(config(30))
    run(tmp_path / "short", config(12), keeps="state")
    with pytest.raises(Broken):
        run(tmp_path / "long", config(30), source=tmp_path / "short", stop_at=21)
    found = run(tmp_path / "long", config(30), source=tmp_path / "short")
    assert (found.resumed_at, found.taken_over["steps"]) == ([18], 12)
    found.resumed_at.clear()
    check_alike(found, expected, tmp_path / "long", folder)


def test_what_a_run_leaves_that_was_resumed_itself_is_as_good(tmp_path, whole):
    expected, folder = whole(config(30))
    with pytest.raises(Broken):
        run(tmp_path / "short", config(18), keeps="trail", stop_at=15)
    run(tmp_path / "short", config(18), keeps="trail")
    found = run(tmp_path / "long", config(30), source=tmp_path / "short")
    assert found.taken_over["steps"] == 18
    check_alike(found, expected, tmp_path / "long", folder)


def spoil(path):
    path.write_bytes(path.read_bytes()[:-200])


SPOILT = {
    "nothing was left": lambda trunk: (trunk / "state.pt").unlink(),
    "the state is damaged": lambda trunk: spoil(trunk / "state.pt"),
    "weights are missing": lambda trunk: (trunk / "weights-6.pt").unlink(),
    "weights are damaged": lambda trunk: spoil(trunk / "weights-12.pt"),
    "another training left it": lambda trunk: torch.save(
        {**torch.load(trunk / "state.pt", weights_only=True), "key": "other"}, trunk / "state.pt"
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_where_what_is_to_be_taken_over_is_not_whole_the_run_trains_whole(tmp_path, whole, spoilt):
    expected, folder = whole(config(12, cache=False))
    run(tmp_path / "first", config(12), keeps="trail")
    SPOILT[spoilt](tmp_path / "first" / "trunk")
    found = run(tmp_path / "again", config(12, cache=False), source=tmp_path / "first")
    assert found.taken_over == {}
    check_alike(found, expected, tmp_path / "again", folder)


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"max_steps": 40}, True),
        ({"max_steps": None, "epochs": 2.0}, False),  # how many steps that is shows when the data are there
        ({"learning_rate": 1e-3}, False),
        ({"warmup_steps": 5}, False),
        ({"schedule": "linear"}, False),
        ({"on_failure": "stop"}, False),
    ],
)
def test_trainings_have_in_common_what_decides_each_step(change, shared):
    one, other = trunk_of(config(30)), trunk_of(config(**{"training": change}))
    assert (one.decides == other.decides) == shared


def test_with_a_rate_that_falls_only_trainings_of_one_length_are_alike():
    one, other = (trunk_of(config(steps, training={"schedule": "linear"})) for steps in (30, 40))
    assert one.decides != other.decides
    again = trunk_of(config(30, training={"schedule": "linear"}, cache=False))
    assert (one.decides, one.length) == (again.decides, again.length)
    assert one.scored != again.scored


def test_where_failures_return_to_a_checkpoint_nothing_is_shared():
    assert trunk_of(config(30, training={"on_failure": "rollback"})) is None
