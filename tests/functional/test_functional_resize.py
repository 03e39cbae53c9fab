"""Interpolation in every mode, pixel shuffle and max-unpooling: against torch, forward and backward."""

import re

import numpy as np
import oracle
import pytest
import tape
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import distinct, normal

from fastconv import functional as F
from fastconv import nn, tensor
from fastconv.errors import ArgumentError, DataError, ShapeError

SPATIAL = {1: (5,), 2: (5, 4), 3: (3, 4, 5)}
MODES = [("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 2), ("linear", 1), ("bilinear", 2),
         ("trilinear", 3), ("bicubic", 2), ("area", 2)]  # fmt: skip


def check(x, **options):
    tape.assert_like_torch("interpolate", [x], **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode, rank", MODES)
def test_interpolate_to_sizes_like_torch(mode, rank, dtype):
    (x,) = tape.arrays(dtype, (2, 3, *SPATIAL[rank]))
    for size in (7, tuple(s * 2 for s in SPATIAL[rank]), tuple(max(1, s - 2) for s in SPATIAL[rank]), 1):
        check(x, size=size, mode=mode)


@pytest.mark.parametrize("again", [None, True])
@pytest.mark.parametrize("factor", [2, 1.7, 0.6, 1])
@pytest.mark.parametrize("mode, rank", MODES)
def test_interpolate_by_factors_like_torch(mode, rank, factor, again):
    (x,) = tape.arrays("float64", (2, 2, *SPATIAL[rank]))
    if mode != "area" or again is None:
        check(x, scale_factor=factor, mode=mode, recompute_scale_factor=again)


@pytest.mark.parametrize("mode, rank", MODES)
def test_sizes_that_stay_take_no_work(mode, rank):
    x = normal("x", (2, 3, *SPATIAL[rank]))
    for options in ({"scale_factor": 1}, {"size": SPATIAL[rank]}):
        assert F.interpolate(x, mode=mode, **options) is x
        y, (dx,), dy = tape.run(lambda x, options=options: F.interpolate(x, mode=mode, **options), [x])
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dx, dy)
    if mode not in ("area", "nearest-exact"):  # the sizes stay, the places that are read do not
        assert (F.interpolate(x, scale_factor=1.1, mode=mode) != x).any()


@pytest.mark.parametrize("mode, rank", [("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2)])
def test_align_corners_like_torch(mode, rank):
    (x,) = tape.arrays("float64", (1, 2, *SPATIAL[rank]))
    for size in (1, 3, 9):
        check(x, size=size, mode=mode, align_corners=True)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(4, 3), (3, 20), (9, 10), (1, 1)])
def test_antialias_like_torch(mode, size):
    (x,) = tape.arrays("float64", (2, 2, 11, 9))
    check(x, size=size, mode=mode, antialias=True)


@given(st.integers(1, 9), st.integers(1, 20), st.sampled_from(["nearest", "nearest-exact", "linear"]))
@settings(max_examples=80, deadline=None)
def test_every_pair_of_sizes(before, after, mode):
    check(normal((before, after), (1, 2, before)), size=after, mode=mode)


@pytest.mark.parametrize("mode, rank", [m for m in MODES if m[0] != "area"])
def test_public_gradient_and_finite_differences(mode, rank):
    x = normal(mode, (1, 2, *SPATIAL[rank]))
    options = {"scale_factor": 1.5, "mode": mode}
    oracle.gradcheck(
        lambda x: F.interpolate(x, **options), lambda dy, x: [F.interpolate_backward(dy, x.shape, **options)], [x]
    )


def test_interpolate_says_what_does_not_fit():
    x = np.zeros((1, 2, 4, 4))
    for options, message in [
        ({}, "one of size and scale_factor, got neither"),
        ({"size": 2, "scale_factor": 2}, "one of size and scale_factor, got both"),
        ({"size": 2, "mode": "linear"}, "input of 3 axes for mode 'linear', got shape (1, 2, 4, 4)"),
        ({"size": 2, "mode": "cubic"}, "mode to be one of"),
        ({"size": 2, "align_corners": True}, "no align_corners for mode 'nearest', got True"),
        ({"size": 2, "antialias": True}, "antialias with mode 'bilinear' or 'bicubic', got 'nearest'"),
        ({"size": (2, 2, 2)}, "size to be a number or 2 of them, got (2, 2, 2)"),
        ({"scale_factor": -1.0}, "scale_factor above 0, got -1.0"),
        ({"scale_factor": 0.1}, "scale_factor that leaves at least one pixel, got 0.1"),
    ]:
        with pytest.raises((ArgumentError, ShapeError), match=re.escape(f"interpolate: expected {message}")):
            F.interpolate(x, **options)
    assert F.interpolate(np.zeros((0, 2, 4)), size=8).shape == (0, 2, 8)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_pixel_shuffle_and_back_like_torch(lead):
    x, y = tape.arrays("float64", (*lead, 18, 2, 5), (*lead, 2, 6, 9))
    tape.assert_like_torch("pixel_shuffle", [x], 3)
    tape.assert_like_torch("pixel_unshuffle", [y], 3)
    oracle.assert_same_bits(F.pixel_shuffle_backward(F.pixel_shuffle(x, 3), 3), x)
    oracle.assert_same_bits(F.pixel_unshuffle_backward(F.pixel_unshuffle(y, 3), 3), y)
    with pytest.raises(ShapeError, match=re.escape("pixel_shuffle: expected input (..., C * 16, H, W)")):
        F.pixel_shuffle(x, 4)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stride, padding", [(None, 0), (3, 1)])
def test_max_unpool_like_torch(rank, stride, padding):
    t = oracle.torch()
    x = distinct(rank, (2, 3, *(7, 8, 6)[:rank]))
    pool, unpool = getattr(F, f"max_pool{rank}d"), getattr(F, f"max_unpool{rank}d")
    pooled, indices = pool(x, 3, stride, padding, return_indices=True)
    sizes = x.shape[2:]
    y, (dx,), dy = tape.run(lambda p: unpool(p, indices, 3, stride, padding, sizes), [pooled])
    theirs = getattr(t.nn.functional, f"max_unpool{rank}d")
    expected, (wanted,) = oracle.run(
        lambda t, p: theirs(p, t.from_numpy(indices), 3, stride, padding, list(sizes)), [pooled], dy
    )
    oracle.assert_same_bits(y, expected)
    oracle.assert_same_bits(dx, wanted)
    layer = getattr(nn, f"MaxUnpool{rank}d")(3, stride, padding)
    oracle.assert_same_bits(layer(pooled, indices, sizes), y)


def test_max_unpool_refuses_what_does_not_fit():
    x, indices = np.zeros((1, 1, 2)), np.array([[[0, 9]]])
    with pytest.raises(DataError, match=re.escape("max_unpool1d: expected indices in [0, 4), got 0 to 9")):
        F.max_unpool1d(x, indices, 2)
    with pytest.raises(ShapeError, match=re.escape("output_size within a stride of (4,), got (7,)")):
        F.max_unpool1d(x, indices, 2, output_size=(7,))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool_without_a_batch(rank):
    pool, unpool = getattr(F, f"max_pool{rank}d"), getattr(F, f"max_unpool{rank}d")
    x = distinct(rank, (3, *(5, 4, 6)[:rank]))
    pooled, indices = pool(x, 2, return_indices=True)
    y, (dx,), dy = tape.run(lambda p: unpool(p, indices, 2, output_size=x.shape[1:]), [pooled])
    full, (wanted,), _ = tape.run(
        lambda p: unpool(p, indices[None], 2, output_size=x.shape[1:]), [pooled[None]], dy[None]
    )
    oracle.assert_same_bits(y, full[0])
    oracle.assert_same_bits(dx, wanted[0])
    for axes in (rank, rank + 3):
        with pytest.raises(ShapeError, match=re.escape(f"max_unpool{rank}d: expected input of {rank + 2} axes (N, C")):
            unpool(np.zeros((1,) * axes), np.zeros((1,) * axes, int), 2)


def test_layers():
    x = normal("layers", (1, 8, 3, 4))
    oracle.assert_same_bits(nn.Upsample(scale_factor=2)(x), F.interpolate(x, scale_factor=2))
    oracle.assert_same_bits(nn.PixelShuffle(2)(x), F.pixel_shuffle(x, 2))
    oracle.assert_same_bits(nn.PixelUnshuffle(1)(x), x)


def test_max_unpool_notices_indices_that_were_changed_before_the_gradient():
    x, indices = tensor(np.ones((1, 1, 2)), requires_grad=True), np.array([[[0, 2]]])
    loss = F.sum(F.max_unpool1d(x, indices, 2))
    indices += 10**9
    with pytest.raises(IndexError):
        loss.backward()
