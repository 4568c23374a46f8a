from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.errors import DataError
from ablations.naming.splits import assign

SHARES = {"validation": 0.1, "test": 0.1}
groups = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 500), min_size=3, max_size=30)


@given(groups, st.integers(0, 5))
@settings(deadline=None)
def test_every_group_goes_to_one_split_and_every_split_gets_one(sizes, seed):
    splits = assign(sizes, SHARES, seed, "projects")
    assert splits.keys() == sizes.keys()
    assert set(splits.values()) == {"train", "validation", "test"}


@given(groups, st.integers(0, 5), st.randoms())
@settings(deadline=None)
def test_the_order_of_the_groups_is_irrelevant(sizes, seed, random):
    items = list(sizes.items())
    random.shuffle(items)
    assert assign(dict(items), SHARES, seed, "files") == assign(sizes, SHARES, seed, "files")


def test_shares_of_functions_are_met_with_many_files():
    sizes = {f"f{index}": 1 + index % 40 for index in range(700)}
    total = sum(sizes.values())
    for seed in range(5):
        filled = Counter()
        for group, split in assign(sizes, SHARES, seed, "files").items():
            filled[split] += sizes[group]
        assert filled["validation"] / total == pytest.approx(0.1, abs=0.005)
        assert filled["test"] / total == pytest.approx(0.1, abs=0.005)


def test_the_largest_of_three_projects_is_for_training():
    splits = assign({"huge": 900, "small": 50, "tiny": 50}, SHARES, 0, "projects")
    assert splits["huge"] == "train"


def test_the_seed_decides():
    sizes = {f"f{index}": 10 for index in range(50)}
    assert assign(sizes, SHARES, 0, "files") == assign(sizes, SHARES, 0, "files")
    assert assign(sizes, SHARES, 0, "files") != assign(sizes, SHARES, 1, "files")


def test_too_few_projects_are_refused():
    with pytest.raises(DataError, match="a split by projects needs at least 3 projects, found 2"):
        assign({"a": 1, "b": 1}, SHARES, 0, "projects")
