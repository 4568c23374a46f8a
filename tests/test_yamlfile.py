"""Plain data with lines out of YAML text, whatever the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablations.yamlfile import MAX_BYTES, path_text, plain_value, read_yaml


def said(text: str) -> list[tuple[int, str, str]]:
    return [(problem.line, problem.path, problem.message) for problem in read_yaml(text).problems]


def test_every_key_and_item_has_its_line():
    document = read_yaml("a: 1\nb:\n  c: [1,\n      2]\n")
    assert document.data == {"a": 1, "b": {"c": [1, 2]}}
    assert document.line(("a",)) == 1
    assert document.line(("b", "c")) == 3
    assert document.line(("b", "c", 1)) == 4


def test_a_path_that_is_not_in_the_file_has_the_line_of_what_surrounds_it():
    assert read_yaml("a: 1\nb: {c: 2}\n").line(("b", "x", "y")) == 2


def test_paths_read_as_people_write_them():
    assert path_text(("profiles", "cpu", "seeds", 0)) == "profiles.cpu.seeds[0]"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("+7", 7),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("linear", "linear"),
        ("1.2.3", "1.2.3"),
        ("nope", "nope"),
        ("123456789012345678901", 123456789012345678901.0),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_reads_them(text, value):
    assert plain_value(text) == (value, None)
    assert type(plain_value(text)[0]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no", 'unquoted no is false to some YAML readers and text to others: write false, or "no" in quotes'),
        ("On", 'unquoted On is true to some YAML readers and text to others: write true, or "On" in quotes'),
        ("2024-01-01", 'unquoted 2024-01-01 is a date to some YAML readers: write "2024-01-01" in quotes'),
        (
            "010",
            "010 is 8 to some YAML readers and 10 to others: write the number without the leading zero, "
            "or text in quotes",
        ),
        (
            "089",
            "089 is text to some YAML readers and 89 to others: write the number without the leading zero, "
            "or text in quotes",
        ),
        ("0o17", 'unquoted 0o17 is 15 to some YAML readers and text to others: write 15, or "0o17" in quotes'),
        ("0x1F", 'unquoted 0x1F is 31 to some YAML readers and text to others: write 31, or "0x1F" in quotes'),
        (
            "1_000",
            'unquoted 1_000 is a number to some YAML readers and text to others: write 1000, or "1_000" in quotes',
        ),
        ("1:30", 'unquoted 1:30 is a number in base 60 to some YAML readers: write "1:30" in quotes'),
    ],
)
def test_scalars_that_yaml_readers_disagree_about_are_refused(text, message):
    assert said(f"key: {text}\n") == [(1, "key", message)]


def test_the_same_scalars_in_quotes_are_text():
    document = read_yaml("""a: "no"\nb: '2024-01-01'\nc: "010"\n"no": 1\n""")
    assert (document.data, document.problems) == ({"a": "no", "b": "2024-01-01", "c": "010", "no": 1}, [])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("24", 'expected a name, found unquoted 24, which is a number: write "24" in quotes'),
        ("1e-4", 'expected a name, found unquoted 1e-4, which is a number: write "1e-4" in quotes'),
        ("null", 'expected a name, found unquoted null, which is null: write "null" in quotes'),
        ("true", 'expected a name, found unquoted true, which is true or false: write "true" in quotes'),
        ("no", 'unquoted no is false to some YAML readers and text to others: write false, or "no" in quotes'),
        ("<<", "merge keys (<<) are not supported: write the entries out, or use extends"),
    ],
)
def test_names_that_are_no_text_are_refused_and_explained(key, message):
    assert said(f"{key}: {{a: 1}}\n") == [(1, key, message)]


def test_all_repetitions_of_a_key_are_named_with_the_first_line():
    assert said("a: 1\nb: {c: 1,\n    c: 2}\na: 2\na: 3\n") == [
        (3, "b.c", "c is given twice, first in line 2: keep one"),
        (4, "a", "a is given twice, first in line 1: keep one"),
        (5, "a", "a is given twice, first in line 1: keep one"),
    ]


def test_tags_are_refused_and_nothing_is_constructed():
    document = read_yaml("a: !!python/object/apply:os.system [echo]\n")
    assert document.data == {"a": ["echo"]}
    assert document.problems[0].message.startswith("tags such as tag:yaml.org,2002:python/object/apply:os.system")


@pytest.mark.parametrize(
    ("escape", "name"),
    [
        ("\\0", "U+0000"),
        ("\\e[2J", "U+001B"),
        ("\\x7f", "U+007F"),
        ("\\N", "U+0085"),
        ("\u202e", "U+202E"),
        ("\u2066", "U+2066"),
    ],
)
def test_characters_that_act_on_terminals_or_turn_the_writing_round_are_refused(escape, name):
    message = f"found the invisible character {name}, which acts on terminals and text: remove it"
    assert said(f'a: "x{escape}y"\n') == [(1, "a", message)]
    assert [each[2] for each in said(f'"x{escape}y": 1\n')] == [message]


def test_text_from_right_to_left_with_its_marks_tabs_and_line_breaks_are_text():
    text = "שלום\u200f, \u0639\u0627\u200dلم\n\tб\n"
    assert read_yaml(json.dumps({"a": text})).data == {"a": text}
    assert said(json.dumps({"a": text})) == []


def test_a_password_is_refused_and_not_repeated():
    [(line, path, message)] = said("a: 1\nb: https://me:s3cret@host/data.tar.gz\nc: ssh://git@host/data\n")
    assert (line, path) == (2, "b")
    assert message.startswith("found a URL with a password or token")
    assert "s3cret" not in message


def test_an_alias_is_a_copy():
    document = read_yaml("a: &x {b: [1]}\nc: *x\n")
    assert document.data == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert document.data["a"]["b"] is not document.data["c"]["b"]


def test_an_alias_inside_its_own_anchor_is_no_endless_list():
    assert said("a: &x [*x]\n")[0][:2] == (1, "a[0]")


def test_aliases_that_multiply_are_stopped():
    levels = "".join(
        f"{name}: &{name} [{', '.join([f'*{of}'] * 9)}]\n" for of, name in zip("abcdef", "bcdefg", strict=True)
    )
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + levels
    assert said(text) == [(5, "", "expected at most 50000 values, aliases counted, found more")]


@pytest.mark.parametrize("text", ["[" * 3000, "a: " + "{a: " * 30 + "1" + "}" * 30])
def test_deep_nesting_is_stopped(text):
    assert said(text) == [(1, "", "expected at most 20 levels of nesting, found more")]


def test_deep_nesting_by_aliases_is_stopped():
    text = "a0: &a0 1\n" + "".join(f"a{n}: &a{n} [[[*a{n - 1}]]]\n" for n in range(1, 12))
    assert said(text) == [(8, "", "expected at most 20 levels of nesting, found more")]


def test_a_large_file_is_not_parsed():
    assert said("a" * (MAX_BYTES + 1)) == [(0, "", "expected a file of at most 256 KiB, found more")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: c: d\n", 2, 'this is no valid YAML: found a second ": " in one line, or a wrong indentation; '
         'put text that contains ": " in quotes'),
        ("a:\n\tb: 1\n", 2, "this is no valid YAML: found a tab; indent with spaces"),
        ("a: [1,\n", 2, "this is no valid YAML: expected the node content, but found '<stream end>' "
         "while parsing a flow node"),
        ("a: 1\n---\nb: 2\n", 2, "expected one document, found a second one after ---"),
        ("a: 1\nb: \x07\n", 2, "this is no valid YAML: character U+0007 is not allowed"),
    ],
)  # fmt: skip
def test_text_that_is_no_yaml_is_explained_with_its_line(text, line, message):
    assert said(text) == [(line, "", message)]
    assert not read_yaml(text).readable


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=200) | st.text("ab:-{}[],&*!<>|'\"#%@` \n\t0", max_size=80)
)
@example("? [a]\n: b")
@example("{*a : 1}")
@example("- &a b\n- *a\n- &a c\n")
@example('"\\UFFFFFFFF"')
def test_any_text_gives_plain_data_or_problems(text):
    document = read_yaml(text)
    assert document.readable or document.problems
    assert isinstance(document.data, (dict, list, str, int, float, bool, type(None)))


VISIBLE = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs"),
        exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff",
    ),
    max_size=12,
)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**15), 10**15)
        | st.floats(allow_nan=False, allow_infinity=False)
        | VISIBLE,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VISIBLE, inner, max_size=4),
        max_leaves=20,
    )
)
@example({"?": 1, "<<": 2, "\U00010000": 3})
@pytest.mark.slow
def test_what_json_writes_is_read_back_unchanged(data):
    document = read_yaml(json.dumps(data))
    assert (document.data, document.problems) == (data, [])
