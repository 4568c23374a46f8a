"""kill -9 at random moments, of the launcher, of the runs' processes, of both."""

import os
import random
import time
from collections import Counter

import pytest
from walking import Place, check_that_nothing_was_repeated, kill

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ABLATIONS_KILLS", "50"))
STEPS, SEEDS = 100, max(8, KILLS // 6)


def victims(kind, launcher, place, rng):
    """The process ids to kill at once."""
    workers = place.workers()
    return {"launcher": [launcher.pid], "worker": rng.sample(workers, min(1, len(workers))),
            "both": [launcher.pid, *workers]}[kind]  # fmt: skip


def kill_again_and_again(place, rng, kills):
    """Starts `ablations run` as often as it is killed; returns what was killed, one entry a moment."""
    done, launcher = [], place.start()
    kinds = ["worker", "launcher", "both", *rng.choices(["worker", "launcher", "both"], [20, 1, 1], k=10 * kills)]
    while len(done) < kills:
        time.sleep(rng.uniform(0, 0.1))
        kind = kinds.pop(0)
        killed = [kill(pid) for pid in victims(kind, launcher, place, rng)]
        if any(killed):
            done.append(kind)
        elif kind != "worker":
            kinds.insert(0, kind)
        if kind != "worker" or launcher.poll() is not None:
            assert launcher.communicate(timeout=60) and launcher.returncode != 0, "done before it was killed enough"
            launcher, before = place.start(), place.count()
            place.wait_for_steps(before + 1)
    kill(launcher.pid)
    launcher.communicate(timeout=60)
    return done


def test_a_study_that_is_killed_again_and_again_ends_with_the_table_of_an_unbroken_one(place, tmp_path_factory):
    unbroken = Place(tmp_path_factory.mktemp("unbroken")).write(seeds=SEEDS, steps=STEPS, pause_ms=0)
    assert unbroken.run("--executor", "inprocess")[0] == 0

    place.write(seeds=SEEDS, steps=STEPS, pause_ms=20)
    killed = kill_again_and_again(place, random.Random(0), KILLS)
    assert {"worker", "launcher", "both"} <= set(killed)
    code, said = place.run()
    assert code == 0, said
    assert place.scores() == unbroken.scores()
    assert len(place.records()) == 2 * SEEDS
    check_that_nothing_was_repeated(place.said_steps(), STEPS)
    assert not list(place.results.glob("runs/*/claim.json"))
    attempts = [record["attempt"] for record in place.records().values()]
    print(f"killed: {Counter(killed)}; attempts: {sorted(attempts)}")
