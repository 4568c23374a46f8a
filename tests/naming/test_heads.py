"""Three ways from a body to a name, on tiny sizes: what each sees, predicts, costs."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from tiny import config_of, trained

from ablations.naming import heads
from ablations.naming.batches import Batch
from ablations.naming.config import Config, Data, Decoder, Encoder, Evaluation, Model
from ablations.naming.encoding import Specials
from ablations.naming.heads import best_sets
from ablations.naming.model import build_model, parameter_count
from ablations.naming.wordset import NameWords
from ablations.schema import flatten, schema_of

SPECIALS = Specials()
KINDS = ("sequence", "parallel", "set")
WORDS = ("get", "name", "set", "value")


def spelled(ids):
    return [WORDS[index - 5] for index in ids if 5 <= index < 9]


NAMES = NameWords(WORDS, np.array([0.5, 0.3, 0.25, 0.2]), spelled)


def tiny(kind="sequence", seed=0, model=None, decoder=None, **evaluation):
    config = Config(
        data=Data(input_tokens=16, output_tokens=6),
        model=model or Model(hidden=16),
        encoder=Encoder(layers=1, heads=2, intermediate=32),
        decoder=Decoder(**{"kind": kind, "layers": 2, "heads": 2, "intermediate": 32} | (decoder or {})),
        evaluation=Evaluation(**evaluation),
    )
    return build_model(config, 50, SPECIALS, seed, spelled, NAMES if kind == "set" else None).eval()


@pytest.fixture
def batch():
    """Three bodies, one padded; names: get name, value, set value name."""
    rng = np.random.default_rng(0)
    inputs, mask = rng.integers(5, 50, (3, 12)), np.ones((3, 12), dtype=np.int64)
    inputs[1, 7:], mask[1, 7:] = SPECIALS.pad, 0
    labels = np.array([[5, 6, 2, 0], [8, 2, 0, 0], [7, 8, 6, 2]])
    shifted = np.concatenate([np.full((3, 1), SPECIALS.bos), labels[:, :-1]], axis=1)
    return Batch(np.arange(3), inputs, mask, shifted, labels, labels != SPECIALS.pad)


CPU = torch.device("cpu")


def bodies(batch):
    """What a prediction is made from."""
    tensors = tiny().tensors(batch, CPU)
    return tensors.inputs, tensors.mask


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_from_the_same_values_where_shapes_agree(kind):
    base, other = tiny().state_dict(), tiny(kind).state_dict()
    common = {name for name in base if name in other and base[name].shape == other[name].shape}
    assert len(common) > 60
    assert all(torch.equal(base[name], other[name]) for name in common)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_every_parameter_of_a_kind_learns(kind, tied, shared, batch):
    model = tiny(kind, model=Model(hidden=16, tie_embeddings=tied, share_embeddings=shared)).train()
    total, _ = model.loss(model.tensors(batch, CPU))
    total.backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == set()


@torch.no_grad()
def test_all_positions_of_the_parallel_kind_see_each_other_and_the_body(batch):
    model = tiny("parallel")
    inputs, mask = bodies(batch)
    before = model._states(inputs, mask)
    model.decoder.bert.embeddings.position_embeddings.weight[5] += torch.randn(16)
    assert ((model._states(inputs, mask) - before).abs().amax((0, 2)) > 1e-4).all()
    changed = inputs.clone()
    changed[:, 3] = 4
    assert ((model._states(changed, mask) - model._states(inputs, mask)).abs().amax((0, 2)) > 1e-6).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_a_body_changes_no_loss(kind, batch):
    model, longer = tiny(kind), dataclasses.replace(
        batch,
        inputs=np.pad(batch.inputs, ((0, 0), (0, 4)), constant_values=SPECIALS.pad),
        mask=np.pad(batch.mask, ((0, 0), (0, 4))),
    )  # fmt: skip
    (loss, count), (padded, _) = (model.loss(model.tensors(each, CPU)) for each in (batch, longer))
    assert loss.item() == pytest.approx(padded.item(), rel=1e-5)
    assert count == (3 if kind == "set" else 9)  # names; tokens with their end marks


@torch.no_grad()
def test_the_parallel_loss_does_not_depend_on_how_far_names_are_padded(batch):
    model = tiny("parallel")
    wider = dataclasses.replace(
        batch,
        **{name: np.pad(getattr(batch, name), ((0, 0), (0, 2))) for name in ("shifted", "labels", "real")},
    )
    assert torch.equal(model.loss(model.tensors(batch, CPU))[0], model.loss(model.tensors(wider, CPU))[0])


@torch.no_grad()
def test_a_name_predicted_in_parallel_ends_at_its_first_end_mark(batch):
    model = tiny("parallel")
    tokens = torch.tensor([[5, 2, 6, 2], [5, 6, 7, 8], [2, 2, 5, 5]])
    model._states = lambda inputs, mask: torch.nn.functional.one_hot(tokens, 50).float()
    model.decoder.lm_head = torch.nn.Identity()
    found = model.predict(*bodies(batch), 4)
    assert found.tolist() == [[5, 2, 0, 0], [5, 6, 7, 8], [2, 0, 0, 0]]


def test_generation_without_the_cache_gives_the_same_names(batch):
    for seed in range(3):
        cached, bare = (tiny(seed=seed, cache=cache).predict(*bodies(batch), 6) for cache in (True, False))
        assert torch.equal(cached, bare)


@pytest.mark.slow
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("kind", "cache"), [*((kind, True) for kind in KINDS), ("sequence", False)])
def test_what_is_scored_in_one_is_what_loss_and_prediction_give_apart(kind, cache, padded, batch):
    if not padded:
        whole = np.where(batch.mask, batch.inputs, 7)
        batch = dataclasses.replace(batch, inputs=whole, mask=np.ones_like(batch.mask))
    for seed in range(5):
        model = tiny(kind, seed=seed, model=Model(hidden=16, init="fan_in"), cache=cache)
        tensors = model.tensors(batch, CPU)
        assert (tensors.mask is None) == (not padded)
        scored = model.score(tensors, 6)
        total, count = model.loss(tensors)
        assert scored.losses == count
        assert scored.total.item() == pytest.approx(total.item(), rel=1e-5)
        assert scored.ids.tolist() == model.predict(tensors.inputs, tensors.mask, 6).tolist()


@pytest.mark.slow
def test_samples_that_have_ended_are_dropped_and_change_no_other_name(batch):
    """The end mark is a token that the first sample predicts without one, so that names end at different places."""
    alone, together = [], []
    for seed in range(20):
        model = tiny(seed=seed, model=Model(hidden=16, init="fan_in"))
        model.special = dataclasses.replace(SPECIALS, eos=-1)
        first = model.predict(*bodies(batch), 6)
        model.special = dataclasses.replace(SPECIALS, eos=int(first[0, 1]))
        inputs, mask = bodies(batch)
        together.append(model.predict(inputs, mask, 6))
        alone.append([model.predict(inputs[row : row + 1], mask[row : row + 1], 6)[0].tolist() for row in range(3)])
    lengths = [[len(name) for name in names] for names in alone]
    assert any(len(set(each)) > 1 for each in lengths)  # else nothing is dropped while others go on
    for names, whole in zip(alone, together, strict=True):
        width = whole.shape[1]
        assert whole.tolist() == [name + [SPECIALS.pad] * (width - len(name)) for name in names]


@pytest.mark.slow
def test_generation_that_asks_for_no_end_takes_every_step_to_the_same_names(batch):
    for seed in range(10):
        model = tiny(seed=seed, model=Model(hidden=16, init="fan_in"))
        model.special = dataclasses.replace(SPECIALS, eos=int(model.predict(*bodies(batch), 6)[0, 0]))
        tensors = model.tensors(batch, CPU)
        ended = model.score(tensors, 6)
        model.asks = False
        whole = model.score(tensors, 6)
        assert (whole.steps, whole.ids.shape) == ((3,) * 5, (3, 6))
        assert torch.equal(whole.ids[:, : ended.ids.shape[1]], ended.ids)
        assert (whole.ids[:, ended.ids.shape[1] :] == SPECIALS.pad).all()


def test_generation_without_the_mask_lets_earlier_positions_see_later_ones(batch):
    seen = {}
    for causal in (True, False):
        model, states = tiny(cache=False, causal=causal), []
        model.decoder.bert.register_forward_hook(lambda _, __, out, kept=states: kept.append(out.last_hidden_state))
        model.predict(*bodies(batch), 6)
        seen[causal] = max((later[:, 0] - states[0][:, 0]).abs().max().item() for later in states)
    assert seen[True] < 1e-5
    assert seen[False] > 1e-3


# -- sets of words --------------------------------------------------------------------------------------------


class Names:
    """Training names: get name, get, value, unknown get."""

    outputs = np.array([5, 6, 2, 5, 2, 8, 2, 3, 5, 2], dtype=np.int32)
    output_offsets = np.array([0, 3, 5, 7, 10])

    def __len__(self):
        return 4


def test_the_words_of_names_come_commonest_first_and_unknown_ones_are_none():
    def decode(ids):
        return [(*("?",) * 3, "<unk>", "?", *WORDS)[index] for index in ids if index == 3 or index >= 5]

    names = NameWords.learn(Names(), decode, 10, SPECIALS.unk)
    assert names.words == ("get", "name", "value")
    assert names.share.tolist() == [3 / 4, 1 / 4, 1 / 4]
    assert NameWords.learn(Names(), decode, 1, SPECIALS.unk).words == ("get",)
    held = names.held(np.array([[5, 8, 2], [7, 5, 5]]), np.array([[True, True, True], [True, False, False]]))
    assert held.tolist() == [[1, 0, 1], [0, 0, 0]]  # the last name holds "set" alone, which no output stands for


def test_the_predicted_set_has_the_greatest_ratio_of_expected_counts():
    rng = np.random.default_rng(0)
    for scale in (0.2, 0.5, 1.0):
        p = rng.uniform(0, scale, 6)
        candidates = [each for size in range(1, 7) for each in itertools.combinations(range(6), size)]
        best = max(candidates, key=lambda each: 2 * p[list(each)].sum() / (len(each) + p.sum()))
        (found,) = best_sets(torch.from_numpy(p)[None], 6).tolist()
        assert {index for index in found if index >= 0} == set(best)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.9, 0.1, 0.8, 0.0], [0, 2, -1]),
        ([0.1, 0.0, 0.0, 0.05], [0, -1, -1]),  # 2 * .10 / 1.15 = .174 of one word, 2 * .15 / 2.15 = .140 of two
        ([1.0, 1.0, 1.0, 1.0], [0, 1, 2]),  # no larger than asked for
    ],
)
def test_sets_of_words_by_hand(probabilities, expected):
    (found,) = best_sets(torch.tensor([probabilities]), 3).tolist()
    assert found == expected


def test_biases_of_the_set_start_at_the_words_log_odds():
    bias = tiny("set").decoder.lm_head.bias
    assert bias.tolist() == pytest.approx([0.0, math.log(3 / 7), math.log(1 / 3), math.log(1 / 4)])


@torch.no_grad()
def test_the_loss_of_a_set_is_the_cross_entropy_of_each_word(batch):
    model = tiny("set")
    tensors = model.tensors(batch, CPU)
    assert tensors.labels.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1]]
    p = model.logits(tensors.inputs, tensors.mask).double().sigmoid()
    by_hand = -(tensors.labels * p.log() + (1 - tensors.labels) * (1 - p).log()).sum()
    assert model.loss(tensors)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_set_of_words_knows_no_label_smoothing(batch):
    model = tiny("set")
    with pytest.raises(ValueError, match="label smoothing"):
        model.loss(model.tensors(batch, CPU), 0.1)


def test_padding_of_a_predicted_set_is_no_word():
    assert tiny("set").words([2, 0, -1, -1]) == ["set", "get"]


# -- cost -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "cache"), [("sequence", True), ("sequence", False), ("parallel", True), ("set", True)]
)
def test_operations_of_a_loss_and_of_scores_agree_with_those_that_torch_counts(kind, cache, batch, monkeypatch):
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(heads.bodies, "can_encode", lambda *_: False)  # padding is counted
    model = tiny(kind, cache=cache)
    model.special = dataclasses.replace(SPECIALS, eos=-1)  # no name ends early
    tensors = model.tensors(batch, CPU)
    counted, found = [], []
    for compute in (lambda: model.loss(tensors), lambda: model.score(tensors, 6)):
        with (
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            found.append(compute())
        counted.append(counter.get_total_flops())
    assert model.loss_flops(batch) == pytest.approx(counted[0], rel=0.01)
    assert model.score_flops(batch, found[1]) == pytest.approx(counted[1], rel=0.01)


def test_a_set_has_its_own_output_layer_and_no_other():
    tied = Model(hidden=16, tie_embeddings=True, share_embeddings=True)
    assert parameter_count(tiny("set", model=tied)) - parameter_count(tiny(model=tied)) == (16 + 1) * 4 - 50


# -- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["words", "bpe"])
@pytest.mark.parametrize(("kind", "unit"), [("parallel", "not knowing the others"), ("set", "each there or not")])
@pytest.mark.slow
def test_a_direct_kind_trains_to_the_bit_and_says_what_its_loss_is(kind, unit, encoding, deterministic):
    config = config_of(
        decoder={"kind": kind}, training={"max_steps": 30}, data={"encoding": encoding, "vocabulary": 600}
    )
    (first, log), (again, again_log) = trained(config), trained(config)
    assert log == again_log
    assert first.test.predictions == again.test.predictions
    assert unit in first.model["loss_unit"]
    losses = [value for name, _, value in log if name == "validation_loss"]
    assert losses[-1] < losses[0]
    assert set(first.scores) == set(Config.metrics)


# -- what does not fit together -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"evaluation.causal": False}, "evaluation.causal"),
        ({"decoder.kind": "parallel", "evaluation.cache": False}, "evaluation.cache"),
        ({"decoder.kind": "set", "evaluation.cache": False, "evaluation.causal": False}, "evaluation.causal"),
        ({"decoder.kind": "set", "training.label_smoothing": 0.1}, "training.label_smoothing"),
    ],
)
def test_settings_that_a_kind_has_no_use_for_are_refused(changes, key):
    schema = schema_of(Config)
    assert key in [found for found, _ in schema.cross_check(schema.defaults() | changes)]


def test_the_forecast_knows_what_each_kind_costs():
    schema = schema_of(Config)
    one, parallel, words = (schema.flops(schema.defaults() | {"decoder.kind": kind}) for kind in KINDS)
    assert words < one < parallel


def test_the_defaults_fit_together():
    assert not list(Config.cross_check(flatten(dataclasses.asdict(Config()))))
