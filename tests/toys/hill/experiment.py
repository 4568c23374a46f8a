import random
import time

from sacred import Experiment

from ablations.errors import Diverged
from ablations.schema import nest, schema_of
from hill.config import Config

ex = Experiment("hill", save_git_info=False)
ex.add_config(nest(schema_of(Config).defaults()))


@ex.main
def run(place, look, seed, _run):
    noise = random.Random(seed).gauss(0, 0.01)
    top = 1.0 - (place["x"] - 0.3) ** 2 + (place["zone"] == "high")
    if place["zone"] == "void":
        raise Diverged("step 0: no ground")
    _run.log_scalar("steps", place["steps"], 0)
    for step in range(1, place["steps"] + 1):
        time.sleep(look["seconds"])
        _run.log_scalar("validation_height", (top + noise) * step / place["steps"], step)
    return {"validation_height": top + noise, "test_height": top + noise / 2}
