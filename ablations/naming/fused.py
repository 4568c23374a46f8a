"""What lies between the matrix products of a layer, each as one kernel forwards and one backwards.

On a GPU by Triton, which comes with PyTorch there and needs a C compiler; elsewhere, and without it, by PyTorch's own
operations, which compute the same but for the random numbers of dropout.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

from torch import Tensor, nn

INTERPRETED = "TRITON_INTERPRET"  # 1: Triton's kernels run on a CPU, slowly: that is how tests compare them


@functools.cache
def kernels(device: str) -> Any:
    """The module of Triton's kernels where they can run on this type of device, else None."""
    if importlib.util.find_spec("triton") is None:
        return None
    if device != "cuda" and not (device == "cpu" and os.environ.get(INTERPRETED) == "1"):
        return None
    try:
        from ablations.naming import _kernels

        _kernels.try_out(device)
    except Exception:  # no C compiler, a GPU that this Triton does not know: many libraries' own errors
        return None
    return _kernels


def add_norm(
    states: Tensor, bias: Tensor, residual: Tensor, norm: nn.LayerNorm, dropout: float, seed: Tensor, site: int
) -> Tensor:
    """``norm(dropout(states + bias) + residual)``, in the residual's precision, computed in float32.

    Args:
        states: What a product left, ``(tokens, width)``.
        bias: Of that product, ``(width,)``, float32.
        residual: ``(tokens, width)``.
        norm: Weight and bias in float32.
        dropout: Probability, 0 to 1.
        seed: Of the step, int64, ``(1,)``, on the device.
        site: Which of the step's calls this is: each draws other numbers.
    """
    found = kernels(states.device.type)
    if found is not None:
        result: Tensor = found.AddNorm.apply(
            states, bias, residual, norm.weight, norm.bias, norm.eps, dropout, seed, site
        )
        return result
    whole = nn.functional.dropout(states.float() + bias, dropout) + residual
    return nn.functional.layer_norm(whole, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(residual)


def gelu(states: Tensor, bias: Tensor) -> Tensor:
    """``gelu(states + bias)``, the exact one (by erf), in the states' precision, computed in float32.

    Args:
        states: What a product left, ``(tokens, width)``.
        bias: Of that product, ``(width,)``, float32.
    """
    found = kernels(states.device.type)
    if found is not None:
        result: Tensor = found.Gelu.apply(states, bias)
        return result
    return nn.functional.gelu(states.float() + bias).to(states)
