"""Reading a rendered report: the same words and numbers whoever rendered it."""

import base64

from ablations.pages import RUNS, Picture, read_page

SVG = base64.b64encode(b"<svg/>").decode()
BODY = """<p>It <strong>helps</strong>: +0.031 (p&nbsp;=&nbsp;0.004), 1\u202f204 runs; see {link}.</p>
<figure><img alt="layers=4 +0.03" src="data:image/svg+xml;base64,{svg}">
<figcaption>{figure} Effects, 95&nbsp;%.</figcaption></figure>
<table><thead><tr><th>Arm</th><th>F1</th></tr></thead>
<tbody><tr><td><code>layers=4</code></td>
<td><span class="evidence" data-runs="a-s0">0.231</span></td></tr></tbody></table>
<script type="application/json" id="{runs}">{{"runs": {{"a-s0": ["layers=4", 0, 0.231]}}}}</script>"""

OURS = '<html><head><title>study 7</title></head><body><nav>1 Results</nav><h1 class="title">study 7</h1>' + (
    '<h2><span class="section-number">1</span> Results</h2>'
    + BODY.format(
        link='<a class="cross-reference">Figure 1</a>',
        figure='<span class="number">Figure 1: </span>',
        svg=SVG,
        runs=RUNS,
    )
)
QUARTOS = (
    '<html><head><meta name="generator" content="quarto-1.10"></head><body>'
    '<div id="quarto-content"><div id="quarto-margin-sidebar"><nav id="TOC"><a><span>1</span> Results</a></nav></div>'
    '<main><header id="title-block-header"><h1 class="title">study 7</h1><p class="date">2026-01-02</p></header>'
    '<section><h2 data-number="1"><span class="header-section-number">1</span> Results</h2>'
    + BODY.format(
        link='<a class="quarto-xref"><span>Figure&nbsp;1</span></a>', figure="Figure&nbsp;1:", svg=SVG, runs=RUNS
    )
    + "</section></main></div>"
)


def test_a_page_reads_the_same_whoever_rendered_it():
    ours, quartos = read_page(OURS), read_page(QUARTOS)
    assert ours.sections == quartos.sections
    assert ours.pictures == quartos.pictures
    assert ours.runs == quartos.runs


def test_words_and_numbers_are_found_with_their_place():
    page = read_page(OURS)
    assert list(page.sections) == ["", "Results"]
    said = [token.text for token in page.sections["Results"]]
    assert said == [
        "It", "helps", "+0.031", "p", "=", "0.004", "1\u202f204", "runs", "see",
        "layers=4", "+0.03", "Effects", "95", "%", "Arm", "F1", "layers=4", "0.231",
    ]  # fmt: skip
    assert page.sections["Results"][-1].place == "layers=4, F1"
    assert page.sections["Results"][2].place.startswith("It helps: +0.031")
    assert page.sections[""] == []


def test_pictures_are_known_by_what_is_drawn():
    (picture,) = read_page(OURS).pictures
    digest = "d4dc56669143034f31aa309635d4113d9ad76a02b1739da22c965ed2049be9e6"  # printf '<svg/>' | sha256sum
    assert picture == Picture("layers=4 +0.03", digest)
    assert read_page('<img alt="a" src="figures/a.svg">').pictures == [Picture("a", "")]


def test_what_a_page_knows_of_its_runs_is_read_and_damage_is_no_crash():
    assert read_page(OURS).runs == {"runs": {"a-s0": ["layers=4", 0, 0.231]}}
    assert read_page(f'<script id="{RUNS}">{{"runs": </script><p>1</p>').runs == {"damaged": '{"runs": '}
    assert read_page("<p>1</p></section></main>").sections[""][0].text == "1"
