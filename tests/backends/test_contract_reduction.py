"""Maxima of two arrays and extremes along axes, permutations: every backend against NumPy."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, generator, normal, stretched

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_layout = pytest.mark.parametrize("layout", LAYOUTS)
PAIRS = [((3, 17), (3, 17)), ((3, 17), (17,)), ((3, 17), ()), ((), ()), ((4, 1, 5), (3, 1)), ((0, 3), (3,)),
         ((2, 33, 7), (2, 33, 1))]  # fmt: skip
AXES = [((5, 33, 70), (1,)), ((5, 33, 70), (0, 2)), ((5, 33, 70), (2,)), ((5, 33, 70), (0,)), ((5, 33, 70), (0, 1, 2)),
        ((3, 4, 5, 6), (2, 3)), ((3, 4, 5, 6), (1, 3)), ((7,), (0,)), ((200, 10), (1,)), ((2, 3, 40, 50), (2, 3)),
        ((2, 200_000), (1,)), ((150_000, 2), (0,)), ((0, 3, 4), (1,)), ((65, 64), (1,)), ((130, 65), (1,))]  # fmt: skip


@by_dtype
@pytest.mark.parametrize("a_shape, b_shape", PAIRS, ids=str)
def test_maximum(backend, a_shape, b_shape, dtype):
    a, b = normal((a_shape, "a"), a_shape, dtype), normal((b_shape, "b"), b_shape, dtype)
    for left, right in ((a, b), (b, a)):
        oracle.assert_same_bits(backend.maximum(left, right), np.asarray(np.maximum(left, right)))


@by_dtype
@by_layout
def test_maximum_takes_any_memory_order_and_nan_wins(backend, layout, dtype):
    a, b = normal("a", (3, 17, 6), dtype), normal("b", (3, 17, 6), dtype)
    a[0, :5, 0], b[1, :5, 1], a[2, 3, 4], b[2, 5, 4] = np.nan, np.nan, np.inf, -np.inf
    change = LAYOUTS[layout]
    for left, right in ((change(a), b), (a, change(b)), (change(a), change(b))):
        np.testing.assert_array_equal(backend.maximum(left, right), np.maximum(a, b))


def check_extremes(backend, a: np.ndarray, axes: tuple[int, ...], given: np.ndarray | None = None) -> None:
    for largest, extreme in ((True, np.max), (False, np.min)):
        best = backend.extremes(a if given is None else given, axes, largest)
        mask = backend.matches(a if given is None else given, best)
        wanted = extreme(a, axis=axes, keepdims=True)
        assert best.dtype == mask.dtype == a.dtype
        assert mask.shape == a.shape
        np.testing.assert_array_equal(best, wanted)
        np.testing.assert_array_equal(mask, (a == wanted) | (np.isnan(a) & np.isnan(wanted)))


@by_dtype
def test_a_nan_matches_a_nan_alone(backend, dtype):
    a, best = np.meshgrid(*2 * [np.array([1, -np.inf, np.nan], dtype)])
    wanted = (a == best) | (np.isnan(a) & np.isnan(best))
    np.testing.assert_array_equal(backend.matches(a.copy(), best.copy()), wanted)
    np.testing.assert_array_equal(backend.matches(a.copy(), best[1:2].copy()), a == best[1:2])


@by_dtype
@pytest.mark.parametrize("shape, axes", AXES, ids=str)
def test_extremes(backend, shape, axes, dtype):
    check_extremes(backend, normal(shape, shape, dtype), axes)
    check_extremes(backend, generator(shape).integers(-2, 3, shape).astype(dtype), axes)  # ties everywhere


@by_dtype
@pytest.mark.parametrize("shape, axes", [case for case in AXES if np.prod(case[0]) > 100], ids=str)
def test_a_nan_is_an_extreme_and_infinities_are_numbers(backend, shape, axes, dtype):
    a = normal(shape, shape, dtype)
    flat = a.reshape(-1)
    flat[:: max(1, flat.size // 7)] = np.nan
    flat[3 :: max(1, flat.size // 5)] = np.inf
    flat[4 :: max(1, flat.size // 5)] = -np.inf
    check_extremes(backend, a, axes)
    check_extremes(backend, np.full(shape, -np.inf, dtype), axes)
    check_extremes(backend, np.full(shape, np.inf, dtype), axes)


@by_dtype
@by_layout
@pytest.mark.parametrize("axes", [(1,), (0, 2), (2,), (0, 1, 2)], ids=str)
def test_extremes_take_any_memory_order(backend, axes, layout, dtype):
    a = normal("a", (5, 33, 20), dtype)
    check_extremes(backend, a, axes, LAYOUTS[layout](a))


@pytest.mark.parametrize("axis", range(3))
def test_extremes_take_zero_strides_and_give_new_arrays(backend, axis):
    a = stretched(normal("a", (5, 33, 20), "float32"), axis)
    check_extremes(backend, np.array(a, order="C"), (axis,), a)
    single = normal("a", (5, 1, 20), "float32")
    best = backend.extremes(single, (1,), True)
    for result in (best, backend.matches(single, best)):
        assert result.flags.writeable
        assert not np.shares_memory(result, single)


@by_dtype
@by_layout
def test_permute(backend, layout, dtype):
    a = normal("a", (2, 3, 4, 5), dtype)
    for axes in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1), (1, 0, 3, 2)):
        oracle.assert_same_bits(np.array(backend.permute(LAYOUTS[layout](a), axes)), a.transpose(axes).copy())
    assert backend.permute(a[:0], (1, 0, 2, 3)).shape == (3, 0, 4, 5)
