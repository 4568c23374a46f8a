"""What any experiment lets one set: the dataclass beside it, or else its own Sacred config, asked for and remembered.

Sacred resolves the config in a process of its own (``sacredconfig.py``), once for each state of the experiment's
files: its answers are kept in the user's cache, so that a study is checked without importing the experiment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations.errors import AblationsError, one_of, visible
from ablations.files import cache_dir, read_json, write_atomic
from ablations.schema import ABSENT, Resolved, Schema, Tunable, load_schema, look_beside

FORMAT = 1
PATIENCE_S = 300.0  # that an experiment's import and config may take
MOST_ANSWERS = 5000  # kept of one experiment
WHOLE_BYTES = 1024 * 1024  # a file up to this size is known by its content, a larger one by its size and time
TYPES: Mapping[str, type] = {
    "bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict, "any": object,
}  # fmt: skip


def schema_for(experiment: str, folder: Path) -> Schema:
    """What an experiment lets one set.

    Args:
        experiment: ``package.module:name``.
        folder: That of the study, where the experiment may lie.

    Raises:
        AblationsError: There is no such experiment, or it cannot be imported, or its config fails.
        Exception: Whatever its module ``config`` raises.
    """
    look_beside(experiment, folder)
    return load_schema(experiment) or _schema_of(Inquiry(experiment, folder))


class Inquiry:
    """Questions about one experiment, answered from the cache or by a process that is started when it is needed.

    Args:
        experiment: ``package.module:name``.
        folder: That of the study.
    """

    def __init__(self, experiment: str, folder: Path):
        self.experiment = experiment
        self.folder = folder.resolve()
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  closed with it
        self._kept = _cache_path(experiment, self.folder)
        self._files, self._answers = _remembered(self._kept)
        self._new = False

    def ask(self, what: str, **question: Any) -> dict[str, Any]:
        """The answer to a question; ``error`` in it says why there is none.

        Raises:
            AblationsError: The process that is to answer died or took too long.
        """
        text = json.dumps({"ask": what, **question}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        if key not in self._answers:
            found = self._asked(text)
            files = found.pop("files", ())
            if "error" in found:
                return found  # what it lacks may be there the next time
            for name in files:
                self._files.setdefault(name, _fingerprint(Path(name)))
            self._answers[key] = found
            self._new = True
        return self._answers[key]

    def close(self) -> None:
        """Ends the process and keeps its answers."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing that is not told
            process.communicate()
        if self._new:
            self._new = False
            newest = dict(list(self._answers.items())[-MOST_ANSWERS:])
            content = {"format": FORMAT, "files": self._files, "answers": newest}
            with contextlib.suppress(OSError):  # a home that cannot be written to costs time, no more
                self._kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._kept, json.dumps(content))

    def _asked(self, text: str) -> dict[str, Any]:
        if self._process is None:
            command = [sys.executable, "-P", "-m", "ablations.sacredconfig", self.experiment, str(self.folder)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
            )
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise AblationsError("expected pipes to the process that resolves the config, found none")
        limit = threading.Timer(PATIENCE_S, process.kill)
        limit.start()
        try:
            process.stdin.write(text + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line:
            raise AblationsError(self._last_words(process))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        """Why a process has given no answer: its exit code and the end of what it said."""
        code = process.wait()
        self._process = None
        self._log.seek(0)
        said = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        end = f": {visible(said[-1], 300)}" if said else ""
        return f"experiment {self.experiment}: the process that imports it ended with exit code {code}{end}"


def _cache_path(experiment: str, folder: Path) -> Path:
    """Where answers about an experiment are kept: by what decides them beside its files."""
    versions = [sys.version, sys.executable, metadata.version("sacred"), FORMAT, _fingerprint(_answering())]
    where = [experiment, str(folder), socket.gethostname(), *versions]
    return cache_dir() / "experiments" / f"{hashlib.sha256(json.dumps(where).encode()).hexdigest()[:32]}.json"


def _answering() -> Path:
    return Path(__file__).with_name("sacredconfig.py")


def _remembered(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The files that kept answers rest on and the answers, none where a file has changed since."""
    try:
        kept = read_json(path)
    except (AblationsError, OSError):
        kept = None
    if kept is None or kept.get("format") != FORMAT:
        return {}, {}
    files: dict[str, str] = kept["files"]
    if any(_fingerprint(Path(name)) != found for name, found in files.items()):
        return {}, {}
    return files, kept["answers"]


def _fingerprint(path: Path) -> str:
    try:
        status = path.stat()
        if status.st_size > WHOLE_BYTES:
            return f"{status.st_size} {status.st_mtime_ns}"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "absent"


def _schema_of(inquiry: Inquiry) -> Schema:
    """The schema that Sacred's answers describe."""
    found = inquiry.ask("describe")
    if "error" in found:
        inquiry.close()
        said = str(found["error"])
        raise AblationsError(said if said.startswith("experiment ") else f"experiment {inquiry.experiment}: {said}")
    tunables = {each["key"]: _tunable(**each) for each in found["parameters"]}
    return Schema(
        tunables=MappingProxyType(tunables),
        named=tuple(found["named"]),
        required=tuple(found["required"]),
        likely=tuple(found["likely"]),
        resolver=functools.partial(_resolved, inquiry),
        expander=functools.partial(_expanded, inquiry),
        release=inquiry.close,
    )


def with_types(schema: Schema, types: Mapping[str, str], say: Callable[[str, str], None]) -> Schema:
    """The schema with types that a study declares where a default does not tell them.

    Args:
        schema: What an experiment lets one set.
        types: By key, one of ``TYPES``.
        say: Takes a key and what is wrong with it.
    """
    tunables = dict(schema.tunables)
    for key, kind in types.items():
        if key not in tunables:
            say(key, one_of("parameter", key, tunables))
        elif schema.resolver is None:
            say(key, "expected no type: the experiment declares its own")
        else:
            tunables[key] = dataclasses.replace(tunables[key], type=TYPES[kind])
    return dataclasses.replace(schema, tunables=MappingProxyType(tunables)) if types else schema


def _tunable(key: str, kind: str, help: str, default: Any = ABSENT) -> Tunable:
    anything = default is None or default is ABSENT
    return Tunable(key, TYPES[kind], default, " ".join(help.split()), optional=anything, items=object)


def _resolved(inquiry: Inquiry, settings: Mapping[str, Any], named: tuple[str, ...]) -> Resolved:
    found = inquiry.ask("resolve", settings=dict(settings), named=list(named))
    if "error" in found:
        return Resolved(dict(settings), (("", f"the experiment's config cannot be resolved: {found['error']}"),))
    unknown = "the experiment's config makes no such entry with these values: nothing would use it"
    return Resolved(found["config"], tuple((key, unknown) for key in found["unknown"]))


def _expanded(inquiry: Inquiry, named: tuple[str, ...]) -> Mapping[str, Any]:
    """What the last of several named configs sets.

    Raises:
        AblationsError: It cannot be evaluated.
    """
    found = inquiry.ask("expand", named=list(named))
    if "error" in found:
        raise AblationsError(f"named config {named[-1]} cannot be evaluated: {found['error']}")
    settings: Mapping[str, Any] = found["settings"]
    return settings
