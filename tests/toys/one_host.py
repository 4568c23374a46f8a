"""A real Slurm of one host, for tests: brought up on free ports by tests/cluster/slurm.sh, in a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "cluster" / "slurm.sh"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sbatch", "squeue", "sacct", "scontrol")


def missing():
    """What stands in the way of a Slurm here, or None."""
    absent = [each for each in PROGRAMS if not shutil.which(each)]
    if absent:
        return f"a Slurm of one host needs {', '.join(absent)} (Debian: slurm-wlm munge slurmdbd mariadb-server)"
    return "a Slurm of one host needs root" if os.geteuid() else None


class Slurm:
    """What a test may do to it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config = self.folder / "etc" / "slurm.conf"

    def ask(self, *command):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def kill(self, daemon):
        os.kill(int((self.folder / "run" / f"{daemon}.pid").read_text()), signal.SIGKILL)

    def lose(self, node):
        """Ends everything on a node at once, as a loss of power does; Slurm is told that it is down."""
        self.kill(f"slurmd.{node}")
        mark = f"SLURMD_NODENAME={node}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ours = str(self.folder).encode() in (environment := (process / "environ").read_bytes())
                if ours and mark in environment.split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def restore(self, node):
        self.ask("slurmd", "-N", node)  # ReturnToService: it is up again once it has registered

    def restart_controller(self):
        pid = int((self.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)  # a killed one forgets its last five seconds
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)
        time.sleep(1)
        self.ask("slurmctld")


@contextlib.contextmanager
def slurm():
    folder = tempfile.mkdtemp(prefix="slurm-")  # a short one: sockets have paths of a hundred characters at most
    os.chmod(folder, 0o755)
    try:
        subprocess.run([SCRIPT, "up", folder, str(_free_ports())], check=True, timeout=120)
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield Slurm(folder)
    finally:
        os.environ.pop("SLURM_CONF", None)
        subprocess.run([SCRIPT, "down", folder], check=False, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count=5):
    """The first of some free ports in a row."""
    for first in range(16817 + os.getpid() % 1000 * 10, 32000, 10):
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise OSError("no free ports")
