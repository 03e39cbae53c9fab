"""Choosing and repeating elements, products, powers of arrays: against torch, forward and backward."""

import re

import numpy as np
import oracle
import pytest
import tape
from layouts import DTYPES, distinct, normal

from fastconv import backends
from fastconv import functional as F
from fastconv.errors import ArgumentError, DataError, DTypeError, ShapeError
from fastconv.resampling import interpolating_taps, nearest_taps, triangle


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4), (3, 4)), ((4,), (3, 1), ()), ((), (), ()), ((2, 1, 3), (4, 1), (3,)), ((0, 2),) * 3]
)
def test_where_like_torch(shapes, dtype):
    mask = np.asarray(normal("mask", shapes[0]) > 0)
    inputs = [np.asarray(normal(i, shape), dtype) for i, shape in enumerate(shapes[1:])]
    tape.assert_same(lambda a, b: F.where(mask, a, b), lambda t, a, b: t.where(t.from_numpy(mask), a, b), inputs)


def test_where_leaves_infinities_and_nan_where_they_are():
    a, b = np.array([1.0, np.inf, 3.0]), np.array([np.nan, 2.0, -np.inf])
    assert F.where([True, False, True], a, b).tolist() == [1, 2, 3]
    assert F.where(a > 2, 0.0, a).tolist() == [1, 0, 0]
    with pytest.raises(DTypeError, match="where: expected condition to be bool, got int64"):
        F.where(np.array([1, 0, 1]), a, b)
    with pytest.raises(ShapeError, match=re.escape("where: expected condition to broadcast with input (3,)")):
        F.where(np.array([True, False]), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_like_torch(dtype):
    tape.assert_like_torch("threshold", [distinct("x", (3, 4), dtype)], 0.3, 0.25)
    assert np.isnan(F.threshold(np.array([np.nan], dtype), 0.0, 1.0))


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, -2.0, np.inf])
@pytest.mark.parametrize("threshold", [0.0, 0.25, -np.inf, np.inf])
def test_threshold_of_infinities_and_at_the_threshold(threshold, value, dtype, device):
    x = np.array([-np.inf, -1, 0, 0.25, 1, np.inf, np.nan] * 3, dtype)
    with backends.use(device):
        y, (dx,), _ = tape.run(lambda x: F.threshold(x, threshold, value), [x], np.ones_like(x))
    np.testing.assert_array_equal(y, np.where(x <= threshold, dtype_of(value, dtype), x))
    np.testing.assert_array_equal(dx, ~(x <= threshold))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, slopes", [((2, 3, 4, 5), 3), ((2, 3), 1), ((4, 3), 3), ((5,), 1), ((0, 3, 2), 3)])
def test_prelu_like_torch(shape, slopes, dtype):
    tape.assert_like_torch("prelu", [distinct("x", shape, dtype), normal("w", (slopes,), dtype)])


def test_prelu_at_its_kink_and_of_infinities():
    y, (dx, dw), _ = tape.run(F.prelu, [np.array([[0.0, np.inf, -np.inf]]), np.array([0.5])], np.ones((1, 3)))
    assert (y.tolist(), dx.tolist()) == ([[0, np.inf, -np.inf]], [[0.5, 1, 0.5]])
    assert dw.tolist() == [-np.inf]
    with pytest.raises(
        ShapeError, match=re.escape("prelu: expected weight (1,) or (3,) for input (2, 3), got shape (2,)")
    ):
        F.prelu(np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, dim", [((4,), 0), ((2, 5, 3), 1), ((2, 3, 4, 5), -1), ((3, 2, 2, 2, 2, 2), 0), ((2, 0), 0)]
)
def test_index_select_like_torch(shape, dim, dtype):
    index = np.array([1, 0, 1, 1])
    tape.assert_same(
        lambda x: F.index_select(x, dim, index), lambda t, x: t.index_select(x, dim, t.from_numpy(index)),
        [normal("x", shape, dtype)],
    )  # fmt: skip


def test_index_select_says_what_does_not_fit():
    for index in ([3], [-1]):
        with pytest.raises(DataError, match=re.escape("index_select: expected index in [0, 3)")):
            F.index_select(np.zeros((3, 2)), 0, index)
    with pytest.raises(ShapeError, match="index of one axis"):
        F.index_select(np.zeros((3, 2)), 0, [[1]])


def test_resample_is_separable_over_any_axes():
    x = normal("x", (3, 2, 4, 5, 2))
    taps = [
        nearest_taps(np.array([2, 0])),
        None,
        interpolating_taps(np.array([0.25, 2.5, 9]), 4, triangle, 1),
        None,
        None,
    ]
    wanted = np.einsum("ca,abmde->cbmde", np.eye(3)[[2, 0]], x)
    table = np.array([[0.75, 0.25, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
    oracle.assert_close(F.resample(x, taps), np.einsum("om,abmde->abode", table, wanted))
    oracle.gradcheck(
        lambda x: F.resample(x, taps), lambda dy, x: tape.run(lambda x: F.resample(x, taps), [x], dy)[1], [x]
    )
    assert F.resample([1.0, 2.0], [None]).tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="a table for each of 5 axes"):
        F.resample(x, taps[1:])
    with pytest.raises(DataError, match=re.escape("indices in [0, 2)")):
        F.resample(np.zeros(2), [nearest_taps(np.array([2]))])


@pytest.mark.parametrize("shape, size", [((2, 1), (2, 3)), ((), (2, 2)), ((3,), (4, 2, 3)), ((1, 2), (0, 2))])
def test_broadcast_to_like_torch(shape, size):
    tape.assert_same(lambda x: F.broadcast_to(x, size), lambda t, x: x.expand(size), [normal("x", shape)])


def test_broadcast_to_says_what_does_not_fit():
    for size in [(3,), (2, 4), (3, 2)]:
        with pytest.raises(ShapeError, match=re.escape("broadcast_to: expected size that (2, 3) broadcasts to")):
            F.broadcast_to(np.zeros((2, 3)), size)


@pytest.mark.parametrize("shape, dims", [((2, 3), (2, 1)), ((3,), (2, 2)), ((2, 3), (3,)), ((2,), (0,)), ((), (2,))])
def test_tile_like_torch(shape, dims):
    tape.assert_like_torch("tile", [normal("x", shape)], dims)


# ------------------------------------------------------------------------------------ products and powers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, dim", [((7,), 0), ((3, 5, 2), 1), ((3, 5, 2), -1), ((2, 1), 1), ((0, 2), 0), ((0, 2), 1)]
)
@pytest.mark.parametrize("keepdim", [False, True])
def test_prod_like_torch(shape, dim, keepdim, dtype):
    x = normal("prod", shape, dtype)
    if x.ndim == 3:
        x[1, 2] = 0  # the gradient of a product with a zero in it
    tape.assert_same(lambda x: F.prod(x, dim, keepdim), lambda t, x: t.prod(x, dim, keepdim), [x])


def test_tile_says_what_does_not_fit():
    for wrong in (2, "12", (1, -1)):
        with pytest.raises((ShapeError, ArgumentError), match="tile: expected dims"):
            F.tile(np.zeros(2), wrong)


def test_prod_over_everything():
    x = normal("prod", (2, 3))
    tape.assert_same(F.prod, lambda t, x: t.prod(x), [x])
    assert F.prod(x, (0, 1), True).shape == (1, 1)


@pytest.mark.parametrize("dim", [0, (0, 1), -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp_like_torch(dim, keepdim):
    x = 300 * normal("logsumexp", (3, 4, 2))
    tape.assert_same(lambda x: F.logsumexp(x, dim, keepdim), lambda t, x: t.logsumexp(x, dim, keepdim), [x])


def test_logsumexp_of_infinities():
    with np.errstate(divide="ignore"):
        assert F.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert F.logsumexp(np.array([1.0, np.inf])) == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 1), (4,)), ((0, 2), (2,))])
def test_pow_of_arrays_like_torch(shapes, dtype):
    base, exponent = (
        np.abs(normal("base", shapes[0], dtype)) + dtype_of(0.1, dtype),
        normal("exponent", shapes[1], dtype),
    )
    tape.assert_like_torch("pow", [base, exponent])


def dtype_of(value, dtype):
    return np.dtype(dtype).type(value)


def test_pow_of_what_is_not_positive_and_of_a_number():
    _, (da, db), _ = tape.run(F.pow, [np.array([0.0, -2.0, 0.0]), np.array([2.0, 3.0, 0.0])], np.ones(3))
    assert da.tolist() == [0, 12, 0]
    assert db[[0, 2]].tolist() == [0, 0]
    assert np.isnan(db[1])
    assert F.pow(2.0, np.array([1.0, 3.0])).tolist() == [2, 8]
    assert F.pow(np.array(2.0), np.array(3.0)) == 8
    with pytest.raises(ArgumentError, match="pow: expected exponent to be a number, got None"):
        F.pow(np.ones(2), None)
