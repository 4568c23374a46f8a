from dataclasses import dataclass, field
from typing import ClassVar

from ablations.schema import tunable

KINDS = (
    "none",
    "error",
    "nan",
    "diverge",
    "segfault",
    "abort",
    "memory",
    "oom",
    "sigkill",
    "swallow",
    "linger",
    "greed",
)


@dataclass
class Walk:
    steps: int = tunable(60, "steps", unit="steps", ge=1)
    size: float = tunable(1.0, "size of a step", gt=0)
    pause_ms: float = tunable(2.0, "pause after a step", unit="ms", ge=0)
    every_steps: int = tunable(10, "steps between checkpoints", unit="steps", ge=1)
    values: int = tunable(1, "values logged at a step", ge=1)


@dataclass
class Trouble:
    kind: str = tunable("none", "what goes wrong in the middle", choices=KINDS)
    seed: int = tunable(-1, "the seed at which it does; -1 for all", ge=-1)


@dataclass
class Config:
    walk: Walk = field(default_factory=Walk)
    trouble: Trouble = field(default_factory=Trouble)

    metrics: ClassVar[dict[str, str]] = {"position": "max"}
