"""Runs folders on this machine, each in a process of its own.

The processes are forked off one server that has imported the experiment and torch already: a run starts in
milliseconds instead of paying those imports each time. A slot is one worker: on a machine with GPUs, slot i sees
GPU i alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path

from ablations import runner
from ablations.executors.base import Executor, Job, State
from ablations.store import ClaimHeld

HELD = 75  # exit code of a process that found its run taken (EX_TEMPFAIL)
PATIENCE_S = 30.0  # that a stopped run has to write its record


class LocalJob(Job):
    """A folder waiting for a slot, or its process."""

    def __init__(self, run_dir: Path, executor: LocalExecutor):
        super().__init__(run_dir)
        self._executor = executor
        self._process: multiprocessing.process.BaseProcess | None = None
        self._cancelled = False
        self.slot: int | None = None

    def start(self, slot: int, gpu: str | None) -> None:
        """Starts its process on a slot."""
        self.slot = slot
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_work, args=(str(self.run_dir), gpu), name=self.run_dir.name)
        self._process.start()

    def state(self) -> State:
        """Also starts whatever has a free slot by now."""
        self._executor.advance()
        return self._state()

    def _state(self) -> State:
        if self._process is None:
            return "ended" if self._cancelled else "queued"
        return "running" if self._process.is_alive() else "ended"

    def cancel(self) -> None:
        """Asks its process to end, or keeps it from starting."""
        self._cancelled = True
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    def join(self, seconds: float) -> None:
        """Waits for its process to end; kills it after that many seconds."""
        if self._process is not None:
            self._process.join(seconds)
            if self._process.is_alive():
                self._process.kill()

    def ending(self) -> str | None:
        """How its process ended where no record can say it."""
        code = self._process.exitcode if self._process is not None else None
        if code is not None and code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{hint}"
        if code == HELD:
            return "left to the process that runs it already"
        return f"exit code {code}" if code not in (None, *runner.EXIT_CODES.values()) else None


class LocalExecutor(Executor):
    """Several runs at a time on this machine.

    Args:
        workers: Runs at a time.
        threads: Computing threads of each run.
        gpus: Names of GPUs, as CUDA_VISIBLE_DEVICES takes them; slots take them in turn.
        experiment: What to import once for all runs, as ``package.module:name``; None for nothing.
    """

    def __init__(self, workers: int, threads: int, gpus: Sequence[str] = (), experiment: str | None = None):
        self._free = list(range(workers))[::-1]
        self._gpus = gpus
        self._waiting: deque[LocalJob] = deque()
        self._running: list[LocalJob] = []
        os.environ["OMP_NUM_THREADS"] = str(threads)  # the server's processes inherit it
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
            "1"  # asking whether there is a GPU must not start CUDA before a fork
        )
        os.environ["ABLATIONS_PRELOAD"] = experiment or ""
        multiprocessing.set_forkserver_preload(["ablations.executors.preload"])
        forkserver.ensure_running()

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
        while self._free and self._waiting:
            job = self._waiting.popleft()
            if job._state() == "ended":  # cancelled while it waited
                continue
            slot = self._free.pop()
            job.start(slot, self._gpus[slot % len(self._gpus)] if self._gpus else None)
            self._running.append(job)

    def close(self) -> None:
        """Cancels what has not ended and waits for its processes to have said so."""
        for job in (*self._waiting, *self._running):
            job.cancel()
        until = time.monotonic() + PATIENCE_S
        for job in self._running:
            job.join(max(0.0, until - time.monotonic()))


def _work(run_dir: str, gpu: str | None) -> None:
    """The life of a run's process; what it prints goes to the folder's ``log.txt``."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    log = os.open(Path(run_dir) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    try:
        code = runner.EXIT_CODES[runner.run(Path(run_dir))]
    except ClaimHeld:
        code = HELD
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the record is written: no thread that an experiment left behind may keep the slot
