"""Any study file, however hostile, is accepted whole or refused with clear errors (see ``study_parser.py``)."""

import json
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from study_parser import KEYS, check

from ablations.errors import StudyError
from ablations.study import load_study

HOSTILE = (
    "../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", "..", ".", "-rf", "\0", "a\nb", "\x1b[2J", "\u202egnp",
    "<script>alert(1)</script>", "{{< include /etc/passwd >}}", "$(id)", "`id`", "\\input{/etc/passwd}", '#read("x")',
    "a" * 1000, "!!python/object/apply:os.system", "__proto__", "__class__", "nan", "😀", "ﬁ", "İ",
)  # fmt: skip
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from((*KEYS, *HOSTILE)) | st.text(max_size=9)
)
KEY = st.sampled_from(KEYS) | st.sampled_from(HOSTILE) | st.text(max_size=5)
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4), max_leaves=12
)
STUDIES = st.fixed_dictionaries(
    {"study": st.just("x") | VALUES},
    optional={
        "seeds": VALUES | st.lists(st.integers(), max_size=3) | TREES,
        "baseline": TREES,
        "ablations": st.dictionaries(
            KEY,
            st.dictionaries(st.sampled_from(KEYS), TREES | st.just({"decoder.layers": [2, 3]}), max_size=3),
            max_size=3,
        )
        | TREES,
        "profiles": st.dictionaries(st.just("cpu") | KEY, TREES, max_size=2),
        "question": VALUES,
        "alpha": VALUES,
    },
)


@given(STUDIES)
@example({"study": "x", "ablations": {"a": {"set": {"decoder.layers": 3}}, "A": {"set": {"decoder.layers": 2}}}})
@settings(max_examples=150, deadline=None)
@pytest.mark.slow
def test_a_study_of_any_shape_is_accepted_whole_or_refused_with_clear_errors(study):
    check(json.dumps(study).encode())


WHOLE = b"""study: a
seeds: {min: 3, max: 5}
profiles: {cpu: {seeds: 2, ablations: {x: skip}}}
ablations:
  x: {set: &s {decoder.layers: 6}, question: "why?"}
  y: {sweep: {decoder.heads: [2, 8]}}
  c: {combine: [x, y=2], set: {training.schedule: constant}}
  p: {path: c, order: [x]}
"""


@given(st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.slow
def test_a_good_file_with_any_bytes_in_any_place_is_accepted_whole_or_refused(data):
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, min(len(WHOLE), start + 30)))
    token = st.sampled_from([*KEYS, *HOSTILE[:-4], ": ", "\n- ", "&a ", "*s", "{", "]", "|\n ", "---\n"]).map(
        str.encode
    )
    check(WHOLE[:start] + data.draw(token | st.binary(max_size=8)) + WHOLE[end:])


@pytest.mark.parametrize("name", [*HOSTILE[:-3], "x" * 61])
def test_a_hostile_name_is_refused_by_one_short_line(tmp_path, name):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"study": "x", "ablations": {name: {"set": {"decoder.layers": 3}}}}))
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]{0,59}", name):
        load_study(path)
        return
    with pytest.raises(StudyError) as refused:
        load_study(path)
    [line] = str(refused.value).splitlines()
    assert line.isprintable()
    assert len(line) < 1500
    assert "ablations." in line
    assert ("expected a name" in line) or ("remove it" in line)


def many(count, line):
    return "".join(line(number) for number in range(count))


BOMBS = {
    "10 MB": ("study: x\nquestion: " + "a" * 10_000_000, "at most 256 KiB"),
    "wrong keys": ("study: x\n" + many(3000, "k{}: 1\n".format), "and 2900 more problems"),
    "a name of 10 kB": (f"study: x\nablations:\n  ? {'a' * 10_000}\n  : {{}}\n", "expected a name"),
    "a name of 10 kB that YAML does not take for one": (f"{'a' * 10_000}: 1\n", "this is no valid YAML"),
    "1,000 profiles of 1,000 ablations": (
        "study: x\nablations:\n" + many(1000, "  a{0}: {{set: {{training.max_steps: {0}1}}}}\n".format)
        + "profiles:\n" + many(1000, "  p{}: {{seeds: 2}}\n".format),
        "profiles: expected at most 20 entries, found 1000",
    ),
    "3,000 variants of many sweeps": (
        "study: x\nablations:\n"
        + many(60, lambda n: f"  a{n}: {{sweep: {{training.max_steps: {list(range(n * 50 + 1, n * 50 + 51))}}}}}\n"),
        "at most 2000 variants of all sweeps and grids together",
    ),
    "aliases of aliases": (
        "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "at most 50000 values",
    ),
    "depth": ("study: " + "[" * 100_000, "at most 20 levels"),
    "an object": ("study: !!python/object/apply:os.system [touch /tmp/x]\n", "tags such as"),
    "a circle": ("study: &a [*a]\n", "found alias"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_within_seconds(tmp_path, kind):
    text, message = BOMBS[kind]
    path = tmp_path / "study.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(StudyError, match=message) as refused:
        load_study(path)
    assert time.process_time() - start < 20  # measured: 2 s
    assert len(str(refused.value)) < 100_000
