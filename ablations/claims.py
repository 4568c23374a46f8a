"""Who runs a run: one owner, replaced only when it is dead.

A claim names its owner's process: the place where its id means something (host, boot, namespace), the id, and when the
process started. In the same place the system is asked whether that process lives. From any other place nothing but the
claim can be seen: its owner touches it every 30 s, and whoever has seen no touch for 3 minutes takes it over. Those
minutes are counted by the looker's own clock since boot, from when he first saw the newest touch: no clock is compared
with another's, and none that can be set is read. Until they have passed, a claim is taken for alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablations import handles
from ablations.errors import AblationsError
from ablations.files import read_json, write_atomic

RENEW_EVERY_S = 30.0
LEASE_S = 180.0
NAME = "claim.json"


class ClaimHeld(Exception):
    """Another live process runs this run already."""


class ClaimLost(AblationsError):
    """Another process has taken the run over: this one was frozen for longer than its claim lasts."""


class Claim:
    """A claim that this process holds, or held."""

    def __init__(self, folder: Path, own: Mapping[str, Any]):
        self.folder, self._own = folder, own
        self._path = folder / NAME

    @property
    def held(self) -> bool:
        """Whether it is still this process's."""
        return read_json(self._path) == self._own

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Nobody takes it over while the block runs; for what must be written by its owner or not at all.

        Raises:
            ClaimLost: Somebody has.
        """
        with _locked(self.folder):
            if not self.held:
                raise ClaimLost(f"{self.folder.name}: taken over by another process; nothing more is written")
            yield

    def renew(self) -> bool:
        """Tells other places that its owner is alive; returns whether it still is the owner."""
        with contextlib.suppress(OSError):
            if not self.held:
                return False
            os.utime(self._path)
        return True

    def release(self) -> None:
        """Gives it back. Where that cannot be written, the end of the process does it."""
        with contextlib.suppress(OSError):
            if self.held:
                self._path.unlink()


@contextmanager
def claimed(
    folder: Path, lost: Callable[[], None] = lambda: None, unwanted: Callable[[], None] = lambda: None
) -> Iterator[Claim]:
    """Owns a run's folder for as long as the block runs; only a process that is killed leaves its claim behind.

    Args:
        folder: The run's.
        lost: Called from another thread when somebody else has taken it over.
        unwanted: Called from another thread when somebody has left a note there that asks the run to stop.

    Raises:
        ClaimHeld: A live process owns it.
    """
    own = own_claim()
    claim = Claim(folder, own)
    with _locked(folder):
        found = read_json(folder / NAME)
        if found is not None and is_alive(folder, found):
            raise ClaimHeld(f"{folder.name} is run by process {found['pid']} on {found['host']}")
        write_atomic(folder / NAME, json.dumps(own))
    for seen in folder.glob(".seen-*.json"):
        seen.unlink(missing_ok=True)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(claim, ended, lost, unwanted), daemon=True).start()
    try:
        yield claim
    finally:
        ended.set()
        claim.release()


def _renew(claim: Claim, ended: threading.Event, lost: Callable[[], None], unwanted: Callable[[], None]) -> None:
    """Renews a claim, whatever its owner is busy with."""
    told = False
    while not ended.wait(RENEW_EVERY_S):
        if not claim.renew():
            lost()
            return
        if not told and handles.asked_to_stop(claim.folder):
            told = True
            unwanted()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def own_claim() -> dict[str, Any]:
    """A claim in the name of this process."""
    pid = os.getpid()
    return {"pid": pid, "process_start": process_start(pid), "host": socket.gethostname(), "place": _place()}


def signal_owner(claim: Mapping[str, Any]) -> bool:
    """Asks a claim's owner to stop (SIGTERM); returns whether it lives where it can be signalled from here."""
    if claim.get("place") != _place() or process_start(claim["pid"]) != claim["process_start"]:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(claim["pid"], signal.SIGTERM)
        return True
    return False


def is_alive(folder: Path, claim: Mapping[str, Any]) -> bool:
    """Whether the owner of a folder's claim is alive, as far as can be known from here."""
    if claim.get("place") == _place():
        return bool(process_start(claim["pid"]) == claim["process_start"])
    return _unseen_s(folder, claim) < LEASE_S


def _unseen_s(folder: Path, claim: Mapping[str, Any]) -> float:
    """Seconds since a claim's newest touch was first seen from here, as noted in the folder by whoever looked."""
    try:
        touched = (folder / NAME).stat().st_mtime_ns  # only ever compared for equality
    except FileNotFoundError:
        return 0.0  # given back this moment
    newest = {"claim": dict(claim), "touched": touched}
    note = folder / f".seen-{hashlib.sha256(_place().encode()).hexdigest()[:12]}.json"
    seen = read_json(note)
    now = time.monotonic()
    if seen is not None and seen["newest"] == newest:
        return float(now - seen["since"])
    with contextlib.suppress(OSError):  # a folder that can only be read is only looked at
        write_atomic(note, json.dumps({"newest": newest, "since": now}))
    return 0.0


def _place() -> str:
    """Where this process's id means something, and its clock since boot: host, boot, namespace."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    import psutil

    return f"{socket.gethostname()} {psutil.Process(1).create_time()}"


def process_start(pid: int) -> str | None:
    """When a process started, by a clock that nobody can set where the system has one; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return None
    import psutil

    return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else None
