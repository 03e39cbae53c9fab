"""Index arithmetic, the functions that kernels use: right for any shape, and past 2**31 elements."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest

from fastconv.backends.cuda import index, norm, pool, reduce
from fastconv.geometry import AxisWindows, pool_geometry

HUGE = (70_000, 3, 50_000)  # more than 2**33 elements


def views():
    base = np.zeros((3, 4, 5, 6), np.uint8)
    yield base
    yield base[:, ::2, ::-1]
    yield base.transpose(2, 0, 3, 1)
    yield np.broadcast_to(base[:1, :, :1], base.shape)
    yield base[1:2, :, 2:3, 1:]
    yield base[:0]
    yield base[0, 0, 0, 0]


@pytest.mark.parametrize("view", list(views()), ids=lambda a: f"{a.shape}_{a.strides}")
def test_offsets_are_numpys(view):
    sizes, strides = index.collapsed(view.shape, view.strides)
    assert prod(sizes) == view.size or not view.size
    assert len(sizes) <= max(1, view.ndim)
    for i in range(view.size):
        expected = sum(c * s for c, s in zip(np.unravel_index(i, view.shape), view.strides, strict=True))
        assert index.offset_of(i, sizes, strides) == expected


def test_offsets_past_two_to_the_31():
    strides = (3 * 50_000, 50_000, 1)
    for i in (0, 2**31 - 1, 2**31, 2**32 + 17, prod(HUGE) - 1):
        assert index.offset_of(i, HUGE, strides) == i
        assert index.offset_of(i, HUGE, (0, 0, 1)) == i % 50_000
    assert index.collapsed(HUGE, strides) == ((prod(HUGE),), (1,))


@pytest.mark.parametrize("step", [1, 7, 12, 256, 10**5, 2**31 + 11])
@pytest.mark.parametrize("channels, length", [(3, 4), (1, 1), (5, 1), (1, 9), (64, 49)])
def test_a_walk_carries_position_and_channel(channels, length, step):
    for start in (0, 5, 2**33 + 3):
        steps = norm.steps_of(step, channels, length)
        c, at = norm.steps_of(start, channels, length)
        for k in range(20):
            i = start + k * step
            assert (c, at) == (i // length % channels, i % length)
            c, at = norm.moved(c, at, *steps, channels, length)


@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 5, 3), (4, 3, 5, 2, 3), (1, 1)])
def test_groups_of_axes_cover_the_shape(shape):
    for mask in range(2 ** len(shape)):
        axes = [i for i in range(len(shape)) if mask >> i & 1]
        groups = reduce._groups(shape, axes)
        assert prod(size for size, _, reduces in groups if reduces) == prod(shape[i] for i in axes)
        assert prod(size for size, _, reduces in groups if not reduces) == prod(shape) // prod(shape[i] for i in axes)
        assert all(a[2] != b[2] for a, b in pairwise(groups))


@pytest.mark.parametrize("options", [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 1, "dilation": 2},
    {"kernel_size": 2, "stride": 3, "ceil_mode": True}, {"kernel_size": 3, "stride": 2, "dilation": 3, "padding": 1},
])  # fmt: skip
def test_every_window_that_sees_an_input_is_among_those_looked_at(options):
    axis: AxisWindows = pool_geometry("pool", 1, (1, 1, 17), **options).windows[2]
    ranges = pool.seen_by(axis, 17)
    for o, (start, count) in enumerate(zip(axis.start, axis.count, strict=True)):
        for j in range(count):
            first, last = ranges[start + axis.step * j]
            assert first <= o < last
    if axis.step == 1:  # and no other
        assert sum(last - first for first, last in ranges) == sum(axis.count)
