"""Runs folders on this machine, each in a process of its own.

The processes are forked off one server that has imported the experiment and torch already: a run starts in
milliseconds instead of paying those imports each time. A slot is one worker: on a machine with GPUs, slot i sees
GPU i alone, unless a packer puts several runs on one (``ablations/executors/_gpus.py``).

Signals of the terminal reach whoever launched the runs, not their processes, which are told once: it asks them to stop,
and they do so, too, when it has died without a word.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from ablations import machine, runner, stopping
from ablations.claims import ClaimHeld, ClaimLost, process_start
from ablations.executors._gpus import MOST, NvidiaSmi, Packer, peaks_mb
from ablations.executors.base import Ending, Executor, Job, State, Work, killed_by
from ablations.plan import config_hash
from ablations.schema import load_schema, tunable
from ablations.store import Store

SERVER_GONE = 255  # what multiprocessing makes of the end of the server; the process itself may live on
HELD = 75  # exit code of a process that found its run taken (EX_TEMPFAIL)
PATIENCE_S = 60.0  # that a run which was asked to stop has to reach a safe point and write its record
IMPATIENCE_S = 5.0  # the same, once it was asked twice


@dataclass(frozen=True)
class Options:
    """What a study may set."""

    workers: int | None = tunable(
        None, "runs at a time, unless --workers says; null for one a GPU or core", unit="runs", ge=1
    )
    per_gpu: int | None = tunable(
        1, "runs on one GPU where their memory, as measured, leaves room; null for as many as pay", unit="runs", ge=1
    )


class LocalJob(Job):
    """A folder waiting for a slot, or its process."""

    def __init__(self, run_dir: Path, executor: LocalExecutor):
        super().__init__(run_dir)
        self._executor = executor
        self._process: multiprocessing.process.BaseProcess | None = None
        self._last_words: Connection | None = None
        self._oom_kills = 0
        self._cancelled = False
        self._process_start: str | None = None
        self.slot: int | None = None
        self.crowded_out = False

    def start(self, slot: int, gpu: str | None, *, joined: bool) -> None:
        """Starts its process on a slot and a GPU, which other runs may join."""
        self.slot = slot
        self._oom_kills = machine.oom_kills()
        context = multiprocessing.get_context("forkserver")
        self._last_words, writer = context.Pipe(duplex=False)
        arguments = (str(self.run_dir), gpu, joined, writer)
        process = context.Process(target=_work, args=arguments, name=self.run_dir.name)
        try:
            process.start()
        except (EOFError, ConnectionError):  # the server was killed this moment; a new one takes its place
            time.sleep(0.1)
            process = context.Process(target=_work, args=arguments, name=self.run_dir.name)
            process.start()
        self._process, self._process_start = process, process_start(process.pid or 0)
        writer.close()

    def state(self) -> State:
        """Also starts whatever has a free slot by now."""
        self._executor.advance()
        return self._state()

    def _state(self) -> State:
        if self._process is None:
            return "ended" if self._cancelled else "queued"
        return "running" if self._process.is_alive() or self._outlives_its_server() else "ended"

    def _outlives_its_server(self) -> bool:
        """Whether its process lives on although the server that would tell of its end was killed."""
        if self._process is None or self._process.exitcode != SERVER_GONE or self._process_start is None:
            return False
        return process_start(self._process.pid or 0) == self._process_start

    @property
    def sentinel(self) -> int | None:
        """What becomes readable when its process ends; None where that will not tell."""
        return self._process.sentinel if self._process is not None and self._process.is_alive() else None

    def cancel(self) -> None:
        """Asks its process to end, or keeps it from starting."""
        self._cancelled = True
        self._send(signal.SIGTERM)

    def join(self, seconds: float) -> None:
        """Waits for its process to end, that many seconds at most."""
        if self._process is None:
            return
        until = time.monotonic() + seconds
        self._process.join(seconds)
        while self._outlives_its_server() and time.monotonic() < until:
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends its process without its consent, if it still lives."""
        self._send(signal.SIGKILL)

    def _send(self, sent: signal.Signals) -> None:
        if self._process is not None and self._process.pid is not None and self._state() == "running":
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, sent)

    def ending(self) -> Ending | None:
        """How its process ended where no record of its own can say it."""
        code = self._process.exitcode if self._process is not None else None
        if code is None or code in runner.EXIT_CODES.values():
            return Ending("crowded", "it found no memory beside other runs on its GPU") if self.crowded_out else None
        if code < 0:
            return killed_by(signal.Signals(-code), machine.oom_kills() > self._oom_kills)
        if code == HELD:
            return Ending("held", "left to the process that runs it already")
        if code == runner.UNRECORDED:
            return Ending("unrecorded", self._said() or "its outcome could not be written")
        if code == SERVER_GONE:
            return Ending("lost", "its process ended unseen, for the server that had forked it was gone")
        return Ending("lost", f"its process ended with exit code {code} and no record")

    def _said(self) -> str | None:
        try:
            return str(self._last_words.recv()) if self._last_words is not None and self._last_words.poll() else None
        except EOFError:
            return None


class LocalExecutor(Executor):
    """Several runs at a time on this machine.

    Args:
        workers: Runs at a time.
        threads: Computing threads of each run.
        gpus: Names of GPUs, as CUDA_VISIBLE_DEVICES takes them; slots take them in turn.
        experiment: What to import once for all runs, as ``package.module:name``; None for nothing.
        packer: Puts several runs on one GPU; without it a slot has one of ``gpus`` to itself.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        gpus: Sequence[str] = (),
        experiment: str | None = None,
        packer: Packer | None = None,
    ):
        self._packer = packer
        self._free = list(range(workers))[::-1]
        self._gpus = gpus
        self._waiting: deque[LocalJob] = deque()
        self._running: list[LocalJob] = []
        os.environ["OMP_NUM_THREADS"] = str(threads)  # the server's processes inherit it
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
            "1"  # asking whether there is a GPU must not start CUDA before a fork
        )
        os.environ["ABLATIONS_PRELOAD"] = experiment or ""
        os.environ["ABLATIONS_PRELOAD_PATH"] = os.pathsep.join(sys.path)  # the experiment may lie beside its study
        multiprocessing.set_forkserver_preload(["ablations.executors._preload"])
        forkserver.ensure_running()

    @classmethod
    def shares(cls, options: Options, workers: int | None, runs: int) -> tuple[int, int]:
        """Runs at a time on this machine, and threads of each."""
        packed = machine.gpus() * (options.per_gpu or MOST)
        return super().shares(options, workers or options.workers or packed or None, runs)

    @classmethod
    def start(cls, options: Options, work: Work) -> Self:
        """An executor of this machine."""
        gpus = machine.gpu_names()
        packer = _packer(work, gpus, options.per_gpu or MOST) if gpus and options.per_gpu != 1 else None
        return cls(work.at_once, work.threads, gpus, work.experiment, packer)

    def submit(self, run_dir: Path) -> Job:
        """Queues a folder; it starts as soon as a slot is free."""
        job = LocalJob(run_dir, self)
        self._waiting.append(job)
        self.advance()
        return job

    def advance(self) -> None:
        """Frees the slots of ended jobs and starts waiting ones."""
        for job in [job for job in self._running if job._state() == "ended"]:
            self._running.remove(job)
            self._free.append(job.slot or 0)
            if self._packer is not None:
                job.crowded_out = self._packer.ended(job.run_dir)
        if self._packer is not None:
            self._packer.watch()
        while self._free and self._waiting:
            if self._waiting[0]._state() == "ended":  # cancelled while it waited
                self._waiting.popleft()
                continue
            placed = self._place(self._waiting[0], self._free[-1])
            if placed is None:
                break
            job = self._waiting.popleft()
            job.start(self._free.pop(), placed[0], joined=placed[1])
            self._running.append(job)

    def _place(self, job: LocalJob, slot: int) -> tuple[str | None, bool] | None:
        """The GPU that a job gets and whether others may join it; None while there is no room for it."""
        if self._packer is not None:
            return self._packer.place(job.run_dir)
        return (self._gpus[slot % len(self._gpus)] if self._gpus else None), False

    def room(self) -> int:
        """Slots that are free and that no waiting folder will take."""
        self.advance()
        return len(self._free) - len(self._waiting)

    def wait(self, seconds: float) -> None:
        """Waits for the end of a process, so long at most."""
        alive = [job.sentinel for job in self._running if job.sentinel is not None]
        if not alive:
            time.sleep(seconds)
        else:
            connection.wait(alive, seconds)

    def close(self) -> None:
        """Cancels what has not ended and waits for its processes to have said so; if interrupted, not for long."""
        for job in (*self._waiting, *self._running):
            job.cancel()
        try:
            self._join(PATIENCE_S)
        except KeyboardInterrupt:
            for job in self._running:
                job.cancel()
            self._join(IMPATIENCE_S)
            raise
        finally:
            for job in self._running:
                job.kill()

    def _join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for job in self._running:
            job.join(max(0.0, until - time.monotonic()))


def _packer(work: Work, gpus: Sequence[str], most: int) -> Packer:
    """Packs the runs of an experiment, by what those in the results folder have taken."""
    schema = load_schema(work.experiment)

    def footprint(config: Mapping[str, Any]) -> str:
        return config_hash("", schema.footprint(config) if schema else config)

    return Packer(gpus, NvidiaSmi(), footprint, most, peaks_mb(Store(work.root), footprint))


def _work(run_dir: str, gpu: str | None, joined: bool, last_words: Connection) -> None:
    """The life of a run's process; what it prints goes to the folder's ``log.txt``."""
    os.setpgid(0, 0)  # a Ctrl-C in the terminal is for whoever launched it
    threading.Thread(target=_stop_if_orphaned, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # in which nvidia-smi counts them, too
    if joined:
        os.environ["ABLATIONS_GPU_SHARED"] = "1"
    try:
        _log_to(Path(run_dir) / "log.txt")
        code = runner.EXIT_CODES[runner.run(Path(run_dir))]
    except ClaimHeld:
        code = HELD
    except stopping.Stopped:
        code = runner.EXIT_CODES["interrupted"]
    except (runner.Unrecorded, ClaimLost, OSError) as error:
        code = runner.UNRECORDED
        last_words.send(runner.named(error))
    with contextlib.suppress(OSError):  # a full disk
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # the record is written: no thread that an experiment left behind may keep the slot


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)  # waits for no pipe
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))


def _stop_if_orphaned() -> None:
    """Waits for the death of the process that launched this one; then asks this one to stop."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)
