"""The page in a browser: what axe-core says of it, how its tables and its evidence behave, what its policy blocks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.reporting.render import render_report

pytestmark = pytest.mark.slow
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(PROGRAMS)} is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(state: Callable[[str], Any]) -> Path:
    """The page of a study with failures: it has a callout, causes, every kind of table."""
    made = state("failures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATIONS_RENDERER", "builtin")
        return render_report(made.study, made.results)[0]


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, and in ``page.said`` whatever its console was told: a policy that blocks says so there."""
    opened = browser.new_page()
    opened.said = []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_violation(browser: Any, report: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `dev`").Axe()
    opened = browser.new_page(color_scheme=scheme, bypass_csp=True)
    opened.goto(report.as_uri())
    found = [axe.run(opened)]
    opened.locator(".evidence").first.click()
    found.append(axe.run(opened))
    opened.close()
    for each in found:
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in each.response["violations"]] == []
        assert len(each.response["passes"]) > 20  # it did look


def test_the_policy_blocks_nothing_of_the_page_and_whatever_is_foreign(page: Any) -> None:
    assert page.said == []
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.invalid/x.png\">')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.foreign = 1'}))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.foreign") is None
    assert len(page.said) == 2
    assert all("Content Security Policy" in each for each in page.said)


def test_a_figure_shows_its_runs_by_mouse_and_by_keyboard(page: Any) -> None:
    figure = page.locator("#tbl-main .evidence").first
    figure.click()
    panel = page.get_by_role("dialog")
    assert panel.locator("h2").inner_text() == f"{figure.inner_text()}: from 3 runs"
    assert panel.locator("th").all_inner_texts() == ["run", "arm", "seed", "status", "test F1", "config", "commit"]
    assert panel.locator("tbody tr").count() == 3
    page.keyboard.press("Escape")
    assert panel.count() == 0
    assert page.evaluate("document.activeElement.className") == "evidence"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert panel.locator("h2").inner_text() != ""
    assert page.evaluate("document.activeElement.textContent") == "Close"


def test_the_evidence_of_another_quantity_shows_that_quantity(page: Any) -> None:
    page.locator('#tbl-main [data-of="parameters"]').first.click()
    panel = page.get_by_role("dialog")
    assert panel.locator("th").nth(4).inner_text() == "parameters"
    assert panel.locator("tbody tr").first.locator("td").nth(4).inner_text() == "1860000"


def test_tab_stops_at_one_figure_of_a_table(page: Any) -> None:
    stops = page.locator('#tbl-main .evidence[tabindex="0"]')
    assert stops.count() == 1
    assert page.locator("#tbl-main .evidence").count() > 20


def test_a_table_is_sorted_by_its_numbers_and_put_back(page: Any) -> None:
    differences = page.locator("#tbl-main tbody tr td:nth-child(4)")
    before = differences.all_inner_texts()
    heading = page.locator("#tbl-main thead th", has_text="Difference")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(each.replace("\u2212", "-")) for each in differences.all_inner_texts() if re.search(r"\d", each)]
    assert values == sorted(values)
    assert len(values) >= 6
    heading.get_by_role("button").click()
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert differences.all_inner_texts() == before


def test_a_table_is_filtered_by_words_and_says_how_many_rows_are_left(page: Any) -> None:
    number = re.match(r"Table\s\d+", page.locator("#tbl-ledger caption").inner_text())
    assert number
    box = page.get_by_label(f"Filter {number[0]}")
    box.fill("diverged lr=0.004")
    rows = page.locator("#tbl-ledger tbody tr:visible")
    assert rows.count() == 3
    said = page.get_by_role("status").filter(has_text="of")
    assert said.inner_text() == "3 of 24 rows"
    box.fill("")
    assert rows.count() == 24
    assert said.count() == 0


@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    """Tables scroll within themselves."""
    opened = browser.new_page(viewport={"width": width, "height": 800})
    opened.goto(report.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()


def test_a_caption_is_read_without_scrolling_its_table(browser: Any, report: Path) -> None:
    opened = browser.new_page(viewport={"width": 400, "height": 800})
    opened.goto(report.as_uri())
    widths = opened.evaluate(
        "[...document.querySelectorAll('caption')].map(each => each.getBoundingClientRect().width)"
    )
    opened.close()
    assert len(widths) > 5
    assert max(widths) <= 400
