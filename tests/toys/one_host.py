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
NODES = ("n1", "n2")
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

    def lose(self, node):
        """Ends everything on a node at once, as a loss of power does; Slurm is told that it is down."""
        self.kill_all_on(node)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def kill_all_on(self, node):
        log = self.folder / "log" / f"slurmd.{node}.log"
        minders = [process for process in _processes() if _has_open(process, log)]  # slurmd and its slurmstepd
        jobs = [process for process in _processes() if self._runs_on(process, node)]
        for process in (*minders, *jobs):  # a minder that outlived its job would report how that ended
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)

    def _runs_on(self, process, node):
        with contextlib.suppress(OSError):
            environment = (process / "environ").read_bytes()
            return str(self.folder).encode() in environment and f"SLURMD_NODENAME={node}".encode() in environment
        return False

    def restore(self, node):
        self.ask("slurmd", "-N", node)  # ReturnToService: it is up again once it has registered

    def restart_controller(self):
        """Ends the controller in good order, and begins it again."""
        self._end_controller(signal.SIGTERM)
        time.sleep(1)
        self.ask("slurmctld")

    def crash_controller(self):
        """Kills the controller as soon as it answers, and begins it again.

        It forgets what it has not written yet, five seconds at most. Of a job whose begin it has forgotten Slurm 22.05
        drains the node, and holds the job: none may have begun just before.
        """
        self.ask("squeue")
        self._end_controller(signal.SIGKILL)
        self.ask("slurmctld")

    def _end_controller(self, sent):
        pid = int((self.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, sent)
        while _lives(Path(f"/proc/{pid}")):
            time.sleep(0.05)


def _processes():
    return Path("/proc").glob("[0-9]*")


def _has_open(process, path):
    with contextlib.suppress(OSError):
        return any(os.readlink(each) == str(path) for each in (process / "fd").iterdir())
    return False


def _lives(process):
    """Whether it has not ended; whoever would have to hear of its end may never do."""
    with contextlib.suppress(OSError):
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextlib.contextmanager
def slurm():
    folder = tempfile.mkdtemp(prefix="slurm-")  # a short one: sockets have paths of a hundred characters at most
    os.chmod(folder, 0o755)
    try:
        subprocess.run([SCRIPT, "up", folder, str(_free_ports())], check=True, timeout=120)
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield Slurm(folder)
    finally:
        for node in NODES:
            Slurm(folder).kill_all_on(node)  # jobs would outlive it
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
