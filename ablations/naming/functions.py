"""Functions of one source file, by tree-sitter: iterating over a query's captures, never recursing.

Options of a study do not enter here: what they need (flags, places of comments) is extracted along, so that
every study shares one extraction.
"""

from __future__ import annotations

import io
import tokenize
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language, Node, Parser, Query, QueryCursor

VERSION = 2  # part of every cache key: raise it when the same file would give other functions
LARGEST_FILE = 8 << 20  # bytes; beyond are generated tables, not code
ABSTRACT, EMPTY, OVERRIDE, DEEP = 1, 2, 4, 8
DEEPEST = 1000  # nodes inside one another that a traversal which calls itself can follow: Python's limit of recursion


class Unparsed(Exception):
    """A file from which no function can be taken; its text is the reason."""


@dataclass(frozen=True)
class Function:
    """One function or method as it stands in its file.

    Attributes:
        code: Its source from the first modifier (Java) or ``def`` (Python) to the end of its body.
        name_start: Where its name begins in ``code``, in characters.
        name: Its name.
        line: 1-based line in the file.
        column: 0-based column in bytes; a line may hold several functions.
        flags: Sum of ABSTRACT (no body, or declared abstract), EMPTY (body does nothing), OVERRIDE (marked so), DEEP
            (in a file whose syntax tree is more than DEEPEST nodes deep).
        comments: (start, end) of comments and docstrings in ``code``, in characters, sorted, not overlapping.
    """

    code: str
    name_start: int
    name: str
    line: int
    column: int
    flags: int
    comments: tuple[tuple[int, int], ...]


def extract(source: bytes | str, language: str) -> tuple[list[Function], Counter[str]]:
    """All functions of a file in the order of their starts, nested ones too.

    Args:
        source: The file's bytes; or its text where the encoding is settled.
        language: ``python`` or ``java``.

    Returns:
        The functions, and how many were left out by reason.

    Raises:
        Unparsed: The file is no text, too large, or no program at all.
    """
    code = _utf8(source, language)
    grammar = _grammar(language)
    root = grammar.parser.parse(code).root_node
    if root.type == "ERROR":
        raise Unparsed("syntax errors throughout")
    captured = grammar.cursor().captures(root)
    nodes = sorted(captured.get("function", ()), key=lambda node: (node.start_byte, -node.end_byte))
    comments = {(node.start_byte, node.end_byte) for node in captured.get("comment", ())}
    comments.update(_docstrings(captured.get("documented", ())))
    spans, functions, left_out = sorted(comments), [], Counter[str]()
    starts = [start for start, _ in spans]
    deep = DEEP if nodes and _is_deep(root) else 0
    for node in nodes:
        name = next((child for child in node.children if child.type == "identifier"), None)
        if node.has_error or name is None:
            left_out["syntax error"] += 1
            continue
        inside = spans[bisect_left(starts, node.start_byte) : bisect_left(starts, node.end_byte)]
        functions.append(_function(code, node, name, grammar.flags(node) | deep, inside))
    return functions, left_out


def _function(code: bytes, node: Node, name: Node, flags: int, spans: Iterable[tuple[int, int]]) -> Function:
    begin, text = node.start_byte, code[node.start_byte : node.end_byte]
    ascii_only = text.isascii()

    def place(at: int) -> int:
        return at - begin if ascii_only else len(code[begin:at].decode("utf-8"))

    return Function(
        code=text.decode("utf-8"),
        name_start=place(name.start_byte),
        name=code[name.start_byte : name.end_byte].decode("utf-8"),
        line=node.start_point[0] + 1,
        column=node.start_point[1],
        flags=flags,
        comments=tuple((place(start), place(end)) for start, end in spans),
    )


def _is_deep(root: Node) -> bool:
    """Whether some node lies more than DEEPEST nodes deep.

    In the order of their starts, each node lies at most one deeper than the one before it. So half way up to one that
    deep, half as many nodes before it, another lies half as deep at least: only then is every node looked at.
    """
    cursor, count, stride = root.walk(), root.descendant_count, DEEPEST // 2
    for at in range(stride, count, stride):
        cursor.goto_descendant(at)
        if cursor.depth > DEEPEST - stride:
            break
    else:
        return False
    for at in range(count):
        cursor.goto_descendant(at)
        if cursor.depth > DEEPEST:
            return True
    return False


def _utf8(source: bytes | str, language: str) -> bytes:
    if len(source) > LARGEST_FILE:
        raise Unparsed(f"larger than {LARGEST_FILE >> 20} MiB")
    if isinstance(source, bytes):
        source = _decoded(source, language)
    if "\0" in source:
        raise Unparsed("no text: NUL characters")
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return source.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unparsed("no text: lone surrogates") from error


def _decoded(source: bytes, language: str) -> str:
    """Text of a file: Python declares its encoding, old Java files are Latin-1 where they are not UTF-8."""
    try:
        if language == "python":
            encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
            return source.decode(encoding)
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if language == "java":
            return source.decode("latin-1")
        raise Unparsed("not in its declared encoding") from error
    except (SyntaxError, LookupError) as error:
        raise Unparsed("unknown declared encoding") from error


# --- grammars ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grammar:
    parser: Parser
    query: Query
    flags: Callable[[Node], int]

    def cursor(self) -> QueryCursor:
        return QueryCursor(self.query)


@cache
def _grammar(language: str) -> _Grammar:
    if language == "python":
        import tree_sitter_python

        grammar = Language(tree_sitter_python.language())
        query = "(function_definition) @function @documented (class_definition) @documented (comment) @comment"
        return _Grammar(Parser(grammar), Query(grammar, query), _python_flags)
    import tree_sitter_java

    grammar = Language(tree_sitter_java.language())
    query = "(method_declaration) @function (line_comment) @comment (block_comment) @comment"
    return _Grammar(Parser(grammar), Query(grammar, query), _java_flags)


def _docstrings(nodes: Iterable[Node]) -> Iterable[tuple[int, int]]:
    for node in nodes:
        body = node.child_by_field_name("body")
        first = next((child for child in body.named_children if child.type != "comment"), None) if body else None
        if first is not None and _is_string(first):
            yield first.start_byte, first.end_byte


def _is_string(statement: Node) -> bool:
    return (
        statement.type == "expression_statement"
        and statement.named_child_count == 1
        and statement.named_children[0].type in {"string", "concatenated_string"}
    )


def _python_flags(node: Node) -> int:
    flags, parent = 0, node.parent
    if parent is not None and parent.type == "decorated_definition":
        for decorator in parent.children:
            if decorator.type != "decorator" or decorator.text is None:
                continue
            last = decorator.text.decode("utf-8").partition("(")[0].lstrip("@ ").rpartition(".")[2].strip()
            flags |= ABSTRACT if last.startswith("abstract") else OVERRIDE if last == "override" else 0
    body = node.child_by_field_name("body")
    if body is None or all(_does_nothing(child) for child in body.named_children):
        flags |= EMPTY
    return flags


def _does_nothing(statement: Node) -> bool:
    if statement.type == "expression_statement" and statement.named_child_count == 1:
        return statement.named_children[0].type in {"ellipsis", "string", "concatenated_string"}
    return statement.type in {"pass_statement", "comment"}


def _java_flags(node: Node) -> int:
    flags, body = 0, node.child_by_field_name("body")
    if body is None:
        flags |= ABSTRACT
    elif all(child.type in {"line_comment", "block_comment"} for child in body.named_children):
        flags |= EMPTY
    for modifiers in node.children:
        if modifiers.type != "modifiers":
            continue
        for annotation in modifiers.named_children:
            name = annotation.child_by_field_name("name")
            if name is not None and name.text in {b"Override", b"java.lang.Override"}:
                flags |= OVERRIDE
    return flags
