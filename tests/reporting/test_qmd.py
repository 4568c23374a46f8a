"""What the built-in renderer understands of Quarto's Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.errors import RenderError
from ablations.reporting.builtin import pandoc
from ablations.reporting.qmd import chapters, expand_includes, nodes, resolve, words


def resolved(text: str, output: str = "html") -> list[dict]:
    document, _ = resolve(json.loads(pandoc(text, "markdown", "json")), output)
    return document["blocks"]


def test_includes_nest(tmp_path: Path) -> None:
    (tmp_path / "index.qmd").write_text("start\n\n{{< include _a.qmd >}}\n\nend\n")
    (tmp_path / "_a.qmd").write_text("in a\n\n{{< include _generated/b.qmd >}}\n")
    (tmp_path / "_generated").mkdir()
    (tmp_path / "_generated" / "b.qmd").write_text("in b\n")
    assert expand_includes(tmp_path / "index.qmd", tmp_path).split() == ["start", "in", "a", "in", "b", "end"]


def test_an_include_that_leads_back_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.qmd").write_text("{{< include _a.qmd >}}\n")
    (tmp_path / "_a.qmd").write_text("{{< include index.qmd >}}\n")
    with pytest.raises(RenderError, match=r"index.qmd includes itself: index.qmd -> _a.qmd -> index.qmd"):
        expand_includes(tmp_path / "index.qmd", tmp_path)


def test_nothing_outside_the_project_is_included(tmp_path: Path) -> None:
    inside = tmp_path / "report"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (inside / "index.qmd").write_text("{{< include ../secret.txt >}}\n")
    with pytest.raises(RenderError, match="outside the report's folder"):
        expand_includes(inside / "index.qmd", inside)


def test_a_missing_include_says_who_wants_it(tmp_path: Path) -> None:
    (tmp_path / "index.qmd").write_text("{{< include _a.qmd >}}\n")
    with pytest.raises(RenderError, match=r"_a.qmd is missing \(included by index.qmd\)"):
        expand_includes(tmp_path / "index.qmd", tmp_path)


def test_an_include_in_code_or_within_a_line_stays_text(tmp_path: Path) -> None:
    text = "```\n{{< include x.qmd >}}\n```\n\nuse {{< include x.qmd >}} alone on its line\n"
    (tmp_path / "index.qmd").write_text(text)
    assert expand_includes(tmp_path / "index.qmd", tmp_path) == text


DOCUMENT = """
# One {#sec-one}

See @fig-b, @tbl-t and @sec-two.

![First](a.svg){#fig-a fig-alt="a"}

![Second](b.svg){#fig-b fig-alt="b"}

# Two {#sec-two}

| a |
|---|
| 1 |

: Means {#tbl-t}
"""


def test_references_carry_the_number_of_their_target_and_link_to_it() -> None:
    links = [node["c"] for node in nodes(resolved(DOCUMENT)) if node["t"] == "Link"]
    found = [(words(text), target[0]) for _, text, target in links]
    assert found == [("Figure\u00a02", "#fig-b"), ("Table\u00a01", "#tbl-t"), ("Section\u00a02", "#sec-two")]


def test_html_captions_carry_their_number_and_typst_counts_by_itself() -> None:
    captions = {
        output: [
            words(node["c"][1][1]) for node in nodes(resolved(DOCUMENT, output)) if node["t"] in {"Figure", "Table"}
        ]
        for output in ("html", "typst")
    }
    assert captions["html"] == ["Figure\u00a01: First", "Figure\u00a02: Second", "Table\u00a01: Means"]
    assert captions["typst"] == ["First", "Second", "Means"]


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(RenderError, match="not in the report: @fig-none"):
        resolved("See @fig-none.")


def test_a_label_given_twice_is_an_error() -> None:
    with pytest.raises(RenderError, match="given to two places: fig-a"):
        resolved("![A](a.svg){#fig-a}\n\n![B](b.svg){#fig-a}\n")


@pytest.mark.parametrize(("output", "expected"), [("html", "screen"), ("typst", "paper")])
def test_content_is_shown_in_its_format_alone(output: str, expected: str) -> None:
    screen = '::: {.content-visible when-format="html"}\nscreen\n:::\n'
    text = screen + '\n::: {.content-hidden when-format="html"}\npaper\n:::\n'
    assert words(resolved(text, output)) == expected


def test_a_callouts_heading_is_its_title_and_no_section() -> None:
    text = "# One {#sec-one}\n\n::: {.callout-warning}\n## Look\n\nout\n:::\n\n# Two {#sec-two}\n\n@sec-two\n"
    blocks = resolved(text)
    callout = next(node for node in nodes(blocks) if node["t"] == "Div" and "callout" in node["c"][0][1])
    assert words(callout["c"][1][0]) == "Look"
    assert words(blocks[-1]["c"]) == "Section\u00a02"


def test_chapters_begin_with_headings_of_the_first_level_and_never_within_code() -> None:
    text = "start\n# One\n## inner\n```\n# comment\n```\n# Two\nend\n"
    assert chapters(text) == ["start\n", "# One\n## inner\n```\n# comment\n```\n", "# Two\nend\n"]
    assert "".join(chapters(text)) == text
