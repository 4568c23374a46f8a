"""Names and figures become Markdown that says what they say and does nothing."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.reporting import text
from ablations.reporting.builtin import pandoc
from ablations.reporting.qmd import nodes, words

HOSTILE = [
    "<script>alert(1)</script>", "{{< include /etc/passwd >}}", "a | b", "_x_ **y** ~~z~~ H~2~O x^2^", "$x$ $$y$$",
    "```{=html}", "`code`{=html}", "1. one", "(a) one", "i. one", "- item", "+ item", "# heading", "> quote",
    "::: {.x}", "https://example.org www.example.org", "[text](url) ![alt](src)", "[span]{.class}",
    "@tbl-main [@fig-x] -@x", "&lt; &#42;", "\\(x\\) \\[y\\] \\alpha \\", 'a "quoted" \'word\' -- --- ...', "---",
    "***", "| a |", ": caption {#tbl-x}", "term\n: def", "<!-- comment -->", "%meta", "[^1] ^[note]",
    "==mark== ++ins++", "#eval(1) @label <label>", "a\u202eb\u200b\x07c", "   ", "", "*", "_", "A.  letter",
    "iv) roman", "#. auto", "(@) example", "~sub~", "\t tab", "Ω ✓ 日本語 🙂", "-1.5", "+1", "key: value",
]  # fmt: skip


def shown_by_pandoc(paragraphs: list[str]) -> list[str]:
    blocks = json.loads(pandoc("\n\n".join(f"x {each} y" for each in paragraphs), "markdown", "json"))["blocks"]
    assert [block["t"] for block in blocks] == ["Para"] * len(paragraphs)
    for block in blocks:
        assert {node["t"] for node in nodes(block["c"])} <= {"Str", "Space"}
    return [words(block["c"])[2:-2].strip() for block in blocks]


def test_escaped_text_is_shown_as_it_is_and_nothing_else_happens() -> None:
    assert shown_by_pandoc([text.escape(each) for each in HOSTILE]) == [text.plain(each) for each in HOSTILE]


def test_escaped_text_starts_no_block_where_it_stands_alone() -> None:
    names = [each for each in HOSTILE if text.plain(each)]
    blocks = json.loads(pandoc("\n\n".join(text.escape(each) for each in names), "markdown", "json"))["blocks"]
    assert [(block["t"], words(block["c"])) for block in blocks] == [("Para", text.plain(each)) for each in names]


def test_escaped_text_never_carries_a_shortcode() -> None:
    assert not any("{{<" in text.escape(each) or "{{<" in text.code(each) for each in HOSTILE)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=30), min_size=40, max_size=80))
def test_any_text_survives_its_escape(texts: list[str]) -> None:
    kept = [each for each in texts if text.plain(each)]
    if kept:
        shown = shown_by_pandoc([text.escape(each) for each in kept])
        assert [" ".join(each.split()) for each in shown] == [" ".join(text.plain(each).split()) for each in kept]


def test_code_falls_back_to_escaped_text_where_backticks_or_pipes_would_break_it() -> None:
    assert text.code("layers=32") == "`layers=32`"
    assert text.code("a|b") == r"a\|b"


def test_an_attribute_cannot_end_itself() -> None:
    alt = json.loads(
        pandoc(f'![c](f.svg){{fig-alt="{text.attribute(HOSTILE[0] + chr(34) + "}")}"}}', "markdown", "json")
    )
    image = next(node for node in nodes(alt["blocks"]) if node["t"] == "Image")
    assert dict(image["c"][0][2])["fig-alt"] == HOSTILE[0] + '"}'


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "expected"),
    [
        (0.0312, 3, True, "+0.031"), (-0.0312, 3, True, "−0.031"), (-0.0001, 3, True, "−0.000"),
        (0.0001, 3, True, "+0.000"), (0.0, 3, True, "0.000"), (-1e-17, 3, True, "0.000"),
        (-0.0001, 3, False, "0.000"),
        (12345.0, 0, False, "12\u202f345"), (None, 3, False, "–"), (math.nan, 3, False, "–"), (math.inf, 3, True, "–"),
    ],
)  # fmt: skip
def test_numbers_have_a_true_minus_and_missing_ones_a_dash(
    value: float | None, decimals: int, signed: bool, expected: str
) -> None:
    assert text.number(value, decimals, signed=signed) == expected


def test_figures_do_not_break_over_lines() -> None:
    assert " " not in text.spread(0.25, 0.019) + text.interval(-0.01, 0.05) + text.p_value(0.0001) + text.duration(468)
    assert (
        text.tied_figures("95 % of n = 5 seeds, p < 0.001")
        == "95\u00a0% of n\u00a0=\u00a05\u00a0seeds, p\u00a0<\u00a00.001"
    )


def test_decimals_follow_the_median_interval() -> None:
    assert text.decimals_for([0.02, 0.03, 9.0]) == 3  # 0.030: two significant digits
    assert text.decimals_for([120.0, 130.0]) == 0
    assert text.decimals_for([None, math.nan]) == 3


def test_evidence_names_the_runs_and_a_dash_has_none() -> None:
    assert text.evidence("0.2", ["a-s0", "a-s1"]) == '[0.2]{.evidence data-runs="a-s0 a-s1"}'
    assert text.evidence(text.DASH, ["a-s0"]) == text.DASH


def test_results_in_a_sentence_lead_to_their_runs_and_what_was_declared_does_not() -> None:
    said = text.tied_figures(
        text.escape("changes by +0.031 (95 % interval; n = 5 seeds, p < 0.001 for 10 arms), 5 of 5 seeds; 0.02 of F1.")
    )
    shown = re.findall(r"\[([^\]]*)\]\{\.evidence", text.evident(said, ["a-s0"], [0.02]))
    assert [each.replace("\\", "").replace("\u00a0", " ") for each in shown] == [
        "+0.031",
        "n = 5",
        "p < 0.001",
        "5 of 5",
    ]


def test_evidence_names_the_quantity_that_is_to_be_shown() -> None:
    assert text.evidence("40 s", ["a-s0"], "seconds") == '[40 s]{.evidence data-runs="a-s0" data-of="seconds"}'
