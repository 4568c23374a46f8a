import math
import os
import random
import signal
import time

from sacred import Experiment

from ablations.errors import Diverged
from ablations.schema import nest, schema_of
from coin.config import Config

ex = Experiment("coin", save_git_info=False)
ex.add_config(nest(schema_of(Config).defaults()))


@ex.main
def run(coin, trouble, seed, _run):
    rng = random.Random(seed)
    print("seen:", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"))
    kind = trouble["kind"] if trouble["seed"] in (-1, seed) else "none"
    _run.log_scalar("steps", coin["tosses"], 0)
    heads = 0
    for toss in range(1, coin["tosses"] + 1):
        heads += rng.random() < coin["weight"]
        _run.log_scalar("share", heads / toss, toss)
        if toss == 10:
            _stumble(kind)
    share = heads / coin["tosses"]
    return {"heads": share, "entropy": float("nan") if kind == "nan" else -math.log(max(share, 1e-9)), "note": "text"}


def _stumble(kind):
    if kind == "error":
        raise ValueError("the coin stood on its edge")
    if kind == "diverge":
        raise Diverged("step 10: the coin rolled away")
    if kind == "sleep":
        time.sleep(60)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
