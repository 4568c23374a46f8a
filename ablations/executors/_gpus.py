"""Several runs on one GPU where one does not fill it: placed by measured memory, kept by measured speed.

The first run of a footprint (what decides how much memory a run takes, as the experiment says) is alone on its GPU and
is watched. Further ones join others where the sum of what all were seen to take leaves a margin, and where it pays: a
GPU takes no more runs at once than add at least 5 % to its samples per second. A run that nevertheless found no memory
beside others is run again alone. Runs are started in their order: a large one waits for room and is not overtaken.

Written without a GPU at hand: tried with simulated ones (tests/executors/test_gpus.py), not yet run on a real one.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import AblationsError
from ablations.files import read_json
from ablations.store import Store

MOST = 8  # runs on one GPU, whatever fits
MARGIN = 0.1  # of the memory that was free at first, never planned with
CONTEXT_MB = 1024.0  # of a process beside what it allocates: CUDA's context and libraries
UNSEEN = 1.25  # times what tensors took at most: what the allocator reserved for them, where that is not known
WORTH = 1.05  # times the samples per second of a GPU that one more run must bring
NEARLY = 0.25  # of a run: how near to a whole number the mean of a run's company must be to count as that number
WATCH_EVERY_S = 2.0


class Device(ABC):
    """Says how much memory a GPU has; names are those that CUDA_VISIBLE_DEVICES takes."""

    @abstractmethod
    def memory_mb(self, gpu: str) -> tuple[float, float]:
        """Free memory and memory in all, MiB.

        Raises:
            AblationsError: There is no such GPU, or it cannot be asked.
        """


class NvidiaSmi(Device):
    """Asks the driver's own program, which starts no CUDA in this process."""

    def memory_mb(self, gpu: str) -> tuple[float, float]:
        """Free memory and memory in all, MiB."""
        query = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
            free, total = (float(each) for each in done.stdout.strip().split(","))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise AblationsError(f"GPU {gpu}: expected its memory from nvidia-smi, found: {error}") from error
        return free, total


@dataclass
class _Tenant:
    """A run on a GPU.

    Attributes:
        footprint: What it is like.
        need_mb: What it is expected to take; None where that is being found out.
        alone: Whether no other run may join it.
        since: When it was placed.
        crowd_s: Runs that were on the GPU, itself included, times the seconds for which they were.
    """

    footprint: str
    need_mb: float | None
    alone: bool
    since: float
    crowd_s: float = 0.0


def peaks_mb(store: Store, footprint: Callable[[Mapping[str, Any]], str]) -> dict[str, float]:
    """The most memory that completed runs of a folder allocated on a GPU, by footprint.

    Args:
        store: Where the runs are.
        footprint: Of a flat config.
    """
    found: dict[str, tuple[str, float]] = {}  # by config hash: a run, and the most that any of that config took
    for run_id, run in store.summaries().items():
        if run["status"] == "completed" and run["device"] not in (None, "cpu") and run["peak_memory_mb"]:
            most = max(run["peak_memory_mb"], found.get(run["config_hash"], ("", 0.0))[1])
            found[run["config_hash"]] = run_id, most
    peaks: dict[str, float] = {}
    for run_id, most in found.values():
        record = store.read_record(run_id)
        reserved = ((record.get("info") or {}).get("cost") or {}).get("peak_reserved_mb") or 0.0
        name = footprint(record["config"])
        peaks[name] = max(most * UNSEEN, reserved, peaks.get(name, 0.0))
    return peaks


class Packer:
    """Decides which GPU a run goes to, and learns from how it ends.

    Args:
        gpus: Their names.
        device: Measures them.
        footprint: Of a flat config: runs that agree in it take as much memory.
        most: Runs on one GPU.
        peaks_mb: By footprint: the most memory that runs of earlier launches allocated.
        clock: Seconds.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        device: Device,
        footprint: Callable[[Mapping[str, Any]], str],
        most: int = MOST,
        peaks_mb: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._device, self._footprint, self._most, self._clock = device, footprint, most, clock
        self._free_mb = {gpu: device.memory_mb(gpu)[0] for gpu in gpus}  # before any of our runs
        self._on: dict[str, dict[Path, _Tenant]] = {gpu: {} for gpu in gpus}
        self._needs_mb = {name: peak + CONTEXT_MB for name, peak in (peaks_mb or {}).items()}
        self._seen_mb: dict[str, float] = {}
        self._rates: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._crowded_out: set[Path] = set()
        self._watched = -WATCH_EVERY_S
        self._changed = dict.fromkeys(gpus, clock())

    @property
    def slots(self) -> int:
        """Runs at a time, if all of them fit."""
        return len(self._on) * self._most

    def place(self, run_dir: Path) -> tuple[str, bool] | None:
        """The GPU that a run goes to now and whether others may join it there; None while there is no room for it."""
        config = (read_json(run_dir / "job.json") or {}).get("config") or {}
        footprint = self._footprint(config)
        need_mb = None if run_dir in self._crowded_out else self._needs_mb.get(footprint)
        for gpu in sorted(self._on, key=lambda gpu: len(self._on[gpu])):
            if self._takes(gpu, footprint, need_mb):
                self._note_crowd(gpu)
                tenant = _Tenant(footprint, need_mb, need_mb is None, self._clock())
                self._on[gpu][run_dir] = tenant
                return gpu, not tenant.alone
        return None

    def _takes(self, gpu: str, footprint: str, need_mb: float | None) -> bool:
        there = self._on[gpu].values()
        if not there:
            return True  # what does not even fit alone will say so itself
        if need_mb is None or any(each.alone for each in there):
            return False
        if len(there) >= min(self.limit(name) for name in {footprint, *(each.footprint for each in there)}):
            return False
        planned = need_mb + sum(each.need_mb or 0.0 for each in there)
        if planned > self._free_mb[gpu] * (1 - MARGIN):
            return False
        free_mb = self._now_free_mb(gpu)  # somebody else may have come meanwhile
        return free_mb is not None and need_mb + self._free_mb[gpu] * MARGIN / 2 <= free_mb

    def _now_free_mb(self, gpu: str) -> float | None:
        """Free memory; None where the GPU cannot be asked this moment: then nothing joins what is there."""
        try:
            return self._device.memory_mb(gpu)[0]
        except AblationsError:
            return None

    def _note_crowd(self, gpu: str) -> None:
        """Counts the time up to now for those who spent it together; called before anybody comes or goes."""
        now, there = self._clock(), self._on[gpu].values()
        for each in there:
            each.crowd_s += len(there) * (now - self._changed[gpu])
        self._changed[gpu] = now

    def limit(self, footprint: str) -> int:
        """The most runs on one GPU that its measured speed is worth: every one more has to bring some."""
        rates = {count: sum(each) / len(each) for count, each in self._rates[footprint].items()}
        counts = sorted(rates)
        for fewer, more in itertools.pairwise(counts):
            if more * rates[more] < WORTH * fewer * rates[fewer]:
                return min(self._most, fewer)
        return self._most

    def watch(self) -> None:
        """Looks how much memory those take that are alone, now and then."""
        now = self._clock()
        unknown = {gpu: each for gpu, there in self._on.items() for each in there.values() if each.need_mb is None}
        if not unknown or now - self._watched < WATCH_EVERY_S:
            return
        self._watched = now
        for gpu, each in unknown.items():
            free_mb = self._now_free_mb(gpu)
            taken = self._free_mb[gpu] - free_mb if free_mb is not None else 0.0
            self._seen_mb[each.footprint] = max(taken, self._seen_mb.get(each.footprint, 0.0))

    def ended(self, run_dir: Path) -> bool:
        """Learns from a run's record; returns whether it found no memory beside others and is to be run again."""
        gpu = next(gpu for gpu, there in self._on.items() if run_dir in there)
        self._note_crowd(gpu)
        tenant = self._on[gpu].pop(run_dir)
        record = read_json(run_dir / "record.json") or {}
        if (record.get("error") or {}).get("type") == "OutOfMemory" and not tenant.alone:
            self._crowded_out.add(run_dir)
            self._needs_mb.pop(tenant.footprint, None)  # the next one of its kind is watched anew, alone
            return True
        if record.get("status") == "completed":
            self._learn(tenant, (record.get("info") or {}).get("cost") or {})
        return False

    def _learn(self, tenant: _Tenant, cost: Mapping[str, Any]) -> None:
        said = cost.get("peak_reserved_mb") or UNSEEN * (cost.get("peak_memory_mb") or 0.0)
        seen = self._seen_mb.get(tenant.footprint, 0.0)
        if said or seen:
            before = self._needs_mb.get(tenant.footprint, 0.0)
            self._needs_mb[tenant.footprint] = max(before, seen, (said or 0.0) + CONTEXT_MB)
        rate, seconds = cost.get("samples_per_s"), self._clock() - tenant.since
        crowd = tenant.crowd_s / seconds if seconds > 0 else 1.0
        if rate and abs(crowd - round(crowd)) < NEARLY:
            self._rates[tenant.footprint][round(crowd)].append(float(rate))
