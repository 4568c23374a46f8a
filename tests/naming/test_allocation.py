"""Memory that is freed and taken again, in a process of its own: the setting is the whole process's."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from ablations.naming.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def step():
    return sum(float(each[-1]) for each in [np.ones(500_000) for _ in range(10)])
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library")
@pytest.mark.slow
def test_memory_that_is_freed_is_taken_again_without_page_faults():
    faults = {}
    for how in ("kept", "given back"):
        command = [sys.executable, "-c", FAULTS, how]
        faults[how] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["kept"] < 0.1 * faults["given back"]
