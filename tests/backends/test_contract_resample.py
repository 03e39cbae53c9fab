"""Resampling and max-unpooling: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import lift
from layouts import DTYPES, LAYOUTS, generator, normal, stretched

from fastconv import backends
from fastconv.geometry import pool_geometry
from fastconv.resampling import AxisTaps, interpolation

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
# shape, then torch's arguments
CASES = {
    "nearest up": ((2, 3, 5, 6), {"scale_factor": 2, "mode": "nearest"}),
    "nearest down": ((2, 3, 9, 11), {"size": (4, 3), "mode": "nearest"}),
    "nearest-exact": ((2, 3, 5, 6), {"size": (7, 13), "mode": "nearest-exact"}),
    "nearest 3-D": ((2, 3, 2, 3, 4), {"scale_factor": (2, 1, 3), "mode": "nearest"}),
    "one axis": ((2, 17, 5, 6), {"size": (9, 6), "mode": "bilinear"}),
    "the other axis": ((2, 17, 5, 6), {"size": (5, 9), "mode": "bilinear"}),
    "nearest rows": ((2, 17, 5, 6), {"size": (10, 6), "mode": "nearest"}),
    "linear": ((3, 17, 20), {"size": 33, "mode": "linear"}),
    "linear corners": ((3, 2, 20), {"size": 7, "mode": "linear", "align_corners": True}),
    "bilinear up": ((2, 35, 5, 6), {"scale_factor": 2, "mode": "bilinear"}),
    "bilinear down": ((2, 16, 13, 11), {"size": (5, 4), "mode": "bilinear"}),
    "bilinear corners": ((2, 3, 5, 6), {"size": (9, 11), "mode": "bilinear", "align_corners": True}),
    "bilinear antialias": ((2, 40, 19, 23), {"size": (5, 7), "mode": "bilinear", "antialias": True}),
    "bicubic up": ((2, 3, 7, 6), {"size": (12, 13), "mode": "bicubic"}),
    "bicubic antialias": ((2, 3, 19, 23), {"size": (9, 7), "mode": "bicubic", "antialias": True}),
    "trilinear": ((2, 5, 4, 5, 6), {"size": (7, 9, 8), "mode": "trilinear"}),
    "trilinear corners": ((1, 33, 4, 5, 6), {"size": (3, 9, 8), "mode": "trilinear", "align_corners": True}),
    "one pixel": ((2, 3, 1, 1), {"size": (20, 30), "mode": "bilinear"}),
    "one pixel of volumes": ((1, 2, 1, 1, 1), {"size": (8, 9, 10), "mode": "trilinear"}),
    "to one pixel": ((2, 33, 20, 30), {"size": (1, 1), "mode": "bilinear", "antialias": True}),
    "one channel": ((2, 1, 40, 50), {"scale_factor": 1.7, "mode": "bilinear"}),
    "tiles": ((1, 70, 60, 70), {"scale_factor": 2, "mode": "bilinear"}),
    "nothing": ((0, 3, 5, 6), {"scale_factor": 2, "mode": "bilinear"}),
}
LAYOUT_CASES = ["nearest up", "one axis", "nearest rows", "linear", "bilinear up", "bilinear antialias", "trilinear",
                "one channel"]  # fmt: skip


def problem(name: str, dtype: str):
    """Return x and dy of five axes, and the taps of the axes."""
    shape, options = CASES[name]
    keys = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    sizes, axes = interpolation("resample", shape, *(options.get(key, False if key == "antialias" else None)
                                                     for key in keys))  # fmt: skip
    x, dy = normal((name, "x"), shape, dtype), normal((name, "dy"), (*shape[:2], *sizes), dtype)
    return x.reshape(lift(x.shape)), dy.reshape(lift(dy.shape)), axes


def expected(name: str, x: np.ndarray, dy: np.ndarray):
    shape, options = CASES[name]
    if not x.size:
        return dy, x
    y, (dx,) = oracle.torch_functional(
        "interpolate", (x.reshape(shape),), dy.reshape(*shape[:2], *dy.shape[7 - len(shape) :]), **options
    )
    return y.reshape(lift(y.shape)), dx.reshape(lift(dx.shape))


def compute(backend, x, dy, axes):
    return backend.resample_forward(x, axes), backend.resample_backward(dy, axes, x.shape)


@by_dtype
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(backend, name, dtype):
    x, dy, axes = problem(name, dtype)
    for actual, wanted in zip(compute(backend, x, dy, axes), expected(name, x, dy), strict=True):
        assert actual.dtype == dtype
        assert actual.flags.writeable
        oracle.assert_close(actual, wanted)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYOUT_CASES)
def test_takes_any_memory_order(backend, name, layout, dtype):
    x, dy, axes = problem(name, dtype)
    before = x.copy(), dy.copy()
    results = compute(backend, LAYOUTS[layout](x), LAYOUTS[layout](dy), axes)
    for actual, wanted in zip(results, compute(backend, x, dy, axes), strict=True):
        oracle.assert_same_bits(actual, wanted)
    oracle.assert_same_bits(x, before[0])
    oracle.assert_same_bits(dy, before[1])


@pytest.mark.parametrize("axis", range(5))
@pytest.mark.parametrize("name", LAYOUT_CASES)
def test_takes_zero_strides(backend, name, axis):
    x, dy, axes = problem(name, "float32")
    views = stretched(x, axis), stretched(dy, axis)
    copies = [np.array(a, order="C") for a in views]
    for actual, wanted in zip(compute(backend, *views, axes), compute(backend, *copies, axes), strict=True):
        oracle.assert_same_bits(actual, wanted)


@by_dtype
@pytest.mark.parametrize("name", ["bilinear up", "bilinear antialias", "trilinear", "nearest down"])
def test_a_sample_does_not_know_its_batch(backend, name, dtype):
    x, dy, axes = problem(name, dtype)
    together = compute(backend, x, dy, axes)
    for i in range(len(x)):
        for many, one in zip(together, compute(backend, x[i : i + 1], dy[i : i + 1], axes), strict=True):
            oracle.assert_same_bits(many[i : i + 1], one)


@by_dtype
def test_any_table_is_summed_as_it_says(backend, dtype):
    """Taps out of order, repeated and negative; inputs that no output sees; more taps than are summed at once."""
    rng = generator("table")
    axes = []
    for size, outputs, taps in ((3, 4, 20), (5, 2, 30), (6, 7, 3)):
        axes.append(AxisTaps(rng.integers(0, size - 1, (outputs, taps)), rng.standard_normal((outputs, taps))))
    x, dy = normal("x", (2, 5, 3, 5, 6), dtype), normal("dy", (2, 5, 4, 2, 7), dtype)
    reference = backends.get("reference")
    for change in (LAYOUTS["read_only"], LAYOUTS["channels_last"]):
        results = compute(backend, change(x), change(dy), axes)
        for actual, wanted in zip(results, compute(reference, x.astype("f8"), dy.astype("f8"), axes), strict=True):
            oracle.assert_close(actual, wanted)


def test_axes_that_stay_are_copied(backend):
    x = normal("x", (2, 3, 1, 4, 5), "float32")
    y, dx = compute(backend, x, x, [None] * 3)
    for result in (y, dx):
        oracle.assert_same_bits(result, x)
        assert not np.shares_memory(result, x)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_unpool_backward(backend, layout, dtype):
    for shape, kernel in (((2, 3, 1, 6, 8), 2), ((1, 17, 4, 6, 6), 2), ((0, 3, 1, 4, 4), 2)):
        x = normal(shape, shape, dtype)
        geometry = pool_geometry("pool", 3, shape, (1, kernel, kernel))
        y, indices = backends.get("reference").max_pool_forward(x, geometry)
        change = LAYOUTS[layout]
        dx = backend.max_unpool_backward(change(x), change(indices))
        assert dx.dtype == dtype
        oracle.assert_same_bits(np.array(dx), y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_unpool_backward_of_any_indices(backend, layout):
    """Indices that come several times, of int32, in another order of memory than the gradient."""
    for shape in ((2, 3, 1, 3, 5), (1, 1, 1, 7, 7), (2, 17, 1, 1, 1)):
        rng = np.random.default_rng(3)
        dy = normal("dy", (*shape[:3], 6, 8), "float32")
        indices = rng.integers(0, 48, shape).astype(np.int32)
        expected = np.take_along_axis(dy.reshape(*shape[:2], -1), indices.reshape(*shape[:2], -1), 2).reshape(shape)
        for given in (dy, LAYOUTS[layout](dy)):
            oracle.assert_same_bits(np.array(backend.max_unpool_backward(given, LAYOUTS[layout](indices))), expected)
