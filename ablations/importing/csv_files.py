"""Tables of runs: exports of MLflow and W&B, and plain CSV in wide or long form."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablations.errors import visible
from ablations.importing.foreign import Damaged, ForeignRun, Point, flat, last_values, read_text, score, typed
from ablations.importing.wandb_files import scores_of

MAX_COLUMNS = 2000
MIXED_RUNS = 4
"""Fewer runs do not tell a setting from a score."""
RUN = ("run_id", "Run ID", "run", "Run", "id", "ID")
NAME = ("variant", "arm", "Name", "run_name", "name")
STATUS = ("status", "Status", "state", "State")
STEP = ("step", "_step", "Step")
EXAMPLE = "example"
SECONDS = ("seconds", "Runtime", "_runtime", "Duration", "duration")
ENDS = ("end_time", "ended")
STARTS = ("start_time", "Start Time", "Created", "started")
ASIDE = {"Notes", "User", "Tags", "Sweep", "Source Type", "Source Name", "artifact_uri", "experiment_id", "Description",
         "Models", "Version", "Dataset", ""}  # fmt: skip
_DONE = {"", "completed", "complete", "finished", "finish", "ok", "done", "success", "succeeded"}
_FAILED = {"failed", "crashed", "killed", "error", "interrupted", "lost", "timeout", "preempted", "oom", "canceled",
           "cancelled", "aborted"}  # fmt: skip
_RUNNING = {"running", "pending", "queued", "scheduled"}
_GUARD = re.compile(r"^'(?=[=+\-@\t\r])")  # MLflow's page writes so what a spreadsheet would take for a formula
_NOT_FINITE = re.compile(r"(?<![\w'\"])(nan|inf)(?![\w'\"])")
Say = Any


@dataclass(frozen=True)
class Asked:
    """What the user says of the columns of a table.

    Attributes:
        metrics: Columns that are scores.
        parameters: Columns that are settings.
        seed: The column of seeds, if named.
    """

    metrics: Sequence[str] = ()
    parameters: Sequence[str] = ()
    seed: str | None = None


def read(path: Path, asked: Asked, say: Say, note: Say) -> list[ForeignRun]:
    """Every run of a table; of whatever tool, by its header.

    Args:
        path: The file.
        asked: What the columns are, as far as the user says.
        say: Takes a file and what is wrong with it.
        note: Takes what was guessed.
    """
    try:
        return _Reader(path, *read_table(path), asked, note).runs()
    except Damaged as error:
        say(path, str(error))
        return []


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a file; raises Damaged with all that is wrong with its shape."""
    text = read_text(path)
    first = text.partition("\n")[0]
    between = max(",;\t", key=first.count)
    try:
        rows = csv.reader(io.StringIO(text), delimiter=between, strict=True)
        found = [[_GUARD.sub("", cell) for cell in row] for row in rows if any(row)]
    except csv.Error as error:
        raise Damaged(f"expected a CSV file, found: {error}") from error
    if len(found) < 2:
        raise Damaged("expected a header and a row a run, found less")
    header = [visible(name.strip(), 100) for name in found[0]]
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    odd = [number for number, row in enumerate(found[1:], start=2) if len(row) != len(header)]
    if twice or odd or len(header) > MAX_COLUMNS:
        wrong = [f"column {name!r} is there twice" for name in twice]
        wrong += [f"row {number} has not as many cells as the header" for number in odd[:5]]
        wrong += [f"expected at most {MAX_COLUMNS} columns"] if len(header) > MAX_COLUMNS else []
        raise Damaged("; ".join(wrong))
    return header, found[1:]


class _Reader:
    """Sorts the columns of one table and groups its rows into runs."""

    def __init__(self, path: Path, header: list[str], rows: list[list[str]], asked: Asked, note: Say):
        self.path, self.asked, self.note = path, asked, note
        self.rows = [dict(zip(header, row, strict=True)) for row in rows]
        self.header = header
        self.prefixed = any(name.startswith("params.") for name in header)
        self.nested = {"config", "summary"} <= set(header)
        self.long = {"metric", "value"} <= set(header)
        self.run, self.name, self.status, self.step = map(self._first, (RUN, NAME, STATUS, STEP))
        self.seconds, self.started, self.ended = map(self._first, (SECONDS, STARTS, ENDS))
        self.tool = "MLflow" if self.prefixed or "Run ID" in header else "W&B" if self._is_wandb() else "CSV"

    def _first(self, names: Iterable[str]) -> str | None:
        claimed = {*self.asked.metrics, *self.asked.parameters, self.asked.seed}
        return next((name for name in names if name in self.header and name not in claimed), None)

    def _is_wandb(self) -> bool:
        return self.nested or {"Name", "State"} <= set(self.header)

    def runs(self) -> list[ForeignRun]:
        """Every run, in the order of its first row."""
        groups: dict[tuple[str, ...], list[tuple[int, dict[str, str]]]] = {}
        keys = self._identity()
        for number, row in enumerate(self.rows, start=2):
            key = tuple(row[name] for name in keys) if keys else (str(number),)
            groups.setdefault(key, []).append((number, row))
        firsts = [group[0][1] for group in groups.values()]
        settings, scores = self._sorted_columns(firsts, list(groups.values()))
        found = [self._run_of(group, settings, scores) for group in groups.values()]
        seen: Counter[str] = Counter()
        named = []
        for run in found:  # rows without an id are known by what they hold, wherever in the file they stand
            seen[run.run] += 1
            named.append(run if seen[run.run] == 1 else replace(run, run=f"{run.run}-{seen[run.run]}"))
        return named

    def _identity(self) -> list[str]:
        """The columns that tell runs apart; none where each row is a run."""
        if EXAMPLE in self.header and EXAMPLE not in (*self.asked.parameters, *self.asked.metrics):
            raise Damaged(
                f"column {EXAMPLE!r}: scores by test example are for `ablations compare`; give a row a run "
                f"(--parameter {EXAMPLE} makes it a setting)"
            )
        if not self.long and not self.step:
            return []
        if self.run:
            return [self.run]
        seed = self.asked.seed or next((name for name in self.header if name.rpartition(".")[2] == "seed"), None)
        if self.long and seed:
            aside = {"metric", "value", self.step, self.status, self.seconds, self.started, self.ended, *ASIDE}
            return [name for name in self.header if name not in aside]
        if self.name and seed:
            return [self.name, seed]
        raise Damaged(
            "several rows a run: expected a column run_id, or variant and seed, to tell runs apart; found none"
        )

    def _sorted_columns(
        self, firsts: Sequence[Mapping[str, str]], groups: Sequence[Sequence[tuple[int, Mapping[str, str]]]]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Column to parameter, and column to score."""
        known = {self.run, self.status, self.step, self.seconds, self.started, self.ended, *ASIDE}
        settings: dict[str, str] = {}
        scores: dict[str, str] = {}
        guessed = []
        for name in self.header:
            kind, _, rest = name.partition(".")
            if name in self.asked.parameters or name == self.asked.seed:
                settings[name] = rest if self.prefixed and kind == "params" else name
            elif self.prefixed:
                if kind in ("params", "metrics") and rest:
                    (settings if kind == "params" else scores)[name] = rest
            elif name in self.asked.metrics:
                scores[name] = name
            elif name in known or name == self.name or (self.nested and name in ("config", "summary")):
                continue
            elif self.long:
                settings.update({} if name in ("metric", "value") else {name: name})
            elif self._is_score([row[name] for row in firsts], [[row[name] for _, row in group] for group in groups]):
                scores[name] = name
                guessed.append(name)
            else:
                settings[name] = name
        if guessed:
            self.note(
                f"{self.path.name}: taken for scores, since they differ in most runs: {', '.join(guessed)} "
                "(--parameter NAME makes one a setting)"
            )
        if self.name in ("variant", "arm") and self.name and self._says_more(self.name, firsts, settings):
            settings[self.name] = self.name
        return settings, scores

    def _says_more(self, name: str, firsts: Sequence[Mapping[str, str]], settings: Iterable[str]) -> bool:
        """Whether arms of two names have the same settings, so that the name is all that tells them apart."""
        counted = [each for each in settings if each.rpartition(".")[2] != (self.asked.seed or "seed")]
        called: dict[tuple[str, ...], set[str]] = {}
        for row in firsts:
            called.setdefault(tuple(row[each] for each in counted), set()).add(row[name])
        return any(len(names) > 1 for names in called.values())

    @staticmethod
    def _is_score(values: Sequence[str], within: Sequence[Sequence[str]]) -> bool:
        """Whether a column looks measured: numbers, not all whole, that differ in most runs or change within one."""
        numbers = [typed(value) for value in values if value.strip()]
        fractions = any(isinstance(number, float) for number in numbers)
        if not fractions or not all(isinstance(number, (int, float)) for number in numbers):
            return False
        changes = any(len(set(group)) > 1 for group in within)
        return changes or (len(values) >= MIXED_RUNS and len(set(numbers)) > len(numbers) / 2)

    def _run_of(
        self, group: Sequence[tuple[int, dict[str, str]]], settings: dict[str, str], scores: dict[str, str]
    ) -> ForeignRun:
        line, first = group[0]
        points = [point for row in group for point in self._points(row, scores)]
        config = {key: typed(first[column]) for column, key in settings.items()}
        found = last_values(points)
        if self.nested:
            config = {key: each for key, each in flat(_literal(first["config"], line)).items() if key[:1] != "_"}
            found |= scores_of(_literal(first["summary"], line))
        status, error = self._outcome(group)
        seconds = score(first[self.seconds]) if self.seconds else None
        digest = sha256(repr([row for _, row in group]).encode()).hexdigest()
        return ForeignRun(
            tool=self.tool,
            source=self.path.name,
            run=first[self.run] if self.run else f"row-{digest[:8]}",
            name=visible(first[self.name], 100) if self.name else "",
            config=config,
            scores=found,
            status=status,
            error=error,
            points=tuple(points) if self.step else (),
            started=_when(first[self.started]) if self.started else None,
            ended=_when(first[self.ended]) if self.ended else None,
            seconds=seconds if seconds is not None and seconds >= 0 else None,
            sha256=digest,
        )

    def _points(self, numbered: tuple[int, Mapping[str, str]], scores: Mapping[str, str]) -> Iterable[Point]:
        """The numbers of a row; an empty cell is none."""
        line, row = numbered
        step = score(row[self.step]) if self.step else 0.0
        if step is None:
            raise Damaged(f"line {line}: expected a step in column {self.step!r}, found {row[str(self.step)]!r}")
        cells = {row["metric"]: row["value"]} if self.long else {name: row[column] for column, name in scores.items()}
        for name, cell in cells.items():
            value = score(cell)
            if value is None and cell.strip().lower() not in ("", "none", "null", "na", "n/a", "-"):
                raise Damaged(f"line {line}: expected a number for {name}, found {cell[:60]!r}")
            if value is not None:
                yield name, int(step), value, None

    def _outcome(self, group: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[str, tuple[str, str] | None]:
        if not self.status:
            return "completed", None
        line, row = group[-1]
        status = row[self.status].strip().lower()
        if status in _DONE:
            return "completed", None
        if status in _RUNNING:
            return "running", None
        if status == "diverged":
            return "diverged", ("Diverged", f"line {line} says so")
        if status in _FAILED:
            return "failed", (status.capitalize(), f"{self.tool} says {row[self.status].strip()}, and nothing else")
        known = ", ".join(sorted({*_DONE, *_FAILED, *_RUNNING, "diverged"} - {""}))
        raise Damaged(f"line {line}: expected a status ({known}), found {row[self.status][:60]!r}")


def _literal(cell: str, line: int) -> dict[str, Any]:
    """A dict that Python has written into a cell; read as literals, never evaluated."""
    try:
        found = ast.literal_eval(_NOT_FINITE.sub(r"'\1'", cell))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Damaged(f"line {line}: expected a dict of plain values, found {cell[:60]!r}") from error
    if not isinstance(found, dict):
        raise Damaged(f"line {line}: expected a dict, found {cell[:60]!r}")
    return found


def _when(cell: str) -> str | None:
    found = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(\.\d{1,6})?)", cell.strip())
    return f"{found.group(1)}T{found.group(2)}+00:00" if found else None
