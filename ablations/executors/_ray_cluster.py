"""Connecting to a Ray cluster, or starting one on this machine, and what it has to run with; starts no run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ablations import machine, stopping
from ablations.errors import AblationsError
from ablations.executors.base import Unreachable

REACH_S = 5.0  # to open a connection to the head of a cluster
CHECK_S = 120.0  # for a node to look whether it sees a folder; it may have to start a process for that
OBJECTS_BYTES = 80 * 2**20  # the least that Ray takes: a run hands nothing over in memory
LOG_BYTES = 16 * 2**20  # of each log of a cluster that is started here
PREFIX = "ablations-ray-"
NAMESPACE = "ablations"
LONGEST_FOLDER = 40  # characters: the sockets below it may have 107 in all


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: its id, its name with its address, and what Ray counts there."""

    id: str
    name: str
    has: Mapping[str, float] = field(hash=False)


def library() -> ModuleType:
    """The module ``ray``, which sends no statistics and keeps quiet.

    Raises:
        AblationsError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # read when it is imported
    try:
        import ray
    except ImportError as error:
        raise AblationsError(
            f"executor ray: {error}; expected the extra `ray`: pip install 'ablations[ray]'"
        ) from error
    return cast(ModuleType, ray)


# -- connecting -----------------------------------------------------------------------------------------------


def connected_to() -> str | None:
    """The address of the cluster that this process is connected to."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.get_runtime_context().gcs_address)


def connect(address: str) -> str:
    """Connects this process to a cluster, in place of another one that it is connected to.

    Args:
        address: ``host:port`` of its head, or ``auto`` for the one that this machine belongs to.

    Returns:
        ``host:port`` of its head.

    Raises:
        Unreachable: There is none, or it cannot be used from here.
    """
    now = connected_to()
    if now is not None and now == address:
        return now
    ray = library()
    if address != "auto":
        _check_reachable(address)
    disconnect()
    with own_signals(), _quiet():
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises whatever came to hand: of versions, sessions, tokens, addresses
            raise Unreachable(
                f"executor ray: cannot use the cluster at {address} from {socket.gethostname()}: {_first_line(error)} "
                "(ablations must be started on a machine of the cluster, with the cluster's versions of Ray and Python)"
            ) from error
    _hush(ray)
    return connected_to() or address


def disconnect() -> None:
    """Leaves the cluster that this process is connected to, if any."""
    if connected_to() is not None:
        library().shutdown()


def _hush(ray: ModuleType) -> None:
    """Keeps from the terminal what Ray says of lost workers, which no setting does: the runs' own ends are said."""
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda *said, **options: None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


class Refused(Unreachable):
    """A machine answers, and no cluster's head is there."""


def is_loopback(address: str) -> bool:
    """Whether an address means another machine wherever it is read."""
    return address.rpartition(":")[0].strip("[]") in ("localhost", "127.0.0.1", "::1")


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        kind = Refused if isinstance(error, ConnectionRefusedError) else Unreachable
        raise kind(
            f"executor ray: nothing answers at {address}: {error}; expected host:port of a cluster's head, as "
            "`ray start --head` says it, or local for a cluster of this machine alone"
        ) from error


@contextmanager
def own_signals() -> Iterator[None]:
    """Keeps Ray from taking SIGTERM for itself: whoever launches runs has plans for it."""
    before = {each: signal.getsignal(each) for each in stopping.STOP_SIGNALS}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # another thread than the main one, where Ray took none
            for each, handler in before.items():
                signal.signal(each, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from the terminal what Ray's native code says of networks while it starts; what is wrong, it raises."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


# -- a cluster of this machine --------------------------------------------------------------------------------


class LocalCluster:
    """A cluster of this machine alone, reachable from it alone, which ends with this process.

    Its files lie in a folder of its own that is removed with it; what a killed process has left is removed by the next.
    """

    def __init__(self) -> None:
        ray = library()
        parent = tempfile.gettempdir()
        parent = parent if len(parent) <= LONGEST_FOLDER else "/tmp"
        _remove_left_behind(Path(parent))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115  # held for as long as the cluster lives
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        settings = {
            "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
            "RAY_ROTATION_BACKUP_COUNT": "1",
            "TMPDIR": str(self.folder),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),  # keeps other users of this machine out; none is kept at home
        }
        with own_signals(), _quiet(), _environment(settings):
            ray.init(
                address="local", _node_ip_address="127.0.0.1", num_cpus=machine.cores(), num_gpus=machine.gpus(),
                object_store_memory=OBJECTS_BYTES, _temp_dir=str(self.folder), include_dashboard=False,
                namespace=NAMESPACE, log_to_driver=False, logging_level="error",
            )  # fmt: skip
        _hush(ray)

    def close(self) -> None:
        """Ends it, and removes its files."""
        library().shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables that are set for as long as the block runs, for processes that it starts."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(folder / "lock", "r+") as lock:  # another user's cannot be opened
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody who lives has it
            shutil.rmtree(folder, ignore_errors=True)


# -- what a cluster has ---------------------------------------------------------------------------------------


def nodes() -> list[Node]:
    """The machines of the cluster that are there at this moment."""
    found = [each for each in library().nodes() if each["Alive"]]
    return [
        Node(each["NodeID"], f"{each['NodeManagerHostname']} ({each['NodeManagerAddress']})", each["Resources"])
        for each in found
    ]


def slots(node: Node, asked: Mapping[str, float]) -> int:
    """How many runs that ask for so much a machine takes at a time.

    >>> slots(Node("", "", {"CPU": 8.0, "GPU": 1.0}), {"CPU": 1, "GPU": 0.3})
    3
    """
    return int(min(node.has.get(name, 0.0) / amount + 1e-9 for name, amount in asked.items() if amount))


def described(has: Mapping[str, float]) -> str:
    """Resources in words.

    >>> described({"CPU": 4.0, "GPU": 0.5, "memory": 2e9, "object_store_memory": 1e8, "node:10.0.0.1": 1.0})
    '4 CPU, 0.5 GPU, 2 GB memory'
    """
    order = {"CPU": 0, "GPU": 1, "memory": 2}
    hidden = ("object_store_memory", "node:", "accelerator_type:")
    named = [name for name, amount in has.items() if amount and not name.startswith(hidden)]
    shown = sorted(named, key=lambda name: (order.get(name, 3), name))
    words = [f"{has[name] / 1e9:.3g} GB memory" if name == "memory" else f"{has[name]:g} {name}" for name in shown]
    return ", ".join(words) or "nothing"


def nodes_for(asked: Mapping[str, float]) -> list[Node]:
    """The machines that can run what asks for so much.

    Raises:
        AblationsError: There are none: Ray would wait for one for ever.
    """
    present = nodes()
    fit = [node for node in present if slots(node, asked)]
    if not fit:
        has = "".join(f"\n  {node.name}: {described(node.has)}" for node in present)
        raise AblationsError(
            f"executor ray: a run asks for {described(asked)}, and no machine of the cluster has that:{has}"
        )
    return fit


def check_that_all_see(folder: Path, machines: Sequence[Node]) -> None:
    """Lets every machine read in a folder what is written there here, and look for the working directory.

    Raises:
        AblationsError: One cannot, or does not answer; says which, and why.
    """
    ray = library()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    said, mark = uuid.uuid4().hex, folder / f".ray-{uuid.uuid4().hex[:12]}"
    mark.write_text(said)
    looks = ray.remote(_what_it_lacks)
    try:
        asked = {
            looks.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(str(mark), said, os.getcwd()): node
            for node in machines
        }
        _wait_for_answers(ray, asked)
        there = {node.id for node in nodes()}
        lacks = {node: _answer(ray, look) for look, node in asked.items() if node.id in there}
    finally:
        mark.unlink(missing_ok=True)
    wrong = [f"{node.name}: {lack}" for node, lack in lacks.items() if lack]
    if wrong:
        raise AblationsError(
            f"executor ray: every machine that runs must see the folder of results {folder}, have ablations installed, "
            "and have the working directory:" + "".join(f"\n  {each}" for each in wrong)
        )


def _wait_for_answers(ray: ModuleType, asked: Mapping[Any, Node]) -> None:
    """Until every machine that is still there has answered, or has had the time."""
    until, open_looks = time.monotonic() + CHECK_S, list(asked)
    while open_looks and time.monotonic() < until:
        _, open_looks = ray.wait(open_looks, num_returns=len(open_looks), timeout=1.0)
        there = {node.id for node in nodes()}
        open_looks = [look for look in open_looks if asked[look].id in there]


def _answer(ray: ModuleType, look: Any) -> str:
    try:
        return str(ray.get(look, timeout=0))
    except ray.exceptions.GetTimeoutError:
        return f"has not answered within {CHECK_S:.0f} s"
    except ray.exceptions.RayError as error:
        return last_line(error)


def last_line(error: Exception) -> str:
    """The cause at the end of what Ray says of an error that was raised elsewhere."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _what_it_lacks(mark: str, said: str, directory: str) -> str:
    """What the machine that this runs on lacks, empty for nothing."""
    lacks = []
    for _ in range(20):  # a network's file system may show a new file late
        if (found := _read(mark)) == said:
            break
        time.sleep(0.1)
    else:
        lacks.append(f"does not see what was written to {Path(mark).parent} ({found})")
    if not Path(directory).is_dir():
        lacks.append(f"has no {directory}")
    return "; ".join(lacks)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        return str(error.strerror)
