"""Hands runs to Slurm as arrays of jobs, through submitit; they go on when whoever submitted them has gone.

submitit writes the script of an array and submits it. What it would say of jobs is not asked: it takes preempted and
lost ones for failed, and without accounts never sees the end of a killed one. How a job stands is what Slurm's queue
says, and the outcome of a run what its own record says. On the node, ``_slurm_task`` minds the run.

Layout: ``results/slurm/<batch>/`` holds ``batch.json`` (the runs of the array), ``job-<id>`` once it is submitted, the
script, ``<task>.out`` (what Slurm printed) and ``<task>.json`` (the last words of a task that has ended for good). A
batch's name is that of its jobs in Slurm: whoever submits may be killed before the id is noted.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import math
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from ablations import handles
from ablations.errors import AblationsError
from ablations.executors import _slurm_queue as slurm
from ablations.executors.base import Ending, Executor, Job, State, Unreachable, Work
from ablations.files import read_json, write_atomic
from ablations.schema import tunable
from ablations.store import job_of, outcome_of, stays

TIME = re.compile(r"\d+(:\d{1,2}){0,2}|\d+-\d{1,2}(:\d{1,2}){0,2}")
MEMORY = re.compile(r"\d+[KMGT]?")
PARAMETER = re.compile(r"--[a-z][a-z-]*(=.+)?", re.DOTALL)
OWN = {"partition": "partition", "time": "time", "mem": "memory", "cpus-per-task": "cpus", "gpus-per-node": "gpus"}
OURS = {
    "array", "job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "ntasks", "nodes", "wrap",
    "wait", "parsable",
}  # fmt: skip
OF_GPUS = ("gpu", "gres", "exclusive", "tres-per")  # what may grant GPUs begins so
WORDS_EVERY_S = 1.0  # how often last words are looked for
BELIEVED_S = 3.0  # after which a job that Slurm has ended will have no last words: a shared folder may show them late
AGAIN_S = 10.0  # after which a controller that did not answer is asked again
OOM = re.compile(r"exceeded (job )?memory limit|oom[-_ ]kill|out of memory", re.IGNORECASE)
BEGINS = "== begins"  # what a task prints first, each time it is begun


@dataclass(frozen=True)
class Options:
    """What a study may set of Slurm."""

    partition: str | None = tunable(None, "partition; null for Slurm's default")
    gpus: int = tunable(0, "GPUs of each run", unit="GPUs", ge=0)
    cpus: int = tunable(1, "processor cores of each run, which are its computing threads", unit="cores", ge=1)
    time: str | None = tunable(None, 'time limit in Slurm\'s words, e.g. "90" (minutes) or "4:00:00"; null for its own')
    memory: str | None = tunable(None, "memory of each run, e.g. 16G; null for Slurm's default")
    at_once: int | None = tunable(None, "runs of an array at a time, unless --workers says; null for all", ge=1)
    warn_s: int = tunable(120, "time before its limit at which a run is told to keep a checkpoint", unit="s", ge=1)
    setup: list[str] = tunable([], "lines of shell that come before each run, e.g. module load cuda")
    sbatch: list[str] = tunable([], "further parameters of sbatch, e.g. --qos=high")

    @staticmethod
    def cross_check(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What no type says: Slurm's words for time and memory, and parameters that have another place."""
        for key, form, example in (("time", TIME, '"4:00:00"'), ("memory", MEMORY, "16G")):
            if config[key] is not None and not form.fullmatch(config[key]):
                yield key, f"expected text such as {example}, found {config[key]!r}"
        for given in config["sbatch"]:
            name = given.partition("=")[0].removeprefix("--")
            if not PARAMETER.fullmatch(given):
                yield "sbatch", f"expected --name or --name=value, found {given!r}"
            elif name in OWN:
                yield "sbatch", f"--{name} has an option of its own: {OWN[name]}"
            elif name in OURS:
                yield "sbatch", f"--{name} is not for a study to set"

    def parameters(self) -> dict[str, Any]:
        """Parameters of sbatch by name; True for those without a value."""
        pairs = [each.removeprefix("--").partition("=") for each in self.sbatch]
        own = {
            "partition": self.partition,
            "time": self.time,
            "mem": self.memory,
            "cpus-per-task": self.cpus,
            "gpus-per-node": self.gpus or None,
            "signal": f"B:USR1@{self.warn_s}",
            "requeue": True,
        }
        further = {name: value if equals else True for name, equals, value in pairs}
        return {name: value for name, value in {**own, **further}.items() if value is not None}

    @property
    def grants_gpus(self) -> bool:
        """Whether anything that is asked for may grant a GPU."""
        return self.gpus > 0 or any(each.removeprefix("--").startswith(OF_GPUS) for each in self.sbatch)


@dataclass
class Batch:
    """An array of jobs and its folder.

    Attributes:
        folder: The folder; its name is that of the jobs.
        known: When it was known to be submitted, on this process's clock.
        own: Whether this process submitted it.
    """

    folder: Path
    known: float = math.inf
    own: bool = False
    _id: str | None = None
    _looked: float = -1e9
    _spoken: set[str] = field(default_factory=set)

    def id(self) -> str | None:
        """Its id in Slurm; None where it was never submitted. Raises Unreachable where that cannot be known."""
        if self._id is None:
            self._id = self._noted() or slurm.queue().id_of(self.folder.name)
        return self._id

    def submitted_before(self) -> bool:
        """Whether Slurm has it, or had; whoever is just submitting it is waited for. Raises as :meth:`id`."""
        if self._id is None and self._noted() is None:
            with submitting(self.folder.parent.parent):
                if self.id() is None:
                    return False
        self.see()
        return True

    def see(self) -> None:
        """Says that it is known by now."""
        self.known = min(self.known, time.monotonic())

    def _noted(self) -> str | None:
        found = next(self.folder.glob("job-*"), None)
        return found.name.removeprefix("job-") if found else None

    def note(self, job_id: str) -> None:
        """Notes that it was submitted this moment."""
        self._id, self.known, self.own = job_id, time.monotonic(), True
        (self.folder / f"job-{job_id}").touch()

    def last_words(self, task: int) -> dict[str, Any] | None:
        """What a task said when it ended for good, or None."""
        now, name = time.monotonic(), words_of(task)
        if now - self._looked > WORDS_EVERY_S:
            self._looked, self._spoken = now, {path.name for path in self.folder.glob("*.json")}
        return read_json(self.folder / name) if name in self._spoken else None

    def printed(self, task: int) -> str:
        """What Slurm printed since a task was last begun."""
        try:
            text = (self.folder / f"{task}.out").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return text.rpartition(BEGINS)[2]


@functools.cache
def batch_at(folder: Path) -> Batch:
    """The batch of a folder, one for this process."""
    return Batch(folder)


def batch_of(run_dir: Path, handle: Mapping[str, Any]) -> Batch:
    """The batch that the handle in a run's folder names."""
    return batch_at((run_dir.parent.parent / "slurm" / str(handle["batch"])).absolute())


@contextlib.contextmanager
def submitting(root: Path) -> Iterator[None]:
    """One process submits at a time: what the block sees of handles holds until it ends.

    Args:
        root: The results folder.
    """
    (root / "slurm").mkdir(exist_ok=True)
    with open(root / "slurm" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def words_of(task: int) -> str:
    """The file of a task's last words."""
    return f"{task}.json"


def stop_of(task: int) -> str:
    """The file that says of a task that it is not preempted, but to end."""
    return f"{task}.stop"


class SlurmJob(Job):
    """A task of an array, or a folder that waits to become one."""

    def __init__(self, run_dir: Path, executor: SlurmExecutor | None = None):
        super().__init__(run_dir)
        self._executor = executor
        self._batch: Batch | None = None
        self._task = 0
        self._withdrawn = self._overtaken = False
        self._asked = 0
        self._ended: float | None = None

    def place(self, batch: Batch, task: int) -> None:
        """Says which task it is."""
        self._batch, self._task = batch, task

    def adopt(self) -> bool:
        """Becomes the task that somebody else has submitted for its run meanwhile, if anybody has."""
        found = handles.submitted(self.run_dir)
        if found is None or found.executor != "slurm":
            return False
        batch = batch_of(self.run_dir, found.handle)
        batch.see()
        self.place(batch, int(found.handle["task"]))
        return True

    def is_overtaken(self) -> bool:
        """Whether another launch has had its run made meanwhile, so that there is nothing left to submit."""
        job = job_of(self.run_dir) or {"settings": {}}
        self._overtaken = stays(outcome_of(self.run_dir), retry=bool(job["settings"].get("retry")))
        return self._overtaken

    @property
    def name(self) -> str:
        """Its id in Slurm, e.g. ``17_3``."""
        return f"{self._batch.id()}_{self._task}" if self._batch else ""

    @property
    def waits_for(self) -> str:
        """Slurm's own reason, e.g. ``Resources``."""
        seen = self._seen(self._batch) if self._batch else None
        return seen.reason if seen is not None and seen.state == "queued" else ""

    @property
    def waits_here(self) -> bool:
        """Whether it is still to be submitted."""
        return self._batch is None and not (self._withdrawn or self._overtaken)

    def state(self) -> State:
        """How it stands in Slurm; also submits what waits."""
        if self._executor is not None:
            self._executor.advance()
        if self._batch is None:
            return "ended" if self._withdrawn or self._overtaken else "queued"
        if self._batch.last_words(self._task) is not None:
            return "ended"
        seen = self._seen(self._batch)
        if seen is not None and seen.state != "ended":
            self._ended = None
            return seen.state
        self._ended = self._ended or time.monotonic()
        return "ended" if time.monotonic() - self._ended > BELIEVED_S or not self._batch.own else "running"

    def _seen(self, batch: Batch) -> slurm.Seen | None:
        """How Slurm shows it; as waiting, where it cannot be asked; None where it has gone."""
        try:
            return slurm.queue().seen(self.name, batch.known)
        except Unreachable as error:
            return slurm.Seen("PENDING", str(error))

    def cancel(self) -> None:
        """Withdraws it, or has it keep a checkpoint and end; asked twice, it ends within what Slurm grants."""
        if self._batch is None:
            self._withdrawn = True
            return
        self._asked += 1
        running = self.state() == "running"
        gently = ("--batch", "--signal=TERM") if running and self._asked == 1 else ()
        (self._batch.folder / stop_of(self._task)).touch()
        slurm.ask("scancel", *gently, self.name)

    def ending(self) -> Ending | None:
        """What its last words say; without any, what Slurm says."""
        if self._withdrawn:
            return Ending("stopped", "withdrawn before it was submitted")
        if self._batch is None:
            return None
        words = self._batch.last_words(self._task)
        if words is not None:
            return Ending(words["kind"], words["text"]) if words["kind"] else None
        seen = self._seen(self._batch)
        if seen is not None and seen.state != "ended":
            return None
        seen = slurm.accounted(self.name) or seen or slurm.Seen("", "it is in Slurm's queue no more")
        return ending_of(seen, self._batch.printed(self._task))


def ending_of(seen: slurm.Seen, printed: str) -> Ending:
    """How a job ended that left no last words.

    Args:
        seen: As Slurm shows it.
        printed: What Slurm printed while it ran.
    """
    how = " ".join(filter(None, (seen.word, seen.reason)))
    if seen.word == "OUT_OF_MEMORY" or OOM.search(printed):
        return Ending("memory", f"Slurm killed it for taking more memory than it was granted ({how})")
    if seen.word == "CANCELLED":
        return Ending("stopped", "cancelled in Slurm")
    if seen.word in ("TIMEOUT", "DEADLINE"):
        return Ending("lost", "killed at its time limit before it had kept a checkpoint: raise time or warn_s")
    return Ending("lost", f"its Slurm job ended without a word ({how})")


class SlurmExecutor(Executor):
    """Runs as arrays of Slurm jobs.

    Args:
        options: What a study may set.
        study: Its name, with which the jobs' names begin.
        at_once: Throttle of each array.
        say: Takes a line for whoever waits.
    """

    outlasts: ClassVar[bool] = True

    def __init__(self, options: Options, study: str, at_once: int, say: Callable[[str], None]):
        self._options, self._study, self._at_once, self._say = options, study, at_once, say
        self._waiting: list[SlurmJob] = []
        self._most = max(1, int(slurm.configured("MaxArraySize") or 1001))
        self._open: tuple[Batch, Sequence[SlurmJob]] | None = None
        self._next_try = 0.0  # 0 unless the controller did not answer

    @classmethod
    def shares(cls, options: Options, workers: int | None, runs: int) -> tuple[int, int]:
        """The throttle of an array, and the cores of each run."""
        return max(1, min(workers or options.at_once or runs, runs)), options.cpus

    @classmethod
    def start(cls, options: Options, work: Work) -> Self:
        """An executor of the Slurm that this machine submits to.

        Raises:
            AblationsError: There is none, or a part of it or submitit is not installed.
        """
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise AblationsError("--executor slurm needs submitit: pip install 'ablations[slurm]'") from error
        try:
            made = cls(options, work.study, work.at_once, work.say)
        except Unreachable as error:
            raise AblationsError(f"--executor slurm needs a machine that submits jobs to Slurm: {error}") from error
        if absent := [name for name in ("sbatch", "srun") if not shutil.which(name)]:
            raise AblationsError(
                f"--executor slurm needs sbatch and srun (which submitit asks for): no {' and no '.join(absent)} here"
            )
        missing = slurm.without_accounts()
        if missing:
            work.say(
                f"Slurm keeps no accounts that can be asked ({missing}). Outcomes are read from the runs' own records; "
                "of a job that is killed without a word, less can be said of why."
            )
        return made

    @classmethod
    def attach(cls, run_dir: Path, handle: Mapping[str, Any]) -> Job | None:
        """The task of an array that any process has submitted; None where it never got to Slurm."""
        slurm.queue().look()
        batch = batch_of(run_dir, handle)
        if not batch.submitted_before():
            return None
        slurm.queue().look(batch.known)  # what was seen before it was submitted says nothing of it
        job = SlurmJob(run_dir)
        job.place(batch, int(handle["task"]))
        return job

    def submit(self, run_dir: Path) -> Job:
        """Accepts a folder; whatever was accepted by the time somebody asks becomes one array."""
        job = SlurmJob(run_dir, self)
        self._waiting.append(job)
        return job

    def advance(self) -> None:
        """Submits what waits; where the controller does not answer, later."""
        if not (self._open or self._waiting) or time.monotonic() < self._next_try:
            return
        with submitting((self._open[1] if self._open else self._waiting)[0].run_dir.parent.parent):
            while self._open or self._waiting:
                if not self._open:
                    waiting = [job for job in self._waiting if job.waits_here]
                    waiting = [job for job in waiting if not (job.adopt() or job.is_overtaken())]
                    array, self._waiting = waiting[: self._most], waiting[self._most :]
                    self._open = (described(array, self._study, self._options), array) if array else None
                elif self._handed_over(*self._open):
                    self._open = None
                else:
                    return

    def _handed_over(self, batch: Batch, array: Sequence[SlurmJob]) -> bool:
        """Whether Slurm has an array now; if its controller did not answer at first, it may have had it all along."""
        try:
            known = batch.id() if self._next_try else None
            batch.note(known or submit_array(batch.folder, len(array), self._at_once, self._options))
        except Unreachable as error:
            if not self._next_try:
                self._say(f"Slurm does not answer; trying again every {AGAIN_S:.0f} s ({error}).")
            self._next_try = time.monotonic() + AGAIN_S
            return False
        except AblationsError:
            for job in array:
                handles.forget(job.run_dir)
            raise
        self._next_try = 0.0
        for task, job in enumerate(array):
            job.place(batch, task)
        self._say(
            f"Slurm has {len(array)} run{'s' if len(array) > 1 else ''} as job {batch.id()}, {batch.folder.name}."
        )
        return True

    def leave(self) -> int:
        """Waits until Slurm has everything: its controller may not answer for a while."""
        self.advance()
        while self._open or self._waiting:
            self.wait(WORDS_EVERY_S)
            self.advance()
        return 0

    def close(self) -> None:
        """Leaves everything to Slurm."""


def described(array: Sequence[SlurmJob], study: str, options: Options) -> Batch:
    """The batch of an array, written down together with the handles of its runs before Slurm knows of it."""
    name = f"{study}-{uuid.uuid4().hex[:12]}"
    folder = (array[0].run_dir.parent.parent / "slurm" / name).absolute()
    folder.mkdir(parents=True)
    content = {"format": 1, "runs": [job.run_dir.name for job in array], "gpus": options.gpus}
    content["may_see_gpus"] = options.grants_gpus
    write_atomic(folder / "batch.json", json.dumps(content, indent=1))
    for task, job in enumerate(array):
        handles.record(job.run_dir, "slurm", {"batch": name, "task": task})
    return batch_at(folder)


def submit_array(folder: Path, count: int, at_once: int, options: Options) -> str:
    """Has submitit write the script of an array and submit it; returns the array's id.

    Raises:
        Unreachable: The controller did not answer.
        AblationsError: Slurm refused it; the text has its own words.
    """
    import submitit

    submitter = submitit.SlurmExecutor(folder)
    submitter.update_parameters(
        job_name=folder.name,
        time=None,
        wckey=None,
        use_srun=False,  # the task itself gets Slurm's signals
        stderr_to_stdout=True,
        setup=options.setup or None,
        array_parallelism=at_once,
        additional_parameters={**options.parameters(), "output": str(folder / "%a.out")},
    )
    submitter.parameters["map_count"] = count
    command = shlex.join([sys.executable, "-u", "-m", "ablations.executors._slurm_task", str(folder)])
    try:
        return str(submitter._submit_command(f"exec {command}").job_id)
    except submitit.core.utils.FailedJobError as error:
        words = " ".join(str(error).split())
        raise (Unreachable if slurm.NO_ANSWER.search(words) else AblationsError)(f"sbatch: {words}") from error
