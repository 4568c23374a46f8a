"""What this machine has, asked without importing torch. The stdlib alone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def cores() -> int:
    """Processor cores this process may use, a container's limit included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _quota() or count))


def _quota(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole cores that a control group grants, or None where it sets no limit."""
    try:
        quota, period = limits.read_text(encoding="ascii").split()
        return int(quota) // int(period)
    except (OSError, ValueError):  # no such file, or "max" for no limit
        return None


def gpus() -> int:
    """Number of NVIDIA GPUs this process may use."""
    return len(gpu_names())


def gpu_names() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them: its own entries, else all the driver shows."""
    driver = Path("/proc/driver/nvidia/gpus")
    present = len(list(driver.iterdir())) if driver.is_dir() else len(list(Path("/dev").glob("nvidia[0-9]")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return [str(number) for number in range(present)]
    return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]


def oom_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed for lack of memory since it started; 0 where it does not say."""
    try:
        lines = counters.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return 0


def find_quarto() -> str | None:
    """Path of the Quarto program, or None; ``ABLATIONS_RENDERER=builtin`` does without it."""
    if os.environ.get("ABLATIONS_RENDERER") == "builtin":
        return None
    beside = Path(sys.executable).parent / "quarto"  # where the extra `quarto` puts it, the environment active or not
    return shutil.which("quarto") or (str(beside) if beside.is_file() else None)
