"""Small tables of scores, written the way one reads them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest


@pytest.fixture(scope="session")
def scores() -> Callable[..., pd.DataFrame]:
    """A function: arms as keywords, one value per seed; "diverged", "failed" or "running" for a run without."""

    def build(**arms: list[float | str]) -> pd.DataFrame:
        rows = [
            (
                arm,
                seed,
                "f1",
                float("nan") if isinstance(value, str) else value,
                value if isinstance(value, str) else "completed",
            )
            for arm, values in arms.items()
            for seed, value in enumerate(values)
        ]
        return pd.DataFrame(rows, columns=["variant", "seed", "metric", "value", "status"])

    return build
