"""Signals that ask a run to stop: obeyed at once, at the next safe point, or noted while something is written.

Handlers belong to a process, so their state does, too. Outside of :func:`noted` nothing here has an effect: whoever
trains without a runner is stopped as Python would.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal that asks the run to end, as an exception that unwinds it; says which signal it was."""


@dataclass
class _State:
    """What was asked for, and what is done about it just now."""

    mode: Literal["note", "heed", "wait"] = "note"
    asked: str = ""  # the newest signal that nobody has obeyed yet
    count: int = 0


_state = _State()


def _on_signal(signum: int, frame: object) -> None:
    _state.asked, _state.count = signal.Signals(signum).name, _state.count + 1
    if _state.mode == "heed" or (_state.mode == "wait" and _state.count > 1):
        _obey()


def _obey() -> None:
    asked, _state.asked = _state.asked, ""
    raise Stopped(asked)


@contextmanager
def noted() -> Iterator[None]:
    """Signals that ask to stop do nothing inside, except within :func:`heeded`; one that is left over stops at the end.

    A signal that the process was started to ignore (``nohup``) stays ignored.

    Raises:
        Stopped: At the end, where a signal came too late for any block that heeds it.
    """
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield
        return
    _state.mode, _state.asked, _state.count = "note", "", 0
    heard = [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, _on_signal) for each in heard}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if _state.asked:
        _obey()


@contextmanager
def heeded() -> Iterator[None]:
    """A signal inside raises :class:`Stopped` at once, however often it comes."""
    with _mode("heed"):
        if _state.asked:
            _obey()
        yield


@contextmanager
def at_safe_points() -> Iterator[Callable[[], bool]]:
    """The first signal inside waits for a safe point, a second one raises :class:`Stopped` at once.

    Yields:
        Whether to stop: whoever asks has reached a safe point, and raises what :func:`stop` raises.
    """
    with _mode("wait" if _state.mode == "heed" else _state.mode):
        yield lambda: bool(_state.asked)
    if _state.asked and _state.mode == "heed":
        _obey()


def told() -> bool:
    """Whether a signal has asked this run to stop, obeyed yet or not."""
    return _state.count > 0


def stop() -> None:
    """Obeys the signal that waits.

    Raises:
        Stopped: Always.
    """
    _obey()


@contextmanager
def _mode(mode: Literal["note", "heed", "wait"]) -> Iterator[None]:
    before, _state.mode = _state.mode, mode
    try:
        yield
    finally:
        _state.mode = before
