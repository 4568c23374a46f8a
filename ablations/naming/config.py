"""Every tunable of the method-naming experiment: typed, ranged, with its unit. The stdlib alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ablations.naming.flops import Sizes, encoder_flops, forward_flops
from ablations.naming.metrics import METRICS
from ablations.schema import Trunk, tunable

SPLITS_SCORED = ("validation", "test")
SAMPLES = {  # of the training and the two other splits, for forecasts alone: seen on Python 3.11, and code2seq's files
    "python-stdlib": (12_600, 1_600),
    "java-small": (80_598, 3_750),
}
UNKNOWN_SAMPLES = (100_000, 5_000)
BASE_SIZES = {  # of a pretrained encoder that is not on this machine: RoBERTa base
    "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "vocab_size": 50_265,
}  # fmt: skip
ROBERTAS = {"roberta", "xlm-roberta", "camembert"}  # model types whose positions start behind the padding's id
ROLLING_BACK = ("rollback", "rollback_later")  # values of training.on_failure
NAME_TOKENS = 4  # of a name, end mark included: the mean of both corpora, rounded up


@dataclass
class Data:
    """Which functions, how they are split, cut and turned into tokens."""

    corpus: str = tunable(
        "python-stdlib",
        "where the functions come from",
        choices=("python-stdlib", "python-packages", "java-small", "huggingface"),
    )
    path: str | None = tunable(None, "folder or archive of java-small, or local folder of a huggingface dataset")
    sha256: str | None = tunable(None, "SHA-256 that the archive at path must have, in hexadecimal (corpus java-small)")
    packages: list[str] = tunable([], "installed packages to read (corpus python-packages)")
    dataset: str | None = tunable(None, "hub name of a dataset, or name:configuration (corpus huggingface)")
    code_column: str = tunable("code", "column with the function's source (corpus huggingface)")
    language: str = tunable("python", "language of the column (corpus huggingface)", choices=("python", "java"))
    every_nth_file: int = tunable(1, "of each project's files sorted by name, keep every n-th", ge=1)
    split_seed: int = tunable(0, "decides which files or projects go to which split", ge=0)
    validation_share: float = tunable(0.1, "share of files or projects for validation", gt=0, lt=0.5)
    test_share: float = tunable(0.1, "share of files or projects for the test", gt=0, lt=0.5)
    train_samples: int | None = tunable(None, "at most so many training functions", unit="functions", ge=1)
    validation_samples: int | None = tunable(None, "at most so many validation functions", unit="functions", ge=1)
    test_samples: int | None = tunable(None, "at most so many test functions", unit="functions", ge=1)
    drop_duplicates: bool = tunable(True, "drop a function whose body and name occur in an earlier split or file")
    abstract_methods: bool = tunable(True, "keep functions without a body")
    empty_bodies: bool = tunable(True, "keep functions whose body does nothing")
    overrides: bool = tunable(True, "keep functions marked as overriding another")
    deep_files: bool = tunable(
        True,
        "keep files whose syntax tree is over 1,000 nodes deep, which a traversal that calls itself loses in Python",
        later=True,
    )
    recursive_calls: str = tunable(
        "keep",
        "the function's own name inside its body: keep it, mask it too, or drop such functions",
        choices=("keep", "mask", "drop"),
    )
    drop_from: str = tunable(
        "all",
        "splits that lose what abstract_methods, empty_bodies, overrides and recursive_calls do not keep; "
        "train: every arm is scored on the same functions",
        choices=("all", "train"),
    )
    special_methods: bool = tunable(
        True, "keep methods whose name the language prescribes, e.g. Python's __init__ (Java's constructors are none)"
    )
    docstrings: bool = tunable(True, "keep docstrings and comments inside the function")
    keywords: bool = tunable(True, "keep the language's keywords, and self, cls, this and super, in the body")
    augmentation_rate: float = tunable(
        0.0,
        "chance that a word of a training name is replaced by a near-synonym, drawn anew in every epoch; 0 for never",
        ge=0,
        le=1,
    )
    synonyms: str | None = tunable(
        None,
        "CSV or JSON file of near-synonyms; null: learnt from the training split (where augmentation_rate is not 0)",
    )
    encoding: str = tunable(
        "words",
        "identifier words of the training split, BPE trained on it, or the pretrained encoder's own tokenizer",
        choices=("words", "bpe", "pretrained"),
    )
    vocabulary: int = tunable(4000, "size of the vocabulary (words, bpe)", unit="tokens", ge=64, le=200_000)
    input_tokens: int = tunable(48, "input is cut at this length", unit="tokens", ge=8, le=8192)
    output_tokens: int = tunable(10, "output is cut at this length, end mark included", unit="tokens", ge=2, le=128)


@dataclass
class Model:
    """What encoder and decoder share."""

    hidden: int = tunable(128, "width of encoder and decoder (encoder from scratch)", unit="units", ge=8, le=16384)
    init: str = tunable(
        "fan_in", "initialisation of new weights: N(0, 0.02²) or N(0, 1/fan in)", choices=("bert", "fan_in")
    )
    tie_embeddings: bool = tunable(True, "the decoder's output layer is its embedding")
    share_embeddings: bool = tunable(True, "the decoder's embedding is the encoder's")


@dataclass
class Encoder:
    """The encoder: pretrained, or a RoBERTa from scratch with these sizes."""

    pretrained: str | None = tunable(None, "local folder or hub name of a pretrained encoder")
    layers: int = tunable(2, "layers", unit="layers", ge=1, le=256)
    heads: int = tunable(4, "attention heads", unit="heads", ge=1, le=256)
    intermediate: int = tunable(256, "width of the feed-forward layer", unit="units", ge=8, le=65536)
    dropout: float = tunable(0.0, "hidden dropout", ge=0, lt=1)
    attention_dropout: float = tunable(0.0, "attention dropout", ge=0, lt=1)


@dataclass
class Decoder:
    """The decoder: BertGenerationDecoder with cross-attention, and how a name comes out of it."""

    kind: str = tunable(
        "sequence",
        "name token by token, all its positions at once, or as a set of words without order",
        choices=("sequence", "parallel", "set"),
    )
    words: int = tunable(
        4000, "words to choose from: the commonest of the training names (kind set)", unit="words", ge=1, le=200_000
    )
    pretrained: str | None = tunable(
        None,
        "local folder or hub name of a pretrained encoder whose self-attention, feed-forward, norms and, where the "
        "vocabulary is the same, embeddings the decoder starts from (its lowest layers); null for none",
    )
    layers: int = tunable(2, "layers", unit="layers", ge=1, le=256)
    heads: int = tunable(4, "attention heads", unit="heads", ge=1, le=256)
    intermediate: int = tunable(256, "width of the feed-forward layer", unit="units", ge=8, le=65536)
    dropout: float = tunable(0.0, "hidden dropout", ge=0, lt=1)
    attention_dropout: float = tunable(0.0, "attention dropout", ge=0, lt=1)


@dataclass
class Training:
    """Optimisation: AdamW on cross-entropy of the name's tokens."""

    epochs: float = tunable(1.0, "passes over the training split (where max_steps is null)", unit="epochs", gt=0)
    max_steps: int | None = tunable(None, "optimizer steps, whatever the epochs", unit="steps", ge=1)
    batch_samples: int = tunable(32, "samples per optimizer step", unit="samples", ge=1)
    learning_rate: float = tunable(5e-5, "peak learning rate", gt=0, le=10)
    schedule: str = tunable("linear", "learning rate after warm-up", choices=("linear", "constant", "cosine"))
    warmup_steps: int = tunable(0, "steps of linear warm-up", unit="steps", ge=0)
    weight_decay: float = tunable(0.0, "AdamW's decoupled weight decay", ge=0, lt=1)
    adam_beta1: float = tunable(0.9, "AdamW's beta 1", ge=0, lt=1)
    adam_beta2: float = tunable(0.999, "AdamW's beta 2", ge=0, lt=1)
    gradient_clip: float | None = tunable(1.0, "largest gradient norm; null for none", gt=0)
    label_smoothing: float = tunable(0.0, "label smoothing", ge=0, lt=1)
    precision: str = tunable(
        "auto", "fp32, bf16 autocast, or auto: bf16 where the device has it", choices=("auto", "fp32", "bf16")
    )
    padding: str = tunable(
        "dynamic", "pad batches of like length to their longest, or all to the maximum", choices=("dynamic", "maximum")
    )
    on_failure: str = tunable(
        "continue",
        "loss spike or divergence: record it and go on, stop, or return to the last checkpoint and skip the batch or "
        "take it last; a loss or gradient that is not finite stops the run unless it returns",
        choices=("continue", "stop", "rollback", "rollback_later"),
    )
    max_rollbacks: int = tunable(
        3,
        "returns to a checkpoint; one more failure ends the run as diverged (rollback)",
        unit="rollbacks",
        ge=1,
        le=1000,
    )


@dataclass
class Evaluation:
    """When and how runs are scored."""

    every_steps: int = tunable(200, "optimizer steps between validations", unit="steps", ge=1)
    batch_samples: int = tunable(128, "samples per batch", unit="samples", ge=1)
    train_samples: int | None = tunable(
        None,
        "so many fixed training samples are scored with each validation, and just as those are; null for none",
        unit="samples",
        ge=1,
    )
    at_start: bool = tunable(False, "score before the first step, too; no checkpoint is selected there")
    select_by: str = tunable(
        "validation_f1",
        "validation metric whose best checkpoint is tested",
        choices=("validation_f1", "validation_loss", "last"),
    )
    cache: bool = tunable(True, "generate with a key-value cache, else compute every position anew (kind sequence)")
    causal: bool = tunable(
        True, "keep the decoder's mask in generation; without it (and the cache) earlier positions see later ones"
    )


@dataclass
class Config:
    """The whole experiment; one attribute per section of ``study.yaml``'s keys."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)

    metrics: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            f"{split}_{name}": direction
            for split in SPLITS_SCORED
            for name, direction in [*((each.name, each.direction) for each in METRICS.values()), ("loss", "min")]
        }
    )

    @staticmethod
    def flops(config: Mapping[str, Any]) -> float | None:
        """Operations of one run, roughly: assumed numbers of samples, every input at its full length."""
        return _rough_flops(config)

    @staticmethod
    def footprint(config: Mapping[str, Any]) -> dict[str, Any]:
        """What decides a run's memory: sizes and lengths, not how long it trains or at what rate."""
        free = {"training.epochs", "training.max_steps", "training.learning_rate", "training.schedule",
                "training.warmup_steps", "training.weight_decay", "training.adam_beta1", "training.adam_beta2",
                "training.label_smoothing", "evaluation.every_steps", "evaluation.select_by"}  # fmt: skip
        return {key: value for key, value in config.items() if key not in free}

    @staticmethod
    def trunk(config: Mapping[str, Any]) -> Trunk | None:
        """What of a training others can take over: all of it, or with a constant rate what a shorter one has done.

        Nothing where failures return to a checkpoint: what is done then depends on more than the steps before.
        """
        if config["training.on_failure"] in ROLLING_BACK:
            return None
        scored = {key: value for key, value in config.items() if key.startswith("evaluation.")}
        every_steps = scored.pop("evaluation.every_steps")  # weights are there for the steps that were scored
        decides = {key: value for key, value in config.items() if key not in scored} | {"every_steps": every_steps}
        if config["training.schedule"] != "constant":
            return Trunk(decides, 0.0, scored)
        unit = "training.epochs" if config["training.max_steps"] is None else "training.max_steps"
        return Trunk({**decides, unit: "as long as it goes on"}, float(config[unit]), scored)

    @staticmethod
    def cross_check(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yields (key, message) for values that are fine alone and not together."""
        yield from _check_shapes(config)
        yield from _check_kind(config)
        yield from _check_sources(config)

    @staticmethod
    def from_flat(config: Mapping[str, Any]) -> Config:
        """Builds the nested dataclasses from a flat, valid config."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in config.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        kinds = {"data": Data, "model": Model, "encoder": Encoder, "decoder": Decoder,
                 "training": Training, "evaluation": Evaluation}  # fmt: skip
        return Config(**{name: kinds[name](**values) for name, values in sections.items()})


def pretrained_sizes(name: str) -> dict[str, Any] | None:
    """The ``config.json`` of a pretrained encoder in a local folder, or None where it is not one."""
    file = Path(name) / "config.json"
    if not file.is_file():
        return None
    sizes: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return sizes


def positions_of(sizes: Mapping[str, Any]) -> int:
    """Longest input of a pretrained encoder, in tokens."""
    return int(sizes.get("max_position_embeddings", 1 << 30)) - reserved_positions(sizes)


def reserved_positions(sizes: Mapping[str, Any]) -> int:
    """Rows of a pretrained encoder's position embeddings that stand for padding."""
    padding = sizes.get("pad_token_id")
    return 1 + (1 if padding is None else padding) if sizes.get("model_type") in ROBERTAS else 0


def warm_start_problems(sizes: Mapping[str, Any], hidden: int | None, config: Config) -> list[tuple[str, str]]:
    """(key, message) for each size of the decoder that is not that of the checkpoint it is to start from.

    Args:
        sizes: The checkpoint's config.
        hidden: The encoder's width; None where it is not known.
        config: The experiment's config.
    """
    name, decoder = config.decoder.pretrained, config.decoder
    wanted = {
        "encoder.pretrained" if config.encoder.pretrained else "model.hidden": ("hidden_size", "hidden size", hidden),
        "decoder.heads": ("num_attention_heads", "attention heads", decoder.heads),
        "decoder.intermediate": ("intermediate_size", "intermediate size", decoder.intermediate),
    }
    return [
        (key, f"expected {what} {sizes[field]} as in decoder.pretrained {name}, found {found}")
        for key, (field, what, found) in wanted.items()
        if found is not None and sizes.get(field, found) != found
    ]


def _rough_flops(config: Mapping[str, Any]) -> float | None:
    pretrained = config["encoder.pretrained"]
    found = (pretrained_sizes(pretrained) or BASE_SIZES) if pretrained else {}
    kind = config["decoder.kind"]
    sizes = Sizes(
        hidden=found.get("hidden_size", config["model.hidden"]),
        encoder_layers=found.get("num_hidden_layers", config["encoder.layers"]),
        encoder_intermediate=found.get("intermediate_size", config["encoder.intermediate"]),
        decoder_layers=config["decoder.layers"],
        decoder_intermediate=config["decoder.intermediate"],
        vocabulary=config["decoder.words"] if kind == "set" else found.get("vocab_size", config["data.vocabulary"]),
    )
    outputs = {"sequence": NAME_TOKENS, "parallel": config["data.output_tokens"], "set": 1}[kind]
    logits = 1 if kind == "set" else NAME_TOKENS
    train, other = SAMPLES.get(config["data.corpus"], UNKNOWN_SAMPLES)
    train = min(train, config["data.train_samples"] or train)
    validation = min(other, config["data.validation_samples"] or other)
    test = min(other, config["data.test_samples"] or other)
    batch: int = config["training.batch_samples"]
    steps: int = config["training.max_steps"] or math.ceil(config["training.epochs"] * math.ceil(train / batch))
    scored: int = validation + min(train, config["evaluation.train_samples"] or 0)
    evaluated: int = (
        scored * (math.ceil(steps / config["evaluation.every_steps"]) + config["evaluation.at_start"]) + test
    )
    one: float = forward_flops(sizes, 1, config["data.input_tokens"], outputs, logits)
    again = one - encoder_flops(sizes, 1, config["data.input_tokens"]) if kind == "sequence" else 0.0  # generated
    return 3 * one * steps * batch + (one + again) * evaluated


def _check_shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    hidden, pretrained = config["model.hidden"], config["encoder.pretrained"]
    sizes = pretrained_sizes(pretrained) if pretrained else None
    if sizes:
        hidden = sizes["hidden_size"]
        if config["data.input_tokens"] > positions_of(sizes):
            yield (
                "data.input_tokens",
                (
                    f"expected at most {positions_of(sizes)}, the positions of {pretrained}, "
                    f"found {config['data.input_tokens']}"
                ),
            )
    elif not pretrained and hidden % config["encoder.heads"]:
        yield "encoder.heads", f"{config['encoder.heads']} heads do not divide the hidden size {hidden}"
    if (sizes or not pretrained) and hidden % config["decoder.heads"]:
        yield "decoder.heads", f"{config['decoder.heads']} heads do not divide the hidden size {hidden}"
    start = pretrained_sizes(config["decoder.pretrained"]) if config["decoder.pretrained"] else None
    if start:
        yield from warm_start_problems(start, hidden if sizes or not pretrained else None, Config.from_flat(config))


def _check_kind(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind, cache, causal = config["decoder.kind"], config["evaluation.cache"], config["evaluation.causal"]
    if not causal and cache:
        yield (
            "evaluation.causal",
            "without the mask, cached positions would be out of date: set evaluation.cache to false",
        )
    for key, value in (("evaluation.cache", cache), ("evaluation.causal", causal)):
        if kind != "sequence" and not value:
            yield key, f"decoder.kind {kind} generates no sequence: leave it true"
    if kind == "set" and config["training.label_smoothing"]:
        found = config["training.label_smoothing"]
        yield "training.label_smoothing", f"expected 0 with decoder.kind set: a word is there or not; found {found}"


def _check_sources(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    corpus, pretrained = config["data.corpus"], config["encoder.pretrained"]
    if corpus == "python-packages" and not config["data.packages"]:
        yield "data.packages", "corpus python-packages needs the names of installed packages, found none"
    if corpus == "java-small" and not config["data.path"]:
        yield "data.path", "corpus java-small needs the path of its folder or archive, found null"
    if config["data.sha256"] is not None:
        if corpus != "java-small":
            yield "data.sha256", f"only corpus java-small comes from an archive, found corpus {corpus}"
        elif not re.fullmatch(r"[0-9A-Fa-f]{64}", config["data.sha256"]):
            yield "data.sha256", f"expected 64 hexadecimal digits, found {config['data.sha256']!r}"
    if corpus == "huggingface" and not (config["data.dataset"] or config["data.path"]):
        yield "data.dataset", "corpus huggingface needs data.dataset (a hub name) or data.path (a local folder)"
    if (config["data.encoding"] == "pretrained") != bool(pretrained):
        yield (
            "data.encoding",
            (
                "a pretrained encoder needs its own tokenizer: set data.encoding to pretrained"
                if pretrained
                else "encoding pretrained needs encoder.pretrained, found null"
            ),
        )
