"""A page's Content-Security-Policy: what stands in the page may act, by its hash, and nothing else.

The standard library alone: Quarto's post-render script uses it, too.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

_META = re.compile(r"\s*<meta http-equiv=\"Content-Security-Policy\"[^>]*>", re.IGNORECASE)
_CHARSET = re.compile(r"<meta charset=[^>]*>|<head[^>]*>", re.IGNORECASE)
_DATA_SCRIPT = re.compile(r"<script([^>]*?)\ssrc=\"data:([^\",]*),([^\"]*)\"([^>]*)></script>")
_DATA_STYLE = re.compile(r"<link\b[^>]*?\shref=\"data:text/css([^\",]*),([^\"]*)\"[^>]*>")


class _Parts(HTMLParser):
    """What a page runs and how it is dressed.

    Attributes:
        scripts: Text of each inline script that a browser would run.
        styles: Text of each style element.
        dresses: Each style attribute.
        handlers: Each attribute such as ``onclick``.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.dresses: list[str] = []
        self.handlers: list[str] = []
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.dresses += [value or "" for name, value in attrs if name == "style"]
        self.handlers += [value or "" for name, value in attrs if name.startswith("on")]
        runs = (given.get("type") or "module") in ("module", "text/javascript", "application/javascript")
        if tag == "script" and runs and "src" not in given:
            self._into = self.scripts
        elif tag == "style":
            self._into = self.styles
        else:
            self._into = None
        if self._into is not None:
            self._into.append("")

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._into = None


def with_policy(page: str) -> str:
    """The page with a strict policy in its head, replacing one that it has.

    Scripts and styles that stand in ``data:`` addresses become inline ones, so that their hash can be named. What is
    inline is allowed by its hash; nothing may be fetched, framed or sent.

    Args:
        page: A self-contained HTML page.
    """
    page = _META.sub("", page, count=1)
    page = _DATA_SCRIPT.sub(_inline_script, page)
    page = _DATA_STYLE.sub(_inline_style, page)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy(page))}">'
    return _CHARSET.sub(lambda found: f"{found[0]}\n{meta}", page, count=1)


def policy(page: str) -> str:
    """The policy that allows what stands in a page, and nothing else."""
    parts = _Parts()
    parts.feed(page)
    parts.close()
    scripts = [*_hashes(parts.scripts), *_attributes(parts.handlers)]
    styles = [*_hashes(parts.styles), *_attributes(parts.dresses)]
    rules = {
        "default-src": ["'none'"],
        "script-src": scripts or ["'none'"],
        "style-src": styles or ["'none'"],
        "img-src": ["data:"],
        "font-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(allowed)}" for name, allowed in rules.items())


def _attributes(values: Iterable[str]) -> Iterator[str]:
    hashes = _hashes(values)
    yield from ["'unsafe-hashes'", *hashes] if hashes else []


def _hashes(texts: Iterable[str]) -> list[str]:
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in texts)
    return [f"'sha256-{each}'" for each in dict.fromkeys(digests)]


def _text_of(kind: str, content: str) -> str:
    raw = base64.b64decode(content) if kind.endswith(";base64") else unquote_to_bytes(html.unescape(content))
    return raw.decode("utf-8")


def _inline_script(found: re.Match[str]) -> str:
    before, kind, content, after = found.groups()
    text = re.sub(r"<(/script|!--)", r"<\\\1", _text_of(kind, content), flags=re.IGNORECASE)  # what ends an element
    return f"<script{before}{after}>{text}</script>"


def _inline_style(found: re.Match[str]) -> str:
    return f"<style>{_text_of(*found.groups())}</style>"
