"""Powers of arrays by arrays: every backend against PyTorch and NumPy, and IEEE 754's edge cases."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [((7,), (7,)), ((3, 4, 5), (5,)), ((1, 1), (2, 33)), ((), ()), ((0, 2), (2,)), ((40_000,), (1,))]
ENDS = [0.0, 1.0, 2.0, 3.0, 0.5, 1e-3, 1e9, np.inf]
ENDS = np.array([*ENDS, *(-x for x in ENDS), np.nan, 0.7, 16777217.0])


def problem(shapes, dtype):
    a = np.abs(normal("base", shapes[0], dtype)) + np.dtype(dtype).type(0.05)
    return np.asarray(a, dtype), np.asarray(3 * normal("exponent", shapes[1], dtype), dtype)


@by_dtype
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_equals_torch(backend, shapes, dtype):
    a, b = problem(shapes, dtype)
    y, slopes = backend.power(a, b), (backend.power_slope(a, b), backend.power_exponent_slope(a, b))
    assert y.dtype == dtype
    oracle.assert_close(y, oracle.run(lambda t, x, z: t.pow(x, z), (a, b)))
    full = [np.array(np.broadcast_to(x, y.shape), order="C") for x in (a, b)]
    _, wanted = oracle.run(lambda t, x, z: t.pow(x, z), full, np.ones(y.shape, dtype))
    for slope, want in zip(slopes, wanted, strict=True):
        oracle.assert_close(slope, want)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_takes_any_memory_order(backend, layout, dtype):
    a, b = problem(((3, 4, 5), (3, 4, 5)), dtype)
    oracle.assert_close(backend.power(LAYOUTS[layout](a), b), a**b)
    oracle.assert_close(backend.power(a, LAYOUTS[layout](b)), a**b)


@by_dtype
def test_edge_cases_are_those_of_ieee_754(backend, dtype):
    a, b = (np.ascontiguousarray(x, dtype) for x in np.broadcast_arrays(ENDS[:, None], ENDS))
    with np.errstate(all="ignore"):
        wanted = (a.astype(np.float64) ** b.astype(np.float64)).astype(dtype)
    y = backend.power(a, b)
    usual = ~np.isfinite(wanted) | (np.abs(wanted) < np.finfo(dtype).tiny) | (np.abs(wanted) == 1)
    np.testing.assert_array_equal(y[usual], wanted[usual])
    signed = usual & ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(y[signed]), np.signbit(wanted[signed]))
    np.testing.assert_allclose(y[~usual], wanted[~usual], rtol=8 * np.finfo(dtype).eps)


@by_dtype
def test_slopes_at_zero(backend, dtype):
    a = np.array([0.0, 0.0, 0.0, 2.0, -2.0, 0.0], dtype)
    b = np.array([0.0, 1.0, 2.0, 0.0, 3.0, 0.5], dtype)
    np.testing.assert_array_equal(backend.power_slope(a, b), np.array([0, 1, 0, 0, 12, np.inf], dtype))
    slope = backend.power_exponent_slope(a, b)
    assert slope[[0, 1, 2, 5]].tolist() == [0, 0, 0, 0]
    assert slope[3] == np.log(np.dtype(dtype).type(2))
    assert np.isnan(slope[4])
