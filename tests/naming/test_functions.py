import ast
import inspect
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.naming import functions
from ablations.naming.functions import ABSTRACT, DEEP, DEEPEST, EMPTY, OVERRIDE, Unparsed, extract

PYTHON = '''
# héllo
class A(Base):
    """Ä class."""
    @property
    def größe(self):  # note
        # before the docstring
        """Döc."""
        return self.größe

    @abc.abstractmethod
    def first(self): ...

    @typing.override
    async def second(self):
        def inner(x): return x
        class Local:
            "of a class"
        "no docstring"
        return inner

def nothing():
    """Only words."""
    pass
'''


SUMS = "class A {{ String a() {{ return {}; }} int b() {{ return 1; }} }}"


def depth(node):
    return 1 + max((depth(child) for child in node.children), default=-1)


def test_every_function_of_a_file_is_deep_where_the_recursion_of_python_would_end():
    """The original visits a node by a call; a sum of n texts lies n nodes deep, its class about ten more."""
    for terms in (1, 200, 700, 950, 1200, 5000):
        source = SUMS.format(" + ".join(f'"{at}"' for at in range(terms))).encode()
        root = functions._grammar("java").parser.parse(source).root_node
        try:
            lost = depth(root) > DEEPEST  # pytest's own calls leave it less room than the limit
        except RecursionError:
            lost = terms > 950
        assert [bool(each.flags & DEEP) for each in extract(source, "java")[0]] == [lost, lost]


@pytest.mark.parametrize("before", range(0, 1100, 100))
def test_a_deep_place_is_found_wherever_it_lies(before):
    flat = "".join(f"int f{at}() {{ return {at}; }} " for at in range(before))
    for terms, deep in ((DEEPEST - 20, False), (DEEPEST, True)):
        source = SUMS.format(" + ".join("1" * terms)).replace("String", f"{flat}String")
        assert {bool(each.flags & DEEP) for each in extract(source.encode(), "java")[0]} == {deep}


def found(source, language="python"):
    return {function.name: function for function in extract(source, language)[0]}


def test_python_functions_methods_and_nested_ones_come_in_the_order_of_their_starts():
    names = [function.name for function in extract(PYTHON.encode(), "python")[0]]
    assert names == ["größe", "first", "second", "inner", "nothing"]


def test_the_code_has_the_name_where_name_start_says():
    for function in extract(PYTHON.encode(), "python")[0]:
        assert function.code[function.name_start :].startswith(function.name)
        assert PYTHON.splitlines()[function.line - 1].encode()[function.column :].decode().startswith(function.code[:5])


def test_comments_and_docstrings_are_located_in_characters():
    def shown(name):
        function = found(PYTHON.encode())[name]
        return [function.code[start:end] for start, end in function.comments]

    assert shown("größe") == ["# note", "# before the docstring", '"""Döc."""']
    assert shown("second") == ['"of a class"']
    assert shown("nothing") == ['"""Only words."""']


def test_python_flags_come_from_decorators_and_bodies():
    flags = {name: function.flags for name, function in found(PYTHON).items()}
    assert flags == {"größe": 0, "first": ABSTRACT | EMPTY, "second": OVERRIDE, "inner": 0, "nothing": EMPTY}


def test_java_methods_carry_their_flags(java_folder):
    methods = found((java_folder / "training/alpha/Stack.java").read_bytes(), "java")
    assert {name: method.flags for name, method in methods.items()} == {
        "getSize": 0,
        "toString": OVERRIDE,
        "readHTTPHeader2": ABSTRACT,
        "doNothing": EMPTY,
        "fact": 0,
    }
    assert methods["toString"].code.startswith("@Override\n    public String toString()")
    assert methods["doNothing"].code[slice(*methods["doNothing"].comments[0])] == "// really"


def test_a_method_of_an_anonymous_class_is_a_sample_of_its_own(java_folder):
    methods = found((java_folder / "training/alpha/Walker.java").read_bytes(), "java")
    assert methods["visit"].code in methods["walkAll"].code


def test_functions_of_a_real_module_are_those_that_python_itself_finds():
    for module in (textwrap, ast, inspect):
        source = inspect.getsource(module)
        expected = [
            (node.lineno, node.name)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        assert [(function.line, function.name) for function in extract(source, "python")[0]] == sorted(expected)


def test_python_files_are_read_in_the_encoding_they_declare():
    source = "# -*- coding: latin-1 -*-\ndef f():\n    return 'é'\n".encode("latin-1")
    assert "é" in found(source)["f"].code


def test_java_files_that_are_not_utf_8_are_read_as_latin_1():
    assert "é" in found("class A { void b() { /* é */ } }".encode("latin-1"), "java")["b"].code


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"def f():\n    return '\xe9'\n", "not in its declared encoding"),
        (b"# '\xe9'\ndef f(): pass\n", "unknown declared encoding"),
        (b"# coding: ascii\n\n\n\ndef f():\n    return '\xe9'\n", "not in its declared encoding"),
        (b"# coding: klingon\ndef f(): pass\n", "unknown declared encoding"),
        (b"def f():\n    return '\0'\n", "no text: NUL characters"),
        ("def f(): return '\udc80'", "no text: lone surrogates"),
    ],
)
def test_a_file_that_is_no_text_says_so(source, reason):
    with pytest.raises(Unparsed, match=reason):
        extract(source, "python")


def test_a_file_that_is_too_large_says_so(monkeypatch):
    monkeypatch.setattr(functions, "LARGEST_FILE", 1 << 20)
    with pytest.raises(Unparsed, match="larger than 1 MiB"):
        extract(b"#" * (1 << 20) + b"##", "python")


def test_a_function_with_a_syntax_error_is_counted_and_its_neighbour_is_kept():
    kept, left_out = extract("def good():\n    return 1\n\ndef bad():\n    return = 1\n\nx = 1\n", "python")
    assert [function.name for function in kept] == ["good"]
    assert left_out == {"syntax error": 1}


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    return " + "(" * 50_000 + "1" + ")" * 50_000 + "\n",
        "def f():\n    return " + "-" * 50_000 + "1\n",
        "def f():\n    return " + " + ".join(["x"] * 50_000) + "\n",
    ],
)
def test_very_deep_trees_are_read_without_recursion(source):
    assert [function.name for function in extract(source, "python")[0]] == ["f"]


def test_line_ends_of_other_systems_become_newlines():
    assert found(b"def f():\r\n    return 1\r\n")["f"].code == "def f():\n    return 1"


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_text_gives_functions_or_says_why_not(text):
    for language in ("python", "java"):
        try:
            extract(text, language)
        except Unparsed as error:
            assert str(error)
