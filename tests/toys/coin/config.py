from dataclasses import dataclass, field
from typing import ClassVar

from ablations.schema import tunable


@dataclass
class Coin:
    weight: float = tunable(0.5, "chance of heads", ge=0, le=1)
    tosses: int = tunable(100, "tosses", unit="tosses", ge=1)


@dataclass
class Trouble:
    kind: str = tunable("none", "what goes wrong", choices=("none", "error", "diverge", "sleep", "nan", "kill"))
    seed: int = tunable(-1, "the seed at which it does; -1 for all", ge=-1)


@dataclass
class Config:
    coin: Coin = field(default_factory=Coin)
    trouble: Trouble = field(default_factory=Trouble)

    metrics: ClassVar[dict[str, str]] = {"heads": "max", "entropy": "max"}
