"""Which samples train when, and how they are padded."""

import numpy as np
import pytest

from ablations.naming.batches import evaluation_order, make_batch, rearranged, steps_of, training_order


class Pieces:
    """A split of three samples: bodies of 3, 2 and 4 tokens, names of 1, 3 and 2."""

    inputs = np.array([1, 7, 2, 1, 2, 1, 8, 9, 2], dtype=np.int32)
    input_offsets = np.array([0, 3, 5, 9])
    outputs = np.array([2, 5, 6, 2, 4, 2], dtype=np.int32)
    output_offsets = np.array([0, 1, 4, 6])


LENGTHS = np.random.default_rng(0).integers(3, 200, 1000).astype(np.int32)


def order(seed=0, steps=40, lengths=LENGTHS, batch=32):
    return list(training_order(lengths, batch, steps, seed))


def test_an_epoch_shows_every_sample_once():
    epoch = order(steps=32)  # 1000 samples in batches of 32, the last one of 8
    assert sorted(np.concatenate(epoch)) == list(range(1000))


def test_the_order_is_that_of_the_seed_and_every_epoch_has_its_own():
    first, again, other = order(0), order(0), order(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    longer = order(0, steps=64)
    assert not np.array_equal(longer[0], longer[32])


def test_a_longer_run_begins_like_a_shorter_one():
    assert all(np.array_equal(a, b) for a, b in zip(order(steps=10), order(steps=50), strict=False))


def test_batches_hold_samples_of_like_length():
    spread = np.mean([LENGTHS[rows].std() for rows in order(steps=32)])
    assert spread < 0.5 * LENGTHS.std()


@pytest.mark.parametrize(
    ("skipped", "postponed", "places"),
    [  # a run of 6 steps, 3 batches to spare
        ((), (), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ((1, 2), (), [0, 3, 4, 5, 6, 7, 8]),
        ((), (1, 2), [0, 3, 4, 5, 1, 2, 6, 7, 8]),
        ((2,), (1, 2), [0, 3, 4, 5, 1, 6, 7, 8]),  # 2 failed again: 6 takes its part, and what came before stays
        ((4,), (1,), [0, 2, 3, 5, 6, 1, 7, 8]),
        ((6, 7, 8), (1,), [0, 2, 3, 4, 5, 1]),
    ],
)
def test_batches_set_aside_are_left_out_or_taken_last(skipped, postponed, places):
    order = [np.array([place]) for place in range(9)]
    found = list(rearranged(order, 6, skipped, postponed))
    assert [place for place, _ in found] == places
    assert all(place == rows[0] for place, rows in found)


def test_evaluation_sees_every_sample_once_longest_first():
    batches = list(evaluation_order(LENGTHS, 128))
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert LENGTHS[batches[0]].min() >= LENGTHS[batches[-1]].max()


def test_padding_covers_exactly_what_is_not_there():
    batch = make_batch(Pieces, np.array([2, 1]), pad=0, bos=1, widths=None)
    assert batch.inputs.tolist() == [[1, 8, 9, 2], [1, 2, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.labels.tolist() == [[4, 2, 0], [5, 6, 2]]
    assert batch.shifted.tolist() == [[1, 4, 2], [1, 5, 6]]
    assert batch.real.tolist() == [[True, True, False], [True, True, True]]


def test_padding_to_the_maximum_changes_the_shape_alone():
    batch = make_batch(Pieces, np.array([1]), pad=0, bos=1, widths=(6, 4))
    assert batch.inputs.tolist() == [[1, 2, 0, 0, 0, 0]]
    assert batch.real.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("samples", "batch", "epochs", "max_steps", "steps"),
    [(1000, 32, 1, None, 32), (1000, 32, 2.5, None, 80), (1000, 32, 1, 7, 7), (5, 32, 0.1, None, 1)],
)
def test_steps_of_a_run(samples, batch, epochs, max_steps, steps):
    assert steps_of(samples, batch, epochs, max_steps) == steps


def test_reference_study_takes_630_steps():
    assert steps_of(80_598, 128, 1, None) == 630  # reference-study.md: batch 128, 1 epoch = 630 steps
