"""Text to token ids and back: words, BPE trained on the training split, or a pretrained encoder's own tokenizer."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.errors import DataError
from ablations.naming import ragged
from ablations.naming.ragged import Ids, Offsets
from ablations.naming.samples import MASK
from ablations.naming.words import LETTERS, split_run

VERSION = 1  # part of cache keys: raise it when the same samples would give other ids
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")  # ids 0 to 4 of the encodings made here
_BATCH = 512  # texts handed to the tokenizers library at once
_BYTES = 256


@dataclass(frozen=True)
class Specials:
    """Ids of the tokens that are no text."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3
    mask: int = 4


class Codec(ABC):
    """Encodes code and names with one vocabulary, and decodes names; none of it adds bos or eos."""

    specials: Specials
    vocabulary_size: int

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """Ids of all texts one after the other, and ``len(texts) + 1`` offsets; ``MASK`` becomes the mask token."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words of one generated name; special tokens but unk vanish."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON-ready: all that :func:`codec_from` needs."""


def codec_from(state: dict[str, Any]) -> Codec:
    """The inverse of :meth:`Codec.state`."""
    if state["kind"] == "words":
        return WordCodec(tuple(state["words"]))
    return TokenizerCodec(state["tokenizer"], state["mask_token"], Specials(**state["specials"]), state["size"])


# --- words ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WordCodec(Codec):
    """Words of identifiers, keywords and literals, lower-cased; punctuation and digits vanish.

    Attributes:
        words: The vocabulary after the special tokens, the most frequent first.
    """

    words: tuple[str, ...]
    specials = Specials()

    @staticmethod
    def train(texts: Iterable[str], size: int) -> WordCodec:
        """The ``size - 5`` most frequent words of the texts; ties by the alphabet."""
        runs = Counter[str]()
        for text in texts:
            runs.update(LETTERS.findall(text))
        words = Counter[str]()
        for run, times in runs.items():
            for word in split_run(run):
                words[word] += times
        ranked = sorted(words, key=lambda word: (-words[word], word))
        return WordCodec(tuple(ranked[: size - len(SPECIALS)]))

    @property
    def vocabulary_size(self) -> int:  # type: ignore[override]  # derived here, given elsewhere
        """Words and special tokens."""
        return len(SPECIALS) + len(self.words)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words, start=len(SPECIALS))}

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """See :meth:`Codec.encode`; each distinct run of letters is split once."""
        runs, counts, flat = _Numbering(), [], list[int]()
        for text in texts:
            before = len(flat)
            for place, piece in enumerate(text.split(MASK)):
                if place:
                    flat.append(runs[MASK])
                flat += [runs[run] for run in LETTERS.findall(piece)]
            counts.append(len(flat) - before)
        spelled = [
            [self.specials.mask]
            if run == MASK
            else [self._id_of.get(word, self.specials.unk) for word in split_run(run)]
            for run in runs
        ]
        return _spell(np.array(flat, dtype=np.int64), np.array(counts, dtype=np.int64), spelled)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """See :meth:`Codec.decode`."""
        names, first = self._names, len(SPECIALS)
        return [names[index] for index in ids if index >= first or index == self.specials.unk]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return (*SPECIALS, *self.words)

    def state(self) -> dict[str, Any]:
        """See :meth:`Codec.state`."""
        return {"kind": "words", "words": list(self.words)}


class _Numbering(dict[str, int]):
    """Numbers its keys in the order in which they are first asked for."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number


def _spell(flat: NDArray[np.int64], counts: NDArray[np.int64], spelled: list[list[int]]) -> tuple[Ids, Offsets]:
    """Replaces each number of ``flat`` by its list of ids; ``counts`` numbers belong to each text."""
    table = np.array([token for ids in spelled for token in ids], dtype=np.int32)
    lengths = np.array([len(ids) for ids in spelled], dtype=np.int64)
    ids, bounds = ragged.taken(table, ragged.offsets_of(lengths), flat)
    return ids, bounds[ragged.offsets_of(counts)]


# --- tokenizers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenizerCodec(Codec):
    """A tokenizer of the ``tokenizers`` library.

    Attributes:
        text: Its JSON.
        mask_token: How it writes the mask token.
        specials: Ids of its special tokens.
        vocabulary_size: Tokens it knows, added ones too.
    """

    text: str
    mask_token: str
    specials: Specials
    vocabulary_size: int

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Offsets]:
        """See :meth:`Codec.encode`; text that looks like a special token is kept from being one."""
        tokenizer, flat, lengths = self._tokenizer, list[Ids](), [0]
        reserved = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        for start in range(0, len(texts), _BATCH):
            batch = [self._written(text, reserved) for text in texts[start : start + _BATCH]]
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids = np.array(encoding.ids, dtype=np.int32)
                flat.append(ids)
                lengths.append(len(ids))
        joined = np.concatenate(flat) if flat else np.zeros(0, dtype=np.int32)
        return joined, np.cumsum(np.array(lengths, dtype=np.int64))

    def _written(self, text: str, reserved: Iterable[str]) -> str:
        for token in reserved:
            if token in text:
                text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text.replace(MASK, self.mask_token)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """See :meth:`Codec.decode`."""
        return list(self._tokenizer.decode(list(ids), skip_special_tokens=True).split())

    def state(self) -> dict[str, Any]:
        """See :meth:`Codec.state`."""
        return {"kind": "tokenizer", "tokenizer": self.text, "mask_token": self.mask_token,
                "specials": vars(self.specials), "size": self.vocabulary_size}  # fmt: skip


def train_bpe(texts: Iterable[str], size: int) -> TokenizerCodec:
    """Byte-level BPE of the texts.

    Raises:
        DataError: The vocabulary has no room for the special tokens and all bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if size < _BYTES + len(SPECIALS):
        raise DataError(f"data.vocabulary: encoding bpe needs at least {_BYTES + len(SPECIALS)} tokens, found {size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.replace(MASK, " ") for text in texts), trainer)
    return TokenizerCodec(tokenizer.to_str(), SPECIALS[-1], Specials(), tokenizer.get_vocab_size())


def pretrained(name: str) -> TokenizerCodec:
    """The tokenizer of a pretrained encoder; cls and sep serve as bos and eos where it has none.

    Args:
        name: Local folder or hub name.

    Raises:
        DataError: There is none of that name, or it lacks a token that the task needs.
    """
    local = Path(name).is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):  # no hub name looks like that
        raise DataError(f"encoder.pretrained: there is no folder {name}")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except Exception as error:  # a dozen kinds, by file format and hub
        where = "folder" if local else "hub name (no folder of that name is here)"
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"cannot load a tokenizer from the {where} {name!r}: {reason}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{name!r}: expected a tokenizer of the tokenizers library, found {type(tokenizer).__name__}")
    ids = {
        "pad": tokenizer.pad_token_id,
        "bos": tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id,
        "eos": tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id,
        "unk": tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id,
        "mask": tokenizer.mask_token_id,
    }
    missing = [token for token, index in ids.items() if index is None]
    if missing:
        raise DataError(f"the tokenizer of {name!r} has no {' and no '.join(missing)} token, which the task needs")
    text = json.loads(tokenizer.backend_tokenizer.to_str())
    text.update(truncation=None, padding=None)
    return TokenizerCodec(json.dumps(text), str(tokenizer.mask_token), Specials(**ids), len(tokenizer))
