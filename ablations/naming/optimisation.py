"""The optimizer, its learning rate and one step of it."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

import torch
from torch import Tensor, nn

from ablations.naming.config import Config, Training
from ablations.naming.heads import NamingModel, Tensors

REPEATABLE = "ABLATIONS_REPEATABLE"  # 0: on a GPU, operations without a repeatable kernel are taken nevertheless


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


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate; where it lies on the device, a recorded step reads it from there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def seed_dropout(seed: int, device: torch.device) -> None:
    """As ``torch.manual_seed``, which takes longer, for what a step on a device draws from.

    Args:
        seed: 0 to 2**64 - 1.
        device: Where the step is computed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def train_step(
    model: NamingModel,
    optimizer: torch.optim.Optimizer,
    batch: Tensors,
    rate: float,
    config: Config,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """One optimizer step; returns the loss and the gradient's norm before clipping, scalars on the device."""
    model.train()
    set_rate(optimizer, rate)
    with autocast(config.training, device):
        total, count = model.loss(batch, config.training.label_smoothing)
    loss = total / count
    loss.backward()  # type: ignore[no-untyped-call]
    limit = config.training.gradient_clip
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit if limit is not None else math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), norm.detach()


def compute_repeatably(device: torch.device) -> None:
    """Has PyTorch use kernels that give the same numbers each time, for the rest of the process.

    Attention by cuDNN is none of them, and would plan anew for every length.

    Args:
        device: Where to compute.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA's matrix products refuse to repeat
    torch.use_deterministic_algorithms(True, warn_only=os.environ.get(REPEATABLE) == "0")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads memory before it is written
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


def autocast(training: Training, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The precision of a forward pass: bf16 where asked for, or where ``auto`` finds a device that is fast at it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if training.precision == "bf16" or (training.precision == "auto" and automatic):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def is_half(training: Training, device: torch.device) -> bool:
    """Whether products are computed in bf16."""
    with autocast(training, device):
        return torch.is_autocast_enabled(device.type)
