"""Real training on the standard library's json and email packages' neighbours: small, on the CPU, to the bit."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from tiny import CPU, config_of, trained

from ablations.errors import Diverged
from ablations.files import cache_dir
from ablations.naming import journal
from ablations.naming.checkpoints import Best
from ablations.naming.config import Config, Training
from ablations.naming.data import load_data
from ablations.naming.evaluation import fixed_subset
from ablations.naming.experiment import references
from ablations.naming.optimisation import learning_rate, make_optimizer, seed_dropout
from ablations.naming.training import train

pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_to_the_bit():
    config = config_of(decoder={"dropout": 0.1})
    (first, first_log), (again, again_log) = trained(config), trained(config)
    assert first_log == again_log
    assert first.scores == again.scores
    assert first.test.predictions == again.test.predictions


def test_another_seed_gives_other_numbers():
    assert trained(config_of(), 0)[1] != trained(config_of(), 1)[1]


def test_a_run_logs_every_step_and_every_validation():
    outcome, log = trained(config_of())
    assert [step for name, step, _ in log if name == "train_loss"] == list(range(1, 13))
    assert [step for name, step, _ in log if name == "validation_f1"] == [6, 12]
    assert ("steps", 0, 12) in log
    assert outcome.cost["steps"] == 12
    assert outcome.cost["flops"] > 0
    assert set(outcome.scores) == set(Config.metrics)


@pytest.mark.slow
def test_losses_that_are_read_late_are_the_same_and_in_the_same_order(monkeypatch):
    """As on a GPU, in turns of which the last ones are not full."""
    at_once, log = trained(config_of(training={"max_steps": 37}))
    monkeypatch.setitem(journal.TURNS, "cpu", journal.TURNS["cuda"])
    late, late_log = trained(config_of(training={"max_steps": 37}))
    assert late.scores == at_once.scores
    for name in {each[0] for each in log} - {"tokens_per_s"}:
        assert [each for each in late_log if each[0] == name] == [each for each in log if each[0] == name]
    speeds = [(step, value) for name, step, value in late_log if name == "tokens_per_s"]
    assert [step for step, _ in speeds] == sorted({step for step, _ in speeds})
    assert all(value > 0 for _, value in speeds)


def test_dropout_is_seeded_as_pytorch_seeds_it():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.rand(1)
    seed_dropout(7, CPU)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_training_lowers_the_loss():
    losses = [value for name, _, value in trained(config_of(training={"max_steps": 60}))[1] if name == "train_loss"]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_the_first_losses_of_a_seed_are_the_same_with_another_schedule():
    linear = [entry for entry in trained(config_of())[1] if entry[0] == "train_loss"]
    constant = [entry for entry in trained(config_of(training={"schedule": "constant"}))[1] if entry[0] == "train_loss"]
    assert linear[0] == constant[0]
    assert linear[-1] != constant[-1]


def test_the_scores_are_those_of_the_best_validation():
    outcome, log = trained(config_of(training={"max_steps": 30}))
    scores = {step: value for name, step, value in log if name == "validation_f1"}
    assert outcome.scores["validation_f1"] == max(scores.values())
    assert outcome.selected_step == min(step for step, value in scores.items() if value == max(scores.values()))


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step():
    with pytest.raises(Diverged, match=r"step \d+: loss nan"):
        trained(config_of(training={"learning_rate": 1e9 - 1, "gradient_clip": None, "max_steps": 40}))


def test_padding_to_the_maximum_gives_nearly_the_same_loss():
    dynamic, padded = trained(config_of()), trained(config_of(training={"padding": "maximum"}))
    first = [next(value for name, _, value in log if name == "train_loss") for _, log in (dynamic, padded)]
    assert first[0] == pytest.approx(first[1], rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 100, 1.0), ("linear", 11, 1.0), ("linear", 56, 0.5), ("linear", 100, 1 / 90),
        ("cosine", 56, 0.5), ("linear", 5, 0.5), ("constant", 1, 0.1),
    ],
)  # fmt: skip
def test_the_learning_rate_follows_warm_up_and_schedule(schedule, step, expected):
    training = Training(learning_rate=1.0, schedule=schedule, warmup_steps=10)
    assert learning_rate(step, 100, training) == pytest.approx(expected)


def test_weight_decay_leaves_biases_and_gains_alone():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    decayed, alone = make_optimizer(module, Training(weight_decay=0.1), CPU).param_groups
    assert [tuple(each.shape) for each in decayed["params"]] == [(3, 3)]
    assert (decayed["weight_decay"], alone["weight_decay"], len(alone["params"])) == (0.1, 0.0, 3)


def test_of_equal_validations_the_earliest_is_kept():
    best, module = Best("validation_f1"), torch.nn.Linear(1, 1)
    for step, f1 in [(1, 0.1), (2, 0.3), (3, 0.3), (4, 0.2)]:
        with torch.no_grad():
            module.bias.fill_(step)
        best.offer(step, {"f1": f1}, module)
    best.restore(module)
    assert (best.step, module.bias.item()) == (2, 2.0)


def test_selecting_by_loss_takes_the_smallest_and_last_the_last():
    for select_by, expected in [("validation_loss", 2), ("last", 3)]:
        best, module = Best(select_by), torch.nn.Linear(1, 1)
        for step, loss in [(1, 3.0), (2, 1.0), (3, 2.0)]:
            best.offer(step, {"loss": loss}, module)
        assert best.step == expected


def test_training_samples_are_scored_as_validation_samples_are():
    """The same function over both: with the validation split as its own training split, the scores are equal."""
    config = config_of(evaluation={"train_samples": 10_000})
    data = load_data(config, cache_dir())
    twin = dataclasses.replace(data, splits={**data.splits, "validation": data.train})
    log = []
    train(config, twin, 0, CPU, lambda name, value, step: log.append((name, step, value)))
    found = {name: [(step, value) for other, step, value in log if other == name] for name, _, _ in log}
    for metric in ("loss", "f1", "precision", "recall", "exact"):
        assert found[f"train_eval_{metric}"] == found[f"validation_{metric}"]
    assert [step for step, _ in found["train_eval_loss"]] == [6, 12]


def test_scoring_more_changes_no_number_of_the_training():
    plain, plain_log = trained(config_of(decoder={"dropout": 0.1}))
    more, log = trained(config_of(decoder={"dropout": 0.1}, evaluation={"train_samples": 50, "at_start": True}))
    assert [step for name, step, _ in log if name == "train_eval_f1"] == [0, 6, 12]
    assert [step for name, step, _ in log if name == "validation_f1"] == [0, 6, 12]
    assert [entry for entry in log if not entry[0].startswith("train_eval") and entry[1]] == [
        entry for entry in plain_log if entry[1]
    ]
    assert more.scores == plain.scores
    assert more.cost["flops"] > plain.cost["flops"]


def test_the_untrained_model_is_never_selected():
    config = config_of(training={"learning_rate": 1e-12}, evaluation={"at_start": True})
    outcome, log = trained(config)
    values = [value for name, _, value in log if name == "validation_f1"]
    assert len(set(values)) == 1  # it learns nothing, so that all are equal
    assert outcome.selected_step == 6


def test_the_fixed_training_samples_are_drawn_without_the_seed():
    data = load_data(config_of(), cache_dir())
    subset = fixed_subset(data.train, 50)
    again = fixed_subset(load_data(config_of(data={"input_tokens": 16}), cache_dir()).train, 50)
    assert len(set(subset.ids)) == 50
    assert subset.ids == again.ids
    rows = [data.train.ids.index(each) for each in subset.ids]
    assert subset.targets == [data.train.targets[row] for row in rows]
    for index, row in enumerate(rows):
        for name in ("input", "output"):
            flat, offsets = getattr(data.train, f"{name}s"), getattr(data.train, f"{name}_offsets")
            ours, bounds = getattr(subset, f"{name}s"), getattr(subset, f"{name}_offsets")
            expected = flat[offsets[row] : offsets[row + 1]]
            assert ours[bounds[index] : bounds[index + 1]].tolist() == expected.tolist()
    assert fixed_subset(data.train, 10**6) is data.train


def test_the_commonest_name_is_scored_as_a_reference():
    found = references([("get",), ("get",), ("a", "b")], [("get",), ("get", "name"), ("set",)])
    answer = found["always the commonest name"]
    assert answer["answer"] == "get"
    assert answer["test_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert answer["test_exact"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_a_pretrained_encoder_from_a_local_folder_is_trained_with_its_own_tokenizer(tmp_path):
    folder = pretrained_folder(tmp_path / "encoder")
    config = config_of(
        data={"encoding": "pretrained"}, encoder={"pretrained": str(folder)}, model={"share_embeddings": False}
    )
    outcome, _ = trained(config)
    assert math.isfinite(outcome.scores["test_loss"])
    (size,) = {json.loads((folder / "config.json").read_text())["hidden_size"]}
    assert outcome.cost["parameters"] > 2 * 300 * size  # both embeddings


def pretrained_folder(folder: Path) -> Path:
    """A RoBERTa of the hub's format with a byte-level BPE of its own, both as small as can be."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(["def get_value(self): return self.value"] * 10, vocab_size=300, special_tokens=special)
    tokenizer = RobertaTokenizerFast(tokenizer_object=trainer._tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    RobertaModel(
        RobertaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                      intermediate_size=64, max_position_embeddings=66, type_vocab_size=1)
    ).save_pretrained(folder)  # fmt: skip
    return folder
