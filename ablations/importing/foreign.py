"""A run that another tool made, and how its files are read: as plain values, of bounded size, nothing unpickled."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.errors import visible
from ablations.secrets import without_credentials

MAX_BYTES = 64 * 2**20  # of one file; what is larger is no description of a run
LONGEST_TEXT = 1000  # characters of a parameter's value
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None, "": None}
_PACKED = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "i2": "<h", "i1": "<b", "u8": "<Q", "u4": "<I",
           "u2": "<H", "u1": "<B", "b1": "<?"}  # fmt: skip

Point = tuple[str, int, float, float | None]


class Damaged(Exception):
    """A file that does not hold what it should; the text says what it holds."""


@dataclass(frozen=True)
class ForeignRun:
    """A run as another tool recorded it.

    Attributes:
        tool: Sacred, MLflow, W&B or CSV.
        source: Name of the folder or file that was imported.
        run: What the tool calls the run.
        name: A name for people; empty for none.
        config: Flat, plain values.
        scores: Metric to its last value, or what the run returned; not finite where the run said so.
        status: ``completed``, ``failed``, ``diverged`` or ``running``.
        error: Why it failed: kind and message; empty where it did not, or nobody knows.
        points: (metric, step, value, seconds since the start or None), in the order of the files.
        started: ISO 8601, or None.
        ended: The same.
        seconds: It took, or None.
        environment: python, platform, cpu, device, host, packages, as far as known.
        code: package_hash, git_commit, git_dirty, as far as known.
        sha256: Of all files it was read from.
    """

    tool: str
    source: str
    run: str
    config: Mapping[str, Any]
    scores: Mapping[str, float]
    status: str
    sha256: str
    name: str = ""
    error: tuple[str, str] | None = None
    points: tuple[Point, ...] = ()
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The run in messages."""
        return f"{self.source}, run {self.run}"


def read_bytes(path: Path) -> bytes:
    """A file of bounded size.

    Raises:
        Damaged: It cannot be read, or is larger.
    """
    try:
        if path.is_symlink():
            raise Damaged("expected a file, found a link, which may lead anywhere: put a copy in its place")
        if not path.is_file():  # a pipe would wait for ever
            raise Damaged(
                "expected a file, found none" if not path.exists() else "expected a file, found another thing"
            )
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise Damaged(f"expected at most {MAX_BYTES // 2**20} MiB, found {size / 2**20:.0f} MiB")
        return path.read_bytes()
    except OSError as error:
        raise Damaged(f"cannot be read: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """A text file of bounded size; raises Damaged."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Damaged("expected UTF-8 text, found other bytes") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object as plain values, NaN and infinities included.

    Raises:
        Damaged: There is none.
    """
    try:
        found = json.loads(read_text(path))
        plainly = plain(found)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"expected a JSON object, found a damaged file ({type(error).__name__}: {error})") from error
    if not isinstance(plainly, dict):
        raise Damaged(f"expected a JSON object, found a {type(found).__name__}")
    return plainly


def plain(value: Any) -> Any:
    """What jsonpickle has written, without making any object: numpy's numbers become numbers, the rest is described.

    >>> plain({"py/object": "numpy.float64", "dtype": "float64", "value": 0.5}), plain({"py/tuple": [1, 2]})
    (0.5, [1, 2])
    >>> plain({"py/object": "torch.optim.Adam", "lr": 1})
    '<torch.optim.Adam>'
    """
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    for name in ("value", "values", "py/tuple", "py/set"):
        held = {name} if name.startswith("py/") else {"py/object", "dtype", name}
        if name in value and set(value) <= held and (len(value) > 1 or isinstance(value[name], list)):
            return plain(value[name])
    if "py/reduce" in value:
        return _packed_number(value["py/reduce"])
    tags = [key for key in value if key.startswith("py/")]
    if tags:
        return f"<{visible(str(value[tags[0]]), 100)}>"
    return {key: plain(each) for key, each in value.items()}


def _packed_number(reduced: Any) -> Any:
    """The number in numpy's scalar, pickled as its type and its bytes; a description where it is something else."""
    try:
        kind, packed = reduced[1]["py/tuple"]
        code = str(kind["py/reduce"][1]["py/tuple"][0]).lstrip("<=|")
        return struct.unpack(_PACKED[code], base64.b64decode(packed["py/b64"]))[0]
    except (KeyError, TypeError, ValueError, IndexError, struct.error, binascii.Error):
        return "<an object that was pickled>"


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key, each value fit for a study's file."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{visible(str(key), 100)}"
        if isinstance(value, Mapping):
            found.update(flat(value, f"{name}."))
        else:
            found[name] = setting(value)
    return found


def setting(value: Any) -> Any:
    """A parameter's value as a study's file can hold it: no control characters, no credentials, of bounded length."""
    if isinstance(value, (list, tuple)):
        if any(isinstance(each, (list, tuple, Mapping)) for each in value):
            return setting(json.dumps(value, sort_keys=True, default=str))
        return [setting(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**18 else float(value) if abs(value) < 10**300 else str(value)
    text = without_credentials(" ".join(str(value).split()))
    if len(text) > LONGEST_TEXT:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
        text = f"{text[:80]}… ({len(text)} characters, SHA-256 {digest})"
    return visible(text, LONGEST_TEXT)


def typed(text: str) -> Any:
    """What a cell of a table or a logged parameter means.

    >>> [typed(text) for text in ("3", "1e-4", "True", "None", "adam")]
    [3, 0.0001, True, None, 'adam']
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return setting(text)


def score(value: Any) -> float | None:
    """A value as a number, not finite where it says so; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}.get(
            value.strip().lower(), float(value) if _NUMBER.fullmatch(value.strip()) else None
        )
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def last_values(points: Iterable[Point]) -> dict[str, float]:
    """Each metric's value at its last step, of several the last."""
    last: dict[str, tuple[int, float]] = {}
    for metric, step, value, _ in points:
        if metric not in last or step >= last[metric][0]:
            last[metric] = step, value
    return {metric: value for metric, (_, value) in last.items()}


def digest_of(folder: Path, paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over the names and contents of the files that exist."""
    found = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_BYTES:
            content = path.read_bytes()
            found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode("utf-8", "replace"))
            found.update(content)
    return found.hexdigest()
