"""The best split of each feature: every backend against all splits, tried one by one in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import fastconv

CRITERIA = ["gini", "error"]
CASES = [(40, 3, 2, 256), (40, 3, 3, 5), (7, 2, 2, 2), (300, 5, 4, 20), (1, 1, 1, 256), (64, 2, 1, 9)]


def case(samples, features, classes, bins, seed=0):
    rng = np.random.default_rng((samples, classes, seed))
    index = rng.integers(0, bins, (features, samples)).astype(np.uint8)
    start = np.sort(rng.integers(0, samples + 1, classes + 1))
    start[0], start[-1] = 0, samples
    return index, rng.integers(0, 5, samples).astype(np.float64), start


def worth(weights, criterion):
    total = sum(weights)
    return 0 if not total else max(weights) if criterion == "error" else sum(w * w for w in weights) / total


def worth_of(row, weight, start, criterion, at):
    labels = np.searchsorted(start[1:], np.arange(len(row)), side="right")
    return sum(
        worth([Fraction(int(weight[side & (labels == k)].sum())) for k in range(len(start) - 1)], criterion)
        for side in (row <= at, row > at)
    )


def tried(row, weight, start, criterion):
    """The score and the bin of one feature."""
    places = sorted(set(row[weight > 0].tolist()))[:-1]
    scores = [worth_of(row, weight, start, criterion, at) for at in places]
    return (max(scores), places[scores.index(max(scores))]) if scores else (0, -1)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("samples, features, classes, bins", CASES)
def test_the_best_split_is_the_best_of_all(backend, samples, features, classes, bins, criterion):
    for seed in range(4):
        index, weight, start = case(samples, features, classes, bins, seed)
        score, bin = backend.best_splits(index, weight, start, criterion)
        assert (score.dtype, bin.dtype) == (np.float64, np.int64)
        for feature, row in enumerate(index):
            best, at = tried(row, weight, start, criterion)
            assert score[feature] == pytest.approx(float(best), rel=1e-13)
            if bin[feature] != at:  # equal scores whose roundings differ
                assert criterion == "gini"
                assert worth_of(row, weight, start, criterion, int(bin[feature])) == best


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_bin_and_no_weight_leave_nothing_to_split(backend, criterion):
    index = np.array([[9] * 6, [0, 0, 0, 1, 1, 1], [0, 255, 0, 255, 0, 255]], np.uint8)
    half = np.array([1.0, 0, 1, 0, 1, 0])
    for weight, wanted in [(np.ones(6), [-1, 0, 0]), (half, [-1, 0, -1]), (np.zeros(6), [-1] * 3)]:
        score, bin = backend.best_splits(index, weight, [0, 3, 6], criterion)
        assert bin.tolist() == wanted
        assert ((bin >= 0) == (score > 0)).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_first_of_equals_and_the_last_bin(backend, criterion):
    index = np.array([[0, 0, 100, 100, 255, 255], [3, 255, 3, 255, 3, 255]], np.uint8)
    score, bin = backend.best_splits(index, np.ones(6), [0, 6], criterion)
    np.testing.assert_array_equal(bin, [0, 3])
    np.testing.assert_array_equal(score, [6, 6])


def test_what_is_left_of_a_difference_is_no_weight(backend):
    """The right side is light: were it a total minus the left side, its worth would be rounding."""
    index, weight = np.array([[0, 1, 2, 3]], np.uint8), np.array([0.1, 0.7, 1e-30, 3e-30])
    score, bin = backend.best_splits(index, weight, [0, 1, 3, 4], "gini")
    assert bin.tolist() == [0]
    assert score[0] == pytest.approx(0.8, rel=1e-15)


def test_no_features(backend):
    score, bin = backend.best_splits(np.zeros((0, 3), np.uint8), np.ones(3), [0, 1, 3], "gini")
    assert score.shape == bin.shape == (0,)


def test_strides_are_free(backend):
    index, weight, start = case(300, 5, 4, 20)
    wide = np.repeat(np.repeat(index, 2, 0), 3, 1)[::2, ::3]
    for one, other in zip(
        backend.best_splits(index, weight, start, "gini"),
        backend.best_splits(np.asfortranarray(wide), np.repeat(weight, 2)[::2], start.tolist(), "gini"), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one, other)


def test_the_bits_do_not_depend_on_threads(numpy_backend):
    index, _, start = case(3001, 50, 3, 256)
    weight = np.random.default_rng(1).random(3001)
    before = fastconv.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            fastconv.set_num_threads(threads)
            results.append(numpy_backend.best_splits(index, weight, start, "gini"))
    finally:
        fastconv.set_num_threads(before)
    for score, bin in results[1:]:
        np.testing.assert_array_equal(score, results[0][0])
        np.testing.assert_array_equal(bin, results[0][1])
