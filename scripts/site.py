"""Pages of the documentation that are written elsewhere: the README, the examples, and what the code says of itself.

MkDocs loads this file as its hook (mkdocs.yml).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Any, config: Any) -> Any:
    """Adds what is no file of ``docs/``."""
    from mkdocs.structure.files import File

    for source, target in sources().items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=relinked(text, source, target)))
    for target, text in (("commands", commands()), ("parameters", parameters())):
        files.append(File.generated(config, f"reference/{target}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lets links to files that have a page of the site lead there."""
    if page.file.generated_by:
        return markdown
    return relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def sources() -> dict[str, str]:
    """Files outside of ``docs/`` that are pages, and the names of those."""
    examples = sorted((REPOSITORY / "examples").glob("*/README.md"))
    return COPIED | {f"examples/{each.parent.name}/README.md": f"examples/{each.parent.name}.md" for each in examples}


def relinked(text: str, source: str, target: str) -> str:
    """A text whose relative links are those of its page on the site.

    Args:
        text: Markdown.
        source: Its file in the repository.
        target: Its page's file on the site.
    """
    pages = sources()

    def link(found: re.Match[str]) -> str:
        address = found[2]
        if re.match(r"[a-z]+:|#", address):
            return found[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
        page = pages.get(file) or pages.get(f"{file}/README.md") or (file[5:] if file.startswith("docs/") else None)
        if page is None:
            return found[0]  # MkDocs says that it leads nowhere
        return f"{found[1]}{posixpath.relpath(page, posixpath.dirname(target) or '.')}{found[3]}"

    return _LINK.sub(link, text)


def commands() -> str:
    """Every command with its arguments and options, as the command line itself describes them."""
    import typer

    from ablations.cli import app

    group: Any = typer.main.get_command(app)
    lines = ["# Commands", "", "Made from the command line's own help.", ""]
    for name, command in group.commands.items():
        lines += [f"## ablations {name}", "", _escaped(command.help or ""), ""]
        lines += [*_options(command.params), ""]
    return "\n".join(lines)


def _options(given: Any) -> Iterator[str]:
    shown = [each for each in given if not getattr(each, "hidden", False)]
    if not shown:
        return
    yield "| argument or option | default | meaning |"
    yield "|---|---|---|"
    for each in shown:
        argument = each.param_type_name == "argument"
        metavar = (each.metavar or each.name.upper()) if argument else None
        names = metavar or ", ".join((*each.opts, *each.secondary_opts))
        default = "" if each.default in (None, False) or each.required else f"`{each.default}`"
        yield f"| `{names}`{' (required)' if each.required else ''} | {default} | {_escaped(each.help or '')} |"


def parameters() -> str:
    """Every tunable of the reference experiment."""
    from ablations.naming.config import Config
    from ablations.schema import schema_of

    schema = schema_of(Config)
    lines = ["# Parameters of the reference experiment", "", "Made from `ablations/naming/config.py`.", ""]
    for section in schema.sections:
        own = [each for key, each in schema.tunables.items() if key.rpartition(".")[0] == section]
        if own:
            lines += [f"## {section}", "", "| parameter | default | what it is |", "|---|---|---|"]
            for each in own:
                unit = f", in {each.unit}" if each.unit else ""
                default = "null" if each.default is None else str(each.default)
                lines.append(f"| `{each.key}` | `{default}` | {_escaped(each.help)}{unit}: {_escaped(each.expects)} |")
            lines.append("")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n\n", " ").replace("\n", " ")
