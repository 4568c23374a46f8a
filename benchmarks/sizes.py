"""The sizes of model that the benchmarks of speed share, all on Python's standard library: every machine has that."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ablations.naming.config import Config
from ablations.naming.data import Encoded, load_data
from ablations.naming.experiment import cache_dir
from ablations.study import load_study

STUDY = Path(__file__).resolve().parent.parent / "study.yaml"
GPU: dict[str, Any] = {"training.precision": "bf16", "data.output_tokens": 10, "data.keywords": True,
                       "training.max_steps": None, "evaluation.batch_samples": 256}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "small": GPU | {  # 45 M parameters
        "model.hidden": 512, "encoder.layers": 6, "encoder.heads": 8, "encoder.intermediate": 2048,
        "decoder.layers": 4, "decoder.heads": 8, "decoder.intermediate": 1024, "training.batch_samples": 32,
        "data.input_tokens": 128, "encoder.dropout": 0.1, "decoder.dropout": 0.1,
    },
    "reference": GPU | {  # CodeBERT's sizes and the study's decoder; the weights are drawn, not downloaded
        "model.hidden": 768, "encoder.layers": 12, "encoder.heads": 12, "encoder.intermediate": 3072,
        "decoder.layers": 4, "decoder.heads": 4, "decoder.intermediate": 1024, "training.batch_samples": 128,
        "data.input_tokens": 128, "encoder.dropout": 0.1, "decoder.dropout": 0.1, "encoder.attention_dropout": 0.1,
        "decoder.attention_dropout": 0.1, "model.share_embeddings": False, "training.learning_rate": 5e-5,
    },
}  # fmt: skip
VOCABULARY = {"small": 32_000, "reference": 50_265}  # rows of the embeddings; the data use the first 8,000


def sized(size: str, input_tokens: int | None = None, **changes: Any) -> tuple[Config, Encoded]:
    """Config and data of a size.

    Args:
        size: One of ``SIZES``.
        input_tokens: In place of the size's own.
        changes: Further ones, with ``__`` for the dot in a key.
    """
    flat = dict(load_study(STUDY, "cpu").baseline) | SIZES[size]
    flat |= {key.replace("__", "."): value for key, value in changes.items()}
    if input_tokens is not None:
        flat["data.input_tokens"] = input_tokens
    config = Config.from_flat({key: value for key, value in flat.items() if key != "seed"})
    data = load_data(config, cache_dir())
    return config, dataclasses.replace(data, vocabulary_size=VOCABULARY.get(size, data.vocabulary_size))
