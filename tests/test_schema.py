"""Tunables read off dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import one_of
from ablations.naming.config import Config
from ablations.schema import Tunable, described, flatten, load_schema, nest, schema_of, tunable

KEYS = st.text("abc", min_size=1, max_size=2)
NESTED = st.recursive(
    st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=12
).filter(lambda value: isinstance(value, dict))


@dataclass
class Inner:
    size: int = tunable(3, "a size", unit="units", ge=1, lt=10)
    names: list[str] = tunable(["x"], "names")


@dataclass
class Outer:
    metrics = {"loss": "min"}  # noqa: RUF012  read as Config publishes it
    rate: float | None = tunable(1, "a rate", gt=0)
    inner: Inner = field(default_factory=Inner)

    @staticmethod
    def cross_check(config):
        yield "rate", "wrong"

    @staticmethod
    def flops(config):
        return 7.0


def test_keys_defaults_checks_and_counts_come_from_the_dataclass():
    schema = schema_of(Outer)
    assert schema.defaults() == {"rate": 1.0, "inner.size": 3, "inner.names": ["x"]}
    assert schema.sections == ("inner",)
    assert list(schema.cross_check({})) == [("rate", "wrong")]
    assert (schema.flops({}), dict(schema.metrics)) == (7.0, {"loss": "min"})
    size = schema.tunables["inner.size"]
    assert (size.type, size.unit, size.help, size.optional) == (int, "units", "a size", False)
    assert schema.tunables["rate"].optional


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "a number"),
        ({"ge": 0}, "a number of at least 0"),
        ({"gt": 0}, "a number above 0"),
        ({"le": 9}, "a number of at most 9"),
        ({"lt": 9}, "a number below 9"),
        ({"ge": 0, "le": 1}, "a number from 0 to 1"),
        ({"ge": 0, "lt": 1}, "a number from 0 to below 1"),
        ({"gt": 0, "le": 1}, "a number above 0 and up to 1"),
        ({"gt": 0, "lt": 1, "optional": True}, "a number above 0 and below 1 or null"),
    ],
)
def test_limits_are_said_in_words(limits, words):
    assert Tunable("x", float, 0.0, "", **limits).expects == words


@pytest.mark.parametrize(
    ("type_", "value", "problem"),
    [
        (int, True, "expected a whole number, found true"),
        (int, 3.0, "expected a whole number, found the number 3.0 (write 3)"),
        (int, "3", "expected a whole number, found the text '3' (write 3 without quotes)"),
        (float, "1_000", "expected a number, found the text '1_000' (write 1000 without quotes)"),
        (float, "much", "expected a number, found the text 'much'"),
        (float, 10**400, f"expected a number, found {10**400}"),
        (float, float("inf"), "expected a number, found inf"),
        (bool, "on", "expected true or false, found the text 'on' (write true without quotes)"),
        (bool, 0, "expected true or false, found the number 0"),
        (str, 3, "expected text, found the number 3 (put it in quotes)"),
        (list, [1], "expected a list of texts, found the list [1]"),
        (list, "a", "expected a list of texts, found the text 'a' (write [a])"),
        (int, None, "expected a whole number, found null"),
        (int, 3, None),
        (float, 3, None),
        (list, [], None),
    ],
)
def test_wrong_values_are_said_with_what_was_meant(type_, value, problem):
    assert Tunable("x", type_, None, "").problem(value) == problem


def test_long_values_are_cut_when_they_are_shown():
    assert described("x" * 500) == "the text 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"


def test_equal_numbers_have_one_form():
    rate = Tunable("x", float, 0.0, "")
    assert [str(rate.normal(value)) for value in (1, -0.0, 0.5)] == ["1.0", "0.0", "0.5"]


def test_the_schema_of_the_reference_experiment_is_found_beside_it():
    schema = load_schema("ablations.naming.experiment:ex")
    assert schema.tunables == schema_of(Config).tunables
    for key, each in schema.tunables.items():
        assert each.problem(each.default) is None, key
    assert list(schema.cross_check(schema.defaults())) == []


def test_an_experiment_without_a_config_has_no_schema():
    assert load_schema("json.decoder:ex") is None


def test_a_package_that_is_not_there_has_no_schema():
    assert load_schema("nowhere.at_all:ex") is None


def test_a_config_of_other_makers_is_no_schema_and_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "strangers" / "config.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Config: ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_schema("strangers.train:ex") is None


@given(NESTED)
def test_flattening_and_nesting_are_inverse(nested):
    assert nest(flatten(nested)) == nested


def test_unknown_names_are_answered_with_the_nearest():
    assert one_of("metric", "f2", ["f1"]) == "unknown metric 'f2'; did you mean 'f1'? (valid: f1)"
    assert one_of("parameter", "layers", ["decoder.layers", "data.path"]) == (
        "unknown parameter 'layers'; did you mean 'decoder.layers'? (valid: decoder.layers, data.path)"
    )
    assert one_of("metric", "zz", ["f1"]) == "unknown metric 'zz' (valid: f1)"
    assert one_of("profile", "zz", []) == "unknown profile 'zz' (there is none)"
