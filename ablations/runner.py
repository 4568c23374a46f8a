"""One run: claim -> Sacred -> experiment -> record. ``python -m ablations.runner RUN_DIR`` runs one by hand.

The runner knows Sacred and nothing of what an experiment does. Sacred's own files lie beside ours and are never
believed: it reports COMPLETED for runs whose files could not be written.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib
import json
import math
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from ablations import plan, schema
from ablations.errors import AblationsError, Diverged, RunFailed, one_of
from ablations.schema import flatten, nest
from ablations.store import FORMAT, ClaimHeld, claimed, read_json, read_metrics, write_atomic

RECORDED_PACKAGES = (
    "ablations", "datasets", "numpy", "sacred", "tokenizers", "torch", "transformers", "tree-sitter",
    "tree-sitter-java", "tree-sitter-python",
)  # fmt: skip
PROGRESS_EVERY_S = 1.0
# Sacred 0.8.7 warns of its own dependency at each import; nobody who reads it can act on it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
EXIT_CODES = {"completed": 0, "pruned": 0, "failed": 1, "diverged": 1, "interrupted": 130}


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal that asks the run to end, as an exception that unwinds it; says which signal it was."""


def load_experiment(reference: str) -> tuple[ModuleType, Any]:
    """The module and the Sacred experiment that ``package.module:name`` means.

    Raises:
        AblationsError: There is no such module or experiment, or the module cannot be imported.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise AblationsError(f"experiment {reference}: {module_name} cannot be imported: {error}") from error
    if not hasattr(module, name):
        kinds = [each for each, value in vars(module).items() if type(value).__name__ == "Experiment"]
        raise AblationsError(f"experiment {reference}: {one_of('experiment', name, kinds)}")
    return module, getattr(module, name)


def prepare(reference: str, configs: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Lets an experiment do once what all its runs share, if it has a function ``prepare``."""
    module, _ = load_experiment(reference)
    shared = getattr(module, "prepare", None)
    if shared is not None:
        shared(configs, say)


def preload(reference: str) -> None:
    """Imports what all runs of a machine share: the experiment and the modules it names in ``PRELOAD``.

    The hash of the sources is taken here, too, and kept: it is that of what was imported, whatever is edited later.
    """
    module, _ = load_experiment(reference)
    for name in getattr(module, "PRELOAD", ()):
        importlib.import_module(name)
    code_of(reference)


def run(run_dir: Path) -> str:
    """Runs what ``job.json`` of a folder describes, and records how it ended.

    What an experiment keeps in ``checkpoint/`` of the folder ($ABLATIONS_RUN_DIR) is there when the run is started
    again after an interruption, and removed once it has ended; $ABLATIONS_RUN_KEY names config, seed and code.

    Returns:
        The status that was recorded.

    Raises:
        ClaimHeld: Somebody else is running it.
    """
    job = read_json(run_dir / "job.json")
    if job is None:
        raise FileNotFoundError(f"{run_dir / 'job.json'}: expected the description of a run, found nothing")
    os.environ["ABLATIONS_RUN_DIR"] = str(run_dir.resolve())
    with claimed(run_dir):
        settled = _settled(run_dir, job)
        if settled:
            return settled
        job = _begin_attempt(run_dir, job)
        _limit_threads(job["settings"].get("threads"))
        code = code_of(job["experiment"])  # before the run: what is edited meanwhile is not what runs
        os.environ["ABLATIONS_RUN_KEY"] = f"{job['config_hash']}-s{job['seed']}-{code['package_hash']}"
        with _stoppable():
            outcome = _attempt(run_dir, job)
        record = {key: job[key] for key in ("run_id", "variant", "seed", "config_hash", "experiment", "config")}
        record |= {"format": FORMAT, "attempt": job["attempt"], "sacred": f"sacred/{_sacred_id(job)}", **outcome}
        record |= {"environment": environment(job["settings"]), "code": code}
        write_atomic(run_dir / "record.json", json.dumps(_finite(record), indent=1))
        if record["status"] != "interrupted":
            shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)
    return str(record["status"])


def _limit_threads(count: int | None) -> None:
    """Computing threads of this process, also of a torch that was imported before it was forked."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(count)


def _settled(run_dir: Path, job: Mapping[str, Any]) -> str | None:
    """The status of an outcome that stays; one that is to be replaced is put aside, never deleted."""
    record = read_json(run_dir / "record.json")
    if record is None:
        return None
    replaced = record["status"] in ("interrupted", "pruned") or (
        job["settings"].get("retry") and record["status"] in ("failed", "diverged")
    )
    if not replaced:
        return str(record["status"])
    os.replace(run_dir / "record.json", run_dir / f"record-a{record['attempt']}.json")
    return None


def _begin_attempt(run_dir: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Numbers this attempt after all that Sacred or we have seen of the run, and forgets how far the last one was."""
    seen = [path.name.rpartition("-a")[2] for path in (run_dir.parent.parent / "sacred").glob(f"{job['run_id']}-a*")]
    job = {**job, "attempt": max([job["attempt"], *(int(number) for number in seen if number.isdigit())]) + 1}
    write_atomic(run_dir / "job.json", json.dumps(job, indent=1))
    (run_dir / "progress.json").unlink(missing_ok=True)
    return job


def _attempt(run_dir: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the experiment under Sacred; returns status, error, times, scores and info."""
    started, clock = _now(), time.monotonic()
    status, error, scores, info = "completed", None, {}, {}
    sacred_run, log = None, MetricsLog(run_dir)
    try:
        with log:
            sacred_run = _sacred_run(run_dir, job, log)
            scores = _scores(sacred_run())
        info = dict(sacred_run.info)
        _check_result(scores, job["settings"].get("metric"))
    except Diverged as cause:
        status, error = "diverged", _described(cause)
    except KeyboardInterrupt as cause:
        pruned = _pruned(run_dir, job)
        status, error = ("pruned", None) if pruned else ("interrupted", _described(cause))
    except BaseException as cause:
        status, error = "failed", _described(cause)
        traceback.print_exc()
    if sacred_run is not None and not info:
        info = dict(sacred_run.info)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    cost = info.get("cost")
    info["cost"] = {"peak_memory_mb": memory_mb, **(cost if isinstance(cost, Mapping) else {})}
    ended = {"started": started, "ended": _now(), "seconds": log.earlier_s + time.monotonic() - clock}
    return {"status": status, "error": error, "scores": scores, "info": info, **ended}


def _check_result(scores: Mapping[str, float], metric: str | None) -> None:
    """A run without the metric that the study decides by has no result.

    Raises:
        RunFailed: It is absent or not finite.
    """
    if metric is not None and not math.isfinite(scores.get(metric, math.nan)):
        found = f"{scores[metric]}" if metric in scores else f"only {', '.join(sorted(scores)) or 'nothing'}"
        raise RunFailed(f"expected a finite {metric!r} among what the experiment returns, found {found}")


def _pruned(run_dir: Path, job: Mapping[str, Any]) -> bool:
    """Whether this attempt was stopped because it did not promise much, which whoever stops it says beforehand."""
    found = read_json(run_dir / "prune.json")
    return found is not None and found["attempt"] == job["attempt"]


def _sacred_run(run_dir: Path, job: Mapping[str, Any], log: MetricsLog) -> Any:
    """A Sacred run with one fresh observer, whose scalars also go to our own log at once."""
    import sacred
    from sacred.observers import FileStorageObserver

    sacred.SETTINGS.CAPTURE_MODE = "sys"  # the process's own output already goes to log.txt
    sacred.SETTINGS.HOST_INFO.INCLUDE_GPU_INFO = False  # it waits for nvidia-smi
    _, experiment = load_experiment(job["experiment"])
    experiment.observers = [FileStorageObserver(run_dir.parent.parent / "sacred", copy_sources=False)]
    updates = {**nest(job["config"]), "seed": job["seed"]}
    sacred_run = experiment._create_run(config_updates=updates, options={"--loglevel": "WARNING"})
    sacred_run._id = _sacred_id(job)
    to_sacred = sacred_run.log_scalar

    def log_scalar(metric_name: str, value: float, step: int | None = None) -> None:
        to_sacred(metric_name, float(value), step)
        log.add(metric_name, float(value), step)

    sacred_run.log_scalar = log_scalar
    return sacred_run


def _sacred_id(job: Mapping[str, Any]) -> str:
    return f"{job['run_id']}-a{job['attempt']}"


class MetricsLog:
    """Appends each value to ``metrics.jsonl`` as ``[metric, step, value, seconds]`` and keeps ``progress.json``.

    Two metrics are announcements: ``steps`` says how many steps the run has; ``rewind`` that the values after a step
    will be measured again, so that those in the file are dropped. A run that begins with a ``rewind`` goes on where an
    earlier attempt stopped: the values up to there stay, and seconds count on from the last of them.
    """

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._path = run_dir / "metrics.jsonl"
        self._file: IO[str] | None = None
        self.earlier_s = 0.0
        self._start = time.monotonic()
        self._written = -math.inf
        self._steps = self._step = 0
        self._values: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._write_progress()
        if self._file is None and (kind is None or not issubclass(kind, KeyboardInterrupt)):
            self._open("w")  # it has ended without a value: an earlier attempt's are not its own
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()

    def add(self, metric: str, value: float, step: int | None) -> None:
        """Takes one value or announcement."""
        step = None if step is None else int(step)  # numpy's are no JSON
        if metric == "steps" and step == 0:
            self._steps = int(value)
            return
        if metric == "rewind":
            self._rewind(int(value))
            return
        if step is None:  # as Sacred counts
            step = self._counts.get(metric, 0)
        self._counts[metric] = step + 1
        seconds = self.earlier_s + time.monotonic() - self._start
        file = self._file or self._open("w")  # not before: what an earlier attempt measured may be taken up
        file.write(json.dumps([metric, step, _finite(value), round(seconds, 3)]) + "\n")
        self._step, self._values[metric] = max(step, self._step), value
        if seconds - self._written >= PROGRESS_EVERY_S:
            self._written = seconds
            self._write_progress()

    def _rewind(self, step: int) -> None:
        kept = [entry for entry in read_metrics(self._path) if entry[1] <= step]
        if self._file is None:
            self.earlier_s = max((seconds for *_, seconds in kept), default=0.0)
        else:
            self._file.close()
        write_atomic(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._open("a")
        self._step, self._values = step, {metric: value for metric, _, value, _ in kept}
        self._counts = {metric: last + 1 for metric, last, *_ in kept}

    def _open(self, mode: str) -> IO[str]:
        """Opens the file so that each line is written as a whole, should the run be killed."""
        self._file = open(self._path, mode, encoding="utf-8", buffering=1)  # noqa: SIM115 - until __exit__
        return self._file

    def _write_progress(self) -> None:
        part = self._run_dir / ".progress.part"
        part.write_text(json.dumps({"step": self._step, "steps": self._steps, "values": _finite(self._values)}))
        os.replace(part, self._run_dir / "progress.json")


def _scores(result: object) -> dict[str, float]:
    """What an experiment returned, as named numbers: a number, or a dict with numbers in it at any depth."""
    if isinstance(result, Mapping):
        numbers = {name: value for name, value in flatten(result).items() if _is_number(value)}
        return {name: float(value) for name, value in numbers.items()}
    return {"result": float(result)} if _is_number(result) else {}  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    is_plain = not isinstance(value, (str, bool, bytes)) and getattr(value, "ndim", 0) == 0
    return is_plain and hasattr(value, "__float__")


def _finite(value: Any) -> Any:
    """The same with plain numbers, and null for those that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    return _finite(float(value)) if _is_number(value) else str(value)


def _described(cause: BaseException) -> dict[str, str]:
    return {
        "type": type(cause).__name__,
        "message": str(cause),
        "traceback": "".join(traceback.format_exception(cause)),
    }


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turns the first signal that asks to stop into :class:`Stopped`; later ones do not disturb the unwinding."""

    def stop(signum: int, frame: object) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(signum).name)

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield
        return
    before = {each: signal.signal(each, stop) for each in STOP_SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# -- provenance -----------------------------------------------------------------------------------------------


def environment(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run ran: no more of the machine than reproduction needs, and nothing of its environment variables."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "device": _device(),
        "host": socket.gethostname(),
        "threads": settings.get("threads"),
        "packages": versions,
    }


@functools.cache
def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


@functools.cache
def code_of(reference: str) -> dict[str, Any]:
    """Hash of an experiment's package and of what decides seeds; the commit they lie in (None outside a checkout)."""
    module, _ = load_experiment(reference)
    package = sys.modules[module.__name__.rpartition(".")[0] or module.__name__]
    source = Path(package.__file__ or "").resolve()
    root = source.parent if source.name == "__init__.py" else source
    status = _git(source.parent, "status", "--porcelain", "--", str(root))
    shared = [Path(each.__file__) for each in (plan, schema, sys.modules[__name__]) if each.__file__]
    return {
        "package_hash": tree_hash(root, *shared),
        "git_commit": _git(source.parent, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def tree_hash(*roots: Path) -> str:
    """SHA-256 over the names and contents of all Python files below folders, or of single files."""
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root.parent).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Runs the folder named on the command line; returns an exit code."""
    if len(arguments) != 1:
        print("usage: python -m ablations.runner RUN_DIR", file=sys.stderr)
        return 2
    run_dir = Path(arguments[0])
    job = read_json(run_dir / "job.json") or {}
    threads = job.get("settings", {}).get("threads")
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    try:
        status = run(run_dir)
    except (ClaimHeld, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{run_dir.name}: {status}")
    return EXIT_CODES[status]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
