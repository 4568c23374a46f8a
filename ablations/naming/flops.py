"""Floating-point operations of the model, counted from its sizes. The stdlib alone.

Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 1: a matrix product of (m, k) by (k, n)
counts 2mkn; a training step three forward passes. Softmax, normalisation, activations and the optimizer are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """What the count depends on: widths in units, layers, vocabulary in tokens."""

    hidden: int
    encoder_layers: int
    encoder_intermediate: int
    decoder_layers: int
    decoder_intermediate: int
    vocabulary: int


def forward_flops(sizes: Sizes, samples: int, input_tokens: int, output_tokens: int, logits: int) -> float:
    """Operations of one forward pass over a padded batch.

    Args:
        sizes: Of the model.
        samples: In the batch.
        input_tokens: Padded length of the bodies.
        output_tokens: Padded length of the names.
        logits: Positions at which the output layer is computed, in all.
    """
    layers = encoder_flops(sizes, samples, input_tokens) + decoder_flops(sizes, samples, input_tokens, output_tokens)
    return float(layers + 2.0 * sizes.hidden * sizes.vocabulary * logits)


def real_flops(sizes: Sizes, inputs: Any, positions: Any, logits: Any) -> float:
    """Operations of one forward pass over sequences without padding.

    Args:
        sizes: Of the model.
        inputs: Tokens of each body, a numpy array ``(samples,)``.
        positions: Of the decoder for each sample, likewise.
        logits: Positions at which the output layer is computed, likewise.
    """
    layers = encoder_flops(sizes, 1, inputs) + decoder_flops(sizes, 1, inputs, positions)
    return float((layers + 2.0 * sizes.hidden * sizes.vocabulary * logits).sum())


def encoder_flops(sizes: Sizes, samples: int, input_tokens: Any) -> Any:
    """Operations of the encoder over ``(samples, input_tokens)``; for an array of lengths an array of them."""
    h = sizes.hidden
    per_token = 8 * h * h + 4 * input_tokens * h + 4 * h * sizes.encoder_intermediate
    return float(sizes.encoder_layers * samples) * input_tokens * per_token


def decoder_flops(sizes: Sizes, samples: int, input_tokens: Any, output_tokens: Any) -> Any:
    """Operations of the decoder's layers, cross-attention included, over ``(samples, output_tokens)``; so of arrays."""
    h = sizes.hidden
    per_output = 12 * h * h + 4 * (output_tokens + input_tokens) * h + 4 * h * sizes.decoder_intermediate
    per_input = 4 * h * h  # keys and values of the cross-attention
    return float(sizes.decoder_layers * samples) * (output_tokens * per_output + input_tokens * per_input)


def steps_flops(sizes: Sizes, input_tokens: int, steps: Sequence[int]) -> float:
    """Operations of generating with a key-value cache, behind the first token; the body's keys and values are there.

    Args:
        sizes: Of the model.
        input_tokens: Padded length of the bodies.
        steps: Samples that take each step.
    """
    h, total = sizes.hidden, 0.0
    for seen, samples in enumerate(steps, start=2):
        layer = 12 * h * h + 4 * (seen + input_tokens) * h + 4 * h * sizes.decoder_intermediate
        total += samples * (sizes.decoder_layers * layer + 2 * h * sizes.vocabulary)
    return total


def regeneration_flops(sizes: Sizes, input_tokens: int, steps: Sequence[int]) -> float:
    """Operations of generating without a cache: each of ``steps`` computes all positions so far anew."""
    head = 2.0 * sizes.hidden * sizes.vocabulary
    return float(
        sum(
            decoder_flops(sizes, samples, input_tokens, seen) + head * samples
            for seen, samples in enumerate(steps, start=1)
        )
    )
