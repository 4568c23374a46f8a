"""The log that W&B keeps of an offline run (``run-<id>.wandb``): LevelDB's log format around protobuf messages.

Only what an import needs is read: the run, its config, history, summary and exit code. Field numbers are those of
wandb/proto/wandb_internal.proto (wandb 0.31), which never change once given.

Source: https://github.com/google/leveldb/blob/main/doc/log_format.md and
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ablations.importing.foreign import Damaged, plain

BLOCK = 32768
MAGIC = b":W&B"
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18  # of Record
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

Field = tuple[int, int | bytes]


@dataclass
class RunLog:
    """What a log says of its run.

    Attributes:
        run_id: W&B's id.
        name: The name that W&B shows.
        config: Nested.
        summary: Flat.
        history: A dict of values a step.
        exit_code: None where the run has not said that it ended.
        whole: Whether the log ends where a record ends.
    """

    run_id: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    whole: bool = True


def read_log(content: bytes) -> RunLog:
    """Reads a log as far as it goes: that of a killed run ends anywhere.

    Raises:
        Damaged: It is none.
    """
    if not content.startswith(MAGIC):
        raise Damaged(f"expected a log of W&B, which starts with {MAGIC.decode()}, found {content[:4]!r}")
    found = RunLog()
    try:
        for message in _messages(content):
            _take(found, message)
    except (ValueError, IndexError, struct.error):
        found.whole = False
    return found


def _messages(content: bytes) -> Iterator[bytes]:
    """Each logged message, put together where it spans blocks."""
    at, part = 7, b""
    while at + 7 <= len(content):
        room = BLOCK - at % BLOCK
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        data = content[at + 7 : at + 7 + length]
        if len(data) < length or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError("a record that is cut short")
        at += 7 + length
        part = data if kind in (_FULL, _FIRST) else part + data
        if kind in (_FULL, _LAST):
            yield part


def _fields(message: bytes) -> Iterator[Field]:
    """Number and value of each field of a message: varints as numbers, all else as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        length, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(message, at)
        if kind not in (1, 2, 5) or at + length > len(message):
            raise ValueError("no message")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("no number")


def _take(found: RunLog, message: bytes) -> None:
    for number, value in _fields(message):
        if not isinstance(value, bytes):
            continue
        if number == _RUN:
            _take_run(found, value)
        elif number == _CONFIG:
            _update(found.config, value)
        elif number == _SUMMARY:
            _update(found.summary, value)
        elif number == _HISTORY:
            found.history.append(_step(value))
        elif number == _EXIT:
            codes = [each for code, each in _fields(value) if code == 1 and isinstance(each, int)]
            found.exit_code = codes[0] if codes else 0


def _take_run(found: RunLog, message: bytes) -> None:
    for number, value in _fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            found.run_id = value.decode("utf-8", "replace")
        elif number == 8:
            found.name = value.decode("utf-8", "replace")
        elif number == 4:
            _update(found.config, value)


def _update(target: dict[str, Any], message: bytes) -> None:
    """Takes the updated and removed items of a config or summary."""
    for number, value in _fields(message):
        if isinstance(value, bytes) and number in (1, 2):
            path, content = _item(value)
            inner = target
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
                if not isinstance(inner, dict):
                    return
            if number == 1 and path:
                inner[path[-1]] = content
            elif path:
                inner.pop(path[-1], None)


def _step(message: bytes) -> dict[str, Any]:
    items = [_item(value) for number, value in _fields(message) if number == 1 and isinstance(value, bytes)]
    return {".".join(path): content for path, content in items}


def _item(message: bytes) -> tuple[list[str], Any]:
    """Path and value of an item; the value is JSON, or has a field of its type's own."""
    key, nested, content = "", [], None
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            key = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes):
            nested.append(value.decode("utf-8", "replace"))
        elif number in (8, 16) and isinstance(value, bytes):
            content = plain(json.loads(value))
        elif number == 7 and isinstance(value, bytes):
            content = value.decode("utf-8", "replace")
        elif number == 6 and isinstance(value, bytes):
            content = struct.unpack("<d", value)[0]
        elif number == 5 and isinstance(value, int):
            content = (value >> 1) ^ -(value & 1)  # zigzag, of sint64
        elif number == 4:
            content = bool(value)
    return ([key] if key else nested), content
