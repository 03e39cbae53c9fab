"""Results written into a part of a larger array: concatenation and pooling, on every backend."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

from fastconv.geometry import pool_geometry

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [(2, 3, 4, 5), (1, 1, 1, 1), (3, 17, 1, 2), (2, 33, 40, 40), (0, 3, 2, 2), (4, 7), (6,), (2, 1, 3, 2, 5)]


@by_dtype
@pytest.mark.parametrize("layout", ["C", *LAYOUTS])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cat(backend, shape, layout, dtype):
    lay = LAYOUTS.get(layout, lambda a: a)
    for axis in range(len(shape)):
        sizes = [shape[axis], 0, 2 * shape[axis] + 1, 1]
        arrays = [normal((axis, i), (*shape[:axis], size, *shape[axis + 1 :]), dtype) for i, size in enumerate(sizes)]
        wanted = np.concatenate(arrays, axis)
        y = backend.cat([lay(a) for a in arrays], axis)
        oracle.assert_same_bits(y, wanted)
        assert y.flags.writeable
        mixed = backend.cat([lay(a) if i % 2 else a for i, a in enumerate(arrays)], axis)
        oracle.assert_same_bits(mixed, wanted)
        whole = np.full(tuple(size + 2 for size in wanted.shape), 7, dtype)
        out = whole[(slice(1, -1),) * len(shape)]
        assert backend.cat(arrays, axis, out) is out
        oracle.assert_same_bits(out, wanted)
        out[...] = 7
        assert (whole == 7).all()


def test_cat_keeps_the_memory_order(isa):
    from fastconv import backends

    a, b = (LAYOUTS["channels_last"](normal(n, (2, c, 3, 4), "float32")) for n, c in (("a", 5), ("b", 6)))
    assert backends.get("cpu").cat([a, b], 1).strides[1] == 4
    assert backends.get("cpu").cat([a[:, 1:3], b], 1).strides[1] == 4


POOLS = {  # rank, shape, options
    "3_2": (2, (2, 20, 9, 11), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "2": (2, (3, 64, 8, 8), {"kernel_size": 2}),
    "few_channels": (2, (5, 3, 8, 9), {"kernel_size": 2}),
    "3d": (3, (2, 17, 5, 6, 7), {"kernel_size": (2, 3, 2)}),
    "streamed": (2, (4, 64, 192, 192), {"kernel_size": 2}),
    "empty": (2, (0, 4, 8, 8), {"kernel_size": 2}),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("name", POOLS)
def test_pooling(backend, name, dtype):
    rank, shape, options = POOLS[name]
    if name == "streamed" and (dtype == "float64" or backend.name == "reference"):
        pytest.skip("a large array, once")
    x = LAYOUTS["channels_last"](normal(name, shape, dtype))
    geometry = pool_geometry("pool", rank, shape, **options)
    x = x.reshape(geometry.input_shape)
    n, c, *sizes = geometry.output_shape
    channels_last = np.full((n, *sizes, c + 5), 7, dtype).transpose(0, 4, 1, 2, 3)
    for whole in (channels_last, np.full((n, c + 5, *sizes), 7, dtype)):
        out = whole[:, 2 : c + 2]
        for keep in ("indices", "winners", "nothing"):
            y, kept = backend.max_pool_forward(x, geometry, keep)
            given, others = backend.max_pool_forward(x, geometry, keep, out)
            assert given is out
            oracle.assert_same_bits(out, y)
            if keep == "indices":
                np.testing.assert_array_equal(others, kept)
            elif keep == "winners":
                dy = normal("dy", y.shape, dtype)
                dx = backend.max_pool_backward(dy, kept, geometry)
                oracle.assert_same_bits(backend.max_pool_backward(dy, others, geometry), dx)
        y = backend.avg_pool_forward(x, geometry)
        assert backend.avg_pool_forward(x, geometry, out) is out
        oracle.assert_same_bits(out, y)
        out[...] = 7
        assert (whole == 7).all()
