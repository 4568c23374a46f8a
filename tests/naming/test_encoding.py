import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.errors import DataError
from ablations.naming.encoding import SPECIALS, WordCodec, codec_from, pretrained, train_bpe
from ablations.naming.samples import MASK

CODES = [f"def {MASK}(self):\n    return self.getHTTPPort(8080)", f"def {MASK}(a): return {MASK}(a) + 'ü'", "x = 1"]
NAMES = ["get port", "return self", "port"]


def pieces(codec, texts):
    ids, offsets = codec.encode(texts)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]


# --- words ------------------------------------------------------------------------------------------------------


def test_words_are_those_of_identifiers_keywords_and_literals_without_punctuation_and_digits():
    codec = WordCodec.train([*CODES, *NAMES], 100)
    written = [[(*SPECIALS, *codec.words)[index] for index in ids] for ids in pieces(codec, CODES)]
    assert written == [
        ["def", "<mask>", "self", "return", "self", "get", "http", "port"],
        ["def", "<mask>", "a", "return", "<mask>", "a", "ü"],
        ["x"],
    ]


def test_the_vocabulary_holds_the_most_frequent_words_ties_by_the_alphabet():
    codec = WordCodec.train(["b a b", "c a d"], 5 + 3)
    assert codec.words == ("a", "b", "c")
    assert codec.vocabulary_size == 8
    assert pieces(codec, ["d a"]) == [[codec.specials.unk, 5]]


def test_names_come_back_and_special_tokens_vanish():
    codec = WordCodec.train([*CODES, *NAMES], 100)
    for name, ids in zip(NAMES, pieces(codec, NAMES), strict=True):
        assert codec.decode([1, *ids, 2, 0, 0]) == name.split()
    assert codec.decode([codec.specials.unk]) == ["<unk>"]


@given(st.lists(st.text(alphabet=f"abAB_1 ({MASK}", max_size=20), max_size=8))
@settings(deadline=None)
def test_texts_encoded_together_are_encoded_as_alone(texts):
    codec = WordCodec.train(["a b ab ba aab bba"], 100)
    assert pieces(codec, texts) == [pieces(codec, [text])[0] for text in texts]


# --- bpe --------------------------------------------------------------------------------------------------------


def test_bpe_of_the_training_split_gives_names_and_code_back():
    codec = train_bpe([*CODES, *NAMES] * 5, 300)
    assert codec.vocabulary_size <= 300
    for text, ids in zip(NAMES, pieces(codec, NAMES), strict=True):
        assert codec.decode([1, *ids, 2]) == text.split()
    ids = pieces(codec, CODES)[1]
    assert ids.count(codec.specials.mask) == 2
    assert " ".join(codec.decode(ids)) == "def (a): return (a) + 'ü'"


def test_text_that_looks_like_a_special_token_is_text():
    codec = train_bpe(["</s> <mask> <pad>"], 300)
    [ids] = pieces(codec, ["a </s> <mask><pad> b"])
    assert not set(ids) & {0, 1, 2, 3, 4}
    assert " ".join(codec.decode(ids)) == "a < /s> < mask>< pad> b"


def test_bpe_needs_room_for_all_bytes():
    with pytest.raises(DataError, match="at least 261 tokens, found 200"):
        train_bpe(["a"], 200)


def test_bpe_trained_twice_is_the_same():
    assert train_bpe(CODES * 20, 320).state() == train_bpe(CODES * 20, 320).state()


@pytest.mark.parametrize("codec", [WordCodec.train(CODES, 50), train_bpe(CODES, 300)])
def test_a_codec_survives_its_state(codec):
    again = codec_from(codec.state())
    assert again == codec
    assert pieces(again, CODES + NAMES) == pieces(codec, CODES + NAMES)


def test_no_texts_are_no_ids():
    for codec in (WordCodec.train(["a"], 50), train_bpe(["a"], 300)):
        ids, offsets = codec.encode([])
        assert (ids.tolist(), offsets.tolist()) == ([], [0])
        assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)


# --- pretrained -------------------------------------------------------------------------------------------------


def save_bert(folder, **options):
    """An uncased WordPiece tokenizer as sentence encoders have it: cls and sep, but neither bos nor eos."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "get", "port", "def", "return", "##s", "(", ")", ":", "self"]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    named = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"} | options
    tokens = {f"{key}_token": value for key, value in named.items() if value}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_cls_and_sep_serve_where_a_pretrained_tokenizer_has_no_bos_and_eos(tmp_path):
    codec = pretrained(save_bert(tmp_path / "bert"))
    assert vars(codec.specials) == {"pad": 0, "bos": 2, "eos": 3, "unk": 1, "mask": 4}
    assert codec.vocabulary_size == 14
    assert pieces(codec, [f"def {MASK}(self): return Ports [SEP]", "get ports"]) == [
        [7, 4, 10, 13, 11, 12, 8, 6, 9, 1, 1, 1],  # what the text calls [SEP] is three unknown words
        [5, 6, 9],
    ]
    assert codec.decode([2, 5, 6, 9, 3, 0]) == ["get", "ports"]


@pytest.mark.slow
def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no mask token"):
        pretrained(save_bert(tmp_path / "bert", mask=None))


@pytest.mark.slow
def test_a_folder_that_is_not_there_or_holds_no_tokenizer_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        pretrained(str(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot load a tokenizer from the folder"):
        pretrained(str(tmp_path))


@pytest.mark.slow
def test_a_pretrained_tokenizer_is_loaded_without_torch(tmp_path):
    folder = save_bert(tmp_path / "bert")
    program = (
        "import sys\nsys.modules['torch'] = None\nfrom ablations.naming.encoding import pretrained\n"
        "print(pretrained(sys.argv[1]).vocabulary_size)"
    )
    run = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["14"]
