"""What of the environment may be written down: a list of variables, and texts without credentials. The stdlib alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

RECORDED_VARIABLES = (  # these change numbers, and hold none of their owner's business
    "ABLATIONS_REPEATABLE", "ABLATIONS_STEPS", "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES", "MKL_CBWR", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA", "PYTHONHASHSEED",
)  # fmt: skip
LONGEST_VALUE = 100  # characters; of these variables, none has reason to be longer
_USER = re.compile(r"(?<=://)[^\s/?#@\"'<>]+@")
_PASSWORD = re.compile(r"://[^\s/?#@:\"'<>]*:[^\s/?#@\"'<>]+@|://[A-Za-z0-9_.-]{20,}@")


def recorded_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of an environment that a record holds."""
    return {name: environ[name][:LONGEST_VALUE] for name in RECORDED_VARIABLES if name in environ}


def has_credentials(text: str) -> bool:
    """Whether a text has a URL with a password or token in it; a user's name alone is none.

    >>> has_credentials("https://me:s3cret@host/x"), has_credentials("ssh://git@host/x")
    (True, False)
    """
    return _PASSWORD.search(text) is not None


def without_credentials(value: Any) -> Any:
    """The same, without the user and password of any URL in it; dicts and lists are gone through.

    >>> without_credentials(["clone https://me:s3cret@host/x.git failed", 3])
    ['clone https://host/x.git failed', 3]
    """
    if isinstance(value, str):
        return _USER.sub("", value)
    if isinstance(value, Mapping):
        return {name: without_credentials(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_credentials(each) for each in value]
    return value
