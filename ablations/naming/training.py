"""Training, validation and test of one run."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablations.errors import Diverged
from ablations.naming.batches import Batch, evaluation_order, make_batch, steps_of, training_order
from ablations.naming.config import Config, Training
from ablations.naming.data import Encoded, Split
from ablations.naming.metrics import score
from ablations.naming.model import NamingModel, model_for, parameter_count
from ablations.plan import seed_for

Log = Callable[[str, float, int], None]  # metric, value, step
LOG_EVERY_STEPS_CUDA = 10  # losses stay on the device so long: reading one waits for it


@dataclass(frozen=True)
class Evaluated:
    """A split scored by one model.

    Attributes:
        scores: Mean of each metric over the samples, and ``loss``: mean cross-entropy per token, nats.
        per_sample: Each metric of each sample, ``(samples,)`` in the split's order.
        predictions: The predicted words of each sample.
    """

    scores: dict[str, float]
    per_sample: dict[str, list[float]]
    predictions: list[list[str]]


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        scores: ``validation_*`` and ``test_*`` at the selected checkpoint.
        test: The test split, sample by sample.
        selected_step: Optimizer step of that checkpoint.
        cost: Parameters, FLOPs, steps, seconds, memory.
    """

    scores: dict[str, float]
    test: Evaluated
    selected_step: int
    cost: dict[str, float]


@dataclass
class Cost:
    """Running totals of one run."""

    flops: float = 0.0
    tokens: int = 0
    samples: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "test": 0.0})

    @contextlib.contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Adds the wall time of its block to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


def train(config: Config, data: Encoded, seed: int, device: torch.device, log: Log) -> Outcome:
    """Trains one model, selects its best checkpoint on validation and tests that one, once.

    Args:
        config: The experiment's config.
        data: Encoded splits.
        seed: The run's seed: initialisation, order and dropout derive from it.
        device: Where to compute.
        log: Called with (metric, value, step) as values are measured.

    Raises:
        Diverged: The loss or the gradient is not finite.
    """
    special = data.specials
    model = model_for(config, data, seed).to(device)
    optimizer = make_optimizer(model, config.training, device)
    steps = steps_of(len(data.train), config.training.batch_samples, config.training.epochs, config.training.max_steps)
    order = training_order(data.train.input_lengths_uncut, config.training.batch_samples, steps, seed)
    journal = Journal(log, 1 if device.type == "cpu" else LOG_EVERY_STEPS_CUDA)
    cost, best = Cost(), Best(config.evaluation.select_by)
    dropout_seed = seed_for("dropout", seed) % 2**31
    log("steps", steps, 0)

    for step, rows in enumerate(order, start=1):
        validates = step % config.evaluation.every_steps == 0 or step == steps
        with cost.clock("training"):
            batch = make_batch(data.train, rows, special.pad, special.bos, fixed_widths(config))
            torch.manual_seed(dropout_seed + step)
            rate = learning_rate(step, steps, config.training)
            loss, norm = train_step(model, optimizer, batch, rate, config, device)
            journal.add(step, loss, norm, rate, int(batch.mask.sum() + batch.real.sum()))
            if validates:
                journal.flush()  # waits for the device, so that its time is counted as training
        _count(cost, batch, 3 * model.loss_flops(batch))
        if validates:
            with cost.clock("evaluation"):
                validation = evaluate(model, data, data.validation, config, device, cost)
            for name, value in validation.scores.items():
                log(f"validation_{name}", value, step)
            best.offer(step, validation.scores, model)

    best.restore(model)
    with cost.clock("test"):
        test = evaluate(model, data, data.test, config, device, cost)
    scores = {f"validation_{name}": value for name, value in best.scores.items()}
    scores |= {f"test_{name}": value for name, value in test.scores.items()}
    return Outcome(scores, test, best.step, _totals(cost, model, steps, device))


def fixed_widths(config: Config) -> tuple[int, int] | None:
    """Lengths to pad to where padding is ``maximum``, else None."""
    return (config.data.input_tokens, config.data.output_tokens) if config.training.padding == "maximum" else None


# -- one step -------------------------------------------------------------------------------------------------


def make_optimizer(model: nn.Module, training: Training, device: torch.device) -> torch.optim.Optimizer:
    """AdamW whose weight decay leaves biases and normalisation gains alone (as Transformers' Trainer does).

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (training.adam_beta1, training.adam_beta2)
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=betas, eps=1e-8, fused=True)


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Learning rate of a step, 1-based: linear warm-up, then the schedule, which reaches 0 after the last step."""
    warmup = training.warmup_steps
    if step <= warmup:
        return training.learning_rate * step / warmup
    done = (step - 1 - warmup) / max(1, steps - warmup)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return training.learning_rate * factor[training.schedule]


def train_step(
    model: NamingModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: Config,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """One optimizer step; returns the loss and the gradient's norm before clipping, scalars on the device."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    with autocast(config.training, device):
        total, count = model.loss(model.tensors(batch, device), config.training.label_smoothing)
    loss = total / count
    loss.backward()  # type: ignore[no-untyped-call]
    limit = config.training.gradient_clip
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit if limit is not None else math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), norm.detach()


def autocast(training: Training, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The precision of a forward pass: bf16 where asked for, or where ``auto`` finds a device that is fast at it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if training.precision == "bf16" or (training.precision == "auto" and automatic):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


class Journal:
    """Logs the steps' values, a few steps at a time where reading them makes the device wait."""

    def __init__(self, log: Log, every: int):
        self._log, self._every = log, every
        self._steps: list[tuple[int, Tensor, Tensor, float, int]] = []
        self._since = time.perf_counter()

    def add(self, step: int, loss: Tensor, norm: Tensor, rate: float, tokens: int) -> None:
        """Takes a step's loss and gradient norm (scalars on the device), learning rate and real tokens."""
        self._steps.append((step, loss, norm, rate, tokens))
        if len(self._steps) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Writes what it holds.

        Raises:
            Diverged: A loss or a gradient norm is not finite.
        """
        if not self._steps:
            return
        values = torch.stack([torch.stack([loss, norm.to(loss)]) for _, loss, norm, _, _ in self._steps]).tolist()
        elapsed_s = time.perf_counter() - self._since
        tokens_per_s = sum(tokens for *_, tokens in self._steps) / elapsed_s
        for (step, _, _, rate, _), (loss, norm) in zip(self._steps, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(f"step {step}: loss {loss}, gradient norm {norm}, learning rate {rate:.3g}")
            self._log("train_loss", loss, step)
            self._log("gradient_norm", norm, step)
            self._log("learning_rate", rate, step)
        self._log("tokens_per_s", tokens_per_s, self._steps[-1][0])
        self._steps.clear()
        self._since = time.perf_counter()


# -- checkpoints ----------------------------------------------------------------------------------------------


class Best:
    """The checkpoint with the best validation score so far; of equal ones, the earliest (method §7)."""

    def __init__(self, select_by: str):
        self.step = 0
        self.scores: dict[str, float] = {}
        self._name = select_by.removeprefix("validation_")
        self._weights: dict[str, Tensor] = {}

    def offer(self, step: int, scores: dict[str, float], model: nn.Module) -> None:
        """Keeps the model's weights if its validation scores are the best yet."""
        if self.step and not self._better(scores):
            return
        self.step, self.scores = step, scores
        self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def _better(self, scores: Mapping[str, float]) -> bool:
        if self._name == "last":
            return True
        new, old = scores[self._name], self.scores[self._name]
        return new < old if self._name == "loss" else new > old

    def restore(self, model: nn.Module) -> None:
        """Puts the kept weights back."""
        model.load_state_dict(self._weights)


# -- evaluation -----------------------------------------------------------------------------------------------


def evaluate(
    model: NamingModel, data: Encoded, split: Split, config: Config, device: torch.device, cost: Cost
) -> Evaluated:
    """Scores a split: teacher-forced loss, and the metrics of greedy decoding.

    Args:
        model: Put into evaluation mode.
        data: Gives special tokens and the way from ids to words.
        split: The samples.
        config: The experiment's config.
        device: Where to compute.
        cost: Its FLOPs are added to.
    """
    model.eval()
    loss_sum, losses = torch.zeros((), dtype=torch.float64, device=device), 0
    predictions: list[list[str]] = [[] for _ in range(len(split))]
    for rows in evaluation_order(split.input_lengths_uncut, config.evaluation.batch_samples):
        batch = make_batch(split, rows, data.specials.pad, data.specials.bos, fixed_widths(config))
        tensors = model.tensors(batch, device)
        with torch.inference_mode(), autocast(config.training, device):
            total, count = model.loss(tensors)
            names = model.predict(tensors.inputs, tensors.mask, config.data.output_tokens)
        loss_sum += total.double()
        losses += count
        for row, ids in zip(rows, names.cpu().tolist(), strict=True):
            predictions[row] = data.decode(ids)
        cost.flops += model.loss_flops(batch) + model.predict_flops(batch, names.shape[1])
    per_sample = score(split.targets, predictions)
    scores = {name: float(np.mean(values)) for name, values in per_sample.items()}
    return Evaluated(scores | {"loss": float(loss_sum) / losses}, per_sample, predictions)


def _count(cost: Cost, batch: Batch, flops: float) -> None:
    cost.flops += flops
    cost.tokens += int(batch.mask.sum() + batch.real.sum())
    cost.samples += len(batch.rows)


def _totals(cost: Cost, model: nn.Module, steps: int, device: torch.device) -> dict[str, float]:
    training_s = cost.seconds["training"]
    totals = {
        "parameters": parameter_count(model),
        "flops": cost.flops,
        "steps": steps,
        "samples_per_s": cost.samples / training_s,
        "tokens_per_s": cost.tokens / training_s,
    }
    if device.type == "cuda":
        totals["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return totals | {f"seconds_{part}": value for part, value in cost.seconds.items()}
