"""Bodies encoded without padding: beside the encoders' own modules."""

import pytest
import torch
from tiny import config_of, trained
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from ablations.naming import bodies

CPU = torch.device("cpu")
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
MASK = torch.arange(9) < torch.tensor([9, 1, 4])[:, None]


def encoder_of(kind, **changes):
    torch.manual_seed(0)
    config, model = {"bert": (BertConfig, BertModel), "roberta": (RobertaConfig, RobertaModel)}[kind]
    made = model(config(**SIZES, max_position_embeddings=20, pad_token_id=1, **changes), add_pooling_layer=False).eval()
    for parameter in made.parameters():  # biases and norms, too, which begin as if they were not there
        parameter.data.normal_(0.0, 0.3)
    return made


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("mask", [None, MASK[:, None, None]], ids=["whole", "masked"])
@torch.inference_mode()
def test_states_are_those_of_the_encoders_own_modules(kind, mask):
    encoder = encoder_of(kind)
    inputs = torch.randint(5, 50, MASK.shape)
    inputs = inputs if mask is None else inputs.masked_fill(~MASK, 1)
    assert bodies.can_encode(encoder, CPU)
    found = bodies.encode(encoder, inputs, mask)
    expected = encoder(input_ids=inputs, attention_mask=None if mask is None else MASK.long()).last_hidden_state
    shown = torch.ones_like(MASK) if mask is None else MASK
    torch.testing.assert_close(found[shown], expected[shown], rtol=1e-4, atol=1e-5)
    assert not found[~shown].any()


@pytest.mark.slow
def test_models_of_every_kind_are_scored_by_it_and_not_trained(monkeypatch):
    met = []
    encode = bodies.encode
    monkeypatch.setattr(bodies, "encode", lambda *arguments: met.append(torch.is_grad_enabled()) or encode(*arguments))
    for kind in ("sequence", "parallel", "set"):
        met.clear()
        trained(config_of(decoder={"kind": kind}, training={"max_steps": 1}, evaluation={"every_steps": 1}))
        assert met
        assert not any(met)


def test_it_takes_no_gradients_no_half_precision_no_gpu_and_no_layers_that_it_does_not_know():
    encoder = encoder_of("bert")
    assert not bodies.can_encode(encoder, CPU)  # gradients are wanted
    with torch.inference_mode():
        assert bodies.can_encode(encoder, CPU)
        assert not bodies.can_encode(encoder, torch.device("cuda"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not bodies.can_encode(encoder, CPU)
        assert not bodies.can_encode(encoder_of("bert", hidden_act="relu"), CPU)
        assert not bodies.can_encode(encoder_of("bert").bfloat16(), CPU)
        encoder.config.model_type = "longformer"
        assert not bodies.can_encode(encoder, CPU)
