"""Runs folders on a Ray cluster: one that is there, or one of this machine that is started for the launch.

Each run is kept by an actor of its own, which runs it in a process beside it exactly as on a single machine
(:mod:`ablations.executors.local`): a checkpoint when it is asked to stop or when its actor is lost, the same words
for how it ended. On a cluster that is there the actors belong to nobody and outlive whoever submitted them; each ends
by itself with its run. Ray only places them: it never starts one again, for that is decided by the runs' folders.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ablations import handles, machine, runner, secrets
from ablations.errors import AblationsError
from ablations.executors import _ray_cluster as cluster
from ablations.executors.base import Ending, Executor, Job, State, Unreachable, Work
from ablations.executors.local import IMPATIENCE_S, PATIENCE_S, LocalExecutor
from ablations.schema import tunable

LOCAL = "local"
LINGER_S = 2.0  # that an actor stays after the end of its run: who waits is told in that time
GONE_S = 10.0  # that Ray has to end an actor after that
LOOK_EVERY_S = 5.0  # at whether the cluster can still run what waits
GRACE_S = 20.0  # that what no machine can run any more waits for one
POLL_S = 0.1
OF_A_PLACE = {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}  # Ray and the number of threads decide them


@dataclass(frozen=True)
class Options:
    """What a study may set; it may not be called what Ray's own options are, for ``memory`` there is no limit."""

    address: str | None = tunable(
        None, "host:port of a cluster's head, auto, or local for one of this machine; null for $RAY_ADDRESS, else local"
    )
    workers: int | None = tunable(
        None, "runs at a time, unless --workers says; null for what the cluster takes", unit="runs", ge=1
    )
    cpus: int = tunable(1, "processor cores of a run, which computes in as many threads", unit="cores", ge=1)
    gpus: float | None = tunable(
        None, "GPUs of a run: below 1 several share one; null for one where the cluster has any", unit="GPUs", ge=0
    )
    memory_gb: float = tunable(
        0.0, "memory that a machine must have free for a run; nothing keeps it from taking more", unit="GB", ge=0
    )
    resources: list[str] = tunable([], "what else a machine must have for it, name=amount as the cluster names it")
    variables: list[str] = tunable([], "names of environment variables that runs are given as they are here")

    @staticmethod
    def cross_check(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What Ray would refuse."""
        gpus = config["gpus"] or 0
        if gpus > 1 and gpus != int(gpus):
            yield "gpus", f"expected a whole number or a part of one GPU, found {gpus:g}"
        for text in config["resources"]:
            name, _, amount = text.partition("=")
            if not name or not _is_positive(amount):
                yield "resources", f"expected name=amount, found {text!r}"
        address = config["address"] or ""
        if "://" in address:
            yield "address", f"expected host:port, auto or local, found {address!r}: runs are launched in the cluster"


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _address(options: Options) -> str:
    return options.address or os.environ.get("RAY_ADDRESS") or LOCAL


def _is_users(folder: str) -> bool:
    """Whether a folder of modules belongs to no installation of Python: each machine has its own of those."""
    return not Path(folder).is_relative_to(sys.prefix) and not Path(folder).is_relative_to(sys.base_prefix)


@dataclass(frozen=True)
class Surroundings:
    """What a run has around it on this machine, and is to have on another."""

    directory: str = field(default_factory=os.getcwd)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(filter(_is_users, sys.path)))
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def with_variables(cls, names: list[str]) -> Surroundings:
        """Those of this process, with variables of these names and those that change numbers or are our own."""
        wanted = {*secrets.RECORDED_VARIABLES, *names} - OF_A_PLACE
        own = ("ABLATIONS_", "HF_", "PYTHONPATH")
        found = {name: value for name, value in os.environ.items() if name in wanted or name.startswith(own)}
        return cls(variables=found)

    def take_on(self) -> None:
        """Makes them those of this process, and of what it starts."""
        vars(sys.modules["__main__"]).pop("__file__", None)  # or each process would begin by running Ray's own
        os.chdir(self.directory)
        os.environ.update(self.variables)
        sys.path[:] = list(dict.fromkeys((*self.path, *sys.path)))


class Keeper:
    """Runs one folder on the machine where it is made, and ends with it: the actor."""

    def __init__(self, run_dir: str, surroundings: Surroundings, threads: int, experiment: str):
        surroundings.take_on()
        self._run_dir = Path(run_dir)
        if not (self._run_dir / "job.json").exists():
            raise AblationsError(f"{socket.gethostname()} does not see {run_dir}")
        self._since, self._over, self._asked_to_stop = time.monotonic(), False, False
        self._ending: Ending | None = None
        self._told = threading.Event()
        self._lock = threading.Lock()  # methods and the thread below ask for the process's state at once
        self._executor = LocalExecutor(1, threads, experiment=experiment)
        self._job = self._executor.submit(self._run_dir)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        """Waits for the end of the run; records it here, where its process was seen, if that could not."""
        while True:
            with self._lock:
                if self._job.state() == "ended":
                    break
            time.sleep(POLL_S)
        self._ending = self._job.ending()
        if self._ending is None and self._asked_to_stop:
            self._ending = Ending("stopped", "ended when it was asked to")
        if self._ending is not None and self._ending.as_recorded:
            lived_s = time.monotonic() - self._since
            runner.record_death(self._run_dir, *self._ending.as_recorded, self._ending.text, lived_s)
        self._over = True
        self._told.wait(LINGER_S)
        shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)  # of the server that forked the run
        threading.Timer(GONE_S, os._exit, (0,)).start()  # where the cluster is not there to end it any more
        ray = cluster.library()
        ray.kill(ray.get_runtime_context().current_actor)  # Ray would call an exit of its own accord a crash

    async def started(self) -> str:
        """The name of the machine, as soon as there is one."""
        return socket.gethostname()

    async def ended(self) -> Ending | None:
        """How the run ended, as :meth:`Job.ending` says it, once it has."""
        import asyncio

        while not self._over:
            await asyncio.sleep(POLL_S)
        return self._ending

    async def leave(self) -> None:
        """Lets it go at once when the run has ended."""
        self._told.set()

    async def cancel(self) -> None:
        """Asks the run to end."""
        self._asked_to_stop = True
        with self._lock:
            self._job.cancel()


class RayJob(Job):
    """A folder that waits for its turn here or in the cluster, or is run by its actor."""

    def __init__(self, run_dir: Path, executor: RayExecutor | None = None, actor: Any = None):
        super().__init__(run_dir)
        self._executor = executor
        self._ending: Ending | None = None
        self._is_over, self._cancelled = False, False
        self._homeless_since: float | None = None
        self._machine = ""
        self._actor: Any = None
        if actor is not None:
            self.follow(actor)

    def follow(self, actor: Any) -> None:
        """Takes an actor for its own."""
        self._actor = actor
        self._started, self._ended = actor.started.remote(), actor.ended.remote()

    @property
    def name(self) -> str:
        """The machine it runs on."""
        return f"on {self._machine}" if self._machine else ""

    def state(self) -> State:
        """Also submits whatever has its turn by now."""
        if self._executor is not None:
            self._executor.advance()
        return self.look()

    def look(self) -> State:
        """Whether it waits, runs or has ended, as Ray has told by now."""
        if self._is_over:
            return "ended"
        if self._actor is None:
            return "queued"
        ray = cluster.library()
        if not self._machine and ray.wait([self._started], timeout=0)[0]:
            with contextlib.suppress(ray.exceptions.RayError):
                self._machine = ray.get(self._started)
        if ray.wait([self._ended], timeout=0)[0]:
            self._hear(ray)
        elif not self._machine:
            self._check_home()
        return "ended" if self._is_over else "running" if self._machine else "queued"

    def _hear(self, ray: Any) -> None:
        """Takes the answer to how it ended."""
        try:
            self._end(ray.get(self._ended), by_itself=True)
        except ray.exceptions.ActorUnavailableError:  # of its machine nothing is heard just now: asked again
            self._ended = self._actor.ended.remote()
        except ray.exceptions.RayError as error:
            self._end(None if self._cancelled else Ending("lost", _loss(error)))

    def _check_home(self) -> None:
        """Gives it up where no machine of the cluster can run it any more: Ray would wait for ever."""
        why = self._executor.homeless() if self._executor is not None else None
        now = time.monotonic()
        self._homeless_since = None if why is None else self._homeless_since or now
        if why is not None and self._homeless_since is not None and now - self._homeless_since > GRACE_S:
            self._end(Ending("lost", why))

    def _end(self, ending: Ending | None, *, by_itself: bool = False) -> None:
        """Takes an ending, and gives back at once what its actor holds; a run without its actor stops by itself."""
        self._ending, self._is_over = ending, True
        if self._actor is not None:
            with contextlib.suppress(Exception):  # it may be gone, or its machine
                self._gone = self._actor.leave.remote() if by_itself else cluster.library().kill(self._actor)

    def lost(self, why: str) -> Self:
        """The job, which has ended unseen; a run that has a record has said how itself."""
        self._end(None if (self.run_dir / "record.json").exists() else Ending("lost", why))
        return self

    def cancel(self) -> None:
        """Asks the run to end, or keeps it from starting."""
        if self.look() == "running":
            self._asked = self._actor.cancel.remote()
        elif not self._is_over:
            self._cancelled = True
            self._end(None)
            handles.forget(self.run_dir)

    def ending(self) -> Ending | None:
        """How its process ended where no record of its own can say it."""
        return self._ending


def _loss(error: Exception) -> str:
    """Why an actor is gone, in words."""
    said = str(error)
    if "node" in said and ("node has died" in said or "node was terminated" in said or "node failure" in said.lower()):
        return "its machine has left the Ray cluster"
    if "worker process has died" in said:
        return "its Ray worker was killed"
    return f"its Ray actor died: {cluster.last_line(error)}"


class RayExecutor(Executor):
    """Submits each folder as an actor that asks the cluster for what a run needs.

    Args:
        options: What a study may set.
        work: What it is for.
    """

    outlasts = True

    def __init__(self, options: Options, work: Work):
        self._work = work
        self._waiting: deque[RayJob] = deque()
        self._jobs: list[RayJob] = []
        self._local = cluster.LocalCluster() if _address(options) == LOCAL else None
        self._looked, self._full_until = time.monotonic(), 0.0
        self._homeless: str | None = None
        try:
            self._address = cluster.connected_to() if self._local else cluster.connect(_address(options))
            self._asked = asked(options)
            able = cluster.nodes_for(self._asked)
            work.root.mkdir(parents=True, exist_ok=True)
            cluster.check_that_all_see(work.root.resolve(), able)
        except BaseException:
            self._disconnect()
            raise
        takes = sum(cluster.slots(node, self._asked) for node in able)
        self._most = work.at_once if work.at_once < takes else None
        self._surroundings = Surroundings.with_variables(options.variables)
        where = "of this machine" if self._local else f"at {self._address}"
        each = cluster.described(self._asked)
        work.say(f"Ray cluster {where}, machines that fit: {len(able)}; a run takes {each}; {takes} fit at a time.")

    @classmethod
    def start(cls, options: Options, work: Work) -> Self:
        """An executor of a cluster, or of one that it starts on this machine."""
        return cls(options, work)

    @classmethod
    def jobs_outlast(cls, options: Options) -> bool:
        """On a cluster of this machine that ends with the launch, they do not."""
        return _address(options) != LOCAL

    @classmethod
    def shares(cls, options: Options, workers: int | None, runs: int) -> tuple[int, int]:
        """Runs at a time, by what the cluster has, and threads of each, by what a run asks for."""
        most = workers or options.workers
        if most is None and runs and _address(options) != LOCAL:
            cluster.connect(_address(options))
            wanted = asked(options)
            most = sum(cluster.slots(node, wanted) for node in cluster.nodes_for(wanted))
        elif most is None:
            gpus = options.gpus if options.gpus is not None else min(1, machine.gpus())
            here = {"CPU": float(machine.cores()), "GPU": float(machine.gpus())}
            most = cluster.slots(cluster.Node("", "", here), {"CPU": options.cpus, "GPU": gpus})
        return max(1, min(most, runs)), options.cpus

    @classmethod
    def attach(cls, run_dir: Path, handle: Mapping[str, Any]) -> Job | None:
        """The job of a recorded handle; one that is lost where its cluster has it no more.

        Raises:
            Unreachable: This process or machine has nothing to do with that cluster.
        """
        here = cluster.connected_to()
        if here is not None and here != handle["address"]:
            raise Unreachable(f"this process is connected to another Ray cluster ({here})")
        try:
            cluster.connect(handle["address"])
            actor = cluster.library().get_actor(handle["actor"], namespace=cluster.NAMESPACE)
        except cluster.Refused:
            if cluster.is_loopback(handle["address"]) and handle["host"] != socket.gethostname():
                raise
            return RayJob(run_dir).lost(f"its Ray cluster at {handle['address']} is gone")
        except ValueError:
            return RayJob(run_dir).lost("its Ray actor is gone")
        return RayJob(run_dir, actor=actor)

    def submit(self, run_dir: Path) -> Job:
        """Hands a folder to the cluster as soon as it may have another run."""
        job = RayJob(run_dir, self)
        self._waiting.append(job)
        self.advance()
        return job

    def advance(self) -> None:
        """Hands over what waits, as far as runs at a time are not limited below what the cluster takes."""
        if not self._waiting or time.monotonic() < self._full_until:
            return
        self._jobs = [job for job in self._jobs if job.look() != "ended"]
        if self._most is not None and len(self._jobs) >= self._most:
            self._full_until = time.monotonic() + POLL_S  # each job that waits comes here when it is asked
        while self._waiting and (self._most is None or len(self._jobs) < self._most):
            job = self._waiting.popleft()
            if job.look() == "ended":  # cancelled while it waited
                continue
            job.follow(self._actor_for(job.run_dir))
            self._jobs.append(job)

    def _actor_for(self, run_dir: Path) -> Any:
        name = f"{run_dir.name}-{uuid.uuid4().hex[:12]}"
        if self._local is None:
            handle = {"address": self._address, "actor": name, "host": socket.gethostname()}
            handles.record(run_dir, "ray", handle)
        other = {name: amount for name, amount in self._asked.items() if name not in ("CPU", "GPU", "memory")}
        options: dict[str, Any] = {
            "name": name, "namespace": cluster.NAMESPACE, "lifetime": None if self._local else "detached",
            "max_restarts": 0, "num_cpus": self._asked["CPU"], "num_gpus": self._asked["GPU"],
            "memory": self._asked["memory"] or None, "resources": other,
        }  # fmt: skip
        made = cluster.library().remote(Keeper).options(**options)
        threads, experiment = self._work.threads, self._work.experiment
        return made.remote(str(run_dir.resolve()), self._surroundings, threads, experiment)

    def homeless(self) -> str | None:
        """Why no machine of the cluster can run what waits there, or None where one can; looked at now and then."""
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_S:
            self._looked, self._homeless = now, None
            try:
                cluster.nodes_for(self._asked)
            except AblationsError as error:
                self._homeless = str(error)
        return self._homeless

    def leave(self) -> int:
        """What waits here because runs at a time are limited below what the cluster takes is not begun."""
        self.advance()
        for job in self._waiting:
            job.cancel()
        return len(self._waiting)

    def close(self) -> None:
        """Leaves an existing cluster, whose runs go on; ends one of its own after its runs have kept a checkpoint."""
        try:
            if self._local is not None:
                self._stop_all()
        finally:
            self._disconnect()

    def _stop_all(self) -> None:
        for job in (*self._waiting, *self._jobs):
            job.cancel()
        try:
            self._wait(PATIENCE_S)
        except KeyboardInterrupt:
            for job in self._jobs:
                job.cancel()
            self._wait(IMPATIENCE_S)
            raise

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(job.look() != "ended" for job in self._jobs):
            time.sleep(POLL_S)

    def _disconnect(self) -> None:
        if self._local is not None:
            self._local.close()
        else:
            cluster.disconnect()


def asked(options: Options) -> dict[str, float]:
    """What a run asks the cluster for, under Ray's names."""
    other = dict(text.split("=", 1) for text in options.resources)
    gpus = options.gpus
    if gpus is None:
        gpus = min(1.0, max((node.has.get("GPU", 0.0) for node in cluster.nodes()), default=0.0))
    own = {"CPU": float(options.cpus), "GPU": gpus, "memory": options.memory_gb * 1e9}
    return {**{name: float(amount) for name, amount in other.items()}, **own}
