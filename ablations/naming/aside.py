"""Work on a GPU that nothing waits for until the end: beside all else, on a stream of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch

HELD = 8  # pieces of work whose inputs are kept at once: about those of a layer


class Aside:
    """Fills what the other work leaves idle: ends of kernels that no longer fill a GPU, and gaps between kernels.

    On a CPU all is done at once. Numbers do not depend on what is done beside what.

    Args:
        device: Where to compute.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._held: deque[tuple[Any, tuple[Any, ...]]] = deque()

    def do(self, compute: Callable[[], None], *inputs: Any) -> None:
        """Has something computed behind what has been asked for until now.

        Args:
            compute: Allocates its results itself, or writes to what nothing else touches before :meth:`join`.
            inputs: What it reads: kept until it is done, so that nobody writes there meanwhile.
        """
        if self._stream is None:
            compute()
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            compute()
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        self._held.append((done, inputs))
        if len(self._held) > HELD:
            self._held.popleft()[0].wait()

    def join(self) -> None:
        """Has what follows wait for all of it."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        self._held.clear()

    def forget(self) -> None:
        """Forgets what was to be done, where a recording was broken off."""
        self._held.clear()
