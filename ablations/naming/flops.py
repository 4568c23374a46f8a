"""Floating-point operations of the model, counted from its sizes. The stdlib alone.

Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 1: a matrix product of (m, k) by (k, n)
counts 2mkn; a training step three forward passes. Softmax, normalisation, activations and the optimizer are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    return (
        encoder_flops(sizes, samples, input_tokens)
        + decoder_flops(sizes, samples, input_tokens, output_tokens)
        + 2.0 * sizes.hidden * sizes.vocabulary * logits
    )


def encoder_flops(sizes: Sizes, samples: int, input_tokens: int) -> float:
    """Operations of the encoder over ``(samples, input_tokens)``."""
    h = sizes.hidden
    per_token = 8 * h * h + 4 * input_tokens * h + 4 * h * sizes.encoder_intermediate
    return float(sizes.encoder_layers * samples * input_tokens * per_token)


def decoder_flops(sizes: Sizes, samples: int, input_tokens: int, output_tokens: int) -> float:
    """Operations of the decoder's layers over ``(samples, output_tokens)``, cross-attention included.

    The same for teacher forcing and for generation with a key-value cache, which computes each position once.
    """
    h = sizes.hidden
    per_output = 12 * h * h + 4 * (output_tokens + input_tokens) * h + 4 * h * sizes.decoder_intermediate
    per_input = 4 * h * h  # keys and values of the cross-attention
    return float(sizes.decoder_layers * samples * (output_tokens * per_output + input_tokens * per_input))


def generation_flops(sizes: Sizes, samples: int, input_tokens: int, generated: int, cache: bool) -> float:
    """Operations of generating ``(samples, generated)`` tokens; without a cache each step computes all so far anew."""
    if cache:
        return forward_flops(sizes, samples, input_tokens, generated, samples * generated)
    steps = sum(decoder_flops(sizes, samples, input_tokens, tokens) for tokens in range(1, generated + 1))
    outputs = 2.0 * sizes.hidden * sizes.vocabulary * samples * generated
    return encoder_flops(sizes, samples, input_tokens) + steps + outputs
