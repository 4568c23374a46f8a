"""Experiments that know nothing of us: plain Sacred scripts beside a study, whose own config is what may be set."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ablations import experiments
from ablations.errors import AblationsError, StudyError
from ablations.plan import expand
from ablations.schema import load_schema
from ablations.study import load_study

pytestmark = pytest.mark.slow  # each asks an experiment in a process of its own
CLI = [sys.executable, "-m", "ablations.cli"]
SCRIPT = """
import time
from sacred import Experiment, Ingredient

data = Ingredient("data")
ex = Experiment("stranger", ingredients=[data], save_git_info=False)


@data.config
def data_config():
    samples = 100  # how many there are


@data.named_config
def few():
    samples = 10


@ex.config
def config(data):
    units = 8  # width of the layer
    wide = units * 2
    per_unit = data["samples"] / units
    rate = 0.1
    rule = "adam"
    if rule == "sgd":
        momentum = 0.9
    depth = None
    free = {}
    sizes = [1, 2]
    started = time.time()


ex.add_config({"table": {"a": 1, "b": "x"}})
ex.add_config("more.json")


@ex.named_config
def big():
    units = 64
    rate = 0.01
    depth = units // 2


@data.capture
def load(samples, shuffle=True):
    return samples if shuffle else -samples


def prepare(rows):
    return rows


@ex.main
def run(seed, units, wide, rate, from_file, _run, tolerance=1e-3):
    _run.info["data"] = "a word"
    _run.log_scalar("rewind", 1.0, 0)
    for step in range(3):
        _run.log_scalar("loss", abs(step - 1) + rate * seed, step)
    return {"size": units + wide + load(), "seed": seed, "nested": {"tolerance": tolerance}}
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Writes a study of the script beside it, and returns its path."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "stranger.py").write_text(SCRIPT)
    (folder / "more.json").write_text('{"from_file": 5}')
    before = Path.cwd()
    os.chdir(folder)  # as the script would be run

    def write(ablations="", more="", experiment="stranger:ex", metric="metric: size"):
        path = folder / "study.yaml"
        lines = textwrap.indent(textwrap.dedent(ablations).strip(), "  ") or "  x: {set: {rate: 0.2}}"
        path.write_text(f"study: s\nexperiment: {experiment}\n{metric}\nseeds: 3\n{more}\nablations:\n{lines}\n")
        return path

    yield write
    os.chdir(before)


def problems(path):
    with pytest.raises(StudyError) as found:
        load_study(path)
    return [f"{each.line} {each.path}: {each.message}" for each in found.value.problems]


def variants(path):
    return {each.name: each for each in expand(load_study(path))}


def test_every_source_of_a_sacred_config_can_be_set(stranger):
    tunables = load_study(stranger()).schema.tunables
    given = {key: each.default for key, each in tunables.items() if key in load_study(stranger()).baseline}
    assert given == {
        "units": 8, "wide": 16, "per_unit": 12.5, "rate": 0.1, "rule": "adam", "depth": None, "free": {},
        "sizes": [1, 2], "table.a": 1, "table.b": "x", "from_file": 5, "data.samples": 100,
        "data.shuffle": True, "tolerance": 0.001,
    }  # fmt: skip
    assert tunables["units"].help == "width of the layer"
    assert tunables["data.samples"].help == "how many there are"
    assert load_study(stranger()).schema.named == ("big", "data.few")


def test_what_depends_on_the_moment_or_the_seed_is_no_part_of_what_is_hashed(stranger):
    study = load_study(stranger("now: {set: {started: 3.0}}"))
    assert "started" in study.schema.tunables
    assert "started" not in study.baseline
    assert variants(stranger("now: {set: {started: 3.0}}"))["now"].config["started"] == 3.0


def test_values_that_follow_from_others_are_resolved_for_each_variant(stranger):
    found = variants(stranger("wide: {set: {units: 4}}\nfixed: {set: {units: 4, wide: 99}}\nfew: {named: [data.few]}"))
    assert (found["wide"].config["wide"], found["wide"].config["per_unit"]) == (8, 25.0)
    assert found["wide"].changes == {"units": 4}
    assert found["wide"].label == "units 8 → 4"
    assert found["fixed"].config["wide"] == 99
    assert (found["few"].config["data.samples"], found["few"].config["per_unit"]) == (10, 1.25)
    assert len({each.config_hash for each in found.values()}) == 4


def test_entries_that_are_there_under_some_conditions_are_known_there(stranger):
    found = variants(stranger("sgd: {set: {rule: sgd}}\nfast: {set: {rule: sgd, momentum: 0.99}}"))
    assert "momentum" not in found["baseline"].config
    assert (found["sgd"].config["momentum"], found["fast"].config["momentum"]) == (0.9, 0.99)
    (said,) = problems(stranger("wrong:\n  set:\n    momentum: 0.5"))
    assert said.startswith("9 ablations.wrong.set.momentum: variant wrong: the experiment's config makes no such entry")


def test_named_configs_come_before_what_is_set_and_sacred_evaluates_them_with_it(stranger):
    path = stranger(
        """
        large: {named: [big]}
        larger: {named: [big], set: {units: 128}}
        both: {combine: [large, few]}
        few: {named: [data.few]}
        """
    )
    found = variants(path)
    assert found["large"].changes == {"units": 64, "rate": 0.01, "depth": 32}
    assert found["larger"].config["depth"] == 64  # big's own units // 2, with the units that are set
    assert (found["both"].config["data.samples"], found["both"].config["units"]) == (10, 64)


def test_the_baseline_may_begin_with_named_configs(stranger):
    path = stranger("back: {set: {rate: 0.1}}", more="named: [big]\nbaseline: {units: 32}")
    assert load_study(path).baseline["units"] == 32
    assert load_study(path).baseline["rate"] == 0.01
    assert variants(path)["back"].changes == {"rate": 0.1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("set: {unitz: 3}", "unknown parameter 'unitz'; did you mean 'units'?"),
        ("set: {data.sample: 3}", "unknown parameter 'data.sample'; did you mean 'data.samples'?"),
        ("set: {table: {c: 3}}", "unknown parameter 'table.c'"),
        ("set: {units: many}", "expected a whole number, found the text 'many'"),
        ("set: {units: 0.5}", "types: {units: float} in the study allows fractions"),
        ("set: {rate: fast}", "expected a number, found the text 'fast'"),
        ("set: {seed: 3}", "expected no seed among the parameters"),
        ("named: [bigg]", "unknown named config 'bigg'; did you mean 'big'?"),
        ("set: {units: 0}", "cannot be resolved: ZeroDivisionError: division by zero (stranger.py:23)"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_before_anything_runs(stranger, change, said):
    (found,) = problems(stranger(f"x:\n  {change}"))
    assert found[0] in "78"
    assert said in found


def test_types_that_a_default_does_not_tell_can_be_declared(stranger):
    path = stranger("x: {set: {units: 0.5}}", more="types: {units: float, depth: int}")
    assert variants(path)["x"].config["units"] == 0.5
    assert "expected a whole number" in problems(stranger("x: {set: {depth: deep}}", more="types: {depth: int}"))[0]
    assert "unknown parameter 'unit'" in problems(stranger(more="types: {unit: float}"))[0]


def test_a_study_that_names_no_metric_is_told_what_there_seems_to_be(stranger):
    (said,) = problems(stranger(metric=""))
    assert "expected metric, a score that stranger:ex gives" in said
    assert (
        "it seems to give size, seed, nested, rewind.last, rewind.min, rewind.max, loss.last, loss.min, loss.max"
        in said
    )


BROKEN = {
    "strangr": ("", "no module strangr is installed or lies beside the study: unknown module 'strangr'; did you mean"),
    "lacks": ("import no_such_library", "lacks cannot be imported: ModuleNotFoundError: No module named 'no_such_libr"),
    "fails": ("raise ValueError('no data here')", "fails cannot be imported: ValueError: no data here (fails.py:1)"),
    "exits": ("import sys\nsys.exit(3)", "exits cannot be imported: it ends the process (3) outside of @ex.main"),
    "dies": ("import os\nos._exit(7)", "the process that imports it ended with exit code 7"),
    "garbled": ("def f(:", "garbled cannot be imported: SyntaxError"),
    "wrong": ("ex = 3", "expected a Sacred Experiment, found ex of type int; wrong has none"),
    "other": ("from sacred import Experiment\nexp = Experiment('o')", "unknown experiment 'ex'; did you mean 'exp'?"),
    "idle": ("from sacred import Experiment\nex = Experiment('i')", "expected a main function (@ex.main"),
    "needy": (
        "from sacred import Experiment\nex = Experiment('n')\n@ex.main\ndef run(seed, path, size=3): return 1",
        "expected a value for path, found none: needy:ex needs it and its config does not give it",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("module", BROKEN)
def test_an_experiment_that_cannot_be_used_says_why(stranger, module):
    source, said = BROKEN[module]
    path = stranger(experiment=f"{module}:ex", ablations="x: {set: {size: 2}}")
    if source:
        (path.parent / f"{module}.py").write_text(source)
    found = [each for each in problems(path) if "size" not in each]
    assert len(found) == 1
    assert said in found[0]


def test_answers_are_kept_until_a_file_of_the_experiment_changes(stranger, monkeypatch):
    path = stranger("x: {set: {units: 4}}")
    load_study(path)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(experiments.subprocess, "Popen", lambda *a, **k: started.append(a) or popen(*a, **k))
    assert load_study(path).baseline["from_file"] == 5
    assert started == []
    more = path.with_name("more.json")
    more.write_text('{"from_file": 6}')
    assert load_study(path).baseline["from_file"] == 6
    more.write_text('{"from_file": 5}')
    assert len(started) == 1


def test_a_module_config_of_their_own_is_left_alone(stranger):
    path = stranger()
    config = path.with_name("config.py")
    config.write_text("from dataclasses import dataclass\n@dataclass\nclass Config:\n    size: int = 3\nraise OSError")
    try:
        assert load_study(path).baseline["units"] == 8
    finally:
        config.unlink()


@pytest.mark.slow
def test_a_script_runs_in_processes_with_its_scores_and_the_last_least_and_greatest_of_what_it_logs(stranger):
    path = stranger("few: {named: [data.few]}\nquiet: {set: {tolerance: 0.5}}", metric="metric: loss.min")
    shutil.rmtree("results", ignore_errors=True)
    done = subprocess.run([*CLI, "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(each.read_text()) for each in path.parent.glob("results/runs/*/record.json")]
    by_key = {(each["variant"], each["seed"]): each for each in records}
    assert len(by_key) == 9
    assert by_key["few", 2]["scores"] == {
        "size": 34.0, "seed": 2.0, "nested.tolerance": 0.001,
        "rewind.last": 1.0, "rewind.min": 1.0, "rewind.max": 1.0,
        "loss.last": pytest.approx(1.2), "loss.min": pytest.approx(0.2), "loss.max": pytest.approx(1.2),
    }  # fmt: skip
    assert by_key["quiet", 0]["scores"]["nested.tolerance"] == 0.5
    assert by_key["few", 2]["info"]["experiment"] == {"data": "a word"}
    assert "started" not in by_key["few", 2]["config"]
    log = (path.parent / "results" / "runs" / by_key["few", 2]["run_id"] / "log.txt").read_text()
    assert "Added new config entry" not in log
    sacred = json.loads((path.parent / "results" / by_key["few", 2]["sacred"] / "config.json").read_text())
    assert (sacred["tolerance"], sacred["data"]["shuffle"], sacred["seed"]) == (0.001, True, 2)
    assert sacred["started"] > 1.7e9
    explained = subprocess.run([*CLI, "explain", "few"], capture_output=True, text=True, check=True).stdout
    assert "data.samples 100 → 10  how many there are" in explained
    assert "per_unit 12.5 → 1.25  follows" in explained
    again = subprocess.run([*CLI, "verify", "few"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr


def test_init_writes_a_valid_study_of_a_strangers_experiment(stranger):
    path = stranger().with_name("begun.yaml")
    path.unlink(missing_ok=True)
    command = [*CLI, "init", "--study", str(path), "--experiment", "stranger:ex"]
    subprocess.run(command, check=True, capture_output=True)
    written = path.read_text()
    assert "metric: size  # verdicts speak about this one (others: seed, nested, rewind.last, rewind.min, …)" in written
    assert "  units: 8  # width of the layer: a whole number" in written
    assert "# named: [big]  # named configs it begins with: big, data.few" in written
    assert load_study(path).baseline["units"] == 8


def test_only_an_experiment_of_ours_has_a_schema_of_its_own():
    assert load_schema("coin.experiment:ex") is not None
    assert load_schema("json.decoder:ex") is None
    with pytest.raises(AblationsError, match=r"unknown experiment 'ex' \(there is none\)"):
        experiments.schema_for("json.decoder:ex", Path())
