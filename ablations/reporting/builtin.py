"""The built-in renderer: the report's ``.qmd`` files to one HTML file and one PDF, with pandoc and Typst alone."""

from __future__ import annotations

import base64
import functools
import html
import itertools
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ablations.errors import RenderError
from ablations.reporting.policy import with_policy
from ablations.reporting.qmd import Node, Numbers, attributes, chapters, expand_includes, inlines, resolve, walk, words

PANDOC_SECONDS = 120
_RUNS = re.compile(r'data-runs="([0-9a-f]+-s\d+(?: [0-9a-f]+-s\d+)*)"')


@dataclass(frozen=True)
class Document:
    """A report read and resolved for one output format.

    Attributes:
        tree: pandoc's JSON.
        numbers: What figures, tables and sections are called.
        title: Plain text.
        lang: Language tag.
    """

    tree: Node
    numbers: Numbers
    title: str
    lang: str


def render(
    project: Path, output: Path, formats: Sequence[str] = ("html", "pdf"), metadata: Mapping[str, str] | None = None
) -> list[Path]:
    """Renders ``index.qmd`` of a report project.

    Args:
        project: The project's folder, its ``_generated`` filled.
        output: Folder for ``report.html`` and ``report.pdf``.
        formats: Which of ``html`` and ``pdf``.
        metadata: ``title`` overrides the document's; ``epoch`` (seconds) is the PDF's date; ``paper`` its size, in
            Typst's words.

    Returns:
        The files written, in the order of ``formats``.

    Raises:
        RenderError: An include, reference or formula that pandoc or Typst cannot make sense of.
    """
    metadata = metadata or {}
    tree = _read(project)
    output.mkdir(parents=True, exist_ok=True)
    writers = {"html": _write_html, "pdf": _write_pdf}

    def write(name: str) -> Path:
        target = output / f"report.{name}"
        document = _document(tree, "typst" if name == "pdf" else name, metadata)
        writers[name](document, project, target, metadata)
        return target

    with ThreadPoolExecutor() as pool:  # both wait for programs written in other languages
        return list(pool.map(write, formats))


def _read(project: Path) -> Node:
    """The report as pandoc's tree. pandoc reads long attributes slowly, so those with run ids are put in afterwards."""
    ids: dict[str, str] = {}

    def shorten(found: re.Match[str]) -> str:
        return f'data-runs="{ids.setdefault(found[1], f"the-{len(ids)}th-runs")}"'

    text = _RUNS.sub(shorten, expand_includes(project / "index.qmd", project))
    long = {short: runs for runs, short in ids.items()}
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda part: pandoc(part, "markdown", "json"), _halves(text)))
    trees = [json.loads(re.sub(r"the-\d+th-runs", lambda found: long.get(found[0], found[0]), each)) for each in read]
    return {**trees[0], "blocks": [block for tree in trees for block in tree["blocks"]]}


def _halves(text: str) -> list[str]:
    """The text in two parts of about one length, for two cores."""
    parts = chapters(text)
    before = list(itertools.accumulate(map(len, parts)))
    at = 1 + next(number for number, length in enumerate(before) if 2 * length >= before[-1])
    return [half for half in ("".join(parts[:at]), "".join(parts[at:])) if half]


def _document(tree: Node, output: str, metadata: Mapping[str, str]) -> Document:
    meta = tree["meta"]
    title = metadata.get("title") or words(meta.get("title", {}).get("c", [])) or "Report"
    resolved, numbers = resolve(tree, output)
    change = {"CodeBlock": lambda node: _plain_code(node, output), "Table": lambda node: _laid_out(node, output)}
    resolved["blocks"] = walk(resolved["blocks"], lambda node: change.get(node["t"], _as_it_is)(node))
    return Document(resolved, numbers, title, words(meta.get("lang", {}).get("c", [])) or "en")


def pandoc(text: str, source: str, target: str, *options: str) -> str:
    """Turns a text from one of pandoc's formats into another.

    Raises:
        RenderError: pandoc cannot.
    """
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--sandbox", "-f", source, "-t", target, "--wrap=none", *options]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=PANDOC_SECONDS, check=False)
    if done.returncode:
        raise RenderError(f"pandoc could not turn {source} into {target}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def _asset(name: str) -> str:
    return (resources.files("ablations.reporting") / "assets" / name).read_text(encoding="utf-8")


def _as_it_is(node: Node) -> None:
    return None


def _plain_code(node: Node, output: str) -> Node:
    """Code carries no language: its highlighting would need styles that the page does not allow."""
    return {"t": "CodeBlock", "c": [["", [], [["tabindex", "0"]] if output == "html" else []], node["c"][1]]}


def natural_tables(blocks: list[Node]) -> list[Node]:
    """Blocks whose tables are as wide as their contents, group names across the row."""
    changed: list[Node] = walk(blocks, lambda node: _laid_out(node, "html") if node["t"] == "Table" else None)
    return changed


def _laid_out(node: Node, output: str) -> Node:
    (identifier, classes, pairs), *rest = node["c"]
    given = dict(pairs).get("tbl-colwidths")
    specs = rest[1]
    if output == "html":  # a browser lays columns out by their contents
        specs = [[align, {"t": "ColWidthDefault"}] for align, _ in specs]
    elif given:
        shares = [float(each) for each in re.findall(r"[\d.]+", given)]
        if len(shares) != len(specs):
            raise RenderError(f"table {identifier}: {len(shares)} widths for {len(specs)} columns")
        pairs_of = zip(specs, shares, strict=True)
        specs = [[align, {"t": "ColWidth", "c": width / sum(shares)}] for (align, _), width in pairs_of]
    kept = [[key, value] for key, value in pairs if key != "tbl-colwidths"]
    made = {"t": "Table", "c": [[identifier, classes, kept], rest[0], specs, *rest[2:]]}
    _spanning_rows(made)
    return made


def _spanning_rows(node: Node) -> None:
    """A row of which only the first cell says something, in bold, names a group: it spans the table."""
    for _, _, _, rows in node["c"][4]:
        for row in rows:
            first, *others = row[1]
            bold = [each["t"] for block in first[4] for each in block["c"]] == ["Strong"]
            if bold and others and not any(cell[4] for cell in others):
                first[3] = 1 + len(others)
                row[0][1].append("group")
                row[1] = [first]


# -- HTML -----------------------------------------------------------------------------------------------------


def _write_html(document: Document, project: Path, target: Path, metadata: Mapping[str, str]) -> None:
    blocks = walk(document.tree["blocks"], lambda node: _html_node(node, project, document.numbers))
    blocks, contents = _number_headings(blocks)
    tree = {**document.tree, "blocks": blocks, "meta": {}}
    body = pandoc(json.dumps(tree), "json", "html5", "--mathml", "--shift-heading-level-by=1", "--section-divs")
    body = re.sub(r'(<t[hd](?: colspan="\d+")?) style="text-align: (left|right|center);"', r'\1 class="\2"', body)
    style = _asset("page.css") + _project_file(project, "style.css")
    script = re.sub(r"^\s*<script>|</script>\s*$", "", _project_file(project, "script.html"))
    page = Template(_asset("page.html")).substitute(
        lang=html.escape(document.lang),
        title=html.escape(document.title),
        style=style,
        script=script,
        contents=contents,
        body=body,
    )
    target.write_text(with_policy(page), encoding="utf-8")


def _project_file(project: Path, name: str) -> str:
    path = project / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _html_node(node: Node, project: Path, numbers: Numbers) -> Node | None:
    if node["t"] == "Image":
        attrs, alt, (source, title) = node["c"]
        return {"t": "Image", "c": [attrs, alt, [_data_uri(project, source), title]]}
    if node["t"] == "Table":
        name = numbers.names.get(node["c"][0][0], "Table")
        frame = ["", ["scroll"], [["tabindex", "0"], ["role", "region"], ["aria-label", name]]]
        return {"t": "Div", "c": [frame, [node]]}
    if node["t"] == "Div":
        pairs = node["c"][0][2]
        pairs[:] = [pair for pair in pairs if not pair[0].startswith("typst:")]
    return None


def _data_uri(project: Path, source: str) -> str:
    kinds = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
    path = (project / source).resolve()
    if not path.is_relative_to(project.resolve()) or path.suffix not in kinds:
        raise RenderError(f"picture {source}: expected an svg, png or jpg file inside the report's folder")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RenderError(f"picture {source} is missing") from None
    return f"data:{kinds[path.suffix]};base64,{base64.b64encode(content).decode()}"


def _number_headings(blocks: list[Node]) -> tuple[list[Node], str]:
    """Numbers in front of the headings, and the table of contents as nested lists."""
    levels = [0] * 6
    entries: list[tuple[int, str, str]] = []
    for node in blocks:
        if node["t"] != "Header":
            continue
        level, (identifier, classes, _), title = node["c"]
        number = ""
        if "unnumbered" not in classes:
            levels[level - 1] += 1
            levels[level:] = [0] * (6 - level)
            number = ".".join(str(each) for each in levels[:level])
        entries.append((level, identifier, f"{number} {words(title)}".strip()))
        if number:
            span = {"t": "Span", "c": [["", ["section-number"], []], inlines(number)]}
            node["c"][2] = [span, {"t": "Space"}, *title]
    return blocks, _contents([each for each in entries if each[0] <= 2])


def _contents(entries: Sequence[tuple[int, str, str]]) -> str:
    """The headings as nested lists, each inner list in the item of the heading that it is under."""
    out: list[str] = []
    open_levels: list[int] = []
    for level, identifier, title in entries:
        while open_levels and open_levels[-1] > level:
            open_levels.pop()
            out.append("</li></ol>")
        if open_levels and open_levels[-1] == level:
            out.append("</li>")
        else:
            open_levels.append(level)
            out.append("<ol>")
        out.append(f'<li><a href="#{html.escape(identifier)}">{html.escape(title)}</a>')
    return "\n".join(out + ["</li></ol>"] * len(open_levels))


# -- PDF ------------------------------------------------------------------------------------------------------


def _write_pdf(document: Document, project: Path, target: Path, metadata: Mapping[str, str]) -> None:
    import typst

    blocks = walk(walk(document.tree["blocks"], _typst_node), _rows_together)
    tree = {**document.tree, "blocks": blocks, "meta": {}}
    body = pandoc(json.dumps(tree), "json", "typst")
    source = project / "report.typ"
    source.write_text(_preamble(document, metadata) + body, encoding="utf-8")
    try:
        typst.compile(str(source), output=str(target), root=str(project))
    except RuntimeError as error:
        raise RenderError(f"Typst could not set the report: {error}") from error


@functools.cache
def _template() -> str:
    return _asset("page.typ")


def _preamble(document: Document, metadata: Mapping[str, str]) -> str:
    date = "none"
    if metadata.get("epoch"):
        when = datetime.fromtimestamp(int(metadata["epoch"]), UTC)
        date = f"datetime(year: {when.year}, month: {when.month}, day: {when.day})"
    arguments = (
        f"title: {_literal(document.title)}, date: {date}, lang: {_literal(document.lang)}, "
        f"paper: {_literal(metadata.get('paper') or 'a4')}"
    )
    return f"{_template()}\n#show: report.with({arguments})\n\n"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\\/", "/")


def _typst_node(node: Node) -> list[Node] | Node | None:
    if node["t"] == "RawBlock" and node["c"][0] == "html":
        return []
    if node["t"] == "Div":
        _, classes, _ = attributes(node)
        if "landscape" in classes:
            return [_raw("#page(flipped: true)["), *node["c"][1], _raw("]")]
    if node["t"] == "Image":
        return _typst_image(node)
    return None


def _rows_together(node: Node) -> None:
    """No row stands alone at the foot or the head of a page: the first two stay together, the last two, and the name
    of a group with the first of its rows.

    Typst breaks no row that an unbreakable cell spans, so a column without width is added, of such cells.
    """
    if node["t"] != "Table":
        return
    _, _, specs, (_, head), bodies, _ = node["c"]
    specs.append([{"t": "AlignDefault"}, {"t": "ColWidth", "c": 0.0}])
    for row in head:
        row[1].append(_empty_cell(1))
    for body in bodies:
        rows = body[3]
        tied = {at for at, (attr, _) in enumerate(rows) if "group" in attr[1]} | {0, len(rows) - 2}
        last = -1
        for at, (_, cells) in enumerate(rows):
            if at <= last:
                continue
            last = at
            while last in tied and last + 1 < len(rows):
                last += 1
            cells.append(_empty_cell(last - at + 1))


def _empty_cell(rows: int) -> list[Any]:
    return [["", [], []], {"t": "AlignDefault"}, rows, 1, []]


def _raw(text: str) -> dict[str, Any]:
    return {"t": "RawBlock", "c": ["typst", text]}


def _typst_image(node: Node) -> Node:
    (_, _, pairs), _, (source, _) = node["c"]
    alt = dict(pairs).get("alt", "")
    text = f"#image({_literal(source)}, width: 100%, alt: {_literal(alt)})"
    return {"t": "RawInline", "c": ["typst", text]}
