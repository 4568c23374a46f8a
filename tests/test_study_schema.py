"""The JSON Schema that editors check study.yaml against."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from ablations.errors import AblationsError
from ablations.schema import load_schema
from ablations.study_schema import schema_text, study_schema
from ablations.yamlfile import read_yaml

ROOT = Path(__file__).parent.parent


def complaints(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(study_schema())
    return [".".join(map(str, error.path)) for error in validator.iter_errors(read_yaml(text).data)]


def test_the_committed_schema_is_what_the_program_writes():
    assert (ROOT / "study.schema.json").read_text(encoding="utf-8") == schema_text()


def test_it_is_a_valid_schema():
    jsonschema.Draft202012Validator.check_schema(study_schema())


def test_the_repositorys_study_obeys_it_and_names_it_in_its_first_line():
    text = (ROOT / "study.yaml").read_text(encoding="utf-8")
    assert complaints(text) == []
    assert text.splitlines()[0] == "# yaml-language-server: $schema=study.schema.json"


def test_every_parameter_has_its_type_range_default_unit_and_help():
    parts = study_schema()["$defs"]
    schema = load_schema("ablations.naming.experiment:ex")
    assert set(schema.tunables) <= set(parts)
    assert parts["decoder.dropout"] == {
        "description": "hidden dropout", "default": 0.0, "type": "number", "minimum": 0, "exclusiveMaximum": 1,
    }  # fmt: skip
    assert parts["training.max_steps"]["type"] == ["integer", "null"]
    assert parts["training.max_steps"]["description"].endswith("[steps]")
    assert parts["training.schedule"]["enum"] == ["linear", "constant", "cosine"]


def test_parameters_may_be_nested_or_dotted_everywhere():
    text = """
    study: a
    baseline: {decoder: {layers: 2}, decoder.heads: 2}
    profiles: {cpu: {baseline: {training: {epochs: 1}}, ablations: {x: {sweep: {decoder: {layers: [3]}}}, y: skip}}}
    ablations:
      x: {sweep: {decoder.layers: [3, 4]}}
      y: {set: {decoder: {heads: 8}}}
      z: {combine: [x=3, y], set: {data.path: null}}
    """
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("study: a b", "study"),
        ("{study: a, sedes: 3}", ""),
        ("{study: a, baseline: {decoder: {layer: 3}}}", "baseline.decoder"),
        ("{study: a, baseline: {decoder.layers: 0}}", "baseline.decoder.layers"),
        ("{study: a, seeds: [1, 1]}", "seeds"),
        ("{study: a, seeds: {min: 5}}", "seeds"),
        ("{study: a, seeds: {min: 5, max: 12, stp: 2}}", "seeds"),
        ("{study: a, ablations: {x: {group: y}}}", "ablations.x"),
        ("{study: a, ablations: {x: {set: {}}}}", "ablations.x.set"),
        ("{study: a, ablations: {x: {sweep: {decoder.layers: [0]}}}}", "ablations.x.sweep.decoder.layers.0"),
        ("{study: a, ablations: {x: {extends: a, combine: [b]}}}", "ablations.x"),
        ("{study: a, ablations: {x: {path: a, set: {decoder.layers: 3}}}}", "ablations.x"),
        ("{study: a, ablations: {x: {order: [a], set: {decoder.layers: 3}}}}", "ablations.x"),
        ("{study: a, profiles: {cpu: {ablations: {x: skipp}}}}", "profiles.cpu.ablations.x"),
        ("{study: a, ablations: {x: {search: {space: {}}}}}", "ablations.x.search.space"),
        (
            "{study: a, ablations: {x: {search: {space: {decoder.layrs: {low: 1, high: 2}}}}}}",
            "ablations.x.search.space",
        ),
        (
            "{study: a, ablations: {x: {search: {space: {decoder.layers: {low: 1}}}}}}",
            "ablations.x.search.space.decoder.layers",
        ),
        ("{study: a, ablations: {9: {set: {decoder.layers: 3}}}}", "ablations"),
    ],
)
def test_it_finds_in_the_editor_what_loading_would_find(text, where):
    assert complaints(text) == [where]


def test_the_module_prints_it():
    done = subprocess.run([sys.executable, "-m", "ablations.study_schema"], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout.decode("utf-8")) == study_schema()


@pytest.mark.slow
def test_what_is_no_experiment_has_no_schema():
    with pytest.raises(AblationsError, match=r"json\.decoder:ex: unknown experiment 'ex' \(there is none\)"):
        study_schema("json.decoder:ex")
