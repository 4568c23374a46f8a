"""Study files: what they mean, and what is said about wrong ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablations import executor_options, machine
from ablations.errors import StudyError
from ablations.plan import expand
from ablations.schema import load_schema
from ablations.study import Study, load_study

ROOT = Path(__file__).parent.parent


def valid(section: str, separator: str = ".") -> str:
    """The parameters of a section of the reference experiment as a message lists them: at most twelve."""
    schema = load_schema("ablations.naming.experiment:ex")
    keys = [key for key in schema.tunables if key.startswith(f"{section}.")]
    names = [key if separator == "." else key.partition(".")[2] for key in keys]
    return ", ".join(names if len(names) <= 12 else [*names[:12], f"… {len(names) - 12} more"])


def load(text: str, profile: str | None = None) -> Study:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load_study(path, profile)


def said(text: str, profile: str | None = None) -> list[str]:
    """What is said about a file: line, path and message of each problem."""
    try:
        load(text, profile)
    except StudyError as error:
        return [f"{each.line} {each.path}: {each.message}" for each in error.problems]
    return []


def test_a_profile_replaces_options_of_executors_key_by_key():
    text = (
        "study: a\nexecutors: {local: {workers: 2}}\nprofiles: {cpu: {executors: {local: {workers: null}}}, gpu: {}}\n"
    )
    assert load(text, "gpu").executors == {"local": {"workers": 2}}
    assert load(text, "cpu").executors == {"local": {"workers": None}}


def variants(text: str, profile: str | None = None) -> dict[str, dict[str, object]]:
    return {each.name: dict(each.changes) for each in expand(load(text, profile))}


# What a file means


def test_a_study_needs_only_a_name_and_has_the_defaults_of_the_method():
    study = load("study: tiny")
    assert (study.metric, study.direction, study.alpha, study.seeds) == ("test_f1", "max", 0.05, (0, 1, 2, 3, 4))
    assert (study.correction, study.equivalence_correction, study.min_seeds) == ("holm", "none", 3)
    assert (study.standard_seeds, study.power, study.looks, study.failure_value) == (5, 0.8, 1, None)
    assert dict(study.baseline) == study.schema.defaults()
    assert [variant.name for variant in expand(study)] == ["baseline"]


def test_nested_sections_and_dotted_keys_mean_the_same():
    nested = load("{study: a, baseline: {decoder: {layers: 3, heads: 2}, training.epochs: 2}}")
    dotted = load("{study: a, baseline: {decoder.layers: 3, decoder: {heads: 2}, training: {epochs: 2.0}}}")
    assert dict(nested.baseline) == dict(dotted.baseline)
    assert expand(nested)[0].config_hash == expand(dotted)[0].config_hash


def test_seeds_are_counted_from_zero_or_listed():
    assert load("{study: a, seeds: 3}").seeds == (0, 1, 2)
    assert load("{study: a, seeds: [7, 3]}").seeds == (7, 3)


@pytest.mark.parametrize(
    ("seeds", "rounds"),
    [
        ("{min: 5, max: 12}", (5, 9, 12)),  # three rounds: 7 more seeds are 4 and 3
        ("{min: 5, max: 6}", (5, 6)),
        ("{min: 3, max: 12, step: 4}", (3, 7, 11, 12)),
        ("{min: 4, max: 8, step: 4}", (4, 8)),
        ("{min: 4, max: 8, step: 9}", (4, 8)),
    ],
)
def test_adaptive_seeds_come_in_rounds_that_are_declared_with_a_look_after_each(seeds, rounds):
    study = load(f"{{study: a, seeds: {seeds}}}")
    assert (study.rounds, study.seeds, study.looks) == (rounds, tuple(range(rounds[-1])), len(rounds))


def test_a_profile_may_have_adaptive_seeds_where_the_study_has_not_and_the_other_way_round():
    text = "{study: a, seeds: {min: 3, max: 6}, profiles: {cpu: {seeds: 2}, gpu: {seeds: {min: 4, max: 5}}}}"
    cpu, gpu = (load(text, profile=name) for name in ("cpu", "gpu"))
    assert (cpu.rounds, cpu.looks, len(cpu.seeds)) == ((), 1, 2)
    assert (gpu.rounds, gpu.looks, len(gpu.seeds)) == ((4, 5), 2, 5)


def test_a_set_is_one_variant_with_the_ablations_name():
    text = """
    study: a
    ablations:
      constant-lr:
        group: learning rate
        question: Does decay cost accuracy?
        expect: better
        family: rates
        set: {training.schedule: constant}
    """
    (ablation,) = load(text).ablations
    assert (ablation.name, ablation.group, ablation.expect) == ("constant-lr", "learning rate", "better")
    assert (ablation.question, ablation.family, ablation.kind) == ("Does decay cost accuracy?", "rates", "set")
    assert ablation.line == 4
    (level,) = ablation.levels
    assert (level.name, dict(level.changes)) == ("constant-lr", {"training.schedule": "constant"})
    assert level.label == "training.schedule linear → constant"


def test_a_sweep_is_one_variant_a_level():
    text = "{study: a, ablations: {lr: {sweep: {training.learning_rate: [1.0e-5, 3e-4]}}}}"
    assert variants(text) == {
        "baseline": {},
        "lr=1e-5": {"training.learning_rate": 1e-5},
        "lr=0.0003": {"training.learning_rate": 3e-4},
    }


def test_a_grid_crosses_its_levels_and_leaves_the_baselines_cell_to_the_baseline():
    text = "{study: a, ablations: {sizes: {grid: {decoder.layers: [2, 8], decoder.heads: [4, 8]}}}}"
    assert variants(text) == {
        "baseline": {},  # 2 layers, 4 heads
        "sizes=2/8": {"decoder.heads": 8},
        "sizes=8/4": {"decoder.layers": 8},
        "sizes=8/8": {"decoder.layers": 8, "decoder.heads": 8},
    }


COMBINED = """
    study: a
    ablations:
      constant-lr: {set: {training.schedule: constant}}
      layers: {sweep: {decoder.layers: [4, 6]}}
      altogether: {combine: [constant-lr, layers=6]}
      altogether-wd: {extends: altogether, set: {training.weight_decay: 0.02}}
      parts: {leave_one_out: altogether-wd}
    """


def test_a_combination_makes_all_changes_of_its_parts():
    study = load(COMBINED)
    together = study.ablations[2]
    assert dict(together.levels[0].changes) == {"decoder.layers": 6, "training.schedule": "constant"}
    assert (together.kind, together.parts) == ("combine", ("constant-lr", "layers=6"))


def test_what_extends_another_starts_from_its_changes():
    extended = load(COMBINED).ablations[3]
    assert (extended.kind, extended.start, extended.parts) == ("extends", "altogether", ())
    assert dict(extended.levels[0].changes) == {
        "decoder.layers": 6,
        "training.schedule": "constant",
        "training.weight_decay": 0.02,
    }


def test_leave_one_out_drops_each_part_in_turn_and_keeps_what_is_set_on_top():
    parts = load(COMBINED).ablations[4]
    assert {level.name: dict(level.changes) for level in parts.levels} == {
        "parts=constant-lr": {"decoder.layers": 6, "training.weight_decay": 0.02},
        "parts=layers=6": {"training.schedule": "constant", "training.weight_decay": 0.02},
    }
    assert (parts.start, parts.parts) == ("altogether-wd", ("constant-lr", "layers=6"))


def test_leave_one_out_of_a_set_drops_each_parameter_that_differs_from_the_baseline():
    text = """
    study: a
    ablations:
      final: {set: {decoder: {layers: 6, heads: 8, dropout: 0.0}, training.schedule: constant}}
      without: {leave_one_out: final}
    """
    assert variants(text) == {
        "baseline": {},
        "final": {"decoder.layers": 6, "decoder.heads": 8, "training.schedule": "constant"},
        "without=decoder.layers": {"decoder.heads": 8, "training.schedule": "constant"},
        "without=decoder.heads": {"decoder.layers": 6, "training.schedule": "constant"},
        "without=training.schedule": {"decoder.layers": 6, "decoder.heads": 8},
    }


def test_what_leaves_out_a_part_uses_the_runs_of_a_variant_with_the_same_config():
    text = """
    study: a
    ablations:
      final: {set: {decoder.layers: 6, decoder.heads: 8, training.schedule: constant}}
      without: {leave_one_out: final}
      size: {set: {decoder.layers: 6, decoder.heads: 8}}
    """
    without = load(text).ablations[1]
    assert [level.name for level in without.levels] == ["without=decoder.layers", "without=decoder.heads"]
    assert [(step.part, step.variant) for step in without.steps] == [
        ("decoder.layers", "without=decoder.layers"),
        ("decoder.heads", "without=decoder.heads"),
        ("training.schedule", "size"),
    ]
    assert without.steps[2].label == "training.schedule linear → constant"


PATH = """
    study: a
    ablations:
      to-final: {path: final}
      layers: {sweep: {decoder.layers: [4, 6]}}
      final: {set: {decoder: {layers: 6, heads: 8}, training: {schedule: constant, weight_decay: 0.01}}}
    """


def test_a_path_adds_one_change_at_a_time_and_uses_the_runs_there_are():
    study = load(PATH)
    path = study.ablations[0]
    assert (path.kind, path.start) == ("path", "final")
    assert [(step.variant, step.part, step.label) for step in path.steps] == [
        ("baseline", "", ""),
        ("layers=6", "decoder.layers", "decoder.layers 2 → 6"),
        ("to-final=2-decoder.heads", "decoder.heads", "decoder.heads 4 → 8"),
        ("to-final=3-training.schedule", "training.schedule", "training.schedule linear → constant"),
        ("final", "training.weight_decay", "training.weight_decay 0.0 → 0.01"),
    ]
    assert path.parts == ("decoder.layers", "decoder.heads", "training.schedule", "training.weight_decay")
    assert [level.name for level in path.levels] == ["to-final=2-decoder.heads", "to-final=3-training.schedule"]
    assert dict(path.levels[1].changes) == {"decoder.layers": 6, "decoder.heads": 8, "training.schedule": "constant"}
    names = [variant.name for variant in expand(study)]
    assert names == ["baseline", *(level.name for level in path.levels), "layers=4", "layers=6", "final"]


def test_a_path_may_be_ordered_in_part_and_two_paths_share_their_steps():
    text = PATH + "  back: {path: final, order: [training.weight_decay, training.schedule]}\n"
    steps = load(text).ablations[-1].steps
    assert [step.part for step in steps[1:]] == [
        "training.weight_decay", "training.schedule", "decoder.layers", "decoder.heads",
    ]  # fmt: skip
    same = load(PATH + "  again: {path: final}\n")
    assert same.ablations[-1].levels == ()
    assert same.ablations[-1].steps == same.ablations[0].steps


def test_the_path_to_a_combination_adds_its_parts_and_what_is_set_on_top():
    text = """
    study: a
    ablations:
      x: {set: {decoder: {layers: 6, heads: 8}}}
      lr: {sweep: {training.learning_rate: [1.0e-4, 3.0e-4]}}
      both: {combine: [x, lr=3e-4], set: {decoder.heads: 2}}
      path: {path: both, order: [decoder.heads, lr]}
    """
    study = load(text)
    steps = {step.part: dict(variant_of(study, step.variant)) for step in study.ablations[-1].steps}
    assert steps == {
        "": {},
        "decoder.heads": {"decoder.heads": 2},
        "lr=0.0003": {"decoder.heads": 2, "training.learning_rate": 3e-4},
        "x": {"decoder.layers": 6, "decoder.heads": 2, "training.learning_rate": 3e-4},
    }
    assert study.ablations[-1].steps[-1].variant == "both"


def variant_of(study: Study, name: str) -> dict[str, object]:
    return next(dict(each.changes) for each in expand(study) if each.name == name)


def test_a_path_takes_its_steps_from_the_profile_in_force():
    text = (
        PATH + "profiles: {cpu: {baseline: {decoder.layers: 6}, ablations: {layers: {sweep: {decoder.layers: [4]}}}}}"
    )
    path = load(textwrap.dedent(text), "cpu").ablations[0]
    assert [step.part for step in path.steps] == ["", "decoder.heads", "training.schedule", "training.weight_decay"]


SEARCH = """
    study: a
    ablations:
      x: {set: {decoder.layers: 4}}
      tuned:
        extends: x
        search:
          space:
            training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
            decoder: {heads: {choices: [2, 4]}}
            data.vocabulary: {low: 1000, high: 8000, step: 1000}
          trials: 12
          pruner: median
    """


def test_a_search_is_a_variant_that_waits_for_it():
    study = load(SEARCH)
    tuned = study.ablations[1]
    assert (tuned.kind, tuned.start) == ("search", "x")
    search = tuned.search
    assert [dimension.label for dimension in search.space] == [
        "training.learning_rate 1e-5 … 0.001 (log)", "decoder.heads 2, 4", "data.vocabulary 1000 … 8000 by 1000",
    ]  # fmt: skip
    assert (search.trials, search.sampler, search.pruner, search.seed, search.at_once) == (12, "tpe", "median", 1000, 4)
    assert (search.objective, search.direction) == ("validation_f1", "max")  # test_f1's twin
    waiting = expand(study)[-1]
    assert (waiting.name, waiting.waits_for) == ("tuned", "its search has not begun")
    assert dict(waiting.changes) == {"decoder.layers": 4}  # what every trial starts from
    assert waiting.config_hash not in {variant.config_hash for variant in expand(study)[:-1]}


def test_a_search_is_known_by_what_decides_its_proposals():
    def identity(text: str) -> str:
        return expand(load(text))[-1].config_hash

    assert identity(SEARCH) == identity(SEARCH.replace("trials: 12", "trials: 40").replace("tuned", "other"))
    for change in (
        ("high: 8000", "high: 9000"),
        ("median", "none"),
        ("set: {decoder.layers: 4}", "set: {decoder.layers: 6}"),
    ):
        assert identity(SEARCH) != identity(SEARCH.replace(*change))


def test_set_settles_what_parts_disagree_about_and_levels_come_last():
    text = """
    study: a
    ablations:
      deep: {set: {decoder.layers: 8}}
      deeper: {set: {decoder.layers: 16, decoder.heads: 8}}
      both: {combine: [deep, deeper], set: {decoder.layers: 4, decoder.dropout: 0.5}, sweep: {decoder.dropout: [0.1]}}
    """
    assert variants(text)["both=0.1"] == {"decoder.layers": 4, "decoder.heads": 8, "decoder.dropout": 0.1}


def test_a_combination_that_sets_more_than_its_parts_has_no_parts_to_add_up():
    text = """
    study: a
    ablations:
      x: {set: {decoder.layers: 8}}
      y: {set: {decoder.heads: 8}}
      both: {combine: [x, y], set: {decoder.dropout: 0.5}}
    """
    assert load(text).ablations[2].parts == ()


def test_a_level_may_be_named_however_its_number_is_written():
    text = """
    study: a
    ablations:
      lr: {sweep: {training.learning_rate: [1.0e-5, 3.0e-4]}}
      both: {combine: [lr=3e-4], set: {decoder.layers: 8}}
    """
    assert variants(text)["both"] == {"training.learning_rate": 3e-4, "decoder.layers": 8}


PROFILES = """
    study: a
    seeds: 5
    baseline: {decoder: {layers: 4, heads: 4}}
    profiles:
      cpu:
        seeds: [1, 2, 3]
        baseline: {decoder.layers: 1}
        ablations:
          layers: {sweep: {decoder.layers: [2]}}
          long: skip
      gpu: {}
    ablations:
      layers: {sweep: {decoder.layers: [24, 32]}}
      heads: {set: {decoder.heads: 8}}
      long: {set: {training.epochs: 10}}
    """


def test_a_profile_changes_seeds_baseline_and_levels_and_skips():
    study = load(PROFILES, "cpu")
    assert (study.profile, study.seeds, study.skipped) == ("cpu", (1, 2, 3), ("long",))
    assert (study.baseline["decoder.layers"], study.baseline["decoder.heads"]) == (1, 4)
    assert list(variants(PROFILES, "cpu")) == ["baseline", "layers=2", "heads"]
    assert list(variants(PROFILES, "gpu")) == ["baseline", "layers=24", "layers=32", "heads", "long"]


def test_a_profiles_start_or_levels_take_the_place_of_the_ablations_own():
    text = """
    study: a
    profiles: {cpu: {ablations: {size: {grid: {decoder.layers: [3], decoder.heads: [8]}}}}}
    ablations: {size: {sweep: {decoder.layers: [24]}}}
    """
    assert list(variants(text, "cpu")) == ["baseline", "size=3/8"]


@pytest.mark.parametrize(("gpus", "profile"), [(0, "cpu"), (1, "gpu")])
def test_the_profile_is_chosen_by_what_is_there(monkeypatch, gpus, profile):
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    assert load(PROFILES).profile == profile


def test_a_study_without_a_fitting_profile_runs_as_it_stands(monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    assert load("{study: a, profiles: {gpu: {seeds: 9}}}").profile is None


def test_what_limits_a_study_without_being_wrong_is_noted():
    assert load("{study: a, seeds: 2}").notes == (
        "2 seeds: differences are shown, verdicts need 3 (min_seeds)",
        "no smallest_effect: an arm can be shown to differ, not to be equivalent",
    )
    assert load("{study: a, smallest_effect: 0.02}").notes == ()


def test_a_study_cannot_be_changed():
    study = load("study: a")
    with pytest.raises(TypeError):
        study.baseline["decoder.layers"] = 9
    with pytest.raises(AttributeError):
        study.alpha = 0.1


def test_the_repositorys_study_is_the_reference_study_whole_on_a_gpu_and_on_a_cpu():
    gpu, small = load_study(ROOT / "study.yaml", "gpu"), load_study(ROOT / "study.yaml", "cpu-whole")
    names = [variant.name for variant in expand(gpu)]
    for name in (  # the table of the reference study
        "constant-lr", "learning-rate=0.0003", "learning-rate=0.004", "input", "layers=24", "layers=32", "layers=64",
        "heads=16", "heads=32", "intermediate=2048", "intermediate=4096", "dropout=0.2", "dropout=0.5", "altogether",
        "altogether-decay=0.02", "altogether-decay=0.01", "altogether-decay-long", "final", "without=layers=32",
    ):  # fmt: skip
        assert name in names
    assert gpu.baseline["encoder.pretrained"] == "microsoft/codebert-base"
    assert gpu.baseline["training.batch_samples"] == 128
    for name in (  # what it left unsolved, left out or did oddly
        "tuned", "warm-start", "rescued", "direct=parallel", "direct=set", "augmentation=0.1", "own-name",
        "no-recursion", "no-abstract", "no-empty", "no-overrides", "unmasked", "padding",
    ):  # fmt: skip
        assert name in names
    assert gpu.skipped == ()
    assert small.skipped == ("encoder-size", "warm-start", "no-overrides")  # nothing of this size or kind is there
    assert [each.name for each in small.ablations] == [a.name for a in gpu.ablations if a.name not in small.skipped]
    assert len(small.seeds) == 5
    path = gpu.ablations[-1].steps
    assert [step.variant for step in path][:2] == ["baseline", "input"]
    assert path[-1].variant == "final"
    long = [variant.name for variant in expand(gpu) if variant.config["training.epochs"] > 1]
    assert long == ["altogether-decay-long", "final"]  # the steps to final are short runs: it adds its epochs last


def test_two_paths_make_the_reference_study_that_of_java_small_and_codebert_on_disk(tmp_path, monkeypatch):
    """Each stands once in the file, with an anchor; nothing else names a hub or a place."""
    archive, encoder = tmp_path / "mine" / "java.tar.gz", tmp_path / "mine" / "codebert"
    encoder.mkdir(parents=True)
    archive.write_bytes(b"")
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 514}
    (encoder / "config.json").write_text(json.dumps({"model_type": "roberta", "pad_token_id": 1, **sizes}))
    text = (ROOT / "study.yaml").read_text(encoding="utf-8")
    for place, mine in (("data/java-small.tar.gz", archive), ("microsoft/codebert-base", encoder)):
        assert text.count(place) == 1
        text = text.replace(place, str(mine))
    monkeypatch.setattr("ablations.machine.gpus", lambda: 1)
    study = load(text)
    assert study.profile == "gpu"
    configs = [variant.config for variant in expand(study)]
    assert {config["data.path"] for config in configs} == {str(archive)}
    assert {config["encoder.pretrained"] for config in configs} == {str(encoder)}
    assert {config["decoder.pretrained"] for config in configs} == {None, str(encoder)}


def test_the_cpu_profile_is_what_a_quarter_of_an_hour_holds():
    study = load_study(ROOT / "study.yaml", "cpu")
    assert len(expand(study)) == 10
    assert len(study.seeds) == 5


@pytest.mark.parametrize("number", range(5))
def test_the_examples_of_the_reference_are_studies(number):
    example = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8"), re.S)[
        number
    ]
    assert len(variants(example if "study:" in example else f"study: a\n{example}")) > 2


# What is said about wrong files

ONE = "study: a\nablations:\n"

WRONG = {
    "an empty file": ("", ["1 : expected the keys of a study (study, baseline, ablations, …), found null"]),
    "a list": ("- 1\n", ["1 : expected the keys of a study (study, baseline, ablations, …), found the list [1]"]),
    "no name": ("seeds: 3\n", ["0 study: expected a value for study, found none"]),
    "a name with a space": (
        "study: my study\n",
        ["1 study: expected a name (a letter, then letters, digits, _ . + or -, at most 60 in all), found 'my study'"],
    ),
    "an unknown key": (
        "study: a\nsedes: 3\n",
        [
            "2 sedes: unknown key 'sedes'; did you mean 'seeds'? (valid: study, question, experiment, metric, "
            "direction, unit, smallest_effect, failure_value, alpha, correction, equivalence_correction, min_seeds, "
            "… 10 more)"
        ],
    ),
    "an unknown key of an ablation": (
        ONE + "  x:\n    sett: {decoder.layers: 3}\n",
        [
            "4 ablations.x.sett: unknown key 'sett'; did you mean 'set'? (valid: set, sweep, grid, search, combine, "
            "extends, leave_one_out, path, order, named, group, question, … 2 more)"
        ],
    ),
    "an unknown key of a profile": (
        "study: a\nprofiles:\n  cpu: {seed: 3}\n",
        [
            "3 profiles.cpu.seed: unknown key 'seed'; did you mean 'seeds'? (valid: needs, seeds, named, baseline, "
            "executors, ablations)"
        ],
    ),
    "executors and options that there are not": (
        "study: a\nexecutors:\n  lokal: {workers: 2}\n  local:\n    worker: 2\n    workers: two\n",
        [
            "3 executors.lokal: unknown executor 'lokal'; did you mean 'local'? (valid: "
            + ", ".join(executor_options.names())
            + ")",
            "5 executors.local.worker: unknown option of local 'worker'; did you mean 'workers'? (valid: workers, "
            "per_gpu)",
            "6 executors.local.workers: expected a whole number of at least 1 or null, found the text 'two'",
        ],
    ),
    "options of executors that are none": (
        "study: a\nexecutors:\n  local: 2\n",
        ["3 executors.local: expected entries (name: value), found the number 2"],
    ),
    "an executor's option that is wrong in a profile": (
        "study: a\nexecutors: {local: {workers: 2}}\nprofiles:\n  cpu: {executors: {local: {workers: 0}}}\n",
        ["4 profiles.cpu.executors.local.workers: expected a whole number of at least 1 or null, found 0"],
    ),
    "an unknown key of a profile's ablation": (
        "study: a\nprofiles:\n  cpu: {ablations: {x: {group: y}}}\nablations: {x: {set: {decoder.layers: 3}}}\n",
        [
            "3 profiles.cpu.ablations.x.group: unknown key 'group' (valid: set, sweep, grid, search, combine, "
            "extends, leave_one_out, path, order, named)"
        ],
    ),
    "a parameter outside set": (
        ONE + "  x: {decoder.layers: 3}\n",
        [
            "3 ablations.x.decoder.layers: a parameter belongs under set, sweep, grid or search.space, found "
            "'decoder.layers' outside"
        ],
    ),
    "a parameter outside the baseline": (
        "study: a\ndecoder: {layers: 3}\n",
        ["2 decoder: a parameter belongs under baseline, found 'decoder' outside"],
    ),
    "an unknown parameter": (
        "study: a\nbaseline:\n  decoder:\n    layer: 3\n",
        [
            "4 baseline.decoder.layer: unknown parameter 'decoder.layer'; did you mean 'decoder.layers'? (valid: "
            f"{valid('decoder')})"
        ],
    ),
    "an unknown section": (
        "study: a\nbaseline: {decodr: {layers: 3}}\n",
        [
            "2 baseline.decodr: unknown section 'decodr'; did you mean 'decoder'? (valid: data, model, encoder, "
            "decoder, training, evaluation)"
        ],
    ),
    "a section that is a value": (
        "study: a\nbaseline: {model: 3}\n",
        [f"2 baseline.model: expected entries ({valid('model', 'inside')}), found the number 3"],
    ),
    "a value that is a section": (
        "study: a\nbaseline: {decoder.layers: {a: 3}}\n",
        ["2 baseline.decoder.layers: expected a whole number from 1 to 256, found entries (a)"],
    ),
    "a parameter set twice in two ways": (
        "study: a\nbaseline:\n  decoder.layers: 3\n  decoder: {layers: 3}\n",
        ["4 baseline.decoder.layers: decoder.layers is set twice in the same place, nested and dotted: keep one"],
    ),
    "values of a wrong type or out of range": (
        "study: a\nbaseline:\n  decoder.layers: 0\n  decoder.dropout: 1.0\n  decoder.heads: 4.0\n"
        '  training.learning_rate: "1e-4"\n  training.schedule: linaer\n  data.drop_duplicates: "yes"\n'
        "  data.packages: numpy\n  training.epochs: .nan\n  data.path: 3\n  data.corpus: null\n",
        [
            "3 baseline.decoder.layers: expected a whole number from 1 to 256, found 0",
            "4 baseline.decoder.dropout: expected a number from 0 to below 1, found 1.0",
            "5 baseline.decoder.heads: expected a whole number from 1 to 256, found the number 4.0 (write 4)",
            "6 baseline.training.learning_rate: expected a number above 0 and up to 10, found the text '1e-4' "
            "(write 0.0001 without quotes)",
            "7 baseline.training.schedule: unknown value 'linaer'; did you mean 'linear'? (valid: linear, constant, "
            "cosine)",
            "8 baseline.data.drop_duplicates: expected true or false, found the text 'yes' (write true without quotes)",
            "9 baseline.data.packages: expected a list of texts, found the text 'numpy' (write [numpy])",
            "10 baseline.training.epochs: expected a number above 0, found nan",
            "11 baseline.data.path: expected text or null, found the number 3 (put it in quotes)",
            "12 baseline.data.corpus: expected one of python-stdlib, python-packages, java-small, huggingface, "
            "found null",
        ],
    ),
    "rules of a wrong type or out of range": (
        "study: a\nquestion: 3\nalpha: 1.5\npower: high\nlooks: 0\ncorrection: bonferoni\nsmallest_effect: 0\n"
        "direction: maximum\nmin_seeds: 6\n",
        [
            "2 question: expected text, found the number 3 (put it in quotes)",
            "3 alpha: expected a number below 0.5, found 1.5",
            "4 power: expected a number, found the text 'high'",
            "5 looks: expected a number of at least 1, found 0",
            "6 correction: unknown value 'bonferoni' (valid: holm, none)",
            "7 smallest_effect: expected a number above 0, found 0",
            "8 direction: unknown value 'maximum'; did you mean 'max'? (valid: max, min)",
            "0 standard_seeds: expected at least min_seeds (6), found 5",
        ],
    ),
    "no seeds": ("study: a\nseeds: 0\n", ["2 seeds: expected from 1 to 1000 seeds, found 0"]),
    "an empty list of seeds": ("study: a\nseeds: []\n", ["2 seeds: expected from 1 to 1000 seeds, found 0"]),
    "seeds twice": (
        "study: a\nseeds: [0, 1, 1, 0]\n",
        ["2 seeds: expected each seed once, found 0, 1 more than once"],
    ),
    "seeds as text": (
        'study: a\nseeds: "5"\n',
        [
            "2 seeds: expected a number of seeds, a list of them or {min, max}, found the text '5' (write 5 without "
            "quotes)"
        ],
    ),
    "adaptive seeds without an end": (
        "study: a\nseeds: {min: 5, mx: 12, step: few}\n",
        [
            "2 seeds: unknown key 'mx'; did you mean 'max'? (valid: min, max, step); expected a value for max, found "
            "none; step: expected a whole number, found the text 'few'"
        ],
    ),
    "adaptive seeds that end before they begin": (
        "study: a\nseeds: {min: 5, max: 5}\n",
        ["2 seeds: expected max above min (5), found 5"],
    ),
    "adaptive seeds out of range": (
        "study: a\nseeds: {min: 0, max: 1001}\n",
        ["2 seeds: min: expected from 1 to 1000, found 0; max: expected from 1 to 1000, found 1001"],
    ),
    "adaptive seeds in too many rounds": (
        "study: a\nseeds: {min: 5, max: 500, step: 1}\n",
        ["2 seeds: expected at most 100 rounds, found 496: enlarge step"],
    ),
    "adaptive seeds with a first look that tells nothing, and looks declared twice": (
        "study: a\nlooks: 2\nseeds: {min: 2, max: 6}\nprofiles: {cpu: {}, gpu: {seeds: {min: 1, max: 4}}}\n",
        [
            "3 seeds: min: expected at least min_seeds (3), found 2: a look at fewer gives no verdict (profile cpu)",
            "4 profiles.gpu.seeds: min: expected at least min_seeds (3), found 1: a look at fewer gives no verdict",
            "2 looks: expected none beside adaptive seeds, found 2: adaptive seeds have a look after each of 3 rounds",
        ],
    ),
    "a negative seed": (
        "study: a\nseeds: [0, -1]\n",
        ["2 seeds: expected whole numbers from 0 to 2147483647, found the number -1"],
    ),
    "no change": (
        ONE + "  x: {group: y}\n",
        [
            "3 ablations.x: expected a change (set, sweep, grid, search, combine, extends, leave_one_out, path, "
            "named), found none"
        ],
    ),
    "an empty change": (
        ONE + "  x: {set: {}}\n  y:\n    set:\n",
        [
            "3 ablations.x.set: expected parameters under set, found none",
            "5 ablations.y.set: expected a value, found null: fill it in, or remove the key",
        ],
    ),
    "an ablation that is no mapping": (
        ONE + "  x: constant\n  y:\n",
        [
            "3 ablations.x: expected entries (name: value), found the text 'constant'",
            "4 ablations.y: expected entries (name: value), found null",
        ],
    ),
    "rival keys": (
        ONE + "  x: {sweep: {decoder.layers: [3]}, grid: {decoder.layrs: [3]}}\n"
        "  y: {set: {decoder.heads: 8}, leave_one_out: x}\n",
        [
            "3 ablations.x.grid: expected one of sweep, grid, found both: keep one",
            "3 ablations.x.grid.decoder.layrs: unknown parameter 'decoder.layrs'; did you mean 'decoder.layers'? "
            f"(valid: {valid('decoder')})",
            "4 ablations.y.set: leave_one_out stands alone: move set to what it refers to",
        ],
    ),
    "levels that are no list": (
        ONE + "  x: {sweep: {decoder.layers: 6}}\n  y: {sweep: {decoder.heads: []}}\n",
        [
            "3 ablations.x.sweep.decoder.layers: expected a list of levels, found the number 6 (write [6])",
            "4 ablations.y.sweep.decoder.heads: expected a list of levels, found an empty list",
        ],
    ),
    "a sweep of two parameters": (
        ONE + "  x: {sweep: {decoder.layers: [6], decoder.heads: [8]}}\n",
        [
            "3 ablations.x.sweep: expected one parameter to sweep, found decoder.layers, decoder.heads: "
            "use grid to cross them"
        ],
    ),
    "levels out of range beside good ones": (
        ONE + "  x:\n    sweep:\n      decoder.layers:\n        - 6\n        - 0\n        - 6\n",
        [
            "7 ablations.x.sweep.decoder.layers[1]: expected a whole number from 1 to 256, found 0",
            "8 ablations.x.sweep.decoder.layers[2]: variant x=6 is there twice, first in line 6: keep one",
        ],
    ),
    "a grid too large": (
        ONE + f"  x: {{grid: {{decoder.layers: {list(range(1, 100))}, decoder.heads: {list(range(1, 100))}}}}}\n",
        ["3 ablations.x.grid: expected at most 2000 variants, found a grid of 9801"],
    ),
    "unknown references": (
        ONE + "  layers: {sweep: {decoder.layers: [4, 6]}}\n  a: {combine: [layrs, layers, layers=8]}\n"
        "  b: {extends: baseline}\n",
        [
            "4 ablations.a.combine[0]: unknown ablation 'layrs'; did you mean 'layers'? (valid: layers, a, b)",
            "4 ablations.a.combine[1]: expected one variant, found layers, which has 2: name one of layers=4, layers=6",
            "4 ablations.a.combine[2]: unknown variant 'layers=8'; did you mean 'layers=6'? (valid: layers=4, "
            "layers=6)",
            "5 ablations.b.extends: expected an ablation, found baseline: every ablation starts from it anyway",
        ],
    ),
    "circles": (
        ONE + "  a: {extends: b}\n  b: {combine: [c]}\n  c: {leave_one_out: a}\n  d: {extends: d}\n",
        [
            "5 ablations.c.leave_one_out: expected an ablation that does not build on this one, found the circle "
            "a → b → c → a",
            "6 ablations.d.extends: expected an ablation that does not build on this one, found the circle d → d",
        ],
    ),
    "combinations of nothing, of the same, of what conflicts": (
        ONE + "  x: {set: {decoder.layers: 4}}\n  y: {set: {decoder.layers: 6}}\n  a: {combine: []}\n"
        "  b: {combine: [x, y], set: {decoder.heads: 8}}\n  c: {combine: [x, x], set: {decoder.heads: 2}}\n"
        "  d: {leave_one_out: x}\n  e: {combine: [x, z]}\n  f: {leave_one_out: e}\n  z: {set: {decoder.heads: 8}}\n",
        [
            "5 ablations.a.combine: expected the names of ablations to combine, found an empty list",
            "6 ablations.b.combine[1]: x and y both set decoder.layers (4 and 6): drop one, or settle it under set",
            "7 ablations.c.combine[1]: x is combined twice: keep one",
            "8 ablations.d.leave_one_out: expected a combination of three parts or more, one of two and a set, "
            "or a set of two parameters or more, found x, which has 1",
            "10 ablations.f.leave_one_out: expected a combination of three parts or more, one of two and a set, "
            "or a set of two parameters or more, found e, which has 2",
        ],
    ),
    "the same config twice": (
        ONE + "  x: {set: {decoder.layers: 4}}\n  y: {sweep: {decoder.layers: [3, 4]}}\n"
        "  z: {set: {training.schedule: linear}}\n  e: {extends: x}\n",
        [
            "4 ablations.y.sweep.decoder.layers[1]: y=4 resolves to the same config as x (line 3): keep one",
            "5 ablations.z: z changes nothing: it resolves to the baseline's config (training.schedule is linear "
            "there, too)",
            "6 ablations.e: e resolves to the same config as x (line 3): keep one",
        ],
    ),
    "paths that lead nowhere": (
        ONE + "  x: {set: {decoder.layers: 4}}\n  y: {set: {decoder: {layers: 6, heads: 8}}}\n  a: {path: x}\n"
        "  b: {path: y, order: [decoder.heads, decoder.head, decoder.heads]}\n"
        "  c: {path: y, set: {decoder.layers: 3}}\n"
        "  d: {path: nowhere}\n  e: {set: {decoder.heads: 2}, order: [decoder.heads]}\n  f: {path: f}\n",
        [
            "5 ablations.a.path: expected a variant with two changes or more, found x",
            "6 ablations.b.order[1]: unknown part of y 'decoder.head'; did you mean 'decoder.heads'? (valid: "
            "decoder.layers, decoder.heads)",
            "6 ablations.b.order[2]: decoder.heads is ordered twice: keep one",
            "7 ablations.c.set: path stands alone: move set to what it refers to",
            "8 ablations.d.path: unknown ablation 'nowhere' (valid: x, y, a, b, c, d, e, f)",
            "9 ablations.e.order: expected path beside order, found none: it orders the parts of a path",
            "10 ablations.f.path: expected an ablation that does not build on this one, found the circle f → f",
        ],
    ),
    "searches of nothing": (
        ONE + "  a: {search: {}}\n  b: {search: {space: {decoder.layrs: {low: 1, high: 2}}, trials: 0}}\n"
        "  c: {search: {space: {decoder.layers: 3}, budget: 9}}\n  d:\n    search:\n      sampler: best\n",
        [
            "3 ablations.a.search.space: expected parameters under space, found none",
            "4 ablations.b.search.space.decoder.layrs: unknown parameter 'decoder.layrs'; did you mean "
            f"'decoder.layers'? (valid: {valid('decoder')})",
            "4 ablations.b.search.trials: expected a number of at least 1, found 0",
            "5 ablations.c.search.budget: unknown key 'budget' (valid: space, trials, sampler, pruner, objective, "
            "seed, "
            "at_once)",
            "5 ablations.c.search.space.decoder.layers: expected {low: …, high: …} or {choices: […]}, found the "
            "number 3",
            "8 ablations.d.search.sampler: unknown value 'best' (valid: tpe, random, cmaes)",
            "7 ablations.d.search.space: expected parameters under space, found none",
        ],
    ),
    "ranges and choices that are none": (
        ONE + "  a:\n    search:\n      space:\n        decoder.layers: {low: 4, high: 4}\n"
        "        decoder.heads: {low: 0, high: 2.5, lgo: true}\n        decoder.dropout: {low: 0.0, high: 0.5, log: "
        "true}\n"
        "        training.schedule: {low: 1, high: 2}\n        data.keywords: {choices: [true]}\n"
        "        training.weight_decay: {low: 0, high: 2}\n        training.epochs: {low: 1, high: 9, step: 0}\n"
        "        data.encoding: {choices: [words, words]}\n        data.vocabulary: {choices: [100, 9]}\n",
        [
            "6 ablations.a.search.space.decoder.layers: expected low below high, found 4 and 4",
            "7 ablations.a.search.space.decoder.heads.lgo: unknown key 'lgo'; did you mean 'low'? (valid: low, high, "
            "log, step)",
            "8 ablations.a.search.space.decoder.dropout.low: a logarithmic range needs a low above 0, found 0.0",
            "9 ablations.a.search.space.training.schedule: expected {choices: […]}, found a range: "
            "training.schedule is "
            "no number",
            "10 ablations.a.search.space.data.keywords.choices: expected a list of two choices or more, found the list "
            "[True]",
            "11 ablations.a.search.space.training.weight_decay.high: expected a number from 0 to below 1, found 2",
            "12 ablations.a.search.space.training.epochs.step: expected a step above 0, found the number 0",
            "13 ablations.a.search.space.data.encoding.choices: expected each choice once, found words more than once",
            "14 ablations.a.search.space.data.vocabulary.choices[1]: expected a whole number from 64 to 200000, "
            "found 9",
        ],
    ),
    "searches that would deceive": (
        "study: a\nseeds: [7, 8]\nablations:\n"
        "  a: {search: {space: {decoder.layers: {low: 1, high: 2}}, seed: 8, objective: test_loss}}\n"
        "  b: {extends: a, set: {decoder.heads: 8}}\n  c: {path: a}\n  d: {sweep: {decoder.layers: [3]}, search: {}}\n",
        [
            "4 ablations.a.search.objective: expected a metric of the validation split, found test_loss: what is "
            "chosen "
            "by a score cannot be compared by it",
            "4 ablations.a.search.seed: expected none of the study's seeds, found 8: what the search finds is compared "
            "on fresh ones",
            "5 ablations.b.extends: expected a variant that is known, found a, which a search chooses: set what it "
            "found",
            "6 ablations.c.path: expected a variant that is known, found a, which a search chooses: set what it found",
            "7 ablations.d.search: expected one of sweep, search, found both: keep one",
        ],
    ),
    "a grid of the baseline alone": (
        ONE + "  x: {grid: {decoder.layers: [2]}}\n",
        ["3 ablations.x.grid.decoder.layers[0]: x changes nothing: its only variant is the baseline"],
    ),
    "hidden sizes that heads do not divide": (
        "study: a\nbaseline:\n  encoder.heads: 3\nablations:\n  x: {set: {decoder.heads: 7}}\n"
        "  y: {sweep: {model.hidden: [132, 130]}}\n",
        [
            "3 baseline.encoder.heads: 3 heads do not divide the hidden size 128",
            "5 ablations.x.set.decoder.heads: variant x: 7 heads do not divide the hidden size 128",
            "6 ablations.y.sweep.model.hidden[1]: variant y=130: decoder.heads: 4 heads do not divide the hidden "
            "size 130",
            "6 ablations.y.sweep.model.hidden[1]: variant y=130: encoder.heads: 3 heads do not divide the hidden "
            "size 130",
        ],
    ),
    "names that differ in case only, or are taken": (
        ONE + "  x: {set: {decoder.layers: 4}}\n  X: {set: {decoder.layers: 6}}\n"
        "  Baseline: {set: {decoder.layers: 8}}\n  a=b: {set: {decoder.layers: 9}}\n",
        [
            "4 ablations.X: X differs from x (line 3) in case only: choose another",
            "5 ablations.Baseline: Baseline is the name of the baseline: choose another",
            "6 ablations.a=b: expected a name (a letter, then letters, digits, _ . + or -, at most 60 in all), "
            "found 'a=b'",
        ],
    ),
    "names that YAML readers misread": (
        ONE + "  no: {set: {decoder.layers: 0}}\n  1e-4: {set: {decoder.layers: 6}}\n",
        [
            '3 ablations.no: unquoted no is false to some YAML readers and text to others: write false, or "no" in '
            "quotes",
            "3 ablations.no.set.decoder.layers: expected a whole number from 1 to 256, found 0",
            '4 ablations.1e-4: expected a name, found unquoted 1e-4, which is a number: write "1e-4" in quotes',
        ],
    ),
    "a value that YAML readers misread is named once": (
        "study: a\nbaseline: {decoder.layers: 010, data.drop_duplicates: off}\n",
        [
            "2 baseline.data.drop_duplicates: unquoted off is false to some YAML readers and text to others: "
            'write false, or "off" in quotes',
            "2 baseline.decoder.layers: 010 is 8 to some YAML readers and 10 to others: write the number without the "
            "leading zero, or text in quotes",
        ],
    ),
    "profiles that refer to nothing": (
        "study: a\nprofiles:\n  cpu:\n    ablations:\n      layrs: skip\n      x: never\nablations:\n"
        "  x: {set: {decoder.layers: 4}}\n  layers: {set: {decoder.layers: 6}}\n",
        [
            "5 profiles.cpu.ablations.layrs: unknown ablation 'layrs'; did you mean 'layers'? (valid: x, layers)",
            "6 profiles.cpu.ablations.x: expected skip, or the keys of a change (set, sweep, …), found the text "
            "'never'",
        ],
    ),
    "what only one profile gets wrong": (
        "study: a\nprofiles:\n  cpu:\n    baseline: {decoder.layers: 4}\n    ablations: {y: skip}\n  gpu: {}\n"
        "ablations:\n  x: {set: {decoder.layers: 4}}\n  y: {set: {decoder.heads: 8}}\n"
        "  z: {combine: [y], set: {decoder.dropout: 0.1}}\n",
        [
            "8 ablations.x: x changes nothing: it resolves to the baseline's config (decoder.layers is 4 there, too) "
            "(profile cpu)",
            "10 ablations.z.combine[0]: y is skipped in profile cpu: skip or change this one there, too (profile cpu)",
        ],
    ),
    "an experiment that is malformed": (
        "study: a\nexperiment: naming\n",
        ["2 experiment: expected package.module:name of a Sacred experiment, found 'naming'"],
    ),
    "a repeated ablation": (
        ONE + "  x: {set: {decoder.layers: 4}}\n  x: {set: {decoder.layers: 6}}\n",
        ["4 ablations.x: x is given twice, first in line 3: keep one"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_explained(case):
    text, expected = WRONG[case]
    assert sorted(said(text)) == sorted(expected)


def test_a_typo_in_one_place_hides_nothing_in_another():
    text = """\
    study: a
    seedz: 3
    baseline: {decoder.heads: 3, decoder.layrs: 2}
    ablations:
      x: {sett: {decoder.layers: 3}}
      y: {set: {decoder.dropout: 2}}
      z: {combine: [x, w]}
      x: {set: {model.hidden: 9999999}}
    """
    assert [message.split(":")[0] for message in said(text)] == [
        "2 seedz",
        "3 baseline.decoder.heads",  # 3 heads do not divide 128
        "3 baseline.decoder.layrs",
        "5 ablations.x.sett",
        "6 ablations.y.set.decoder.dropout",
        "7 ablations.z.combine[1]",
        "8 ablations.x",
    ]


def test_a_wrong_value_leads_to_no_further_complaint_about_what_rests_on_it():
    text = """
    study: a
    baseline: {model.hidden: 0, decoder.heads: 3}
    ablations: {x: {set: {decoder.layerz: 3}}, y: {set: {decoder.layers: 0}}, z: {combine: [x, y]}}
    """
    assert [message.split(":")[0] for message in said(text)] == [
        "3 baseline.model.hidden",
        "4 ablations.x.set.decoder.layerz",
        "4 ablations.y.set.decoder.layers",
    ]


def test_input_longer_than_the_encoders_positions_is_said_where_it_is_set(tmp_path):
    sizes = '{"model_type": "roberta", "hidden_size": 64, "max_position_embeddings": 130}'
    (tmp_path / "config.json").write_text(sizes, encoding="utf-8")
    text = f"""\
    study: a
    baseline: {{encoder.pretrained: "{tmp_path}", data.encoding: pretrained, data.input_tokens: 128}}
    ablations:
      input:
        sweep: {{data.input_tokens: [64, 256]}}
    """
    assert said(text) == [  # 130 positions, of which RoBERTa keeps two
        "5 ablations.input.sweep.data.input_tokens[1]: variant input=256: expected at most 128, the positions of "
        f"{tmp_path}, found 256"
    ]


def test_a_pretrained_config_that_is_no_json_is_a_problem_and_no_crash(tmp_path):
    (tmp_path / "config.json").write_text("nonsense", encoding="utf-8")
    text = f'{{study: a, baseline: {{encoder.pretrained: "{tmp_path}", data.encoding: pretrained}}}}'
    assert said(text)[0].startswith("1 baseline: the experiment's own check of the config failed: JSONDecodeError")


def test_an_unknown_profile_is_named_with_those_there_are():
    assert said(PROFILES, "tpu") == ["0 profiles: unknown profile 'tpu'; did you mean 'gpu'? (valid: cpu, gpu)"]
    assert said("study: a", "cpu") == ["0 profiles: unknown profile 'cpu' (there is none)"]


def test_the_text_of_the_error_names_file_line_and_path(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("study: a\nalpha: 2\n", encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert str(caught.value) == f"{path}:2: alpha: expected a number below 0.5, found 2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"study: \xff\n", "expected UTF-8 text, found other bytes"),
        (b"#" * 300_000, "expected a file of at most 256 KiB, found more"),
    ],
)
def test_bytes_that_are_no_study_are_a_problem(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        load_study(path)


def test_a_file_that_is_not_there_is_a_problem(tmp_path):
    with pytest.raises(StudyError, match=r"nowhere.yaml: cannot be read: No such file or directory"):
        load_study(tmp_path / "nowhere.yaml")
    with pytest.raises(StudyError, match=r"cannot be read: Is a directory"):
        load_study(tmp_path)


def test_a_long_chain_of_ablations_is_stopped():
    chain = "".join(f"  a{n}: {{extends: a{n + 1}}}\n" for n in range(60))
    assert any("at most 50 ablations that build on each other" in message for message in said(ONE + chain))


# Never a crash

NAMES = st.sampled_from(["a", "b", "layers", "baseline", "skip", "a=2", "b=1/2", "no", "", "é"])
KEYS = st.sampled_from(["decoder.layers", "decoder.heads", "model.hidden", "decoder", "training.schedule", "x", "data"])
RANGE = st.sampled_from(["low", "high", "log", "step", "choices", "x"])
VALUES = st.one_of(
    st.integers(-2, 9), st.floats(), st.sampled_from(["linear", "constant", "5e-5", ""]), st.none(), st.booleans()
)
ANY = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
CHANGE = st.fixed_dictionaries(
    {},
    optional={
        "set": st.dictionaries(KEYS, VALUES, max_size=2) | ANY,
        "sweep": st.dictionaries(KEYS, st.lists(VALUES, max_size=3), max_size=2) | ANY,
        "grid": st.dictionaries(KEYS, st.lists(VALUES, max_size=3), max_size=2) | ANY,
        "combine": st.lists(NAMES, max_size=3) | ANY,
        "extends": NAMES | ANY,
        "search": st.fixed_dictionaries(
            {"space": st.dictionaries(KEYS, st.dictionaries(RANGE, VALUES | st.lists(VALUES), max_size=3), max_size=2)},
            optional={"seed": VALUES, "trials": VALUES, "objective": ANY},
        )
        | ANY,
        "leave_one_out": NAMES | ANY,
        "path": NAMES | ANY,
        "order": st.lists(NAMES | KEYS, max_size=3) | ANY,
        "group": ANY,
        "expect": ANY,
    },
)
FILES = st.fixed_dictionaries(
    {"study": st.just("a") | ANY},
    optional={
        "seeds": st.integers(-1, 4)
        | st.dictionaries(st.sampled_from(["min", "max", "step"]), st.integers(-1, 12) | ANY)
        | ANY,
        "alpha": VALUES,
        "experiment": VALUES,
        "baseline": ANY,
        "profiles": st.dictionaries(
            NAMES,
            st.fixed_dictionaries(
                {},
                optional={
                    "baseline": ANY,
                    "ablations": st.dictionaries(NAMES, CHANGE | st.just("skip"), max_size=2) | ANY,
                },
            )
            | ANY,
            max_size=2,
        )
        | ANY,
        "ablations": st.dictionaries(NAMES, CHANGE | ANY, max_size=4) | ANY,
    },
)


def written(data: object) -> str:
    """Any plain data as YAML, in the flow style that JSON shares with it."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{written(key)}: {written(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(written, data)) + "]"
    if isinstance(data, float):
        return repr(data).replace("inf", ".inf").replace("nan", ".nan")
    return {None: "null", True: "true", False: "false"}[data] if data is None or isinstance(data, bool) else repr(data)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(FILES | ANY)
@example({"study": "a", "ablations": {"a": {"leave_one_out": "a=2"}, "a=2": {"extends": "a"}}})
def test_any_data_gives_a_study_or_problems(data):
    try:
        study = load(written(data))
    except StudyError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
    else:
        hashes = [variant.config_hash for variant in expand(study)]
        assert len(set(hashes)) == len(hashes)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_study_gives_a_study_or_problems(data):
    text = (ROOT / "study.yaml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 30))
    patch = data.draw(st.text(" \n:{}[],-#&*!abc019.'\"", max_size=6))
    try:
        load_study_text(text[:start] + patch + text[start + length :])
    except StudyError as error:
        assert error.problems


def load_study_text(text: str) -> Study:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_study(path)


# Cost


def test_planning_imports_nothing_heavy():
    code = (
        "import sys; from ablations.study import load_study; from ablations.plan import expand, forecast, run_keys;"
        "study = load_study('study.yaml', 'cpu');"
        "forecast(expand(study), run_keys(study), flops=study.schema.flops);"
        "print(*sorted({'torch', 'pandas', 'numpy', 'sacred', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_loading_and_expanding_the_reference_study_takes_a_fraction_of_a_second():
    start = time.process_time()
    expand(load_study(ROOT / "study.yaml", "gpu"))
    assert time.process_time() - start < 0.3


@pytest.mark.parametrize(
    ("gpus", "there", "asked", "taken", "noted"),
    [
        (1, True, None, "gpu", False),
        (1, False, None, "cpu", True),
        (1, False, "gpu", "gpu", False),
        (1, False, "cpu", "cpu", False),
        (0, True, None, "cpu", False),
    ],
)
def test_a_profile_is_taken_by_itself_only_where_what_it_needs_is_there(
    tmp_path, monkeypatch, gpus, there, asked, taken, noted
):
    monkeypatch.setattr("ablations.machine.gpus", lambda: gpus)
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "corpus").mkdir()
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: s\nsmallest_effect: 0.1\nprofiles: {gpu: {needs: [corpus]}, cpu: {}}\n"
        "ablations: {deep: {set: {decoder.layers: 3}}}\n"
    )
    study = load_study(path, asked)
    assert study.profile == taken
    assert any("profile gpu needs corpus" in note for note in study.notes) == noted
