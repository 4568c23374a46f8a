"""Tables, figures and callouts as Quarto Markdown."""

from __future__ import annotations

import json

import pytest

from ablations.reporting.builtin import pandoc
from ablations.reporting.markdown import Column, callout, code_block, fenced, table
from ablations.reporting.qmd import nodes


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="table x: 1 cells for 2 columns"):
        table([Column("a"), Column("b")], [["1"]], label="x", caption="c")


def test_widths_sum_to_a_hundred_and_follow_the_cells() -> None:
    made = table(
        [Column("a"), Column("b", "right")], [["a much longer cell than the other", "1"]], label="x", caption="c"
    )
    widths = json.loads(made.split('tbl-colwidths="')[1].split('"')[0])
    assert sum(widths) == 100
    assert widths[0] > widths[1]


def test_a_table_that_no_upright_page_can_hold_is_laid_across() -> None:
    columns = [Column(f"c{at}") for at in range(8)]
    assert ".landscape" in table(columns, [["x" * 20] * 8], label="x", caption="c")
    assert ".landscape" not in table(columns, [["x" * 9] * 8], label="x", caption="c")


def test_a_table_keeps_its_label_and_caption() -> None:
    made = table([Column("a")], [], label="x", caption="Means *here*")
    found = next(node for node in nodes(json.loads(pandoc(made, "markdown", "json"))) if node["t"] == "Table")
    assert found["c"][0][0] == "tbl-x"


def test_a_fence_is_longer_than_those_inside_it() -> None:
    inner = callout("note", "Inner", "text")
    outer = json.loads(pandoc(fenced(inner, ".landscape"), "markdown", "json"))["blocks"]
    assert [block["t"] for block in outer] == ["Div"]
    assert outer[0]["c"][1][0]["t"] == "Div"
    code = json.loads(pandoc(code_block("a\n```\nb"), "markdown", "json"))["blocks"]
    assert [(block["t"], block["c"][1]) for block in code] == [("CodeBlock", "a\n```\nb")]
