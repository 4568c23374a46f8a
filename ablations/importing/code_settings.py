"""Settings in Python code, read off its syntax tree: literals that are assigned or given by name. Nothing is run."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablations.importing.foreign import setting

MAX_NODES = 200_000
LARGEST = 10**30
_MAGIC = re.compile(r"^(\s*)([%!?]|.*\?\s*$)")
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)")
_TRANSPARENT = {"time", "timeit", "capture", "prun"}
"""Magics of a cell whose code is Python all the same."""


class _Placed:
    """What stands on a line of a cell, or of a script, whose cell is 0."""

    cell: int
    line: int

    @property
    def place(self) -> str:
        """Where, in words."""
        return f"cell {self.cell}, line {self.line}" if self.cell else f"line {self.line}"


@dataclass(frozen=True)
class Found(_Placed):
    """A literal and where it stands.

    Attributes:
        key: How the code says it: ``LEARNING_RATE``, ``Trainer.learning_rate``, ``config.layers``.
        value: The literal.
        cell: 1-based number of the code cell; 0 in a script.
        line: 1-based line in it.
    """

    key: str
    value: Any
    cell: int
    line: int


@dataclass(frozen=True)
class Statement(_Placed):
    """A statement without its settings, as text that is the same where only settings differ."""

    text: str
    cell: int
    line: int


@dataclass
class Code:
    """What a notebook or script holds.

    Attributes:
        settings: By key; of a key that is set more than once each time but the first has a number.
        statements: The rest, in order.
        unread: Cells that are no Python, and why.
    """

    settings: dict[str, Found] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def read_code(cells: Sequence[str], *, script: bool) -> Code:
    """The settings and the other statements of cells.

    Args:
        cells: Their sources.
        script: Whether it is one file, in which a place is a line.
    """
    code, seen = Code(), Counter[str]()
    for number, source in enumerate(cells, start=1):
        cell = 0 if script else number
        try:
            tree = ast.parse(_without_magics(source))
            if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
                raise ValueError("it is too large")
            collector = _Collector(cell)
            stripped = collector.visit(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", None) or str(error) or type(error).__name__
            code.unread.append(f"{f'cell {cell}' if cell else 'the file'}: {reason}")
            continue
        for found in collector.found:
            seen[found.key] += 1
            key = found.key if seen[found.key] == 1 else f"{found.key}[{seen[found.key]}]"
            code.settings[key] = Found(key, found.value, found.cell, found.line)
        code.statements += _statements(stripped, cell)
    return code


def _without_magics(source: str) -> str:
    """The Python in a cell: lines that are for IPython or the shell become statements that do nothing."""
    lines = source.splitlines()
    magic = _CELL_MAGIC.match(lines[0]) if lines else None
    if magic and magic.group(1) not in _TRANSPARENT:
        return ""
    return "\n".join(_MAGIC.sub(r"\1pass  #", line) if _MAGIC.match(line) else line for line in lines)


def _statements(tree: ast.Module, cell: int) -> Iterator[Statement]:
    for node in tree.body:
        if not isinstance(node, ast.Pass):
            for line in ast.unparse(ast.fix_missing_locations(node)).splitlines():
                yield Statement(line, cell, node.lineno)


class _Missing(Exception):
    """No literal."""


def literal(node: ast.expr) -> Any:
    """The value of a literal, or of arithmetic with literal numbers; raises _Missing for anything else."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [literal(each) for each in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = literal(node.operand)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _computed(node.op, literal(node.left), literal(node.right))
    raise _Missing


def _computed(operation: ast.operator, left: Any, right: Any) -> float:
    """``4 * 1024`` or ``2**10``, of bounded size."""
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (left, right)):
        raise _Missing
    if isinstance(operation, ast.Pow) and (abs(right) > 100 or abs(left) > 1000):
        raise _Missing
    done = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.Div: "__truediv__",
            ast.FloorDiv: "__floordiv__", ast.Pow: "__pow__"}.get(type(operation))  # fmt: skip
    try:
        both = (float(left), float(right)) if float in (type(left), type(right)) else (left, right)
        value = getattr(both[0], done)(both[1]) if done else NotImplemented
    except (ArithmeticError, ValueError) as error:
        raise _Missing from error
    if not isinstance(value, (int, float)) or abs(value) > LARGEST:
        raise _Missing
    return value


def _name(node: ast.expr) -> str:
    """``a.b.c`` of a name, attribute or subscript with a text; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _name(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        inner = _name(node.value)
        return f"{inner}.{node.slice.value}" if inner else ""
    return ""


class _Collector(ast.NodeTransformer):
    """Takes the settings out of a tree and notes them; what is left is code."""

    def __init__(self, cell: int):
        self.cell = cell
        self.found: list[Found] = []
        self.scopes: list[str] = []

    def _take(self, key: str, node: ast.expr) -> bool:
        """Notes a literal, or each entry of a dict of literals; whether there was one."""
        try:
            value = literal(node)
        except _Missing:
            return False
        self.found.append(Found(key, setting(value), self.cell, node.lineno))
        return True

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """``A = 1``, ``a.b = 1``, ``a["b"] = 1``, ``a, b = 1, 2``."""
        if len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                pairs = list(zip(target.elts, value.elts, strict=True))
                if all(_name(each) for each, _ in pairs) and all(self._is_literal(each) for _, each in pairs):
                    for each, one in pairs:
                        self._take(self._scoped(_name(each)), one)
                    return None
            elif _name(target) and self._take(self._scoped(_name(target)), value):
                return None
            elif _name(target) and isinstance(value, ast.Dict):
                self._entries(self._scoped(_name(target)), value)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """``a: int = 1``, as in a dataclass."""
        if node.value is not None and _name(node.target) and self._take(self._scoped(_name(node.target)), node.value):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``f(a=1)``, ``dict(a=1)`` and argparse's ``add_argument("--a", default=1)``."""
        name = _name(node.func).rpartition(".")[2]
        option = self._option(node) if name == "add_argument" else ""
        kept = []
        for keyword in node.keywords:
            key = option if option and keyword.arg == "default" else f"{name}.{keyword.arg}"
            takes = keyword.arg is not None and name and (not option or keyword.arg == "default")
            if not (takes and self._take(key, keyword.value)):
                kept.append(keyword)
        node.keywords = kept
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """The fields of a class."""
        return self._inside(node.name, node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """The defaults of a function's parameters."""
        given = [*node.args.posonlyargs, *node.args.args]
        last = given[len(given) - len(node.args.defaults) :]
        for names, values in ((last, node.args.defaults), (node.args.kwonlyargs, node.args.kw_defaults)):
            for place, (name, value) in enumerate(zip(names, values, strict=True)):
                if value is not None and self._take(f"{node.name}.{name.arg}", value):
                    values[place] = ast.Constant(value=...)
        return self._inside(node.name, node)

    def _inside(self, name: str, node: ast.AST) -> ast.AST:
        self.scopes.append(name)
        self.generic_visit(node)
        self.scopes.pop()
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Goes on inside; a block from which all was taken stays a block."""
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and isinstance(node, ast.stmt | ast.ExceptHandler):
            node.body = [ast.Pass()]  # type: ignore[union-attr]  # of statements, those with a body
        return node

    def _scoped(self, name: str) -> str:
        return ".".join([*self.scopes, name])

    def _entries(self, prefix: str, node: ast.Dict) -> None:
        """Takes the entries of a dict whose keys are texts, nested ones too."""
        kept: list[tuple[ast.expr | None, ast.expr]] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                if self._take(f"{prefix}.{key.value}", value):
                    continue
                if isinstance(value, ast.Dict):
                    self._entries(f"{prefix}.{key.value}", value)
            kept.append((key, value))
        node.keys, node.values = [key for key, _ in kept], [value for _, value in kept]

    @staticmethod
    def _option(node: ast.Call) -> str:
        names = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        long = next((each for each in names if each.startswith("--")), names[0] if names else "")
        return long.lstrip("-").replace("-", "_")

    @staticmethod
    def _is_literal(node: ast.expr) -> bool:
        try:
            literal(node)
        except _Missing:
            return False
        return True
