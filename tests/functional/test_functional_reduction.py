"""Maxima, products of matrices, permutations and splits: against torch and NumPy, forward and backward."""

import re

import numpy as np
import oracle
import pytest
import tape
from layouts import distinct, normal

from fastconv import functional as F
from fastconv.errors import ArgumentError, ShapeError


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2,)), ((0, 2), (2,))])
def test_maximum_like_torch(name, shapes):
    tape.assert_like_torch(name, [normal(name, shapes[0]), normal((name, 1), shapes[1])])


def test_maximum_of_equals_and_of_a_number():
    _, (da, db), _ = tape.run(F.maximum, [np.array([1.0, 2.0]), np.array([1.0, 1.0])], np.array([1.0, 1.0]))
    assert (da.tolist(), db.tolist()) == ([0.5, 1], [0.5, 0])
    assert F.minimum(np.array([1.0, 5.0]), 3.0).tolist() == [1, 3]
    assert np.isnan(F.maximum(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))).all()


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_equal_infinities_share_the_gradient_too(name):
    a, b = np.array([np.inf, -np.inf, np.inf, np.nan]), np.array([np.inf, -np.inf, -np.inf, 1.0])
    _, (da, db), _ = tape.run(getattr(F, name), [a, b], np.ones(4))
    larger = name == "maximum"
    assert da.tolist() == [0.5, 0.5, float(larger), 1.0]  # NaN is taken, so it has the gradient
    assert db.tolist() == [0.5, 0.5, float(not larger), 0.0]


def test_variance_names_an_input_that_is_none():
    with pytest.raises(ShapeError, match=re.escape("variance: expected input to be an array, got a ragged sequence")):
        F.variance([[1.0], [2.0, 3.0]])


@pytest.mark.parametrize("name", ["amax", "amin"])
@pytest.mark.parametrize("dim", [0, -1, (0, 2), None])
@pytest.mark.parametrize("keepdim", [True, False])
def test_extremes_like_torch(name, dim, keepdim):
    x = np.round(2 * distinct("extremes", (3, 4, 5)))  # with ties
    t = oracle.torch()
    y, (dx,), dy = tape.run(lambda x: getattr(F, name)(x, dim, keepdim), [x])
    dims = (0, 1, 2) if dim is None else dim
    expected, (wanted,) = oracle.run(lambda _, x: getattr(t, name)(x, dims, keepdim), [x], dy)
    oracle.assert_close(y, expected)
    oracle.assert_close(dx, wanted)


def test_extremes_of_nothing_and_of_nan():
    assert np.isnan(F.amax(np.array([1.0, np.nan])))
    with pytest.raises(ShapeError, match="amax: expected axes with at least one element"):
        F.amax(np.zeros((0, 2)), 0)
    with pytest.raises(ArgumentError, match="each dim once"):
        F.amax(np.zeros((2, 2)), (0, 0))


@pytest.mark.parametrize(
    "a, b",
    [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 1, 2, 3), (4, 3, 2)),
     ((0, 2, 3), (3, 4)), ((2, 0), (0, 3)), ((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)),
     ((5, 2, 3), (3,)), ((4, 5, 2, 0), (5, 0, 3)), ((0, 2, 3), (1, 3, 4))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul_like_torch(a, b, dtype):
    tape.assert_like_torch("matmul", [normal("a", a, dtype), normal("b", b, dtype)])


def test_matmul_says_what_does_not_fit():
    with pytest.raises(ShapeError, match=re.escape("matmul: expected other (..., 3, P) to match input (..., 3), got")):
        F.matmul(np.zeros((2, 3)), np.zeros((4, 2)))
    with pytest.raises(ShapeError, match="to broadcast"):
        F.matmul(np.zeros((2, 2, 3)), np.zeros((3, 3, 2)))


def test_variance_is_numpys():
    x = normal("variance", (3, 4, 5))
    for dim in (None, 1, (0, 2)):
        oracle.assert_close(np.asarray(F.variance(x, dim)), np.asarray(x.var(axis=dim)))


def test_permute_transpose_and_split_like_torch():
    x = normal("permute", (2, 3, 4))
    tape.assert_like_torch("permute", [x], (2, 0, 1))
    tape.assert_like_torch("transpose", [x], 0, -1)
    oracle.assert_same_bits(F.permute_backward(F.permute(x, (1, 2, 0)), (1, 2, 0)), x)
    t = oracle.torch()
    for how, dim in ((2, 1), ([1, 3], 2), (5, 0)):
        theirs = t.split(t.from_numpy(x), how, dim)
        for i, wanted in enumerate(theirs):
            oracle.assert_same_bits(np.ascontiguousarray(F.split(x, how, dim)[i]), wanted.contiguous().numpy())
            _, (dx,), dy = tape.run(lambda x, i=i, how=how, dim=dim: F.split(x, how, dim)[i], [x])
            _, (expected,) = oracle.run(lambda t, x, i=i, how=how, dim=dim: t.split(x, how, dim)[i], [x], dy)
            oracle.assert_same_bits(dx, expected)
    assert [p.shape[0] for p in F.chunk(np.zeros((7, 2)), 3)] == [3, 3, 1]
    with pytest.raises(ArgumentError, match="permute: expected dims to name each of 3 axes once"):
        F.permute(x, (0, 0, 1))
    with pytest.raises(ShapeError, match="sections that add up to 4"):
        F.split(x, [1, 2], 2)
