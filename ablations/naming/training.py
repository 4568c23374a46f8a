"""Training, validation and test of one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ablations.errors import Diverged
from ablations.naming.batches import make_batch, steps_of, training_order
from ablations.naming.checkpoints import Best
from ablations.naming.config import Config
from ablations.naming.cost import Cost
from ablations.naming.data import Encoded
from ablations.naming.evaluation import Evaluated, evaluate, fixed_widths
from ablations.naming.model import model_for
from ablations.naming.optimisation import learning_rate, make_optimizer, train_step
from ablations.plan import seed_for

Log = Callable[[str, float, int], None]  # metric, value, step
LOG_EVERY_STEPS_CUDA = 10  # losses stay on the device so long: reading one waits for it


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
        cost.add_step(batch, 3 * model.loss_flops(batch))
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
    return Outcome(scores, test, best.step, cost.totals(model, steps, device))


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
