"""The data of a study, encoded: found, extracted, split, filtered, turned into ids; each step cached.

``load_data`` is the way in. What is cached does not depend on ``input_tokens`` and ``output_tokens``: arms that
differ in these alone share samples, vocabulary and files.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.naming import caching, corpora, encoding, extraction, functions, ragged, samples, synonyms
from ablations.naming.augmentation import SHOWN, Augmentation
from ablations.naming.config import Config, Data
from ablations.naming.corpora import SPLITS, Corpus
from ablations.naming.encoding import Codec, Specials
from ablations.naming.extraction import Table
from ablations.naming.ragged import Ids, Offsets
from ablations.naming.samples import Samples

LONGEST = 8192  # tokens kept of an input; the limit of data.input_tokens
EDGES = (0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, LONGEST)
WARNING = "warning: "  # begins every message on data that are not what they should be
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Encoded samples of one split, ``n`` in all.

    Attributes:
        inputs: Ids of all inputs one after the other, int32: bos, tokens, eos, at most ``input_tokens`` each.
        input_offsets: ``(n + 1,)``: sample ``i`` is ``inputs[input_offsets[i]:input_offsets[i + 1]]``.
        outputs: Ids of all names, int32: tokens, eos, at most ``output_tokens`` each.
        output_offsets: ``(n + 1,)``.
        input_lengths_uncut: ``(n,)`` tokens of each input before it was cut, bos and eos counted.
        packed_targets: True names, see ``targets``.
        packed_ids: See ``ids``.
    """

    inputs: Ids
    input_offsets: Offsets
    outputs: Ids
    output_offsets: Offsets
    input_lengths_uncut: Ids
    packed_targets: NDArray[np.uint8]
    packed_ids: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.input_offsets) - 1

    @cached_property
    def targets(self) -> list[tuple[str, ...]]:
        """True words of each name, uncut and not through the vocabulary: what metrics compare with."""
        return [tuple(target.split(" ")) for target in caching.unpack(self.packed_targets, len(self))]

    @cached_property
    def ids(self) -> list[str]:
        """``file:line:column`` of each sample, the same on every machine."""
        return caching.unpack(self.packed_ids, len(self))


@dataclass(frozen=True)
class Encoded:
    """The data of a run.

    Attributes:
        splits: By name: train, validation, test.
        vocabulary_size: Tokens of inputs and outputs; ids are below it.
        specials: Ids of pad, bos, eos, unk and mask; bos starts the decoder.
        codec: Turns ids into words.
        facts: What the record says of the data (JSON-ready).
        augmentation: Gives training names with words replaced; None where the study asks for none.
    """

    splits: Mapping[str, Split]
    vocabulary_size: int
    specials: Specials
    codec: Codec
    facts: dict[str, Any]
    augmentation: Augmentation | None = None

    @property
    def train(self) -> Split:
        """The training split."""
        return self.splits["train"]

    @property
    def validation(self) -> Split:
        """The validation split."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """The test split."""
        return self.splits["test"]

    def decode(self, ids: Any) -> list[str]:
        """Words of one generated name (a sequence of ids, cut at its eos); special tokens but unk vanish."""
        return self.codec.decode([int(index) for index in ids])


def load_data(config: Config, cache: Path, progress: Callable[[str], None] | None = None) -> Encoded:
    """Loads a study's data, from the cache where it was made before.

    Args:
        config: The run's config; ``data`` and ``encoder.pretrained`` matter.
        cache: Folder for what is made; shared by all runs and processes.
        progress: Hears what is being done; by default the module's logger does.

    Raises:
        DataError: The corpus or the tokenizer is not there or not what it should be.
    """
    say = progress or _log
    corpus = corpora.find(config.data, cache, say)
    request = cache / "requests" / f"{_request_key(config, corpus)}.json"
    found = _load_request(request, cache, say)
    if found is None:
        with caching.locked(request, say):
            found = _load_request(request, cache, _quiet)
            if found is None:
                found = _make(config, corpus, request, cache, say)
    arrays, codec_state, facts, pairs = found
    data = _cut(arrays, encoding.codec_from(codec_state), {**facts, **corpus.facts}, config.data)
    if config.data.augmentation_rate:
        data = _augmented(data, arrays, pairs, config.data)
    for warning in data.facts["warnings"]:
        say(f"{WARNING}{warning}")
    return data


def _quiet(message: str) -> None:
    pass


def _log(message: str) -> None:
    severe = caching.DAMAGED in message or message.startswith(WARNING)
    _logger.log(logging.WARNING if severe else logging.INFO, message)


_Found = tuple[caching.Arrays, dict[str, Any], dict[str, Any], list[synonyms.Pair]]


def _load_request(request: Path, cache: Path, say: caching.Say) -> _Found | None:
    """What an earlier process made of the same request, or None."""
    if not request.is_file():
        return None
    try:
        entry = json.loads(request.read_text(encoding="utf-8"))
        key, facts, pairs = entry["encoded"], entry["facts"], entry["synonyms"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"cached file {request.name} {caching.DAMAGED} ({error}): making it again")
        return None
    found = caching.load(_encoded_file(cache, key), _quiet)  # _make says what is wrong with it
    return (found[0], found[1], facts, pairs) if found else None


def _make(config: Config, corpus: Corpus, request: Path, cache: Path, say: caching.Say) -> _Found:
    made = _samples(config.data, corpus, cache, say)
    key = caching.digest(
        encoding.VERSION, LONGEST, made.fingerprint, [split.ids for split in made.splits.values()],
        _encoding_options(config),
    )  # fmt: skip
    arrays, codec_state = caching.cached(_encoded_file(cache, key), lambda: _encode(made, config, say), say)
    facts = {"corpus": config.data.corpus, "fingerprint": made.fingerprint, **made.facts}
    pairs = _near_synonyms(made, cache, say) if _learns(config.data) else []
    with caching.atomic(request) as temporary:
        temporary.write_text(json.dumps({"encoded": key, "facts": facts, "synonyms": pairs}), encoding="utf-8")
    return arrays, codec_state, facts, pairs


def _learns(data: Data) -> bool:
    return data.augmentation_rate > 0 and data.synonyms is None


def _near_synonyms(made: Samples, cache: Path, say: caching.Say) -> list[synonyms.Pair]:
    train = made.splits["train"]
    key = caching.digest(synonyms.VERSION, made.fingerprint, train.ids)

    def learn() -> tuple[caching.Arrays, dict[str, Any]]:
        say(f"learning near-synonyms of name words from {len(train.codes):,} training functions")
        return {}, {"pairs": synonyms.learn(train.codes, train.targets, train.ids)}

    _, learnt = caching.cached(cache / "synonyms" / f"{key}.npz", learn, say)
    return [(str(one), str(other), float(likeness)) for one, other, likeness in learnt["pairs"]]


def _encoded_file(cache: Path, key: str) -> Path:
    return cache / "encoded" / f"{key}.npz"


def _samples(data: Data, corpus: Corpus, cache: Path, say: caching.Say) -> Samples:
    parser = [importlib.metadata.version(name) for name in ("tree-sitter", f"tree-sitter-{corpus.language}")]
    key = caching.digest(functions.VERSION, parser, data.corpus, corpus.language, corpus.state)
    sources = corpus.sources()

    def extract() -> tuple[caching.Arrays, dict[str, Any]]:
        say(f"extracting functions of {len(sources):,} files or rows of {data.corpus}")
        return extraction.extract_all(sources, corpus.language, say).pack()

    table = Table.unpack(*caching.cached(cache / "functions" / f"{key}.npz", extract, say))
    return samples.make_samples(table, sources, corpus, data)


def _encode(made: Samples, config: Config, say: caching.Say) -> tuple[caching.Arrays, dict[str, Any]]:
    train, data = made.splits["train"], config.data
    count = sum(len(split.codes) for split in made.splits.values())
    say(f"encoding {count:,} functions as {data.encoding}")
    codec: Codec
    if data.encoding == "words":
        codec = encoding.WordCodec.train([*train.codes, *train.targets], data.vocabulary)
    elif data.encoding == "bpe":
        codec = encoding.train_bpe([*train.codes, *train.targets], data.vocabulary)
    else:
        codec = encoding.pretrained(config.encoder.pretrained or "")
    arrays: dict[str, NDArray[Any]] = {}
    for name, split in made.splits.items():
        inputs, input_offsets = codec.encode(split.codes)
        lengths = np.diff(input_offsets)
        inputs, input_offsets = ragged.head(inputs, input_offsets, LONGEST)
        outputs, output_offsets = codec.encode(split.targets)
        arrays |= {
            f"{name}.inputs": inputs,
            f"{name}.input_offsets": input_offsets,
            f"{name}.input_lengths": lengths.astype(np.int32),
            f"{name}.outputs": outputs,
            f"{name}.output_offsets": output_offsets,
            f"{name}.targets": caching.pack(split.targets),
            f"{name}.ids": caching.pack(split.ids),
        }
    return arrays, codec.state()


# --- keys -------------------------------------------------------------------------------------------------------


def _request_key(config: Config, corpus: Corpus) -> str:
    """Changes whenever the result may change; found without reading the corpus."""
    data = dataclasses.asdict(config.data)
    for applied_on_load in ("input_tokens", "output_tokens", "augmentation_rate", "synonyms"):
        del data[applied_on_load]
    data["learnt_synonyms"] = synonyms.VERSION if _learns(config.data) else None
    versions = [functions.VERSION, samples.VERSION, encoding.VERSION, LONGEST]
    return caching.digest(versions, data, corpus.language, corpus.state, _encoding_options(config))


def _encoding_options(config: Config) -> list[object]:
    data = config.data
    if data.encoding == "words":
        return ["words", data.vocabulary]
    library = importlib.metadata.version("tokenizers")
    if data.encoding == "bpe":
        return ["bpe", data.vocabulary, library]
    name = config.encoder.pretrained or ""
    folder, files = Path(name), list[object]()
    if folder.is_dir():
        files = [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for file in sorted(folder.iterdir())
            if file.suffix in {".json", ".txt", ".model"}
        ]
    return ["pretrained", name, files, library]


# --- augmenting -------------------------------------------------------------------------------------------------


def _augmented(data: Encoded, arrays: caching.Arrays, pairs: list[synonyms.Pair], options: Data) -> Encoded:
    """The data with near-synonyms for training names; what they are goes to the record."""
    if options.synonyms is None:
        table, shown, source = synonyms.alternatives(pairs), [list(pair) for pair in pairs], "learnt"
    else:
        path = Path(options.synonyms).expanduser()
        table, source = synonyms.read(path), path.name
        shown = [[word, other] for word, others in table.items() for other in others]
    encoded = arrays["train.outputs"], arrays["train.output_offsets"]
    augmentation = Augmentation(
        table, data.train.targets, encoded, data.codec, options.augmentation_rate, options.output_tokens
    )
    facts = {"source": source, "pairs": len(shown), "first_pairs": shown[:SHOWN], **augmentation.facts}
    warnings = list(data.facts["warnings"])
    if not facts["replaceable_share"]:
        warnings.append(
            f"data.augmentation_rate {options.augmentation_rate:g} changes nothing: no word of a training name has a "
            f"near-synonym in the vocabulary ({'learnt' if source == 'learnt' else f'table {source}'}: {len(shown)})"
        )
    return dataclasses.replace(
        data, augmentation=augmentation, facts={**data.facts, "augmentation": facts, "warnings": warnings}
    )


# --- cutting ----------------------------------------------------------------------------------------------------


def _cut(arrays: caching.Arrays, codec: Codec, facts: dict[str, Any], data: Data) -> Encoded:
    splits = {name: _cut_split(name, arrays, codec.specials, data) for name in SPLITS}
    lengths = np.concatenate([split.input_lengths_uncut for split in splits.values()])
    counts, _ = np.histogram(np.minimum(lengths, LONGEST), bins=EDGES)
    names = {name: np.diff(arrays[f"{name}.output_offsets"]) + 1 for name in SPLITS}
    return Encoded(
        splits=splits,
        vocabulary_size=codec.vocabulary_size,
        specials=codec.specials,
        codec=codec,
        facts={
            **facts,
            "vocabulary_size": codec.vocabulary_size,
            "truncated": {
                name: float((split.input_lengths_uncut > data.input_tokens).mean()) for name, split in splits.items()
            },
            "names_truncated": {name: float((names[name] > data.output_tokens).mean()) for name in SPLITS},
            "unknown_tokens": {
                name: float((arrays[f"{name}.outputs"] == codec.specials.unk).mean()) for name in SPLITS
            },
            "lengths": {"edges": list(EDGES), "counts": counts.tolist()},
        },
    )


def _cut_split(name: str, arrays: caching.Arrays, specials: Specials, data: Data) -> Split:
    inputs, input_offsets = ragged.wrapped(
        *ragged.head(arrays[f"{name}.inputs"], arrays[f"{name}.input_offsets"], data.input_tokens - 2),
        first=[specials.bos], last=specials.eos,
    )  # fmt: skip
    outputs, output_offsets = ragged.head(
        *ragged.wrapped(arrays[f"{name}.outputs"], arrays[f"{name}.output_offsets"], first=[], last=specials.eos),
        data.output_tokens,
    )
    return Split(
        inputs=inputs,
        input_offsets=input_offsets,
        outputs=outputs,
        output_offsets=output_offsets,
        input_lengths_uncut=arrays[f"{name}.input_lengths"] + np.int32(2),
        packed_targets=arrays[f"{name}.targets"],
        packed_ids=arrays[f"{name}.ids"],
    )
