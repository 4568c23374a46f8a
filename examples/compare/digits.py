"""Trains small networks on scikit-learn's handwritten digits and writes what they scored, as any code of yours might.

``python digits.py [FOLDER]`` writes two tables: ``curves.csv`` with accuracies by epoch, ``examples.csv`` with every
test digit. The split is the same in all runs, and a seed gives every arm the same initial weights and data order, so
that runs of one seed are pairs.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "tanh": {"activation": "tanh"},
    "half-the-width": {"hidden_layer_sizes": (16,)},
    "slow": {"learning_rate_init": 0.0001},
    "decay": {"alpha": 0.01},
}
SEEDS, EPOCHS = range(5), 12
BASELINE = {"hidden_layer_sizes": (32,), "learning_rate_init": 0.005, "batch_size": 50}


def main(folder: Path) -> None:
    """Trains every arm at every seed and writes both tables."""
    images, digits = load_digits(return_X_y=True)
    images, order = images / 16, np.random.default_rng(0).permutation(len(digits))
    train, validation, test = ((images[part], digits[part]) for part in (order[:1000], order[1000:1400], order[1400:]))
    curves, examples = [], []
    for arm, change in ARMS.items():
        for seed in SEEDS:
            model = MLPClassifier(**(BASELINE | change), random_state=seed)
            for epoch in range(1, EPOCHS + 1):
                model.partial_fit(*train, classes=np.arange(10))
                for name, split in (("validation", validation), ("test", test)):
                    curves.append((arm, seed, epoch, f"{name}_accuracy", round(model.score(*split), 5)))
            right = model.predict(test[0]) == test[1]
            examples += [(arm, seed, number, int(each)) for number, each in enumerate(right)]
    columns = ["variant", "seed", "step", "metric", "value"]
    pd.DataFrame(curves, columns=columns).to_csv(folder / "curves.csv", index=False)
    pd.DataFrame(examples, columns=["arm", "run", "digit", "right"]).to_csv(folder / "examples.csv", index=False)


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
