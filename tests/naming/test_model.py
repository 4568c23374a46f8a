"""The model on tiny sizes: causality, the cache, initialisation, the count of parameters and operations."""

import dataclasses

import numpy as np
import pytest
import torch

from ablations.naming import model as model_module
from ablations.naming.config import Config, Data, Decoder, Encoder, Model
from ablations.naming.encoding import Specials
from ablations.naming.flops import Sizes, forward_flops
from ablations.naming.model import build_model, parameter_count
from ablations.naming.wordset import NameWords

SPECIALS = Specials()


def config_of(**decoder):
    return Config(
        data=Data(input_tokens=16),
        model=Model(hidden=16),
        encoder=Encoder(layers=1, heads=2, intermediate=32),
        decoder=Decoder(**{"layers": 2, "heads": 2, "intermediate": 32} | decoder),
    )


def tiny(seed=0, **decoder):
    return build_model(config_of(**decoder), 50, SPECIALS, seed).eval()


@pytest.fixture
def bodies():
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randint(5, 50, (3, 12), generator=rng)
    mask = torch.ones_like(inputs)
    inputs[1, 7:], mask[1, 7:] = SPECIALS.pad, 0
    return inputs, mask.bool()[:, None, None]


def all_logits(model, inputs, mask, names):
    shifted = torch.cat([torch.full((len(names), 1), SPECIALS.bos), names[:, :-1]], dim=1)
    return model.logits(inputs, mask, shifted, torch.arange(names.numel())).view(*names.shape, -1)


@pytest.mark.parametrize("kind", ["sequence", "parallel", "set"])
@pytest.mark.parametrize("shares", [True, False])
def test_no_parameter_is_left_as_it_lay_in_memory(kind, shares, monkeypatch):
    left = []

    def leave(self, tensor):
        left.append(tensor)
        tensor.data.fill_(torch.nan)
        return tensor

    monkeypatch.setattr(model_module._Undrawn, "leave", leave)
    config = config_of(kind=kind)
    config = dataclasses.replace(config, model=Model(hidden=16, tie_embeddings=shares, share_embeddings=shares))
    names = NameWords(("get", "value"), np.array([0.5, 0.3]), lambda ids: []) if kind == "set" else None
    model = build_model(config, 50, SPECIALS, 0, None, names)
    assert len(left) > 10
    for name, each in [*model.named_parameters(), *model.named_buffers()]:
        assert each.isfinite().all(), name


@torch.no_grad()
def test_a_position_does_not_see_later_ones(bodies):
    model, names = tiny(), torch.randint(5, 50, (3, 6), generator=torch.Generator().manual_seed(1))
    before = all_logits(model, *bodies, names)
    changed = names.clone()
    changed[:, 3] = 49 - changed[:, 3] + 5
    after = all_logits(model, *bodies, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@torch.no_grad()
def test_padding_of_a_body_changes_nothing(bodies):
    model, (inputs, mask) = tiny(), bodies
    names = torch.randint(5, 50, (1, 4))
    padded = all_logits(model, inputs[1:2], mask[1:2], names)
    bare = all_logits(model, inputs[1:2, :7], None, names)
    torch.testing.assert_close(padded, bare, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_greedy_decoding_with_the_cache_equals_the_full_pass(bodies):
    model = tiny()
    names = model.predict(*bodies, max_tokens=6)
    full = torch.full((3, 1), SPECIALS.bos)
    for _ in range(names.shape[1]):
        predicted = all_logits(model, *bodies, torch.cat([full[:, 1:], full[:, :1]], dim=1))[:, -1:].argmax(-1)
        full = torch.cat([full, predicted], dim=1)
    for cached, recomputed in zip(names.tolist(), full[:, 1:].tolist(), strict=True):
        end = cached.index(SPECIALS.eos) + 1 if SPECIALS.eos in cached else len(cached)
        assert cached[:end] == recomputed[:end]
        assert set(cached[end:]) <= {SPECIALS.pad}


@torch.no_grad()
def test_logits_are_computed_at_given_places_only(bodies):
    model, shifted = tiny(), torch.randint(5, 50, (3, 3), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([0, 1, 3, 6, 7, 8])
    some, all_of_them = model.logits(*bodies, shifted, places), model.logits(*bodies, shifted, torch.arange(9))
    assert some.shape == (6, 50)
    torch.testing.assert_close(some, all_of_them[places])


def test_a_deeper_arm_starts_from_the_same_values_where_shapes_agree():
    base, deeper = tiny().state_dict(), tiny(layers=4).state_dict()
    assert set(base) < set(deeper)
    assert all(torch.equal(base[name], deeper[name]) for name in base)


def test_another_seed_starts_elsewhere():
    first, second = tiny(0).state_dict(), tiny(1).state_dict()
    name = "decoder.bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first[name], second[name])


def test_fan_in_initialisation_has_the_deviation_it_says():
    wide = dataclasses.replace(config_of(), model=Model(hidden=128))
    weight = build_model(wide, 2000, SPECIALS, 0).encoder.embeddings.word_embeddings.weight
    assert weight.std().item() == pytest.approx(128**-0.5, rel=0.01)


def test_shared_and_tied_embeddings_are_counted_once():
    config = config_of()
    apart = dataclasses.replace(config, model=Model(hidden=16, share_embeddings=False, tie_embeddings=False))
    less = parameter_count(build_model(config, 50, SPECIALS, 0))
    more = parameter_count(build_model(apart, 50, SPECIALS, 0))
    assert more - less == 2 * 50 * 16  # the decoder's embedding and the output layer


def test_operations_of_a_forward_pass_by_hand():
    sizes = Sizes(hidden=2, encoder_layers=1, encoder_intermediate=3, decoder_layers=1, decoder_intermediate=3,
                  vocabulary=5)  # fmt: skip
    encoder = 4 * (8 * 4 + 4 * 4 * 2 + 4 * 2 * 3)  # 4 tokens: projections, attention over 4, feed-forward
    decoder = 1 * (12 * 4 + 4 * (1 + 4) * 2 + 4 * 2 * 3) + 4 * 4 * 4  # 1 token; keys and values of the 4 inputs
    assert forward_flops(sizes, 1, 4, 1, 1) == encoder + decoder + 2 * 2 * 5


def test_operations_agree_with_those_that_torch_counts(bodies):
    from torch.utils.flop_counter import FlopCounterMode

    model, (inputs, _) = tiny(), bodies
    shifted = torch.full((3, 4), SPECIALS.bos)
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model.logits(inputs, None, shifted, torch.arange(12))
    sizes = Sizes(hidden=16, encoder_layers=1, encoder_intermediate=32, decoder_layers=2, decoder_intermediate=32,
                  vocabulary=50)  # fmt: skip
    assert forward_flops(sizes, 3, 12, 4, 12) == pytest.approx(counter.get_total_flops(), rel=0.01)
