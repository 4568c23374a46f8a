"""Real processes on a real folder: `ablations run` of a toy that keeps checkpoints and says which steps it takes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from ablations.files import read_json

ABLATIONS = [sys.executable, "-m", "ablations.cli"]

STUDY = """
study: walk
experiment: walk.experiment:ex
metric: position
seeds: {seeds}
baseline: {{walk.steps: {steps}, walk.pause_ms: {pause_ms}}}
ablations:
  long:
    set: {{walk.size: 2.0}}
{more}
"""


class Place:
    """A folder with a study of walks; what its runs say of their steps is in ``steps.txt``."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.results = folder / "results"
        self.ledger = folder / "steps.txt"

    def write(self, more="", seeds=3, steps=60, pause_ms=2.0):
        indented = "\n".join(f"  {line}" for line in more.strip("\n").splitlines())
        text = STUDY.format(seeds=seeds, steps=steps, pause_ms=pause_ms, more=indented)
        (self.folder / "study.yaml").write_text(text)
        return self

    def start(self, *arguments, prefix=(), **options):
        """Starts `ablations run`, as a leader of a group of its own, as a shell does."""
        environment = {**os.environ, "WALK_LEDGER": str(self.ledger), **options.pop("environment", {})}
        return subprocess.Popen(
            [*prefix, *ABLATIONS, "run", *arguments], cwd=self.folder, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
        )  # fmt: skip

    def run(self, *arguments, **options):
        """Runs `ablations run` to its end: its exit code and what it said."""
        with self.start(*arguments, **options) as process:
            try:
                said, _ = process.communicate(timeout=240)
            finally:
                process.kill()
        return process.returncode, said

    def status(self):
        """`ablations status`, by variant and seed."""
        shown = subprocess.run(
            [*ABLATIONS, "status", "--json"], cwd=self.folder, capture_output=True, text=True, check=True, timeout=60
        )
        return {(row["variant"], row["seed"]): row for row in json.loads(shown.stdout)}

    def records(self):
        """Every record in the results folder, by variant and seed; whoever reads them finds them whole."""
        found = {}
        for path in self.results.glob("runs/*/record.json"):
            record = json.loads(path.read_text())
            assert (record["variant"], record["seed"]) not in found
            found[record["variant"], record["seed"]] = record
        return found

    def scores(self):
        return {key: record["scores"] for key, record in self.records().items()}

    def said_steps(self):
        """What each run said of its steps, in order: (process, takes or keeps, step)."""
        said = defaultdict(list)
        for line in self.ledger.read_text().splitlines() if self.ledger.exists() else ():
            size, seed, process, what, step = line.split()
            said[size, seed].append((int(process), what, int(step)))
        return said

    def claims(self):
        """Who runs what here at this moment."""
        found = [read_json(path) for path in self.results.glob("runs/*/claim.json")]
        return [claim for claim in found if claim]

    def workers(self):
        """Processes that run a run here."""
        return [claim["pid"] for claim in self.claims()]

    def short_leases(self, seconds):
        """A folder for PYTHONPATH with which claims last so long and are renewed four times as often."""
        folder = self.folder / "leases"
        folder.mkdir(exist_ok=True)
        lines = ["from ablations import claims", f"claims.LEASE_S, claims.RENEW_EVERY_S = {seconds}, {seconds / 4}"]
        (folder / "sitecustomize.py").write_text("\n".join(lines))
        return folder

    def hold(self, step):
        """From now on no run goes on from this step or a later one, until it is released or told to stop."""
        partial = self.folder / "hold.new"
        partial.write_text(str(step))
        partial.replace(self.folder / "hold")

    def release(self):
        (self.folder / "hold").unlink()

    def count(self):
        """How often a run said something of its steps."""
        return sum(map(len, self.said_steps().values()))

    def wait_for_steps(self, count, seconds=120):
        until = time.monotonic() + seconds
        while self.count() < count:
            assert time.monotonic() < until
            time.sleep(0.01)


def check_that_nothing_was_repeated(said, steps):
    """Every step was taken, none that a checkpoint held was taken again, and never two processes at once."""
    assert said
    for entries in said.values():
        kept, owners = 0, []
        for process, what, step in entries:
            if what == "keeps":
                kept = step
            else:
                assert step > kept, f"step {step} was taken again, although a checkpoint held {kept}"
            if process not in owners:
                owners.append(process)
            assert process == owners[-1], "two processes took turns in one run"
        assert {step for _, what, step in entries if what == "takes"} == set(range(1, steps + 1))


def kill(pid, sent=signal.SIGKILL):
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        return False
    return True


OTHER_HOST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")
"""Runs a command where process ids mean something else, as on another host; its name is changed, too."""


def can_leave_this_host():
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*OTHER_HOST, "true"], capture_output=True, check=False).returncode == 0


elsewhere = pytest.mark.skipif(not can_leave_this_host(), reason="needs the right to make process namespaces (root)")


def on_host(name):
    return (*OTHER_HOST, "sh", "-c", f'hostname {name} && exec "$0" "$@"')


def finish(processes, seconds=120):
    said = [process.communicate(timeout=seconds)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said
