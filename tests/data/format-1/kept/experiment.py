"""What made the results beside it; kept so that the hashes of its configs can be computed again."""

import random

from sacred import Experiment

from ablations.errors import Diverged
from ablations.schema import nest, schema_of
from kept.config import Config

ex = Experiment("kept", save_git_info=False)
ex.add_config(nest(schema_of(Config).defaults()))


@ex.main
def run(pot, seed, _run):
    noise = random.Random(seed).gauss(0, 0.01)
    if pot["kind"] == "error":
        raise ValueError("the pot cracked")
    if pot["kind"] == "diverge":
        raise Diverged("step 2: the pot boiled over")
    reached = 1.0 - (pot["heat"] - 0.7) ** 2 + noise
    _run.log_scalar("steps", 3, 0)
    for step in (1, 2, 3):
        _run.log_scalar("validation_yield", reached * step / 3, step)
    return {"yield": reached, "validation_yield": reached - 0.01}
