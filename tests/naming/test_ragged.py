"""Sequences of different lengths in one array behave as lists of lists."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ablations.naming.ragged import head, offsets_of, taken, wrapped

sequences = st.lists(st.lists(st.integers(3, 9), max_size=6), min_size=1, max_size=6)


def flat_of(lists):
    flat = np.array([each for ids in lists for each in ids], dtype=np.int32)
    return flat, offsets_of(np.array([len(ids) for ids in lists], dtype=np.int64))


def lists_of(flat, offsets):
    return [flat[start:end].tolist() for start, end in itertools.pairwise(offsets)]


@given(sequences, st.integers(1, 7))
def test_cutting_and_wrapping_flat_arrays_is_cutting_and_wrapping_lists(lists, most):
    assert lists_of(*head(*flat_of(lists), most)) == [ids[:most] for ids in lists]
    assert lists_of(*wrapped(*flat_of(lists), [1], 2)) == [[1, *ids, 2] for ids in lists]
    assert lists_of(*wrapped(*flat_of(lists), [], 2)) == [[*ids, 2] for ids in lists]


@given(sequences, st.lists(st.integers(0, 5), max_size=8))
def test_taking_sequences_is_taking_lists(lists, which):
    which = [each % len(lists) for each in which]
    found = lists_of(*taken(*flat_of(lists), np.array(which, dtype=np.int64)))
    assert found == [lists[each] for each in which]
