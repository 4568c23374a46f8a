"""One run: claim -> Sacred -> experiment -> record. ``python -m ablations.runner RUN_DIR`` runs one by hand.

The runner knows Sacred and nothing of what an experiment does. Sacred's own files lie beside ours and are never
believed: it reports COMPLETED for runs whose files could not be written.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import errno
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
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations import handles, plan, schema, stopping
from ablations.claims import Claim, ClaimHeld, ClaimLost, claimed
from ablations.errors import AblationsError, Diverged, OutOfMemory, RunFailed, visible
from ablations.files import read_json, write_atomic
from ablations.metricslog import MetricsLog, finite, is_number
from ablations.sacredconfig import load_experiment
from ablations.schema import flatten, load_schema, look_beside, nest, source_of
from ablations.secrets import recorded_variables, without_credentials
from ablations.store import FORMAT, job_of, outcome_of, read_metrics, stays

RECORDED_PACKAGES = (
    "ablations", "datasets", "numpy", "sacred", "tokenizers", "torch", "transformers", "tree-sitter",
    "tree-sitter-java", "tree-sitter-python",
)  # fmt: skip
EXIT_CODES = {"completed": 0, "pruned": 0, "failed": 1, "diverged": 1, "interrupted": 130}
UNRECORDED = 74  # exit code of a run whose outcome could not be written (EX_IOERR)
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG, errno.ENOMEM}
LATE_IMPORTS = ("torch._dynamo",)  # at the first step of an optimizer: 1.3 s of each run that is forked without it
RESERVE_BYTES = 256 * 1024  # kept free for the record of a run that fills the disk


class Unrecorded(AblationsError):
    """A run's outcome could not be written; its text says what and why."""


def knows_us(reference: str) -> bool:
    """Whether an experiment is written for us, so that its ``prepare`` or ``info["data"]`` is what we mean by it."""
    return load_schema(reference) is not None


def prepare(reference: str, configs: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Lets an experiment that knows us do once what all its runs share, if it has a function ``prepare``."""
    module, _ = load_experiment(reference)
    shared = getattr(module, "prepare", None) if knows_us(reference) else None
    if shared is not None:
        shared(configs, say)


def preload(reference: str) -> None:
    """Imports what all runs of a machine share: the experiment and the modules it names in ``PRELOAD``.

    The hash of the sources is taken here, too, and kept: it is that of what was imported, whatever is edited later.
    """
    module, _ = load_experiment(reference)
    late = (name for name in LATE_IMPORTS if name.partition(".")[0] in sys.modules)
    for name in (*(getattr(module, "PRELOAD", ()) if knows_us(reference) else ()), *late):
        importlib.import_module(name)
    code_of(reference)
    imported_packages(reference)


def run(run_dir: Path) -> str:
    """Runs what ``job.json`` of a folder describes, and records how it ended.

    What an experiment keeps in ``checkpoint/`` of the folder ($ABLATIONS_RUN_DIR) is there when the run is started
    again after an interruption, and removed once it has ended; $ABLATIONS_RUN_KEY names config, seed and code.
    $ABLATIONS_KEEPS and $ABLATIONS_TAKES_OVER say what it shares with others (``ablations/sharing.py``).

    Returns:
        The status that was recorded.

    Raises:
        ClaimHeld: Somebody else is running it.
        Unrecorded: The outcome could not be written.
        Stopped: A signal came while the outcome was being written, which it is.
    """
    job = job_of(run_dir)
    if job is None:
        raise FileNotFoundError(f"{run_dir / 'job.json'}: expected the description of a run, found nothing")
    os.environ["ABLATIONS_RUN_DIR"] = str(run_dir.resolve())
    if job["settings"].get("folder"):
        look_beside(job["experiment"], Path(job["settings"]["folder"]))
    with stopping.noted(), claimed(run_dir, _stop_here, _stop_unless_told) as claim:
        settled = _settled(run_dir, job)
        if settled:
            return settled
        if handles.asked_to_stop(run_dir):  # while it was queued
            return "interrupted"
        job = _begin_attempt(run_dir, job)
        _limit_threads(job["settings"].get("threads"))
        _tell_what_is_shared(run_dir, job["settings"])
        code = code_of(job["experiment"])  # before the run: what is edited meanwhile is not what runs
        os.environ["ABLATIONS_RUN_KEY"] = f"{job['config_hash']}-s{job['seed']}-{code['package_hash']}"
        outcome = _attempt(run_dir, job)
        _record(run_dir, job, claim, code, outcome)
    return str(outcome["status"])


def _tell_what_is_shared(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Says in the environment what the run is to keep for others and which run's folder it may take over from."""
    source = settings.get("takes_over")
    told = {
        "ABLATIONS_KEEPS": settings.get("keeps"),
        "ABLATIONS_TAKES_OVER": str((run_dir.parent / source).resolve()) if source else None,
    }
    for name, value in told.items():
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value


def _stop_here() -> None:
    """Asks this process to stop, by a signal that it was not started to ignore."""
    ignores_it = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGINT if ignores_it else signal.SIGTERM)


def _stop_unless_told() -> None:
    """Asks this process to stop, unless a signal has already: asked twice, it would not reach a safe point."""
    if not stopping.told():
        _stop_here()


def _record(
    run_dir: Path, job: Mapping[str, Any], claim: Claim, code: Mapping[str, Any], outcome: Mapping[str, Any]
) -> None:
    """Writes the outcome of an attempt, unless the run is somebody else's by now."""
    record = {key: job[key] for key in ("run_id", "variant", "seed", "config_hash", "experiment", "config")}
    record |= {"format": FORMAT, "attempt": job["attempt"], "sacred": f"sacred/{_sacred_id(job)}", **outcome}
    record |= {"environment": environment(job["settings"], job["experiment"]), "code": code}
    try:
        _reserve(run_dir).unlink(missing_ok=True)
        with claim.kept():
            write_atomic(run_dir / "record.json", json.dumps(finite(record), indent=1))
    except OSError as error:
        cause = outcome["error"]
        found = f"{outcome['status']}" + (f", {cause['type']}: {cause['message']}" if cause else "")
        raise Unrecorded(f"its outcome ({found}) could not be written: {named(error)}") from error
    if outcome["status"] != "interrupted":
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)


def record_death(run_dir: Path, status: str, kind: str, message: str, seconds: float) -> None:
    """Records how an attempt ended whose own process can no longer say it; nothing where there is no such attempt.

    Args:
        run_dir: The run's folder.
        status: ``failed`` or ``interrupted``.
        kind: Stands for the type of an error.
        message: What is known.
        seconds: That it had lived.
    """
    job = job_of(run_dir)
    if job is None or read_json(run_dir / "claim.json") is None:
        return
    with contextlib.suppress(ClaimHeld, Unrecorded, OSError), claimed(run_dir) as claim:
        if (run_dir / "record.json").exists():
            return
        error = {"type": kind, "message": message, "traceback": "", "passing": False}
        ended = {"started": job.get("started"), "ended": _now(), "seconds": seconds}
        outcome: dict[str, Any] = {"status": status, "error": error, "scores": {}, "info": {"cost": {}}, **ended}
        _record(run_dir, job, claim, code_of(job["experiment"]), outcome)


def _limit_threads(count: int | None) -> None:
    """Computing threads of this process, also of a torch that was imported before it was forked."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(count)


def _settled(run_dir: Path, job: Mapping[str, Any]) -> str | None:
    """The status of an outcome that stays; one that is to be replaced is put aside, never deleted."""
    record = outcome_of(run_dir)
    if record is None:
        return None
    if stays(record, retry=bool(job["settings"].get("retry"))):
        return str(record["status"])
    os.replace(run_dir / "record.json", run_dir / f"record-a{record['attempt']}.json")
    return None


def _begin_attempt(run_dir: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Numbers this attempt after all that Sacred or we have seen of the run, and forgets how far the last one was."""
    earlier = list((run_dir.parent.parent / "sacred").glob(f"{job['run_id']}-a*"))
    for folder in earlier:
        _close(folder / "run.json")
    seen = [folder.name.rpartition("-a")[2] for folder in earlier]
    attempt = max([job["attempt"], *(int(number) for number in seen if number.isdigit())]) + 1
    job = {**job, "attempt": attempt, "started": _now()}
    write_atomic(run_dir / "job.json", json.dumps(job, indent=1))
    (run_dir / "progress.json").unlink(missing_ok=True)
    return job


def _close(path: Path) -> None:
    """Corrects what Sacred says of an earlier attempt that was killed: it runs no more."""
    with contextlib.suppress(AblationsError, OSError):
        entry = read_json(path)
        if entry and entry.get("status") == "RUNNING":
            write_atomic(path, json.dumps({**entry, "status": "INTERRUPTED"}))


def _reserve(run_dir: Path) -> Path:
    return run_dir / ".reserve"


def _attempt(run_dir: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the experiment under Sacred; returns status, error, times, scores and info."""
    clock = time.monotonic()
    status, error, scores = "completed", None, {}
    info: dict[str, Any] = {}
    ours = knows_us(job["experiment"])
    sacred_run, log = None, MetricsLog(run_dir, announced=ours)
    try:
        with stopping.heeded():
            _reserve(run_dir).write_bytes(bytes(RESERVE_BYTES))
            with log:
                with stopping.at_safe_points():
                    sacred_run = _sacred_run(run_dir, job, log)
                with stopping.at_safe_points():
                    returned = sacred_run()
                scores = _scores(returned)
            log.verify()
            if not ours:
                scores = scalar_scores(read_metrics(run_dir / "metrics.jsonl")) | scores
            _check_result(scores, job["settings"].get("metric"))
    except Diverged as cause:
        status, error = "diverged", _described(cause)
    except KeyboardInterrupt as cause:
        pruned = _pruned(run_dir, job)
        status, error = ("pruned", None) if pruned else ("interrupted", _described(cause))
    except BaseException as cause:
        status, error = "failed", _described(cause)
        with contextlib.suppress(OSError):  # log.txt may lie on a full disk
            print(error["traceback"], end="", file=sys.stderr)
    if sacred_run is not None:
        info = dict(sacred_run.info) if ours else {"experiment": dict(sacred_run.info)}
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    cost = info.get("cost")
    info["cost"] = {"peak_memory_mb": memory_mb, **(cost if isinstance(cost, Mapping) else {})}
    ended = {"started": job["started"], "ended": _now(), "seconds": log.earlier_s + time.monotonic() - clock}
    return {"status": status, "error": error, "scores": scores, "info": info, **ended}


def _check_result(scores: Mapping[str, float], metric: str | None) -> None:
    """A run without the metric that the study decides by has no result.

    Raises:
        RunFailed: It is absent or not finite.
    """
    if metric is not None and not math.isfinite(scores.get(metric, math.nan)):
        found = f"{scores[metric]}" if metric in scores else f"only {', '.join(sorted(scores)) or 'nothing'}"
        raise RunFailed(f"expected a finite {metric!r} among what the experiment returns, found {found}")


def scalar_scores(points: Iterable[tuple[str, int, float, float]]) -> dict[str, float]:
    """Scores of logged scalars: the last value, and the least and greatest of those that are finite.

    Args:
        points: (scalar, step, value, seconds), in the order in which they were logged; a value may be None for NaN.

    >>> scalar_scores([("loss", 0, 2.0, 0.1), ("loss", 1, 0.5, 0.2), ("loss", 2, 1.0, 0.3)])
    {'loss.last': 1.0, 'loss.min': 0.5, 'loss.max': 2.0}
    """
    values: dict[str, list[float]] = {}
    for name, _, value, _ in points:
        values.setdefault(name, []).append(math.nan if value is None else value)
    scores: dict[str, float] = {}
    for name, logged in values.items():
        finite_ones = [value for value in logged if math.isfinite(value)] or [math.nan]
        scores |= {f"{name}.last": logged[-1], f"{name}.min": min(finite_ones), f"{name}.max": max(finite_ones)}
    return scores


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
    observer = FileStorageObserver(run_dir.parent.parent / "sacred", copy_sources=False)
    _keep_credentials_out(observer)
    experiment.observers = [observer]
    updates = {**nest(job["config"]), "seed": job["seed"]}
    options = {"--loglevel": "WARNING", "--force": True}  # unknown keys and types were refused before: no warnings
    sacred_run = experiment._create_run(config_updates=updates, options=options)
    sacred_run.main_function = _heeding(sacred_run.main_function)
    sacred_run._id = _sacred_id(job)
    to_sacred = sacred_run.log_scalar

    def log_scalar(metric_name: str, value: float, step: int | None = None) -> None:
        if metric_name != "elapsed":
            to_sacred(metric_name, float(value), step)
        log.add(metric_name, float(value), step)

    sacred_run.log_scalar = log_scalar
    return sacred_run


def _heeding(main: Callable[..., Any]) -> Callable[..., Any]:
    """An experiment that heeds signals, as nothing around it may: Sacred and imports swallow one, or trip over it."""

    @functools.wraps(main)
    def heeding(*arguments: Any, **named: Any) -> Any:
        with stopping.heeded():
            return main(*arguments, **named)

    return heeding


def _keep_credentials_out(observer: Any) -> None:
    """Takes credentials out of what Sacred writes of its own accord: the URLs of git remotes, tracebacks."""
    save = observer.save_json

    def save_json(content: Any, filename: str) -> None:
        save(content if filename == "metrics.json" else without_credentials(content), filename)

    observer.save_json = save_json


def _sacred_id(job: Mapping[str, Any]) -> str:
    return f"{job['run_id']}-a{job['attempt']}"


def _scores(result: object) -> dict[str, float]:
    """What an experiment returned, as named numbers: a number, or a dict with numbers in it at any depth."""
    if isinstance(result, Mapping):
        numbers = {name: value for name, value in flatten(result).items() if is_number(value)}
        return {name: float(value) for name, value in numbers.items()}
    return {"result": float(result)} if is_number(result) else {}  # type: ignore[arg-type]


def _shown(text: str) -> str:
    """What may be written down and shown on a terminal of whatever an experiment has raised."""
    return "\n".join(visible(line.expandtabs(4), 2000) for line in without_credentials(text).splitlines())


def _described(cause: BaseException) -> dict[str, Any]:
    number = cause.errno if isinstance(cause, OSError) else None
    crowded = isinstance(cause, OutOfMemory) and bool(os.environ.get("ABLATIONS_GPU_SHARED"))
    return {
        "type": type(cause).__name__,
        "message": _shown(named(cause)),
        "traceback": _shown("".join(traceback.format_exception(cause))) + "\n",
        "passing": number in PASSING or crowded,  # whether the reason lies outside of the run and may pass
    }


def named(error: BaseException) -> str:
    """An error in words; the system's with their names: ``ENOSPC, No space left on device: metrics.jsonl``."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    path = f": {error.filename}" if error.filename else ""
    return f"{errno.errorcode.get(error.errno, error.errno)}, {error.strerror}{path}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# -- provenance -----------------------------------------------------------------------------------------------


def environment(settings: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    """Where a run ran: no more of the machine and its environment variables than reproduction needs."""
    versions = {}
    for name in dict.fromkeys((*RECORDED_PACKAGES, *imported_packages(experiment))):
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
        "variables": recorded_variables(),
    }


@functools.cache
def imported_packages(reference: str) -> tuple[str, ...]:
    """Names of the installed packages that an experiment's own module imports; none where it cannot be read."""
    path = source_of(reference.partition(":")[0])
    try:
        tree = ast.parse(path.read_bytes()) if path else ast.Module([], [])
    except (OSError, SyntaxError):
        return ()
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    packages = metadata.packages_distributions()
    return tuple(sorted({each for name in names for each in packages.get(name.partition(".")[0], ())}))


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
    """Hash of an experiment's sources and of what decides seeds; the commit they lie in (None outside a checkout).

    The sources are the package that the experiment's module lies in, or, of a script in no package, the script and what
    it has imported that lies below its folder.
    """
    module, _ = load_experiment(reference)
    package = module.__name__.rpartition(".")[0]
    source = Path(sys.modules[package or module.__name__].__file__ or "").resolve()
    roots = [source.parent if source.name == "__init__.py" else source]
    if not package and source.name != "__init__.py":
        roots = _beside(source)
    status = _git(source.parent, "status", "--porcelain", "--", *map(str, roots))
    shared = [Path(each.__file__) for each in (plan, schema, sys.modules[__name__]) if each.__file__]
    return {
        "package_hash": tree_hash(*roots, *shared),
        "git_commit": _git(source.parent, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def _beside(script: Path) -> list[Path]:
    """A script and the imported modules that lie below its folder and are its own."""
    files = [getattr(each, "__file__", None) or "" for each in list(sys.modules.values())]
    paths = {Path(each).resolve() for each in files if os.path.isabs(each) and each.endswith(".py")}
    inner = {path for path in paths if path.is_relative_to(script.parent) and path.is_file()}
    foreign = {"site-packages", "ablations"}
    own = {path for path in inner if not foreign & set(path.relative_to(script.parent).parts)}
    return sorted(own | {script})


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
    try:
        threads = (job_of(run_dir) or {}).get("settings", {}).get("threads")
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
        status = run(run_dir)
    except (ClaimHeld, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except (Unrecorded, ClaimLost, OSError) as error:
        print(f"{run_dir.name}: {named(error)}", file=sys.stderr)
        return UNRECORDED
    except AblationsError as error:
        print(error, file=sys.stderr)
        return 2
    except stopping.Stopped:
        return EXIT_CODES["interrupted"]
    print(f"{run_dir.name}: {status}")
    return EXIT_CODES[status]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
