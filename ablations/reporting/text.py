"""How text and numbers become Markdown: one escape for every name, one shape for every figure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from ablations.reporting import prose
from ablations.reporting.prose import ROUNDING

NBSP = "\u00a0"
MINUS = "\u2212"
DASH = "–"  # what stands where there is no value

_SPECIAL = re.compile(r"[`*_{}\[\]<>#|$@~^\"'!&]")
_ORDINAL = re.compile(r"^(\(?[A-Za-z0-9]{1,9})([.)])(?=\s|$)")


def plain(text: object) -> str:
    """One line of visible characters: control and direction marks are dropped, runs of white space become one blank.

    >>> plain("a\\nb\\x00")
    'a b'
    """
    line = " ".join(str(text).split())
    return "".join(each for each in line if unicodedata.category(each) not in {"Cc", "Cf", "Cs", "Co"})


def escape(text: object) -> str:
    r"""Makes any text inert in Markdown: no markup, link, shortcode, formula, citation or raw block survives.

    >>> escape("{{< include x >}} | a_b")
    '\\{\\{\\< include x \\>\\}\\} \\| a\\_b'
    """
    safe = plain(text).replace("\\", "\x00")
    safe = _SPECIAL.sub(r"\\\g<0>", safe).replace("\x00", "&#92;")
    safe = re.sub(r"([-:.])(?=\1)|(?<=[-:.])[-:.]|^[-+:=%](?=\s|$|-)", r"\\\g<0>", safe)
    safe = _ORDINAL.sub(r"\1\\\2", safe)
    return safe.replace("://", r":\/\/").replace("www.", r"www\.")


def code(text: object) -> str:
    """Text as inline code. Backticks and braces cannot be kept safe inside it and make it escaped text instead."""
    line = plain(text)
    return escape(line) if not line or re.search(r"[`|{}\\]", line) or line != line.strip() else f"`{line}`"


def attribute(text: object) -> str:
    """Text fit for a quoted attribute such as ``fig-alt="…"``."""
    quoted = plain(text).replace("\\", "&#92;").replace('"', "&quot;")
    return re.sub(r"[{}<>\[\]`$]", lambda found: f"&#{ord(found.group())};", quoted)


def tied(text: str) -> str:
    """Makes every blank a non-breaking one, so that a figure stays on one line."""
    return text.replace(" ", NBSP)


_TIES = (
    (re.compile(r"(?<=\d) (?=%|s\b|(?:more )?seeds?\b|runs?\b|arms?\b)"), NBSP),
    (re.compile(r"(?<=\b[pn]) (=|\\?<) (?=\d)"), rf"{NBSP}\1{NBSP}"),
    (re.compile(r" ± "), f"{NBSP}±{NBSP}"),
)


def tied_figures(markdown: str) -> str:
    """Ties the figures of running text to their signs and units: ``95 %``, ``n = 5``, ``p < 0.001``, ``5 seeds``."""
    for pattern, replacement in _TIES:
        markdown = pattern.sub(replacement, markdown)
    return markdown


def defined(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float | None, decimals: int = 3, *, signed: bool = False) -> str:
    """A number with a real minus sign; a dash where it is not defined.

    A signed number that rounds to zero keeps its sign: it says on which side of zero the end of an interval lies.

    >>> number(0.0312, 3, signed=True), number(-0.0001, 3, signed=True), number(0, 3, signed=True)
    ('+0.031', '−0.000', '0.000')
    """
    if not defined(value):
        return DASH
    assert value is not None
    shown = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    if float(shown.replace(",", "")) == 0 and (not signed or abs(value) < ROUNDING):
        shown = shown.lstrip("+-")
    return shown.replace("-", MINUS).replace(",", "\u202f")


def spread(mean: float | None, sd: float | None, decimals: int = 3) -> str:
    """Mean ± standard deviation; the mean alone where one value has no deviation."""
    if not defined(mean):
        return DASH
    return tied(f"{number(mean, decimals)} ± {number(sd, decimals)}") if defined(sd) else number(mean, decimals)


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """A signed interval in brackets; a dash where it is not defined."""
    if not (defined(low) and defined(high)):
        return DASH
    return tied(f"[{number(low, decimals, signed=True)}, {number(high, decimals, signed=True)}]")


def p_value(p: float | None, alpha: float = 0.05) -> str:
    """A p value as sentences have it, without its letter: on the side of alpha where the full figure is.

    >>> p_value(0.0004), p_value(0.0502), p_value(1.0)
    ('<\\xa00.001', '0.0502', '1')
    """
    if p is None or not defined(p):
        return DASH
    return "1" if p > 0.995 else tied(prose.p_value(p, alpha).removeprefix("p ").removeprefix("= "))


def decimals_for(widths: Iterable[float | None], fewest: int = 0, most: int = 6) -> int:
    """Decimals that show two significant digits of the typical interval, one choice for a whole table.

    Args:
        widths: Half widths of the intervals (or standard deviations), undefined ones are passed over.
        fewest: Never fewer.
        most: Never more.
    """
    known = sorted(abs(each) for each in widths if each is not None and defined(each) and each != 0)
    if not known:
        return min(max(3, fewest), most)
    return min(max(1 - math.floor(math.log10(known[len(known) // 2])), fewest), most)


def count(value: float | None) -> str:
    """A whole number with thin blanks between thousands."""
    return number(value, 0)


def plural(n: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "arm"), plural(2, "arm")
    ('1\xa0arm', '2\xa0arms')
    """
    return f"{n}{NBSP}{noun}" + ("" if n == 1 else "s")


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads best, with its unit."""
    if not defined(seconds):
        return DASH
    assert seconds is not None
    if seconds < 100:
        return tied(f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s")
    if seconds < 6000:
        return tied(f"{seconds / 60:.1f} min")
    return tied(f"{seconds / 3600:.1f} h")


def magnitude(value: float | None) -> str:
    """A large count in three digits: 188.9 M, 42.1 k."""
    if not defined(value):
        return DASH
    assert value is not None
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return tied(f"{value / size:.3g} {letter}") if abs(value) < 1000 * size else tied(f"{value:.3g}")
    return f"{value:.0f}"


def share(value: float | None) -> str:
    """A share of one in percent."""
    return tied(f"{100 * value:.1f} %") if value is not None and defined(value) else DASH


def evidence(shown: str, run_ids: Iterable[str], of: str = "") -> str:
    """A figure that leads to the runs behind it: in HTML a click shows them.

    Args:
        shown: The figure as Markdown.
        run_ids: Runs it was computed from; ids are hexadecimal and need no escape.
        of: Name of the score, or column of the runs, whose values are to be shown; the primary metric by default.
    """
    ids = " ".join(run_ids)
    if not ids or shown == DASH:
        return shown
    quantity = f' data-of="{attribute(of)}"' if of else ""
    return f'[{shown.replace("[", "&#91;").replace("]", "&#93;")}]{{.evidence data-runs="{ids}"{quantity}}}'


_SPECIFIC = r"p\u00a0(?:=|\\?<)\u00a0\d[\d.]*\d|n\u00a0=\u00a0\d+|\d+ of \d+|[+−]\d+(?:\.\d+)?"
_RESULT = re.compile(rf"(?<![\w.±#&\\])(?:{_SPECIFIC}|\d+\.\d+)(?![\w%]|\u00a0%)")


def evident(markdown: str, run_ids: Iterable[str], declared: Iterable[float | None] = ()) -> str:
    """Running text whose results lead to their runs: p, n, ``k of n``, signed numbers and decimal fractions.

    Args:
        markdown: Escaped text without evidence of its own, its figures tied (:func:`tied_figures`).
        run_ids: The runs behind it.
        declared: Numbers of the study file, which no run stands behind.
    """
    ids, known = tuple(run_ids), {f"{each:g}" for each in declared if each is not None}
    return _RESULT.sub(lambda found: found[0] if found[0] in known else evidence(found[0], ids), markdown)
