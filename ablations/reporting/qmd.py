"""Quarto Markdown without Quarto: includes, cross-references, callouts and conditional blocks on pandoc's AST.

Only what the report's own ``.qmd`` files use is understood; anything else reaches pandoc as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.errors import RenderError

Node = dict[str, Any]  # {"t": type, "c": content} of pandoc's JSON

_INCLUDE = re.compile(r"^\{\{<\s*include\s+(\S+)\s*>\}\}\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_KINDS = {"fig": "Figure", "tbl": "Table", "sec": "Section"}
CALLOUTS = {"note": "Note", "tip": "Tip", "important": "Important", "warning": "Warning", "caution": "Caution"}


def expand_includes(path: Path, root: Path, _open: tuple[Path, ...] = ()) -> str:
    """The text of a file with every ``{{< include … >}}`` that stands alone on its line replaced by that file.

    Args:
        path: The file.
        root: The project's folder; a path that starts with ``/`` starts here, and nothing outside it is read.

    Raises:
        RenderError: A file that is missing, outside the project, or includes itself.
    """
    path = path.resolve()
    if path in _open:
        chain = " -> ".join(each.name for each in (*_open, path))
        raise RenderError(f"{path.name} includes itself: {chain}")
    if not path.is_relative_to(root.resolve()):
        raise RenderError(f"{path} lies outside the report's folder {root}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        by = f"included by {_open[-1].name}" if _open else "the report's first file"
        raise RenderError(f"{path} is missing ({by})") from None
    out = []
    for line, in_code in _with_fences(lines):
        include = None if in_code else _INCLUDE.match(line)
        if include is None:
            out.append(line)
            continue
        target = include.group(1)
        base = root if target.startswith("/") else path.parent
        out.append(expand_includes(base / target.lstrip("/"), root, (*_open, path)))
    return "\n".join(out) + "\n"


def chapters(text: str) -> list[str]:
    """A document in parts that can be read one by one: each begins with a heading of the first level, or the text."""
    parts: list[list[str]] = [[]]
    for line, in_code in _with_fences(text.splitlines()):
        if line.startswith("# ") and not in_code:
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part) + "\n" for part in parts if part]


def _with_fences(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it belongs to a block of code."""
    fence = ""
    for line in lines:
        found = _FENCE.match(line)
        inside = bool(fence)
        if found and not fence:
            fence = found.group(1)
        elif found and found.group(1).startswith(fence) and line.strip() == found.group(1):
            fence = ""
        yield line, inside or bool(found)


@dataclass
class Numbers:
    """What the document's figures, tables and sections are called.

    Attributes:
        names: Id to the text of a reference, e.g. ``fig-forest`` to ``Figure 2``.
        duplicates: Ids given twice.
    """

    names: dict[str, str] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)

    def give(self, identifier: str, name: str) -> None:
        """Names a place; a second name for it is a duplicate."""
        if identifier in self.names:
            self.duplicates.append(identifier)
        self.names[identifier] = name


def resolve(document: Node, output: str, *, number_sections: bool = True) -> tuple[Node, Numbers]:
    """Applies to a pandoc document what Quarto would: conditional blocks, callouts, numbers and references.

    Args:
        document: pandoc's JSON.
        output: ``html`` or ``typst``.
        number_sections: Whether references to sections carry a number.

    Returns:
        A new document and the numbers that were given.

    Raises:
        RenderError: A reference that leads nowhere, or an id given twice.
    """
    blocks = walk(document["blocks"], lambda node: _conditional(node, output))
    numbers = _number(blocks, number_sections)
    if numbers.duplicates:
        raise RenderError("given to two places: " + ", ".join(sorted(set(numbers.duplicates))))
    missing: list[str] = []

    def change(node: Node) -> list[Node] | Node | None:
        if node["t"] == "Cite":
            return _reference(node, numbers, missing)
        return _callout(node, output) if node["t"] == "Div" else _figure(node, numbers, output)

    blocks = walk(blocks, change)
    if missing:
        raise RenderError("referred to but not in the report: @" + ", @".join(dict.fromkeys(missing)))
    return {**document, "blocks": blocks}, numbers


# -- walking pandoc's tree ------------------------------------------------------------------------------------


def walk(tree: Any, change: Callable[[Node], list[Node] | Node | None]) -> Any:
    """Rebuilds a tree from its leaves up; ``change`` gives a node's replacement(s), or None to keep it."""
    if isinstance(tree, list):
        out = []
        for item in tree:
            new = walk(item, change)
            out.extend(new) if isinstance(item, dict) and isinstance(new, list) else out.append(new)
        return out
    if isinstance(tree, dict):
        if isinstance(tree.get("c"), str) or ("t" in tree and "c" not in tree):  # most nodes: words and blanks
            changed = change(tree)
            return tree if changed is None else changed
        if "t" not in tree:
            return {key: walk(value, change) for key, value in tree.items()}
        node = {**tree, "c": walk(tree["c"], change)}
        changed = change(node)
        return node if changed is None else changed
    return tree


def nodes(tree: Any) -> Iterator[Node]:
    """Every node of a tree in the order of the document."""
    if isinstance(tree, list):
        for item in tree:
            yield from nodes(item)
    elif isinstance(tree, dict):
        if "t" in tree:
            yield tree
        for value in tree.values():
            yield from nodes(value)


def words(tree: Any) -> str:
    """The text of a tree without its markup."""
    out = []
    for node in nodes(tree):
        if node["t"] == "Str":
            out.append(node["c"])
        elif node["t"] in {"Space", "SoftBreak", "LineBreak"}:
            out.append(" ")
        elif node["t"] in {"Code", "Math"}:
            out.append(node["c"][1])
    return "".join(out)


def inlines(text: str) -> list[Node]:
    """Plain text as inline nodes."""
    return [{"t": "Str", "c": text}]


def attributes(node: Node) -> tuple[str, list[str], dict[str, str]]:
    """Id, classes and attributes of a node that has them first, or of a header."""
    identifier, classes, pairs = node["c"][1] if node["t"] == "Header" else node["c"][0]
    return identifier, classes, dict(pairs)


# -- what Quarto does -----------------------------------------------------------------------------------------


def _conditional(node: Node, output: str) -> list[Node] | None:
    if node["t"] not in {"Div", "Span"}:
        return None
    _, classes, pairs = attributes(node)
    if "content-visible" not in classes and "content-hidden" not in classes:
        return None
    formats = {"html": {"html", "html:js", "html5"}, "typst": {"typst", "pdf"}}[output]
    wanted, unwanted = pairs.get("when-format"), pairs.get("unless-format")
    matches = (wanted is None or wanted in formats) and (unwanted is None or unwanted not in formats)
    shown = matches if "content-visible" in classes else not matches
    return list(node["c"][1]) if shown else []


def _number(blocks: list[Node], number_sections: bool) -> Numbers:
    numbers, counts, levels = Numbers(), {"fig": 0, "tbl": 0}, [0] * 6
    callouts = {id(inner) for node in nodes(blocks) if _callout_kind(node) for inner in node["c"][1]}
    tops = [node["c"][0] for node in nodes(blocks) if node["t"] == "Header" and id(node) not in callouts]
    top = min(tops, default=1)
    for node in nodes(blocks):
        if node["t"] == "Header" and id(node) not in callouts:
            level, (identifier, classes, _), _ = node["c"]
            if "unnumbered" not in classes:
                levels[level - 1] += 1
                levels[level:] = [0] * (6 - level)
            number = ".".join(str(each) for each in levels[top - 1 : level])
            if identifier.startswith("sec-"):
                name = f"Section\u00a0{number}" if number_sections and "unnumbered" not in classes else words(node["c"])
                numbers.give(identifier, name)
        elif node["t"] in {"Figure", "Table"}:
            identifier, kind = node["c"][0][0], "fig" if node["t"] == "Figure" else "tbl"
            if identifier.startswith(kind + "-"):
                counts[kind] += 1
                numbers.give(identifier, f"{_KINDS[kind]}\u00a0{counts[kind]}")
    return numbers


def _reference(node: Node, numbers: Numbers, missing: list[str]) -> list[Node] | None:
    if node["t"] != "Cite":
        return None
    out: list[Node] = []
    for citation in node["c"][0]:
        target = citation["citationId"]
        if target.partition("-")[0] not in _KINDS:
            return None
        if target not in numbers.names:
            missing.append(target)
        link = ["", ["cross-reference"], []]
        text = inlines(numbers.names.get(target, target))
        if out:
            out += inlines(", ")
        out.append({"t": "Link", "c": [link, text, ["#" + target, ""]]})
    return out


def _figure(node: Node, numbers: Numbers, output: str) -> Node | None:
    """Puts the number before a caption (Typst counts by itself) and the alternative text where pandoc looks for it."""
    if node["t"] == "Image":
        (identifier, classes, pairs), caption, target = node["c"]
        alt = dict(pairs).get("fig-alt")
        kept = [[key, value] for key, value in pairs if key != "fig-alt"]
        if alt is None:
            return None
        if output == "typst":
            kept.append(["alt", alt])
            return {"t": "Image", "c": [[identifier, classes, kept], caption, target]}
        return {"t": "Image", "c": [[identifier, classes, kept], inlines(alt), target]}
    if node["t"] not in {"Figure", "Table"}:
        return None
    name = numbers.names.get(node["c"][0][0])
    caption = node["c"][1][1]
    if name and output == "html" and caption:
        caption[0]["c"] = [
            {"t": "Span", "c": [["", ["number"], []], inlines(name + ": ")]},
            *caption[0]["c"],
        ]
    return node


def _callout_kind(node: Node) -> str | None:
    if node["t"] != "Div":
        return None
    return next((name[8:] for name in node["c"][0][1] if name.startswith("callout-") and name[8:] in CALLOUTS), None)


def _callout(node: Node, output: str) -> Node | list[Node] | None:
    kind = _callout_kind(node)
    if kind is None:
        return None
    identifier, _, pairs = attributes(node)
    body = list(node["c"][1])
    title: list[Node] = inlines(pairs["title"]) if "title" in pairs else inlines(CALLOUTS[kind])
    if "title" not in pairs and body and body[0]["t"] == "Header":
        title = body.pop(0)["c"][2]
    if output == "typst":
        opening = {"t": "RawInline", "c": ["typst", f"#callout({_quoted(kind)})["]}
        between = {"t": "RawInline", "c": ["typst", "]["]}
        return [
            {"t": "Plain", "c": [opening, *title, between]},
            *body,
            {"t": "RawBlock", "c": ["typst", "]"]},
        ]
    heading = {"t": "Div", "c": [["", ["callout-title"], []], [{"t": "Para", "c": title}]]}
    content = {"t": "Div", "c": [["", ["callout-body"], []], body]}
    return {"t": "Div", "c": [[identifier, ["callout", f"callout-{kind}"], [["role", "note"]]], [heading, content]]}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
