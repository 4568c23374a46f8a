"""The recipe that users would write for the reference experiment, to compare with.

Transformers' ``EncoderDecoderModel`` and ``Seq2SeqTrainer``: every sample padded to the maximum beforehand, batches at
random, generation without a key-value cache. The weights are those of our model, copied: same sizes, same start.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import EncoderDecoderConfig, EncoderDecoderModel, Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.utils import logging

from ablations.naming.batches import make_batch
from ablations.naming.config import Config
from ablations.naming.data import Encoded, Split
from ablations.naming.heads import NamingModel
from ablations.naming.metrics import score
from ablations.naming.optimisation import autocast

IGNORED = -100  # label of padding, as Transformers has it
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
logging.set_verbosity_error()


class Padded(Dataset):
    """A split, every sample padded to the maximum."""

    def __init__(self, split: Split, data: Encoded, config: Config):
        widths = (config.data.input_tokens, config.data.output_tokens)
        batch = make_batch(split, np.arange(len(split)), data.specials.pad, data.specials.bos, widths)
        self.inputs, self.mask = torch.from_numpy(batch.inputs), torch.from_numpy(batch.mask)
        self.labels = torch.from_numpy(np.where(batch.real, batch.labels, IGNORED))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[row], "attention_mask": self.mask[row], "labels": self.labels[row]}


def as_encoder_decoder(model: NamingModel, data: Encoded, config: Config) -> EncoderDecoderModel:
    """A copy of our model as Transformers' own class; embeddings that are tied stay so."""
    parts = copy.deepcopy(torch.nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder}))
    sizes = EncoderDecoderConfig.from_encoder_decoder_configs(parts["encoder"].config, parts["decoder"].config)
    special = data.specials
    sizes.pad_token_id, sizes.decoder_start_token_id, sizes.eos_token_id = special.pad, special.bos, special.eos
    whole = EncoderDecoderModel(config=sizes, encoder=parts["encoder"], decoder=parts["decoder"])
    generation = whole.generation_config
    generation.use_cache, generation.max_new_tokens = False, config.data.output_tokens
    generation.pad_token_id, generation.eos_token_id = special.pad, special.eos
    generation.bos_token_id = generation.decoder_start_token_id = special.bos
    return whole


class _Between(TrainerCallback):
    def __init__(self, between: Callable[[int], None]):
        self._between = between

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._between(state.global_step)


@dataclass
class Recipe:
    """A run by the recipe.

    Args:
        model: Ours: its weights are copied.
        data: The data of the run.
        config: The experiment's config.
        steps: Optimizer steps.
        seed: Of the order of the samples.
        device: Where to compute.
    """

    model: NamingModel
    data: Encoded
    config: Config
    steps: int
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        training, self._folder = self.config.training, tempfile.TemporaryDirectory()
        with autocast(training, self.device):
            half = torch.is_autocast_enabled(self.device.type)
        self.whole = as_encoder_decoder(self.model, self.data, self.config)
        arguments = Seq2SeqTrainingArguments(
            output_dir=self._folder.name,
            max_steps=self.steps,
            per_device_train_batch_size=training.batch_samples,
            per_device_eval_batch_size=training.batch_samples,
            learning_rate=training.learning_rate,
            lr_scheduler_type=training.schedule,
            warmup_steps=training.warmup_steps,
            weight_decay=training.weight_decay,
            adam_beta1=training.adam_beta1,
            adam_beta2=training.adam_beta2,
            max_grad_norm=training.gradient_clip or 0.0,
            bf16=half,
            use_cpu=self.device.type == "cpu",
            predict_with_generate=True,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=self.seed,
            data_seed=self.seed,
        )
        self.trainer = Seq2SeqTrainer(
            model=self.whole,
            args=arguments,
            train_dataset=Padded(self.data.train, self.data, self.config),
            compute_metrics=lambda _: {},
        )
        self.trainer.remove_callback(PrinterCallback)

    def train(self, between: Callable[[int], None] = lambda step: None) -> list[float]:
        """Trains; returns the mean loss of every 10 steps.

        Args:
            between: Called with the steps taken after each of them.
        """
        self.trainer.add_callback(_Between(between))
        self.trainer.train()
        return [entry["loss"] for entry in self.trainer.state.log_history if "loss" in entry]

    def evaluate(self, split: Split, size: int) -> dict[str, float]:
        """The loss of a split and the metrics of the generated names, in batches of a size."""
        self.trainer.args.per_device_eval_batch_size = size
        found = self.trainer.predict(Padded(split, self.data, self.config))
        names = np.where(found.predictions == IGNORED, self.data.specials.pad, found.predictions)[:, 1:]
        words = [self.data.decode(_until(name, self.data.specials.eos)) for name in names.tolist()]
        scores = {name: float(np.mean(values)) for name, values in score(split.targets, words).items()}
        return scores | {"loss": found.metrics["test_loss"]}

    @torch.inference_mode()
    def generate(self, split: Split, size: int) -> list[list[str]]:
        """The generated names of a split, in its order, in batches of a size."""
        padded, names = Padded(split, self.data, self.config), list[list[int]]()
        self.whole.eval()
        for at in range(0, len(split), size):
            inputs, mask = (each[at : at + size].to(self.device) for each in (padded.inputs, padded.mask))
            with autocast(self.config.training, self.device):
                names += self.whole.generate(input_ids=inputs, attention_mask=mask)[:, 1:].tolist()
        return [self.data.decode(_until(name, self.data.specials.eos)) for name in names]


def as_delivered() -> None:
    """PyTorch as users have it: not held to kernels that repeat, attention by what it deems fastest."""
    torch.use_deterministic_algorithms(mode=False)
    torch.backends.cuda.enable_cudnn_sdp(enabled=True)


def _until(name: list[int], end: int) -> list[int]:
    return name[: name.index(end)] if end in name else name


def first_loss(recipe: Recipe, rows: Any) -> float:
    """Mean loss of some training samples, padded to the maximum, without dropout: to compare with ours."""
    padded = Padded(recipe.data.train, recipe.data, recipe.config)
    recipe.whole.eval()
    with torch.inference_mode(), autocast(recipe.config.training, recipe.device):
        batch = {name: torch.stack([padded[row][name] for row in rows]).to(recipe.device) for name in padded[0]}
        return float(recipe.whole(**batch).loss)
