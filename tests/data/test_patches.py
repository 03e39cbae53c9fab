"""Samplers of patches: inside the volume, in proportion, over all of it, and the same whatever came before."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.data import BalancedPatches, GridPatches, RandomPatches, extract
from fastconv.errors import ArgumentError, DataError, DTypeError, ShapeError

sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3)


def starts(slices):
    return tuple(s.start for s in slices)


@given(sizes, st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_random_patches_lie_inside_or_are_padded_evenly(pairs, seed, index):
    shape, size = (tuple(p[i] for p in pairs) for i in (0, 1))
    sampler = RandomPatches(shape, size, seed=seed, small="pad")
    slices = sampler(epoch=3, index=index)
    volume = np.arange(np.prod(shape)).reshape(shape) + 1
    patch = extract(volume, slices)
    assert patch.shape == size
    for one, n, s in zip(slices, shape, size, strict=True):
        if s <= n:
            assert 0 <= one.start <= one.stop == one.start + s <= n
        else:
            assert 0 <= (one.stop - n) + one.start <= 1  # as much after as before, or one more
            assert one.start <= 0 < n <= one.stop
    kept = np.prod([min(n, s) for n, s in pairs])
    assert np.count_nonzero(patch) == kept


def test_every_place_is_as_likely():
    sampler = RandomPatches((7, 5), (3, 5), seed=1)
    found = [starts(s) for s in sampler.epoch(0, 2000)]
    counts = np.bincount([h for h, _ in found], minlength=5)
    assert {w for _, w in found} == {0}
    np.testing.assert_allclose(counts, 400, rtol=0.2)


def test_patches_depend_on_seed_epoch_and_index_alone():
    sampler = RandomPatches((40, 40), 4, seed=1)
    whole = list(sampler.epoch(2, 9))
    assert list(sampler.epoch(2, 9, start=5)) == whole[5:]
    assert sampler(2, 7) == whole[7]
    assert list(sampler.epoch(3, 9)) != whole
    assert list(RandomPatches((40, 40), 4, seed=2).epoch(2, 9)) != whole
    assert len(set(map(str, whole))) == 9


def test_classes_come_in_proportion_and_their_voxels_uniformly():
    label = np.zeros((6, 20, 20), np.int16)
    label[2, 5, 5] = label[4, 10, 3] = 1
    label[5, 10:, 10:] = 4
    weights = {0: 1.0, 1: 2.0, 4: 1.0, 9: 100.0}
    sampler = BalancedPatches(label, 1, weights=weights, seed=3)
    centres = [starts(s) for s in sampler.epoch(0, 1200)]
    classes = np.array([label[c] for c in centres])
    assert sampler.weights == {0: 1.0, 1: 2.0, 4: 1.0}
    np.testing.assert_allclose(np.bincount(classes, minlength=5)[[0, 1, 4]], [300, 600, 300], rtol=0.15)
    ones = [c for c in centres if label[c] == 1]
    assert set(ones) == {(2, 5, 5), (4, 10, 3)}
    assert 0.4 < np.mean([c == (2, 5, 5) for c in ones]) < 0.6
    fours = {c for c in centres if label[c] == 4}
    assert len(fours) > 80
    equal = np.array([label[starts(s)] for s in BalancedPatches(label, 1, seed=5).epoch(0, 900)])
    np.testing.assert_allclose(np.bincount(equal)[[0, 1, 4]], 300, rtol=0.2)


@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 8)] * 2), st.sampled_from(["uint8", "bool", "int64"]))
def test_a_balanced_patch_holds_a_voxel_of_its_class(index, size, dtype):
    label = np.zeros((9, 8), dtype)
    label[0, 7] = label[8, 2] = 1
    patch = extract(label, BalancedPatches(label, size, weights={1: 0.5}, seed=2)(index=index))
    assert patch.shape == size
    assert patch.any()


def test_a_patch_is_centred_on_its_voxel_where_it_can_be():
    label = np.zeros((20, 20), bool)
    label[9, 11] = True
    assert starts(BalancedPatches(label, (5, 4), weights={1: 1})()) == (7, 9)


@pytest.mark.parametrize("shape", [(9,), (3, 3), (3, 1, 3)])
def test_a_balanced_patch_has_the_rank_of_its_label(shape):
    label = np.zeros(shape, np.int8)
    label.flat[5] = -3
    assert extract(label, BalancedPatches(label, 1, weights={-3: 1})()).item() == -3


@given(sizes, st.data())
def test_grids_cover_every_voxel_with_the_overlap(pairs, data):
    shape, size = (tuple(p[i] for p in pairs) for i in (0, 1))
    overlap = tuple(data.draw(st.integers(0, s - 1)) for s in size)
    grid = GridPatches(shape, size, overlap, small="pad")
    count = np.zeros(shape, int)
    found = list(grid)
    for slices in found:
        assert extract(count, slices).shape == size
        count[tuple(slice(max(s.start, 0), s.stop) for s in slices)] += 1
    assert (count > 0).all()
    assert len(found) == len(grid)
    assert [grid[i] for i in range(len(grid))] == found
    assert grid[-1] == found[-1]
    assert grid[1:3] == found[1:3]
    for axis, (s, o) in enumerate(zip(size, overlap, strict=True)):
        first = sorted({slices[axis].start for slices in found})
        assert all(b - a <= s - o for a, b in pairwise(first))


def test_extract_keeps_leading_axes_and_pads_as_it_is_told():
    volume = np.arange(12.0).reshape(2, 2, 3)
    assert np.shares_memory(extract(volume, (slice(0, 2), slice(1, 3))), volume)
    got = extract(volume, (slice(-1, 2), slice(2, 5)), padding="edge")
    np.testing.assert_array_equal(got, volume[:, [0, 0, 1]][:, :, [2, 2, 2]])
    np.testing.assert_array_equal(extract(volume, (slice(2, 4),), value=7)[0, 0], [2, 7])


LABEL = np.zeros((4, 4), np.uint8)
WRONG = {
    "small": (ShapeError, "size within shape", lambda: RandomPatches((4, 4), 5)),
    "rank": (ShapeError, "size for 2 axes", lambda: RandomPatches((4, 4), (1, 2, 3))),
    "many axes": (ShapeError, "RandomPatches: expected shape of up to 4 axes", lambda: RandomPatches((2,) * 5, 1)),
    "zero": (ArgumentError, "size >= 1", lambda: GridPatches((4, 4), 0)),
    "choice": (ArgumentError, "small", lambda: GridPatches((4, 4), 2, small="crop")),
    "seed": (ArgumentError, "seed", lambda: RandomPatches((4, 4), 2, seed=-1)),
    "epoch": (ArgumentError, "epoch", lambda: RandomPatches((4, 4), 2)(-1)),
    "overlap": (ArgumentError, "overlap", lambda: GridPatches((4, 4), 2, 2)),
    "dtype": (DTypeError, "label", lambda: BalancedPatches(LABEL.astype("f4"), 2)),
    "empty": (ShapeError, "label", lambda: BalancedPatches(LABEL[:0], 2)),
    "weights": (ArgumentError, r"weights\[0\]", lambda: BalancedPatches(LABEL, 2, weights={0: -1})),
    "class": (ArgumentError, "a class of weights", lambda: BalancedPatches(LABEL, 2, weights={1.5: 1})),
    "absent": (DataError, "a class of weights", lambda: BalancedPatches(LABEL, 2, weights={1: 1})),
    "axes": (ShapeError, "volume", lambda: extract(LABEL, (slice(0, 1),) * 3)),
    "step": (ArgumentError, "slices", lambda: extract(LABEL, (slice(0, 4, 2),))),
    "open": (ArgumentError, "slices", lambda: extract(LABEL, (slice(None, 4),))),
    "outside": (ArgumentError, "meet an axis of 4", lambda: extract(LABEL, (slice(4, 6),))),
    "padding": (ArgumentError, "padding", lambda: extract(LABEL, (slice(0, 6),), padding="wrap")),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_argument(name):
    kind, message, call = WRONG[name]
    with pytest.raises(kind, match=message):
        call()
    with pytest.raises(IndexError, match="an index below 4"):
        GridPatches((4, 4), 2)[4]
