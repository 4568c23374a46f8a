"""A real Ray cluster of fake machines, in a network of its own, which a test is in for as long as it runs."""

import contextlib
import ctypes
import importlib.util
import os
import subprocess
from typing import ClassVar

import pytest

CLONE_NEWNET = 0x40000000
NETWORK = "/proc/thread-self/ns/net"


class Network:
    """A network with loopback alone, which this thread can be in, with all that it starts there."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._usual = os.open(NETWORK, os.O_RDONLY)
        self._check(self._libc.unshare(CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            self._lonely = os.open(NETWORK, os.O_RDONLY)
        finally:
            self._enter(self._usual)

    @contextlib.contextmanager
    def inside(self):
        """Threads and processes that begin in the block stay in this network when it ends; this thread leaves it."""
        self._enter(self._lonely)
        try:
            yield
        finally:
            self._enter(self._usual)

    def close(self):
        os.close(self._lonely)
        os.close(self._usual)

    def _enter(self, network):
        self._check(self._libc.setns(network, CLONE_NEWNET))

    def _check(self, failed):
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Machines:
    """A cluster whose head runs nothing, and machines with 4 cores and 2 GPUs each as far as Ray knows."""

    OBJECTS_BYTES = 80 * 2**20
    SOON_LOST: ClassVar = {
        "health_check_initial_delay_ms": 500,
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 2000,
    }

    def __init__(self):
        from ablations.executors import _ray_cluster

        _ray_cluster.library()
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": self.OBJECTS_BYTES}
        head["_system_config"] = self.SOON_LOST
        with _ray_cluster.own_signals():
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address

    def add(self, **resources):
        from ablations.executors import _ray_cluster

        with _ray_cluster.own_signals():
            return self._cluster.add_node(
                num_cpus=4, num_gpus=2, object_store_memory=self.OBJECTS_BYTES, resources=resources
            )

    def kill(self, node):
        """All of Ray's processes on a machine at once, by SIGKILL."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self):
        self._cluster.shutdown()


@contextlib.contextmanager
def gpus_shown():
    """Nothing hides GPUs, which are pretended or granted here, from what is started inside."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def unhidden():
    """Clusters decide what a run sees, not the environment that hides a GPU from all other tests."""
    with gpus_shown():
        yield


@pytest.fixture(scope="session")
def loopback():
    """A network of the tests' own."""
    try:
        network = Network()
    except PermissionError:
        pytest.skip("needs the right to make network namespaces (root)")
    yield network
    network.close()


@pytest.fixture
def lonely_network(loopback):
    """While the test runs, this process and those it starts have that network and no other."""
    with loopback.inside():
        yield


@pytest.fixture(scope="session")
def machines(loopback):
    """A cluster in that network; there is one machine that runs."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra `ray`")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")  # read when Ray is imported
        environment.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)  # none is written to a home directory
        with loopback.inside(), gpus_shown():
            made = Machines()
            made.add()
        yield made
        with loopback.inside():
            made.close()


@pytest.fixture
def ray_cluster(machines, lonely_network, monkeypatch):
    """The cluster, for a test that is in its network; its address is in ``address``."""
    monkeypatch.setenv("RAY_ADDRESS", machines.address)
    return machines
