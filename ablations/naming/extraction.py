"""Functions of many files, by several processes, as one table; ``python -m`` of this module is such a process.

The workers are programs of their own rather than forks or a ``multiprocessing`` pool: they can be started from
anywhere (a daemonic worker, a process with threads and a loaded torch, a script without a main guard), and a parser
that crashes on one file costs that file only.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.naming import caching, functions
from ablations.naming.functions import Function, Unparsed

CHUNK_BYTES = 1 << 20  # of source to one order to a worker: a fraction of a second
ALONE_BYTES = 3 << 20  # below, starting workers takes longer than the work


@dataclass(frozen=True)
class Source:
    """One file, or one row of a dataset.

    Attributes:
        name: Stable name, the same on every machine: a relative path with ``/``.
        group: What goes to one split as a whole: the file's own name, its project, or a digest of a row.
        path: The file to read; None for a row.
        text: The row's text; None for a file.
        split: ``train``, ``validation`` or ``test`` where the corpus decides it.
        size: Bytes, to share out the work.
    """

    name: str
    group: str
    path: str | None = None
    text: str | None = None
    split: str | None = None
    size: int = 0


@dataclass(frozen=True)
class Table:
    """Functions in the order of their files and places, as columns of ``n`` entries.

    Attributes:
        codes: Source text each, see :class:`ablations.naming.functions.Function`.
        names: Name each.
        numbers: ``(n, 5)`` int32: index of the file, name_start, line, column, flags.
        comments: ``(m, 3)`` int32: index of the function, start, end; sorted.
        left_out: Functions left out, by reason.
        unparsed: (index of the file, reason) of files that gave nothing because they could not be read.
    """

    codes: list[str]
    names: list[str]
    numbers: NDArray[np.int32]
    comments: NDArray[np.int32]
    left_out: Counter[str]
    unparsed: list[tuple[int, str]]

    def pack(self) -> tuple[caching.Arrays, dict[str, Any]]:
        """As arrays and JSON facts for :func:`ablations.naming.caching.save`."""
        arrays: dict[str, NDArray[Any]] = {"codes": caching.pack(self.codes), "names": caching.pack(self.names),
                  "numbers": self.numbers, "comments": self.comments}  # fmt: skip
        return arrays, {"left_out": dict(self.left_out), "unparsed": self.unparsed}

    @staticmethod
    def unpack(arrays: caching.Arrays, meta: dict[str, Any]) -> Table:
        """The inverse of :meth:`pack`."""
        count = len(arrays["numbers"])
        return Table(
            codes=caching.unpack(arrays["codes"], count),
            names=caching.unpack(arrays["names"], count),
            numbers=arrays["numbers"],
            comments=arrays["comments"],
            left_out=Counter(meta["left_out"]),
            unparsed=[(int(file), str(reason)) for file, reason in meta["unparsed"]],
        )


def extract_all(sources: Sequence[Source], language: str, say: caching.Say, workers: int | None = None) -> Table:
    """Functions of all sources.

    Args:
        sources: Files or rows.
        language: ``python`` or ``java``.
        say: Hears of progress.
        workers: Processes; by default as many as this process may use cores, and none for little work.
    """
    size = sum(source.size for source in sources)
    if workers is None:
        workers = _cores() if size > ALONE_BYTES else 1
    if workers == 1:
        return _extract_chunk([(file, _order(source)) for file, source in enumerate(sources)], language)
    chunks = _chunks(sources)
    return _joined(_Workers(language, min(workers, len(chunks)), say, len(sources)).run(sources, chunks))


def _cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(sources: Sequence[Source]) -> list[list[int]]:
    chunks: list[list[int]] = []
    room = 0
    for file, source in enumerate(sources):
        if not chunks or source.size > room:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(file)
        room -= source.size
    return chunks


def _order(source: Source) -> dict[str, str]:
    return {"path": source.path} if source.path is not None else {"text": source.text or ""}


def _extract_chunk(orders: Iterable[tuple[int, dict[str, str]]], language: str) -> Table:
    found: list[tuple[int, Function]] = []
    left_out, unparsed = Counter[str](), []
    for file, order in orders:
        try:
            source = order["text"] if "text" in order else Path(order["path"]).read_bytes()
            taken, lost = functions.extract(source, language)
        except Unparsed as error:
            unparsed.append((file, str(error)))
        except OSError as error:
            unparsed.append((file, f"not readable: {error.strerror}"))
        else:
            found += [(file, function) for function in taken]
            left_out += lost
    numbers = [(file, f.name_start, f.line, f.column, f.flags) for file, f in found]
    comments = [(index, *span) for index, (_, f) in enumerate(found) for span in f.comments]
    return Table(
        codes=[f.code for _, f in found],
        names=[f.name for _, f in found],
        numbers=np.array(numbers, dtype=np.int32).reshape(-1, 5),
        comments=np.array(comments, dtype=np.int32).reshape(-1, 3),
        left_out=left_out,
        unparsed=unparsed,
    )


def _joined(tables: Sequence[Table]) -> Table:
    """Tables of ascending files as one."""
    comments, functions_before = [], 0
    for table in tables:
        comments.append(table.comments + np.array([functions_before, 0, 0], dtype=np.int32))
        functions_before += len(table.codes)
    return Table(
        codes=[code for table in tables for code in table.codes],
        names=[name for table in tables for name in table.names],
        numbers=np.concatenate([table.numbers for table in tables]),
        comments=np.concatenate(comments),
        left_out=sum((table.left_out for table in tables), Counter[str]()),
        unparsed=[entry for table in tables for entry in table.unparsed],
    )


# --- workers ----------------------------------------------------------------------------------------------------


class _Workers:
    """Worker processes, each fed chunk by chunk by a thread of its own."""

    def __init__(self, language: str, count: int, say: caching.Say, files: int):
        self.language, self.count, self.say, self.files = language, count, say, files
        self.done: dict[int, Table] = {}  # by the first file of the chunk
        self.files_done = 0
        self.failure: BaseException | None = None
        self.todo: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self.lock = threading.Lock()

    def run(self, sources: Sequence[Source], chunks: list[list[int]]) -> list[Table]:
        for chunk in chunks:
            self.todo.put(chunk)
        with tempfile.TemporaryDirectory(prefix="ablations-") as folder:
            feeders = [
                threading.Thread(target=self._feed, args=(sources, Path(folder) / str(index)))
                for index in range(self.count)
            ]
            for feeder in feeders:
                feeder.start()
            try:
                for feeder in feeders:
                    feeder.join()
            except BaseException as error:  # Ctrl-C: the feeders stop after the chunk they are at
                self.failure = error
                for feeder in feeders:
                    feeder.join()
        if self.failure is not None:
            raise self.failure
        return [self.done[first] for first in sorted(self.done)]

    def _feed(self, sources: Sequence[Source], folder: Path) -> None:
        folder.mkdir()
        worker: subprocess.Popen[str] | None = None
        try:
            while self.failure is None:
                chunk = self.todo.get_nowait()
                worker = worker or self._start()
                table = self._ask(worker, folder, chunk, sources)
                if table is not None:
                    self._finish(chunk, table)
                    continue
                code, worker = worker.wait(), None
                if len(chunk) == 1:
                    reason = f"the parser ended with status {code}"
                    self._finish(chunk, _extract_chunk([], self.language), [(chunk[0], reason)])
                else:  # half by half, down to the file that ends the parser
                    self._feed_halves(chunk)
        except queue.Empty:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            if worker is not None:
                worker.communicate()  # closes its input, which ends it

    def _feed_halves(self, chunk: list[int]) -> None:
        middle = len(chunk) // 2
        self.todo.put(chunk[:middle])
        self.todo.put(chunk[middle:])

    def _finish(self, chunk: list[int], table: Table, unparsed: Sequence[tuple[int, str]] = ()) -> None:
        table.unparsed.extend(unparsed)
        with self.lock:
            self.done[chunk[0]] = table
            self.files_done += len(chunk)
            self.say(f"extracting functions: {self.files_done:,} of {self.files:,} files")

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", __name__, self.language]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii", env=environment
        )

    @staticmethod
    def _ask(worker: subprocess.Popen[str], folder: Path, chunk: list[int], sources: Sequence[Source]) -> Table | None:
        """The chunk's table, or None where the worker has ended."""
        result = folder / f"{chunk[0]}.npz"
        order = {"result": str(result), "orders": [(file, _order(sources[file])) for file in chunk]}
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("worker without pipes")
        try:
            worker.stdin.write(json.dumps(order) + "\n")
            worker.stdin.flush()
        except BrokenPipeError:
            return None
        if not worker.stdout.readline():
            return None
        found = caching.load(result, lambda message: None)
        if found is None:
            raise OSError(f"a worker's result is not readable; is the disk of {folder.parent} full?")
        result.unlink()
        return Table.unpack(*found)


def _work(language: str) -> None:
    """Serves orders, one JSON line each, until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        table = _extract_chunk([(file, each) for file, each in order["orders"]], language)
        caching.save(Path(order["result"]), *table.pack())
        print("done", flush=True)


if __name__ == "__main__":
    _work(sys.argv[1])
