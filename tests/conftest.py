import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

TOYS = str(Path(__file__).parent / "toys")
sys.path.insert(0, TOYS)
import one_host  # noqa: E402 – found there

os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [TOYS, os.environ.get("PYTHONPATH")])
)  # for the runs' processes
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if os.environ.get("ABLATIONS_TEST_GPU") != "1":  # what is promised to the bit is of a CPU; tests/gpu has its own
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script: a Ctrl-C must work
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests extract their own data: what lies in a user's cache must not make them pass."""
    os.environ["ABLATIONS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm of one host, which every program finds; skips, with the reason, where none can be brought up."""
    reason = one_host.missing()
    if reason and os.environ.get("ABLATIONS_NEEDS_SLURM"):
        pytest.fail(f"ABLATIONS_NEEDS_SLURM is set, but {reason}")
    if reason:
        pytest.skip(reason)
    with one_host.slurm() as cluster:
        yield cluster


COIN = """
study: coin
experiment: coin.experiment:ex
metric: heads
seeds: 3
baseline: {coin.weight: 0.5}
ablations:
  loaded:
    set: {coin.weight: 0.9}
"""


@pytest.fixture
def coin_study(tmp_path):
    """Writes a study of the toy experiment, with more ablations where they are given, and returns its path."""

    def write(more: str = "") -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(COIN + textwrap.indent(textwrap.dedent(more).strip("\n"), "  "), encoding="utf-8")
        return path

    return write
