"""Reads a YAML text into plain data that remembers its lines.

Nothing but dicts, lists and scalars is ever built, whatever the text says: tags are refused, aliases are copied and
counted, size and depth are bounded, and no text holds control characters or turns the direction of writing. Plain
scalars follow YAML 1.2; those that other readers take for something else (``no``, ``010``, ``2024-01-01``) are
refused and explained.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

from ablations.errors import Problem
from ablations.secrets import has_credentials

KeyPath = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 50_000

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,5})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_YES_NO = re.compile(r"yes|no|on|off", re.IGNORECASE)
_ODD_WHOLE = re.compile(r"[-+]?(0[0-9_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[1-9][0-9]*(_[0-9]+)+)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?")


@dataclass
class Document:
    """A YAML text as plain data, with its lines and what is wrong with it.

    Attributes:
        data: The data; None where the text could not be read at all.
        lines: The line of each key and list item, by its path.
        problems: What is wrong with the text itself.
        refused: Paths of scalars and names already reported: a later check has nothing to add there.
        readable: False where the text is no YAML, so that ``data`` says nothing.
    """

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)
    readable: bool = True

    def line(self, path: KeyPath) -> int:
        """The line of a path, or of the nearest part of the file around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 0)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at a path, with its line."""
        return Problem(self.line(path), path_text(path), message)


def path_text(path: KeyPath) -> str:
    """Writes a path as people do.

    >>> path_text(("ablations", "layers", "sweep", "decoder.layers", 0))
    'ablations.layers.sweep.decoder.layers[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def plain_value(text: str) -> tuple[Any, str | None]:
    """What an unquoted scalar means, and what to say where YAML readers disagree about it.

    >>> plain_value("1e-4")
    (0.0001, None)
    >>> plain_value("010")[1]
    '010 is 8 to some YAML readers and 10 to others: write the number without the leading zero, or text in quotes'
    """
    trap = _trap(text)
    if trap or text in _NULL:
        return (text if trap else None), trap
    if text in _BOOLEANS:
        return _BOOLEANS[text], None
    if _WHOLE.fullmatch(text):
        return int(text), None
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")), None
    return text, None


def _trap(text: str) -> str | None:
    if _YES_NO.fullmatch(text):
        meant = "true" if text.lower() in {"yes", "on"} else "false"
        return _ambiguous(text, meant, meant)
    if _DATE.fullmatch(text):
        return f'unquoted {text} is a date to some YAML readers: write "{text}" in quotes'
    if _SIXTIES.fullmatch(text):
        return f'unquoted {text} is a number in base 60 to some YAML readers: write "{text}" in quotes'
    if _ODD_WHOLE.fullmatch(text):
        return _odd_whole(text)
    return None


def _odd_whole(text: str) -> str:
    digits = text.replace("_", "")
    if len(digits) > 18:
        return f'unquoted {text} is no number this file can hold: write text in quotes, "{text}"'
    if "_" in text and not digits.lstrip("+-").startswith("0"):
        return _ambiguous(text, "a number", digits)
    if digits.lstrip("+-").isdigit():
        octal = int(digits, 8) if not set(digits) & set("89") else "text"
        return (
            f"{text} is {octal} to some YAML readers and {int(digits)} to others: "
            "write the number without the leading zero, or text in quotes"
        )
    return _ambiguous(text, str(int(digits, 0)), str(int(digits, 0)))


def _ambiguous(text: str, reading: str, instead: str) -> str:
    others = "to some YAML readers and text to others"
    return f'unquoted {text} is {reading} {others}: write {instead}, or "{text}" in quotes'


def read_yaml(text: str) -> Document:
    """Reads a text, noting every problem; never raises for what the text says."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    builder = _Builder()
    document = builder.document
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        message = f"expected a file of at most {MAX_BYTES // 1024} KiB, found more"
        return _unreadable(document, 0, message)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ruamel warns of anchors used twice; the last one counts
            for event in YAML(typ="safe", pure=True).parse(text):
                builder.take(event)
    except _TooMuch as error:
        return _unreadable(document, error.line, str(error))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _unreadable(document, mark.line + 1 if mark else 0, f"this is no valid YAML: {_explained(error)}")
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unreadable(document, line, f"this is no valid YAML: character U+{error.character:04X} is not allowed")
    except (YAMLError, ValueError, OverflowError, AssertionError, IndexError, AttributeError, TypeError) as error:
        return _unreadable(document, 0, f"this is no valid YAML: {error}")  # ruamel's scanner lets a few escape
    return document


def _unreadable(document: Document, line: int, message: str) -> Document:
    document.problems.append(Problem(line, "", message))
    document.readable = False
    return document


def _explained(error: Any) -> str:
    problem = " ".join(str(part) for part in (error.problem, error.context) if part).replace("\n", " ")
    if "'\\t'" in problem:
        return "found a tab; indent with spaces"
    if "mapping values are not allowed" in problem:
        return 'found a second ": " in one line, or a wrong indentation; put text that contains ": " in quotes'
    if "undefined alias" in problem:
        return f"{error.problem}; a text that starts with * belongs in quotes"
    return problem


class _TooMuch(Exception):
    """The text holds more than is allowed."""

    def __init__(self, line: int, message: str):
        self.line = line
        super().__init__(message)


@dataclass
class _Frame:
    """A mapping or list under construction."""

    data: dict[str, Any] | list[Any]
    path: KeyPath
    anchor: str | None
    nodes_before: int
    line: int
    key: str | None = None
    dropped: bool = False
    height: int = 1


class _Builder:
    """Builds plain data from ruamel's parse events, without recursion."""

    def __init__(self) -> None:
        self.document = Document()
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.nodes = 0
        self.documents = 0

    def take(self, event: Any) -> None:
        """Takes the next event."""
        kind, line = type(event).__name__, event.start_mark.line + 1
        if kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                raise _TooMuch(line, "expected one document, found a second one after ---")
        elif kind in {"MappingStartEvent", "SequenceStartEvent"}:
            self._open(event, {} if kind == "MappingStartEvent" else [], line)
        elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
            self._close()
        elif kind == "ScalarEvent":
            self._scalar(event, line)
        elif kind == "AliasEvent":
            self._alias(event.anchor, line)

    def _say(self, line: int, path: KeyPath, message: str) -> None:
        self.document.problems.append(Problem(line, path_text(path), message))

    def _count(self, line: int, nodes: int, height: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _TooMuch(line, f"expected at most {MAX_NODES} values, aliases counted, found more")
        if len(self.stack) + height > MAX_DEPTH:
            raise _TooMuch(line, f"expected at most {MAX_DEPTH} levels of nesting, found more")

    def _place(self) -> KeyPath:
        """Path of the value that comes next."""
        if not self.stack:
            return ()
        top = self.stack[-1]
        return (*top.path, len(top.data) if isinstance(top.data, list) else "?" if top.key is None else top.key)

    def _tag(self, event: Any, line: int, path: KeyPath) -> None:
        if event.ctag is not None:
            self._say(line, path, f"tags such as {event.tag} are not supported: write plain values, text in quotes")

    def _open(self, event: Any, data: dict[str, Any] | list[Any], line: int) -> None:
        path = self._place()
        self._count(line, 1, 1)
        self._tag(event, line, path)
        if self.stack and isinstance(self.stack[-1].data, list):
            self.document.lines.setdefault(path, line)
        self.stack.append(_Frame(data, path, event.anchor, self.nodes, line))

    def _close(self) -> None:
        frame = self.stack.pop()
        size = self.nodes - frame.nodes_before + 1
        if frame.anchor is not None:
            self.anchors[frame.anchor] = (frame.data, size, frame.height)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, frame.height + 1)
        self._put(frame.data, frame.line)

    def _alias(self, anchor: str, line: int) -> None:
        if anchor not in self.anchors:
            message = (
                f"found alias *{anchor} without an anchor &{anchor} before it; text that starts with * needs quotes"
            )
            self._say(line, self._place(), message)
            self._put(None, line)
            return
        data, size, height = self.anchors[anchor]
        self._count(line, size, height)
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, height + 1)
        self._put(_copied(data), line)

    def _scalar(self, event: Any, line: int) -> None:
        self._count(line, 1, 0)
        plain = event.style in {None, ""} and event.ctag is None
        text = event.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins JSON's escaped halves
        value, trap = plain_value(text) if plain else (text, None)
        trap = trap or _forbidden(text)
        path = self._place()
        if self.stack and isinstance(self.stack[-1].data, dict) and self.stack[-1].key is None:
            self._name(text, value, trap, line, plain)
            return
        self._tag(event, line, path)
        if trap:
            self._say(line, path, trap)
            self.document.refused.add(path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1, 0)
        self._put(value, line)

    def _name(self, text: str, value: Any, trap: str | None, line: int, plain: bool) -> None:
        """Takes a scalar in the place of a key."""
        top = self.stack[-1]
        path = (*top.path, text)
        top.dropped = text == "<<" and plain
        if top.dropped:
            self._say(line, path, "merge keys (<<) are not supported: write the entries out, or use extends")
        elif trap or not isinstance(value, str):
            kind = "null" if value is None else "true or false" if isinstance(value, bool) else "a number"
            message = f'expected a name, found unquoted {text or "nothing"}, which is {kind}: write "{text}" in quotes'
            self._say(line, path, trap or message)
            self.document.refused.add(path)
        if text in top.data:
            first = self.document.lines[path]
            self._say(line, path, f"{text} is given twice, first in line {first}: keep one")
        else:
            self.document.lines[path] = line
        top.key = text

    def _put(self, value: Any, line: int) -> None:
        """Hands a finished value to what surrounds it."""
        if not self.stack:
            self.document.data = value
            return
        top = self.stack[-1]
        if isinstance(top.data, list):
            self.document.lines.setdefault((*top.path, len(top.data)), line)
            top.data.append(value)
        elif top.key is None:
            self._say(line, top.path, "expected a name, found a list, entries or an alias in the place of one")
            top.key, top.dropped = "?", True
        else:
            if top.key not in top.data and not top.dropped:
                top.data[top.key] = value
            top.key, top.dropped = None, False


def _forbidden(text: str) -> str | None:
    found = _FORBIDDEN.search(text)
    if found is not None:
        return f"found the invisible character U+{ord(found.group()):04X}, which acts on terminals and text: remove it"
    if has_credentials(text):
        return "found a URL with a password or token, which records and reports would show: leave it to the environment"
    return None


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(item) for item in data] if isinstance(data, list) else data
