"""Matrices one above the other, in the precision of the products, and their gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EVEN = 16  # elements that kernels read at once at most


@dataclass(frozen=True)
class Stack:
    """Parameters one above the other, and rows of zeros behind them.

    Attributes:
        value: ``(rows, ...)``, what the parameters were when they were last taken over, or their optimizer left here;
            one alone that is of the right kind is its own stack.
        grad: Of the same shape and kind: whoever computes the product's overwrites all of it.
    """

    value: Tensor
    grad: Tensor


class Stacks:
    """All stacks of a model.

    Each step begins with :meth:`refresh` and ends with :meth:`collect`; what :meth:`leave` has left is brought into
    line by whoever has asked for them.

    Args:
        kind: Precision of the products.
    """

    def __init__(self, kind: torch.dtype):
        self._kind = kind
        self._copies: list[Tensor] = []
        self._parameters: list[Tensor] = []
        self._stacked: list[tuple[nn.Parameter, Tensor]] = []
        self._emptied: list[Tensor] = []

    def stack(self, parameters: Iterable[nn.Parameter], multiple: int = 1) -> Stack:
        """A new stack.

        Args:
            parameters: In their order.
            multiple: Of which the number of rows is to be one.
        """
        found = list(parameters)
        is_its_own = len(found) == 1 and self._is_its_own(found[0], multiple)
        value = found[0].detach() if is_its_own else self.copy(found, multiple)
        grad = torch.zeros_like(value)
        self._stacked += zip(found, torch.split(grad, _sizes(found, len(grad)))[:-1], strict=True)
        return Stack(value, grad)

    def _is_its_own(self, parameter: nn.Parameter, multiple: int) -> bool:
        return parameter.dtype == self._kind and is_even(parameter) and len(parameter) % multiple == 0

    def copy(self, parameters: Iterable[nn.Parameter], multiple: int = 1) -> Tensor:
        """As :meth:`stack`, for parameters whose gradients go another way: the values alone."""
        found = list(parameters)
        rows = sum(len(each) for each in found)
        shape = (rows + -rows % multiple, *found[0].shape[1:])
        value = torch.zeros(shape, dtype=self._kind, device=found[0].device)
        self._copies += torch.split(value, _sizes(found, len(value)))[:-1]
        self._parameters += found
        return value

    def gradient(self, parameter: nn.Parameter) -> Tensor:
        """Where to add what else there is to a parameter's gradient: in its stack, or in one that begins with zeros."""
        for each, grad in self._stacked:
            if each is parameter:
                return grad
        grad = torch.zeros_like(parameter, dtype=self._kind, memory_format=torch.contiguous_format)
        self._stacked.append((parameter, grad))
        self._emptied.append(grad)
        return grad

    def leave(self, parameters: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor, Tensor | None]]:
        """Leaves parameters to the caller from now on: returns each with its gradient here and the copy of its
        values, if there is one.

        Args:
            parameters: Those are left that are in one stack alone and :func:`is_even`.
        """
        wanted, often = set(parameters), Counter(each for each, _ in self._stacked)
        left = {each for each in wanted if often[each] == 1 and is_even(each)}
        copies = {each: copy for each, copy in zip(self._parameters, self._copies, strict=True) if each in left}
        found = [(each, grad, copies.get(each)) for each, grad in self._stacked if each in left]
        self.refresh()
        self._stacked = [pair for pair in self._stacked if pair[0] not in left]
        kept = [pair for pair in zip(self._parameters, self._copies, strict=True) if pair[0] not in left]
        self._parameters, self._copies = [each for each, _ in kept], [copy for _, copy in kept]
        return found

    def refresh(self) -> None:
        """Takes over the parameters' values, and empties what is only added to."""
        with torch.no_grad():
            if self._parameters:
                torch._foreach_copy_(self._copies, self._parameters)
            if self._emptied:
                torch._foreach_zero_(self._emptied)

    def collect(self) -> None:
        """Adds the stacks' gradients to those of the parameters, or lends them where there are none.

        Those that are lent are overwritten by the next step: nobody may have kept them.
        """
        new, sources = list[Tensor](), list[Tensor]()
        for parameter, grad in self._stacked:
            if parameter.grad is not None:
                parameter.grad.add_(grad)
            elif parameter.requires_grad and grad.dtype == parameter.dtype and parameter.is_contiguous():
                parameter.grad = grad
            elif parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
                new.append(parameter.grad)
                sources.append(grad)
        if new:
            torch._foreach_copy_(new, sources)


def is_even(parameter: nn.Parameter) -> bool:
    """Whether kernels can read it row after row, by vectors of ``EVEN`` elements."""
    return parameter.is_contiguous() and parameter.numel() % EVEN == 0


def _sizes(parameters: Sequence[nn.Parameter], rows: int) -> list[int]:
    sizes = [len(each) for each in parameters]
    return [*sizes, rows - sum(sizes)]


def give(parameter: nn.Parameter, grad: Tensor) -> None:
    """Adds a gradient to a parameter's; the tensor becomes the parameter's own."""
    if parameter.grad is not None:
        parameter.grad.add_(grad)
    elif parameter.requires_grad:
        parameter.grad = grad.reshape(parameter.shape).to(parameter)
