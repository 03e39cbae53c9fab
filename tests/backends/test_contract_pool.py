"""Pooling: every backend against PyTorch, indices and ties included, and the contract of backends/base."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import oracle
import pytest
from cases import POOL_CASES, PoolCase, lift
from hypothesis import given
from layouts import DTYPES, LAYOUTS, generator, normal, stretched
from strategies import pool_cases

from fastconv import backends
from fastconv.geometry import adaptive_pool_geometry, pool_geometry

LAYOUT_CASES = [case for case in POOL_CASES if case.n == 2 and case.c == 3]
by_case = pytest.mark.parametrize("case", POOL_CASES, ids=lambda case: case.id)
by_layout_case = pytest.mark.parametrize("case", LAYOUT_CASES, ids=lambda case: case.id)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(case: PoolCase, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return x (N, C, spatial) and dy (N, C, OD, OH, OW)."""
    return normal((case.id, "x"), case.x_shape, dtype), normal((case.id, "d"), case.geometry.output_shape, dtype)


@cache
def expected(case: PoolCase, dtype: str) -> dict[str, np.ndarray]:
    x, dy = problem(case, dtype)
    if case.n == 0:  # torch refuses an empty batch
        return {"y": np.empty(dy.shape), "dx": np.empty(lift(x.shape))}
    flat_dy = dy.reshape(*dy.shape[:2], *dy.shape[5 - case.rank :])
    y, (dx,) = oracle.torch_pool(case.rank, case.kind, x, flat_dy, **case.arguments)
    return {"y": y.reshape(lift(y.shape)), "dx": dx.reshape(lift(dx.shape))}


def compute(backend, case: PoolCase, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    geometry = case.geometry
    if case.maximum:
        y, indices = backend.max_pool_forward(x, geometry)
        assert indices.dtype in (np.int32, np.int64)
        assert indices.shape == y.shape
        return {"y": y, "dx": backend.max_pool_backward(dy, indices, geometry)}
    return {"y": backend.avg_pool_forward(x, geometry), "dx": backend.avg_pool_backward(dy, geometry)}


def check(actual: dict[str, np.ndarray], wanted: dict[str, np.ndarray], dtype: str) -> None:
    for name, value in actual.items():
        assert value.dtype == dtype, name
        oracle.assert_close(value, wanted[name], what=name)


@by_dtype
@by_case
def test_equals_torch(backend, case, dtype):
    x, dy = problem(case, dtype)
    check(compute(backend, case, x.reshape(lift(x.shape)), dy), expected(case, dtype), dtype)


@given(case=pool_cases())
def test_random_poolings_equal_torch(backend, case):
    for dtype in DTYPES:
        x, dy = problem(case, dtype)
        check(compute(backend, case, x.reshape(lift(x.shape)), dy), expected(case, dtype), dtype)


@pytest.mark.parametrize("case", [case for case in POOL_CASES if case.maximum], ids=lambda case: case.id)
def test_the_first_maximum_takes_the_index(backend, case):
    x = generator(case.id).integers(0, 3, case.x_shape).astype("float32")  # ties everywhere
    _, indices = backend.max_pool_forward(x.reshape(lift(x.shape)), case.geometry)
    wanted = oracle.torch_pool_indices(case.rank, case.kind, x, **case.arguments)
    np.testing.assert_array_equal(indices, wanted.reshape(lift(wanted.shape)))


@by_dtype
def test_the_first_nan_wins(backend, dtype):
    plane = [[1, np.nan, 3, 0], [np.nan, 9, 5, 1], [-np.inf, -np.inf, 7, 7], [-np.inf, -np.inf, 7, np.nan]]
    x = np.array(plane, dtype).reshape(1, 1, 1, 4, 4)
    y, indices = backend.max_pool_forward(x, pool_geometry("pool", 2, (1, 1, 4, 4), 2))
    np.testing.assert_array_equal(y.ravel(), np.array([np.nan, 5, -np.inf, np.nan], dtype))
    np.testing.assert_array_equal(indices.ravel(), [1, 6, 8, 15])


@pytest.mark.parametrize("position", range(27))
def test_a_nan_is_found_anywhere_in_a_window(backend, position):
    x = np.zeros((1, 1, 3, 3, 3), "float32")
    x.reshape(-1)[position] = np.nan
    geometry = adaptive_pool_geometry("pool", 3, x.shape, 1)
    y, indices = backend.max_pool_forward(x, geometry)
    assert np.isnan(y).all()
    assert indices.item() == position
    assert np.isnan(backend.avg_pool_forward(x, geometry)).all()


@by_dtype
def test_backward_takes_any_integer_indices_and_adds_up_repeated_ones(backend, dtype):
    geometry = pool_geometry("pool", 2, (1, 2, 3, 3), 2, stride=1)
    dy = np.arange(1, 9, dtype=dtype).reshape(1, 2, 1, 2, 2)
    for integer in ("int8", "int32", "uint16", "int64"):
        dx = backend.max_pool_backward(dy, np.full(dy.shape, 4, integer), geometry)
        np.testing.assert_array_equal(dx[0, :, 0, 1, 1], [1 + 2 + 3 + 4, 5 + 6 + 7 + 8])
        assert np.count_nonzero(dx) == 2


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@by_layout_case
def test_takes_any_memory_order(backend, case, layout, dtype):
    x, dy = problem(case, dtype)
    x, dy = LAYOUTS[layout](x.reshape(lift(x.shape))), LAYOUTS[layout](dy)
    check(compute(backend, case, x, dy), expected(case, dtype), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [case for case in LAYOUT_CASES if case.maximum], ids=lambda case: case.id)
def test_indices_do_not_depend_on_memory_order(backend, case, layout):
    x = generator(case.id).integers(0, 3, lift(case.x_shape)).astype("float32")
    _, plain = backend.max_pool_forward(x, case.geometry)
    y, indices = backend.max_pool_forward(LAYOUTS[layout](x), case.geometry)
    np.testing.assert_array_equal(indices, plain)
    dx = backend.max_pool_backward(y, plain, case.geometry)
    oracle.assert_close(backend.max_pool_backward(y, LAYOUTS[layout](plain), case.geometry), dx)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [case for case in LAYOUT_CASES if case.maximum], ids=lambda case: case.id)
def test_winners_do_what_indices_do(backend, case, layout, dtype):
    for n in (2, 37):  # more images than lie side by side, and a rest
        many = replace(case, n=n)
        x, dy = problem(many, dtype)
        x, dy = LAYOUTS[layout](x.reshape(lift(x.shape))), LAYOUTS[layout](dy)
        y, indices = backend.max_pool_forward(x, many.geometry)
        again, winners = backend.max_pool_forward(x, many.geometry, "winners")
        alone, _ = backend.max_pool_forward(x, many.geometry, "nothing")
        oracle.assert_same_bits(again, y)
        oracle.assert_same_bits(alone, y)
        dx = backend.max_pool_backward(dy, winners, many.geometry)
        oracle.assert_same_bits(dx, backend.max_pool_backward(dy, indices, many.geometry))


@by_dtype
def test_backward_tells_an_index_outside_the_plane(backend, dtype):
    geometry = pool_geometry("pool", 2, (1, 2, 3, 3), 2, stride=1)
    for wrong in (-1, 9):
        indices = np.full(geometry.output_shape, 4)
        indices[0, 1, 0, 1, 1] = wrong
        with pytest.raises(IndexError):
            backend.max_pool_backward(np.ones(indices.shape, dtype), indices, geometry)


@pytest.mark.parametrize("axis", range(5))
@by_layout_case
def test_takes_zero_strides(backend, case, axis):
    x, dy = problem(case, "float32")
    views = stretched(x.reshape(lift(x.shape)), axis), stretched(dy, axis)
    wanted = compute(backends.get("reference"), case, *(np.array(a, order="C") for a in views))
    check(compute(backend, case, *views), wanted, "float32")


@by_layout_case
def test_writes_no_input_and_returns_new_arrays(backend, case):
    x, dy = problem(case, "float32")
    x = x.reshape(lift(x.shape))
    x_before, dy_before = x.copy(), dy.copy()
    results = compute(backend, case, x, dy)
    oracle.assert_same_bits(x, x_before)
    oracle.assert_same_bits(dy, dy_before)
    for value in results.values():
        assert value.flags.writeable
        assert not any(np.shares_memory(value, a) for a in (x, dy))


@by_dtype
@by_layout_case
def test_a_sample_does_not_know_its_batch(backend, case, dtype):
    many, one = replace(case, n=5), replace(case, n=1)
    x, dy = problem(many, dtype)
    x = x.reshape(lift(x.shape))
    together = compute(backend, many, x, dy)
    for i in (0, 2, 4):
        alone = compute(backend, one, x[i : i + 1], dy[i : i + 1])
        for name in ("y", "dx"):
            oracle.assert_same_bits(together[name][i : i + 1], alone[name], f"sample {i} of {name}")
