"""Imported by the fork server alone: what it imports here, every run of the machine has imported."""

import contextlib
import os
import sys

from ablations import runner
from ablations.errors import AblationsError

if os.environ.get("ABLATIONS_PRELOAD"):
    sys.path[:] = os.environ["ABLATIONS_PRELOAD_PATH"].split(os.pathsep)
    with contextlib.suppress(AblationsError):  # every run will say so, in its own record
        runner.preload(os.environ["ABLATIONS_PRELOAD"])
