"""Who takes over from whom, and in which order runs start; a launch with jobs that a test ends by hand."""

import io
import json
from types import MappingProxyType

import pytest
from rich.console import Console

from ablations import commands, machine
from ablations import launch as launching
from ablations.chosen import choose_executor
from ablations.console import duration
from ablations.executors.base import Ending, Executor, Job
from ablations.launch import Remaining, launch
from ablations.plan import RunKey, Saved, Variant, expand, forecast, run_keys
from ablations.schema import Trunk
from ablations.sharing import Sharing, foresee, share, share_planned, trunk_of
from ablations.store import Store
from ablations.study import load_study


def trunk(config):
    if config["alone"]:
        return None
    return Trunk({"rate": config["rate"]}, config["steps"], {"scored": config["scored"]})


def variant(name, steps=10, rate=1, scored="so", *, alone=False):
    config = {"steps": steps, "rate": rate, "scored": scored, "alone": alone}
    return Variant(name, None, "", {}, MappingProxyType(config), f"{name:0<64}", "")


def keys(variants, seeds=(0,)):
    return [RunKey(name, seed, each.config_hash) for seed in seeds for name, each in variants.items()]


def named(*variants):
    return {each.name: each for each in variants}


def planned(variants, seeds=(0,)):
    """By name: source and what is kept; of seed 0."""
    todo = keys(variants, seeds)
    shared = share(todo, variants, trunk)
    names = {key.run_id: key.variant for key in todo}
    sources = {names[run]: names[source] for run, source in shared.sources.items()}
    return sources, {names[run]: kept for run, kept in shared.keeps.items()}


def test_a_longer_run_takes_over_from_the_longest_that_is_shorter():
    variants = named(variant("long", 30), variant("short", 10), variant("middle", 20), variant("other", 5, rate=2))
    assert planned(variants) == ({"long": "middle", "middle": "short"}, {"middle": "state", "short": "state"})


def test_of_runs_that_are_scored_in_several_ways_the_first_trains():
    variants = named(variant("base"), variant("unmasked", scored="otherwise"), variant("third", scored="again"))
    assert planned(variants) == ({"unmasked": "base", "third": "base"}, {"base": "trail"})


def test_one_that_is_scored_anew_leaves_nothing_and_what_was_taken_over_is_part_of_the_trail():
    variants = named(variant("base"), variant("long", 20), variant("unmasked", 20, scored="otherwise"))
    assert planned(variants) == ({"long": "base", "unmasked": "long"}, {"base": "trail", "long": "trail"})


def test_it_is_known_how_much_of_its_training_and_validations_a_run_takes_over():
    variants = named(variant("base"), variant("long", 40), variant("unmasked", 20, scored="otherwise"))
    todo = keys(variants)
    base, long, unmasked = (key.run_id for key in todo)
    quarter, half = Saved(base, training=0.25, validation=0.25), Saved(base, training=0.5, validation=0.0)
    assert share(todo, variants, trunk).saved == {long: quarter, unmasked: half}
    whole = named(variant("base", 0), variant("unmasked", 0, scored="otherwise"))  # all as long, however long that is
    todo = keys(whole)
    assert share(todo, whole, trunk).saved == {todo[1].run_id: Saved(todo[0].run_id, training=1.0, validation=0.0)}


def test_nothing_is_taken_over_between_seeds_or_where_nothing_can_be_shared():
    variants = named(variant("base"), variant("long", 20, alone=True))
    assert planned(variants) == ({}, {})
    two = [RunKey("base", 0, "a" * 64), RunKey("base", 1, "a" * 64)]
    assert share(two, named(variant("base")), trunk) == Sharing()


def test_whoever_is_taken_over_from_comes_first_and_all_else_keeps_its_order():
    variants = named(variant("long", 30), variant("a", rate=2), variant("short"), variant("b", rate=3))
    todo = keys(variants, seeds=(0, 1))
    ordered = share(todo, variants, trunk).ordered(todo)
    assert [(key.variant, key.seed) for key in ordered] == [
        (name, seed) for seed in (0, 1) for name in ("short", "long", "a", "b")
    ]


class HandJob(Job):
    """A job that ends when the test says so."""

    stands = "running"

    def state(self):
        return self.stands

    def cancel(self):
        pass

    def ending(self):
        return None if (self.run_dir / "record.json").exists() else Ending("stopped", "by hand")


class HandExecutor(Executor):
    """Starts as many as it has slots; each wait ends the oldest running one, as ``outcomes`` says."""

    def __init__(self, store, outcomes=None, slots=1, leaves=True):
        self.store, self.outcomes, self.slots, self.leaves = store, outcomes or {}, slots, leaves
        self.jobs, self.started, self.told = [], [], {}

    def submit(self, run_dir):
        job = json.loads((run_dir / "job.json").read_text())
        self.started.append(job["variant"])
        self.told[job["variant"]] = {name: job["settings"].get(name) for name in ("keeps", "takes_over")}
        self.jobs.append(HandJob(run_dir))
        return self.jobs[-1]

    def room(self):
        return self.slots - sum(job.stands == "running" for job in self.jobs)

    def wait(self, seconds):
        job = next((job for job in self.jobs if job.stands == "running"), None)
        if job is None:
            return
        described = json.loads((job.run_dir / "job.json").read_text())
        status = self.outcomes.get(described["variant"], "completed")
        if status == "completed" and described["settings"].get("keeps") and self.leaves:
            (job.run_dir / "trunk").mkdir(exist_ok=True)
        end(job.run_dir, described, status)
        job.stands = "ended"

    def close(self):
        pass


def end(folder, job, status):
    error = None if status == "completed" else {"type": "Error", "message": "why", "passing": False}
    record = {
        name: job[name] for name in ("format", "run_id", "variant", "seed", "config_hash", "experiment", "config")
    }
    record |= {"status": status, "error": error, "scores": {"f1": 0.5}, "seconds": 1.0, "environment": {}, "code": {}}
    record |= {"info": {}, "attempt": 1}
    (folder / "record.json").write_text(json.dumps(record))


class Silent:
    def ended(self, run, snapshot):
        pass

    def tick(self, snapshot):
        pass


VARIANTS = named(variant("long", 30), variant("other", rate=2), variant("short"), variant("unmasked", 30, scored="no"))


@pytest.fixture
def launched(tmp_path):
    def start(outcomes=None, todo=None, **options):
        store = Store(tmp_path)
        executor = HandExecutor(store, outcomes, **options)
        todo = keys(VARIANTS) if todo is None else todo
        shared = share_planned(keys(VARIANTS), store.unsettled(todo), VARIANTS, trunk, store)
        remaining = Remaining(dict.fromkeys(VARIANTS, 1.0), 1)
        ends = launch(
            store, executor, store.unsettled(todo), VARIANTS, "no:ex", remaining, Silent(), shared, metric="f1"
        )
        return executor, {each.key.variant: each.status for each in ends}

    return start


def key_of(name):
    return next(key for key in keys(VARIANTS) if key.variant == name)


def test_a_run_starts_when_what_it_takes_over_from_has_ended_and_before_those_that_wait(launched, tmp_path):
    executor, ends = launched(slots=2)
    assert executor.started == ["short", "other", "long", "unmasked"]
    assert set(ends.values()) == {"completed"}
    assert executor.told["short"] == {"keeps": "trail", "takes_over": None}
    assert executor.told["long"] == {"keeps": "trail", "takes_over": key_of("short").run_id}
    assert executor.told["unmasked"] == {"keeps": None, "takes_over": key_of("long").run_id}
    assert not list(tmp_path.glob("runs/*/trunk"))  # removed once nobody needs it


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_where_the_other_run_fails_a_run_trains_whole(launched, status):
    executor, ends = launched({"short": status})
    assert ends == {"short": status, "long": "completed", "other": "completed", "unmasked": "completed"}
    assert executor.told["long"]["takes_over"] is None


def test_where_the_other_run_leaves_nothing_a_run_trains_whole(launched):
    executor, ends = launched(leaves=False)
    assert executor.told["long"]["takes_over"] is executor.told["unmasked"]["takes_over"] is None
    assert set(ends.values()) == {"completed"}


def test_what_was_left_outlives_a_launch_that_was_broken_off_and_not_its_use(launched, tmp_path):
    launched({"long": "interrupted", "unmasked": "interrupted"})
    assert [each.parent.name for each in tmp_path.glob("runs/*/trunk")] == [key_of("short").run_id]
    executor, _ = launched()
    assert executor.started == ["long", "unmasked"]
    assert executor.told["long"]["takes_over"] == key_of("short").run_id
    assert not list(tmp_path.glob("runs/*/trunk"))


def test_a_run_that_was_broken_off_goes_on_with_what_it_has_left_and_never_takes_over_from_itself(launched, tmp_path):
    store = Store(tmp_path)
    launched({"short": "interrupted"}, todo=[key_of("short")])
    trunk_of(store, key_of("short").run_id).mkdir()  # as of the validations before it was broken off
    shared = share_planned(keys(VARIANTS), store.unsettled(keys(VARIANTS)), VARIANTS, trunk, store)
    assert key_of("short").run_id not in shared.sources
    assert trunk_of(store, key_of("short").run_id).is_dir()
    executor, ends = launched()
    assert set(ends.values()) == {"completed"}
    assert executor.told["long"]["takes_over"] == key_of("short").run_id


def test_what_nobody_needs_any_more_is_removed_by_the_next_launch(launched, tmp_path):
    store = Store(tmp_path)
    launched(todo=[key_of("other")])
    trunk_of(store, key_of("other").run_id).mkdir()
    foresee(keys(VARIANTS), store.unsettled(keys(VARIANTS)), VARIANTS, trunk, store)
    assert len(list(tmp_path.glob("runs/*/trunk"))) == 1  # to look removes nothing
    launched(todo=[key_of("short")])
    assert not list(tmp_path.glob("runs/*/trunk"))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_that_another_process_runs_is_waited_for_only_where_it_leaves_something(
    launched, tmp_path, monkeypatch, keeps
):
    monkeypatch.setattr(launching, "ELSEWHERE_EVERY_S", 0.0)
    store, short = Store(tmp_path), key_of("short")
    settings = {"keeps": "trail"} if keeps else {}
    folder = store.prepare(short, VARIANTS["short"], "no:ex", **settings)
    looks = iter(["missing"] * 0 + ["running"] * 6)
    real = store.status

    def status(self, run_id):
        if run_id == short.run_id and not (folder / "record.json").exists():
            if next(looks, None):
                return "running"
            if keeps:
                (folder / "trunk").mkdir()
            end(folder, json.loads((folder / "job.json").read_text()), "completed")
        return real(run_id)

    monkeypatch.setattr(Store, "status", status)
    executor, ends = launched()
    assert set(ends.values()) == {"completed"}
    assert "short" not in executor.started
    assert executor.told["long"]["takes_over"] == (short.run_id if keeps else None)


STUDY = """
study: shared
metric: test_f1
seeds: [0, 1]
baseline: {training.max_steps: 9000, training.schedule: constant}
ablations:
  longer: {set: {training.max_steps: 18000}}
  unmasked: {set: {evaluation.causal: false, evaluation.cache: false}}
"""


@pytest.fixture
def constant(tmp_path, monkeypatch):
    """A study of trainings that begin alike on a machine with one core, and what it says."""
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    monkeypatch.setattr(machine, "cores", lambda: 1)
    (tmp_path / "study.yaml").write_text(STUDY)
    study = load_study(tmp_path / "study.yaml")
    whole = forecast(expand(study), run_keys(study), flops=study.schema.flops).seconds
    return study, Store(tmp_path / "results"), Console(file=io.StringIO(), width=200), whole


def test_a_plan_counts_what_is_shared_once(constant):
    study, store, out, whole = constant
    commands.show_plan(study, store, out)
    said = out.file.getvalue()
    assert f"About {duration(2 * (whole['baseline'] + whole['longer'] / 2))} with 1 at a time" in said
    assert "4 runs begin with the training of another run: that is not repeated." in said


@pytest.mark.parametrize("sharing", [True, False])
def test_a_launch_forecasts_what_it_computes_itself(constant, monkeypatch, sharing):
    study, store, out, whole = constant
    given = []
    monkeypatch.setattr(commands, "launch", lambda *arguments, **settings: given.append(arguments[5]) or [])
    monkeypatch.setattr(commands, "_prepare", lambda *arguments: None)
    chosen = choose_executor(study, "inprocess", (), None)
    commands.run_study(study, store, out, None, chosen, retry=False, sharing=sharing)
    own = {**whole, "longer": whole["longer"] / 2, "unmasked": 0.0} if sharing else whole
    assert f"1 at a time, about {duration(2 * sum(own.values()))}." in out.file.getvalue()
    assert dict(given[0].expected_s) == pytest.approx(own)
