from dataclasses import dataclass, field
from typing import ClassVar

from ablations.schema import tunable


@dataclass
class Pot:
    heat: float = tunable(0.5, "heat", ge=0, le=1)
    kind: str = tunable("plain", "what happens", choices=("plain", "error", "diverge"))


@dataclass
class Config:
    pot: Pot = field(default_factory=Pot)
    metrics: ClassVar[dict[str, str]] = {"yield": "max", "validation_yield": "max"}
