from dataclasses import dataclass, field
from typing import ClassVar

from ablations.schema import tunable


@dataclass
class Place:
    x: float = tunable(0.9, "where", ge=0, le=1)
    zone: str = tunable("low", "which ground", choices=("low", "high", "void"))
    steps: int = tunable(5, "looks", unit="steps", ge=1)


@dataclass
class Look:
    seconds: float = tunable(0.0, "time that a look takes", unit="s", ge=0)


@dataclass
class Config:
    place: Place = field(default_factory=Place)
    look: Look = field(default_factory=Look)

    metrics: ClassVar[dict[str, str]] = {"test_height": "max", "validation_height": "max"}

    @staticmethod
    def cross_check(config):
        if config["place.zone"] == "high" and config["place.x"] > 0.9:
            yield "place.x", "the high ground ends at 0.9"
