"""Imported by the fork server alone: what it imports here, every run of the machine has imported."""

import contextlib
import os

from ablations import runner
from ablations.errors import AblationsError

if os.environ.get("ABLATIONS_PRELOAD"):
    with contextlib.suppress(AblationsError):  # every run will say so, in its own record
        runner.preload(os.environ["ABLATIONS_PRELOAD"])
