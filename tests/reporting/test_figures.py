"""Figures: the same bytes twice, no label upon another, alternative text from the same numbers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.analysis.results import Comparison
from ablations.reporting.figures import curves, forest, lengths, pareto, style
from ablations.reporting.series import Seed, Series


def comparison(
    arm: str, difference: float | None, half: float = 0.01, verdict: str = "helps", n: int = 5
) -> Comparison:
    bounds = {} if difference is None else {"ci_low": difference - half, "ci_high": difference + half}
    return Comparison(
        arm=arm, baseline="baseline", metric="test_f1", direction="max", alpha=0.05, family="main", family_size=3,
        seeds=tuple(range(n)), unpaired_arm=(), unpaired_baseline=(), n=n, n_planned=n, n_ok=n, n_diverged=0, n_lost=0,
        differences=() if difference is None else tuple(difference + 0.001 * at for at in range(n)),
        baseline_ok=n, baseline_diverged=0, baseline_lost=0, difference=difference, verdict=verdict, **bounds,
    )  # fmt: skip


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
)
def test_labels_are_moved_apart_and_keep_their_order(wished: list[float], gap: float) -> None:
    placed = style.spaced(wished, gap, 0.0, 10.0)
    ordered = [place for _, place in sorted(zip(wished, placed, strict=True))]
    distance = min(gap, 10.0 / max(len(wished) - 1, 1))
    assert all(b - a >= distance - 1e-6 for a, b in zip(sorted(ordered), sorted(ordered)[1:], strict=False))
    assert all(-1e-6 <= place <= 10 + 1e-6 for place in placed)
    for (one, place), (other, place_of_other) in zip(
        sorted(zip(wished, placed, strict=True)), sorted(zip(wished, placed, strict=True))[1:], strict=False
    ):
        assert one == other or place < place_of_other


def test_labels_with_room_stay_where_they_are() -> None:
    assert style.spaced([1.0, 5.0], 0.5, 0.0, 10.0) == [1.0, 5.0]


def test_a_figure_is_the_same_to_the_byte(tmp_path: Path) -> None:
    rows = forest.rows_of([("group", [comparison("a", 0.02), comparison("b", -0.01, verdict="hurts")])])
    drawn = [
        style.save(
            forest.draw(rows, metric="F1", smallest=0.02, decimals=3, limits=(-0.03, 0.05)), tmp_path / f"{at}.svg"
        ).read_bytes()
        for at in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert b"<dc:date>" not in drawn[0]


def test_a_hostile_name_is_drawn_as_text(tmp_path: Path) -> None:
    rows = [forest.Row(name, comparison(name, 0.01)) for name in ("$\\frac{1}{0}$", "<script>x</script>", "日本\x07語")]
    figure = forest.draw(rows, metric="$", smallest=None, decimals=3, limits=(-0.03, 0.05))
    assert "<script>" not in style.save(figure, tmp_path / "a.svg").read_text(encoding="utf-8").replace("<!--", "")


def test_the_forest_says_its_numbers_in_words() -> None:
    rows = forest.rows_of([("", [comparison("a", 0.0312, 0.01), comparison("b", None, verdict="all_failed")])])
    alt = forest.alt_text(rows, metric="test F1", decimals=3)
    assert alt == (
        "Forest plot of the difference from the baseline in test F1, with 95 % intervals, 2\u00a0arms: "
        "a +0.031 [+0.021,\u00a0+0.041] helps; b – – all runs failed."
    )


def test_an_outlier_does_not_squeeze_the_others() -> None:
    near = [comparison(f"a{at}", 0.001 * at) for at in range(9)]
    low, high = forest.limits_of([*near, comparison("far", -5.0, verdict="hurts")], smallest=0.02)
    assert -0.1 < low < high < 0.1


def test_all_means_and_seeds_lie_inside_the_axis_where_nothing_is_far_out() -> None:
    found = [comparison("a", 0.03), comparison("b", -0.02)]
    low, high = forest.limits_of(found, smallest=None)
    assert all(low < each < high for one in found for each in (one.difference or 0.0, *one.differences))


def test_a_long_forest_is_cut_into_pages_and_no_heading_stands_last() -> None:
    rows = forest.rows_of([(f"g{at}", [comparison(f"a{at}-{arm}", 0.01) for arm in range(4)]) for at in range(25)])
    parts = forest.pages(rows)
    assert [row for part in parts for row in part] == rows
    assert all(part[-1].comparison is not None and len(part) <= forest.ROWS_PER_FIGURE for part in parts)


def test_forty_arms_fit_a_page(tmp_path: Path) -> None:
    rows = forest.rows_of(
        [(f"g{at}", [comparison(f"arm-{at}-{arm}" * 4, 0.01) for arm in range(5)]) for at in range(7)]
    )
    assert len(forest.pages(rows)) == 1
    figure = forest.draw(rows, metric="F1", smallest=0.02, decimals=3, limits=(-0.03, 0.05))
    assert figure.get_size_inches()[1] <= forest.TALLEST + 1e-9


def one_series(name: str, values: list[float]) -> Series:
    import numpy as np

    steps, numbers = np.arange(1.0, len(values) + 1), np.array(values)
    return Series(name, (Seed(steps, numbers, True),), steps, numbers, numbers * np.nan, numbers * np.nan)


def test_curves_say_where_they_end() -> None:
    panels = [("validation F1", [one_series("baseline", [0.1, 0.2]), one_series("deep", [0.1, 0.25])])]
    assert curves.alt_text(panels) == (
        "Learning curves, mean over seeds. validation F1 at step 2: baseline 0.200 (n = 1), deep 0.250 (n = 1)."
    )
    assert curves.draw(panels, ["deep"]).axes


def test_line_names_do_not_touch() -> None:
    part = [one_series(f"arm{at}", [0.1, 0.2 + 1e-6 * at]) for at in range(7)]
    figure = curves.draw([("F1", part)], [each.variant for each in part[1:]])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = sorted(
        (box.y0, box.y1)
        for box in (text.get_window_extent() for text in axes.texts if text.get_text().startswith("arm"))
    )
    assert len(boxes) == 7
    assert all(low[1] <= high[0] + 0.5 for low, high in itertools.pairwise(boxes))


@pytest.mark.parametrize(("direction", "expected"), [("max", ["cheap", "dear"]), ("min", ["cheap", "bad"])])
def test_the_front_holds_what_nothing_beats_on_both(direction: str, expected: list[str]) -> None:
    points = [
        pareto.Point(name, cost, None, value, None)
        for name, cost, value in (("cheap", 1.0, 0.2), ("bad", 2.0, 0.1), ("dear", 3.0, 0.3))
    ]
    assert [each.name for each in pareto.front(points, direction)] == expected


def test_the_lengths_say_their_median_bin() -> None:
    alt = lengths.alt_text([0, 8, 16, 32], [1, 5, 2], [(16, "baseline: 16")], "tokens")
    assert re.search(r"lengths of 8 inputs in tokens; the median lies between 8 and 16; cut at 16", alt)
