"""Near-synonyms: learnt where they can be known, never opposites, and read from tables."""

import json

import pytest

from ablations.errors import DataError
from ablations.naming.samples import MASK
from ablations.naming.synonyms import alternatives, learn, read, spelled_alike

OBJECTS = ("user", "page", "order", "ticket", "invoice", "account", "message", "parcel")


def functions(verbs, files, body="x"):
    """One function for each verb and object: code, words of the name, id."""
    for verb in verbs:
        for number, thing in enumerate(OBJECTS):
            code = f"def {MASK}(self):\n    return self.{verb}_{thing}_by({body}_{verb[:1]}, {thing})"
            yield code, f"{verb} {thing}", f"{files(verb, number)}:{number + 1}:0"


def learnt(rows):
    codes, targets, ids = zip(*rows, strict=True)
    return {(one, other) for one, other, _ in learn(codes, targets, ids)}


def test_words_with_the_same_neighbours_that_never_meet_in_a_file_are_near_synonyms():
    rows = list(functions(("fetch", "obtain"), lambda verb, number: f"{verb}{number}.py"))
    assert ("fetch", "obtain") in learnt(rows)


def test_words_that_are_the_only_difference_between_names_of_one_file_are_not():
    rows = list(functions(("fetch", "obtain"), lambda verb, number: f"both{number}.py"))
    assert ("fetch", "obtain") not in learnt(rows)


def test_words_that_a_function_tells_apart_are_not():
    body = "fetch_all, obtain_all, fetch_one, obtain_one"
    rows = list(functions(("fetch", "obtain"), lambda verb, number: f"{verb}{number}.py", body))
    assert ("fetch", "obtain") not in learnt(rows)


def test_rare_words_are_left_alone():
    rows = list(functions(("fetch", "obtain"), lambda verb, number: f"{verb}{number}.py"))[::3]
    assert learnt(rows) == set()
    assert learn([], [], []) == []


def test_learning_does_not_depend_on_the_order_of_functions():
    rows = list(functions(("fetch", "obtain", "drop"), lambda verb, number: f"{verb}{number}.py"))
    assert learnt(rows) == learnt(rows[::-1])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("dir", "directory", True), ("msg", "message", True), ("files", "file", True), ("cfg", "config", True),
        ("get", "set", False), ("is", "iso", False), ("mag", "message", False), ("start", "stop", False),
    ],
)  # fmt: skip
def test_short_and_inflected_forms_are_spelled_alike(one, other, alike):
    assert spelled_alike(one, other) == spelled_alike(other, one) == alike


def test_each_word_of_a_pair_may_replace_the_other():
    assert alternatives([("a", "b", 0.9), ("b", "c", 0.8)]) == {"a": ["b"], "b": ["a", "c"], "c": ["b"]}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_of_a_csv_file_is_a_group_of_synonyms(tmp_path):
    table = read(write(tmp_path / "t.csv", "generate,produce,make\n\nmake, Build\n"))
    assert table == {
        "build": ["make"],
        "generate": ["make", "produce"],
        "make": ["build", "generate", "produce"],
        "produce": ["generate", "make"],
    }


def test_a_json_file_holds_groups_or_directed_replacements(tmp_path):
    assert read(write(tmp_path / "groups.json", json.dumps([["get", "fetch"]]))) == {"get": ["fetch"], "fetch": ["get"]}
    directed = read(write(tmp_path / "directed.json", json.dumps({"get": ["fetch", "get", "obtain"]})))
    assert directed == {"get": ["fetch", "obtain"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "get,fetch all", r"t\.csv:1: expected a single word of letters, found 'fetch all'"),
        ("t.csv", "get,getIt", "found 'getIt'"),
        ("t.csv", "get\n", "holds no word with a near-synonym"),
        ("t.json", "{", "is no json file"),
        ("t.json", '"get"', "expected a list of words, found str"),
        ("t.json", '{"get": "fetch"}', "expected a list of words, found str"),
        ("t.json", "[[1, 2]]", "expected a single word of letters, found 1"),
        ("t.json", "[" * 100_000, "is no json file"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, text))


def test_a_missing_table_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"data\.synonyms: cannot read .*none\.csv"):
        read(tmp_path / "none.csv")
