"""A real Ray cluster of fake machines, seen by this process alone."""

import ctypes
import importlib.util
import os
import subprocess
from typing import ClassVar

import pytest

CLONE_NEWNET = 0x40000000


@pytest.fixture(scope="session")
def lonely_network():
    """From here on this process and those it starts have a network of their own, with loopback alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        os.close(before)
        pytest.skip("needs the right to make network namespaces (root)")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    libc.setns(before, CLONE_NEWNET)
    os.close(before)


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


@pytest.fixture(scope="session")
def ray_cluster(lonely_network):
    """Its address in ``address``; there is one machine that runs."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra `ray`")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")  # read when Ray is imported
        environment.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)  # none is written to a home directory
        machines = Machines()
        machines.add()
        environment.setenv("RAY_ADDRESS", machines.address)
        yield machines
        machines.close()
