"""What many runs and many workers cost: ``python benchmarks/scale.py [--runs 100000] [--workers 1000]``.

No training: the runs are records that are all alike, workers are entries of a simulated executor, and each part is
timed by itself, CPU seconds of this process and seconds by the clock (of claims: operations a second of several
processes). What grows with the number of runs, and what with that of workers, tells what breaks first; docs/scale.md
says what follows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations.claims import claimed
from ablations.executors.base import Ending, Executor, Job, State
from ablations.launch import Ended, Remaining, Snapshot, launch
from ablations.plan import RunKey, Variant
from ablations.sharing import share
from ablations.store import Store

SEEDS = 100
CLAIMERS = 8
RECORD: dict[str, Any] = {
    "format": 1, "experiment": "scale:ex", "config": {f"section.parameter_{number}": number for number in range(60)},
    "status": "completed", "error": None, "scores": {f"test_{number}": 0.123456789 + number for number in range(12)},
    "seconds": 60.0, "attempt": 1, "started": "2026-11-25T10:00:00+00:00", "ended": "2026-11-25T10:01:00+00:00",
    "info": {"cost": {f"part_{number}": 1.5 * number for number in range(12)} | {"flops": 1e15}, "notes": "x" * 4000},
    "environment": {"host": "here", "device": "cpu", "threads": 1, "packages": {}},
    "code": {"package_hash": "0" * 64, "git_commit": None, "git_dirty": None},
}  # fmt: skip


def plan(runs: int) -> tuple[dict[str, Variant], list[RunKey]]:
    """So many runs: variants of which each has 100 seeds."""
    names = [f"arm-{number:05d}" for number in range(max(1, runs // SEEDS))]
    variants = {
        name: Variant(name, None, "", {}, MappingProxyType({"at": name}), f"{at:064x}"[::-1], "")
        for at, name in enumerate(names)
    }
    keys = [RunKey(name, seed, each.config_hash) for seed in range(SEEDS) for name, each in variants.items()]
    return variants, keys[:runs]


class InstantJob(Job):
    """A run that ends at the tick that the benchmark says, with a record."""

    def __init__(self, run_dir: Path, executor: Workers):
        super().__init__(run_dir)
        self._executor, self.at = executor, executor.tick + executor.lasts

    def state(self) -> State:
        return "ended" if self._executor.tick >= self.at else "running"

    def cancel(self) -> None:
        """Nothing runs."""

    def ending(self) -> Ending | None:
        return Ending("unrecorded", "simulated")


class Workers(Executor):
    """So many workers, whose runs each last so many ticks; a tick takes no time."""

    def __init__(self, workers: int, lasts: int):
        self.workers, self.lasts, self.tick = workers, lasts, 0
        self._running: list[InstantJob] = []

    def submit(self, run_dir: Path) -> Job:
        self._running.append(InstantJob(run_dir, self))
        return self._running[-1]

    def room(self) -> int:
        self._running = [job for job in self._running if job.at > self.tick]
        return self.workers - len(self._running)

    def wait(self, seconds: float) -> None:
        self.tick += 1

    def close(self) -> None:
        """Holds nothing."""


class Silent:
    """A watcher that counts."""

    ticks = 0

    def ended(self, run: Ended, snapshot: Snapshot) -> None:
        """Nothing is shown."""

    def tick(self, snapshot: Snapshot) -> None:
        self.ticks += 1


def timed(what: str, work: Callable[[], Any], per: int | None = None, unit: str = "run") -> Any:
    """Does something and prints the CPU seconds that it took, by the clock, and CPU time of each."""
    begun, clock = time.process_time(), time.perf_counter()
    found = work()
    taken, clock = time.process_time() - begun, time.perf_counter() - clock
    each = f"{taken / per * 1e6:10.0f} us a {unit}" if per else ""
    print(f"{what:58} {taken:9.3f} s {clock:9.3f} s{each}", flush=True)
    return found


def time_launcher(folder: Path, runs: int, workers: int) -> None:
    """The launcher: planning, the jobs' files, and what a moment costs while so many run."""
    variants, keys = plan(runs)
    timed(f"plan what {runs} runs share", lambda: share(keys, variants, lambda config: None), runs)
    store, watcher = Store(folder / "launched"), Silent()
    executor = Workers(workers, lasts=5)
    remaining = Remaining(dict.fromkeys(variants, 60.0), workers)
    settings: Mapping[str, object] = {"threads": 1}
    timed(
        f"launch {runs} runs on {workers} workers, in all",
        lambda: launch(store, executor, keys, variants, "scale:ex", remaining, watcher, **settings),
        runs,
    )
    print(f"{'  in so many looks at what runs':58} {watcher.ticks:9d}")


def time_moment(folder: Path, runs: int, workers: int) -> None:
    """One look at what runs, of a launch of few and of many runs: it must cost the same."""
    variants, keys = plan(runs)
    store, executor = Store(folder / "moment"), Workers(workers, lasts=40)
    todo: Sequence[RunKey] = keys[: workers + 1]
    for key in todo:
        store.run_dir(key.run_id).mkdir(parents=True)
        (store.run_dir(key.run_id) / "progress.json").write_text('{"step": 5, "steps": 10, "values": {"loss": 1.0}}')
    watcher, begun = Silent(), time.process_time()
    launch(store, executor, todo, variants, "scale:ex", Remaining(dict.fromkeys(variants, 60.0), workers), watcher)
    taken = (time.process_time() - begun) / watcher.ticks
    print(f"{f'one look at {workers} running runs (5 a second)':58} {taken:9.3f} s")


def write_records(store: Store, keys: Sequence[RunKey]) -> None:
    """A record for each run, all alike."""
    for key in keys:
        folder = store.run_dir(key.run_id)
        folder.mkdir(parents=True)
        own = {"run_id": key.run_id, "variant": key.variant, "seed": key.seed, "config_hash": key.config_hash}
        (folder / "record.json").write_text(json.dumps({**RECORD, **own}))


def time_records(folder: Path, runs: int) -> None:
    """Reading what has ended: folder scans, records, the index made anew and read."""
    _, keys = plan(runs)
    store = Store(folder / "ended")
    timed(f"write {runs} records (this benchmark's own work)", lambda: write_records(store, keys))
    time.sleep(3)  # younger records are not trusted to the index
    timed(f"status of {runs} runs, folder by folder", lambda: [store.status(key.run_id) for key in keys], runs)
    timed(f"what of {runs} runs has no outcome, record by record", lambda: store.unsettled(keys), runs)
    timed(f"index of {runs} runs, made anew", store.summaries, runs)
    timed(f"index of {runs} runs, read", store.summaries, runs)
    print(f"{'  its size':58} {(store.root / 'index.json').stat().st_size / 1e6:9.1f} MB")


def _claim(folder: str, seconds: float, shared: bool, count: Any) -> None:
    own = Path(folder) / ("one" if shared else str(os.getpid()))
    own.mkdir(parents=True, exist_ok=True)
    until, done = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        try:
            with claimed(own):
                done += 1
        except Exception:  # held by another, which is what is measured
            continue
    with count.get_lock():
        count.value += done


def time_claims(folder: Path, seconds: float = 3.0) -> None:
    """Claims a second: each process with a run of its own, and all with one run."""
    for shared, words in ((False, "runs of their own"), (True, "one run")):
        count = multiprocessing.Value("i", 0)
        arguments = (str(folder / f"claims-{shared}"), seconds, shared, count)
        processes = [multiprocessing.Process(target=_claim, args=arguments) for _ in range(CLAIMERS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        print(f"{f'claims by {CLAIMERS} processes, {words}':58} {count.value / seconds:9.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        time_moment(folder, given.runs, given.workers)
        time_launcher(folder, given.runs, given.workers)
        time_records(folder, given.runs)
        time_claims(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
