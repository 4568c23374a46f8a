"""Words found, missed, invented, and taken for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.analysis.confusion import NOTHING, confusion

NAMES = [("get size", "find size"), ("get", "find length"), ("get item", ""), ("get", "get")]


def test_words_are_counted_as_sets() -> None:
    counts = confusion([("add add one", "add")])
    assert (counts.true["add"], counts.found["add"], counts.recall("one")) == (1, 1, 0.0)


def test_a_missed_word_is_shared_out_over_the_words_invented_in_its_name() -> None:
    counts = confusion(NAMES)
    assert counts.recall("get") == 0.25  # one of four
    assert counts.instead_of("get") == [("find", 1.5), (NOTHING, 1.0), ("length", 0.5)]  # 1 + ½, 1, ½
    assert counts.missed() == [("get", 3), ("item", 1)]
    assert counts.invented() == [("find", 2), ("length", 1)]
    assert counts.precision("size") == 1.0
    assert counts.precision("nowhere") is None


names = st.lists(st.tuples(*[st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join)] * 2))


@given(names)
def test_what_a_word_was_taken_for_adds_up_to_how_often_it_was_missed(pairs: list[tuple[str, str]]) -> None:
    counts = confusion(pairs)
    missed = dict(counts.missed())
    for word in counts.true:
        assert sum(n for _, n in counts.instead_of(word)) == pytest.approx(missed.get(word, 0))
