import contextlib
import ctypes
import fcntl
import json
import math
import os
import random
import resource
import signal
import time
from pathlib import Path

from sacred import Experiment

from ablations import stopping
from ablations.errors import Diverged
from ablations.files import read_json, write_atomic
from ablations.schema import nest, schema_of
from walk.config import Config

ex = Experiment("walk", save_git_info=False)
ex.add_config(nest(schema_of(Config).defaults()))


@ex.main
def run(walk, trouble, seed, _run):
    kind = trouble["kind"] if trouble["seed"] in (-1, seed) else "none"
    path = Path(os.environ["ABLATIONS_RUN_DIR"]) / "checkpoint" / "state.json"
    path.parent.mkdir(exist_ok=True)
    state = read_json(path) or {"step": 0, "position": 0.0}
    _run.log_scalar("steps", walk["steps"], 0)
    if state["step"]:
        _run.log_scalar("rewind", state["step"], state["step"])
    with _a_device_of_its_own(), stopping.at_safe_points() as stop_wanted:
        while state["step"] < walk["steps"]:
            state = _step(state, walk, seed, _run.log_scalar, kind)
            _hold(state["step"], stop_wanted)
            if stop_wanted() or state["step"] % walk["every_steps"] == 0:
                write_atomic(path, json.dumps(state))
                _say(seed, walk["size"], "keeps", state["step"])
            if stop_wanted():
                stopping.stop()
    return {"position": float("nan") if kind == "nan" else state["position"]}


def _step(state, walk, seed, log, kind):
    step = state["step"] + 1
    position = state["position"] + random.Random(f"{seed}:{step}").gauss(0, walk["size"])
    _say(seed, walk["size"], "takes", step)
    if step == walk["steps"] // 2:
        _stumble(kind)
    with contextlib.suppress(OSError) if kind == "swallow" else contextlib.nullcontext():
        for _ in range(walk["values"]):
            log("position", position, step)
    time.sleep(walk["pause_ms"] / 1000)
    return {"step": step, "position": position}


def _say(seed, size, what, step):
    """A line of the test's own, in one piece, whoever writes at the same time."""
    if os.environ.get("WALK_LEDGER"):
        handle = os.open(os.environ["WALK_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{size} {seed} {os.getpid()} {what} {step}\n".encode())
        os.close(handle)


def _hold(step, stop_wanted):
    """A test that acts in the middle of a run holds it there, however slow the machine is."""
    ledger = os.environ.get("WALK_LEDGER")
    while ledger and not stop_wanted() and step >= _held_at(Path(ledger).with_name("hold")):
        time.sleep(0.02)


def _held_at(hold):
    try:
        return int(hold.read_text())
    except OSError:
        return math.inf


@contextlib.contextmanager
def _a_device_of_its_own():
    """Where devices are watched, a run that shares one fails."""
    if not os.environ.get("WALK_DEVICES"):
        yield
        return
    device = f"{os.environ['SLURMD_NODENAME']}-gpu-{os.environ['CUDA_VISIBLE_DEVICES'] or 'none'}"
    with open(Path(os.environ["WALK_DEVICES"], device), "w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _stumble(kind):
    if kind == "error":
        raise ValueError("the walker fell")
    if kind == "diverge":
        raise Diverged("step 30: the walker left the map")
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "abort":
        os.abort()
    if kind == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "linger":
        time.sleep(60)
    if kind == "greed":
        held = bytearray(b"x" * 2**29)
        time.sleep(20)
        held.clear()
    if kind == "memory":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        bytearray(2**30)
    if kind == "oom":
        Path(os.environ["WALK_CGROUP"], "cgroup.procs").write_text(str(os.getpid()))
        held = [bytearray(b"x" * 2**22) for _ in range(2**7)]  # 512 MiB, or what the group grants
        held.clear()
