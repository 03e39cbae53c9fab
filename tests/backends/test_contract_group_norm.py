"""Group normalisation: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

EPS = 1e-5
# (N, C, L) and the number of groups; around the cuts of rows and lanes, single groups, channels and positions
CASES = [((2, 6, 5), 3), ((3, 17, 7), 17), ((3, 17, 6), 1), ((2, 12, 1), 2), ((4, 1, 9), 1), ((1, 8, 65), 2),
         ((2, 34, 300), 2), ((5, 3, 64), 3)]  # fmt: skip
by_case = pytest.mark.parametrize("shape, groups", CASES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(shape: tuple[int, int, int], dtype: str) -> tuple[np.ndarray, ...]:
    """Return dy, x, weight and bias."""
    dy, x = (normal((shape, name), shape, dtype) for name in ("dy", "x"))
    return dy, x + np.array(3, dtype), *(normal((shape, name), shape[1:2], dtype) for name in ("weight", "bias"))


def compute(backend, groups, dy, x, weight, bias) -> tuple[np.ndarray, ...]:
    """Return y, dx, dweight, dbias."""
    y, mean, rstd = backend.group_norm_forward(x, groups, weight, bias, EPS)
    assert mean.shape == rstd.shape == (len(x), groups)
    return y, *backend.group_norm_backward(dy, x, mean, rstd, weight)


def expected(groups, dy, x, weight, bias):
    given = [a for a in (x, weight, bias) if a is not None]

    def call(t, x, *parameters):
        return t.nn.functional.group_norm(x, groups, *parameters, eps=EPS)

    y, gradients = oracle.run(call, given, dy)
    return y, *gradients


@by_dtype
@by_case
def test_equals_torch(backend, shape, groups, dtype):
    arrays = problem(shape, dtype)
    for name, actual, wanted in zip(
        ("y", "dx", "dweight", "dbias"), compute(backend, groups, *arrays), expected(groups, *arrays), strict=True
    ):
        assert actual.dtype == dtype
        oracle.assert_close(actual, wanted, what=name)


@by_dtype
@by_case
@pytest.mark.parametrize("layout", ["channels_last", "every_other", "reversed"])
def test_takes_any_memory_order(backend, shape, groups, layout, dtype):
    arrays = problem(shape, dtype)
    before = [a.copy() for a in arrays]
    lay = LAYOUTS[layout]
    for actual, wanted in zip(compute(backend, groups, *map(lay, arrays)), expected(groups, *arrays), strict=True):
        oracle.assert_close(actual, wanted)
    dy, x, weight, bias = arrays  # dy and x that lie differently
    for actual, wanted in zip(
        compute(backend, groups, dy, lay(x), weight, bias), expected(groups, *arrays), strict=True
    ):
        oracle.assert_close(actual, wanted)
    for array, copy in zip(arrays, before, strict=True):
        oracle.assert_same_bits(array, copy)


@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_without_weight_and_bias_and_with_zeros(backend, layout):
    lay = LAYOUTS.get(layout, lambda a: a)
    dy, x, weight, _ = problem((3, 6, 8), "float64")
    actual, wanted = compute(backend, 3, lay(dy), lay(x), None, None), expected(3, dy, x, None, None)
    for a, w in zip(actual[:2], wanted, strict=True):
        oracle.assert_close(a, w)
    weight[:] = 0, 1, 0, 0, 2, -1  # a channel that is switched off, and a whole group
    bias = np.zeros(6)
    for a, w in zip(compute(backend, 3, lay(dy), lay(x), weight, bias), expected(3, dy, x, weight, bias), strict=True):
        oracle.assert_close(a, w)


@pytest.mark.parametrize("axis", [0, 2])
def test_takes_zero_strides(backend, axis):
    views = [stretched(a, 0 if a.ndim == 1 else axis) for a in problem((3, 6, 6), "float32")]
    views[1] = stretched(problem((3, 6, 6), "float32")[1], 0)  # along L its channels would be one value each
    copies = [np.array(a, order="C") for a in views]
    for actual, wanted in zip(compute(backend, 2, *views), expected(2, *copies), strict=True):
        oracle.assert_close(actual, wanted)


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last"])
@pytest.mark.parametrize("shape", [(5, 18, 6), (4, 8, 700)])
def test_a_sample_does_not_know_its_batch(backend, shape, layout, dtype):
    lay = LAYOUTS.get(layout, lambda a: a)
    dy, x, weight, bias = problem(shape, dtype)
    together = compute(backend, 2, lay(dy), lay(x), weight, bias)[:2]
    for i in (0, 2, len(x) - 1):
        alone = compute(backend, 2, lay(dy)[i : i + 1], lay(x)[i : i + 1], weight, bias)[:2]
        for many, one in zip(together, alone, strict=True):
            oracle.assert_same_bits(many[i : i + 1], one, f"sample {i}")


def test_only_the_gradients_that_are_needed(backend):
    dy, x, weight, bias = problem((3, 6, 4), "float64")
    _, mean, rstd = backend.group_norm_forward(x, 2, weight, bias, EPS)
    every = backend.group_norm_backward(dy, x, mean, rstd, weight)
    for mask in range(8):
        needs = [bool(mask >> i & 1) for i in range(3)]
        found = backend.group_norm_backward(dy, x, mean, rstd, weight, needs)
        for gradient, need, whole in zip(found, needs, every, strict=True):
            if need:
                oracle.assert_close(gradient, whole)
            else:
                assert gradient is None


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 4, 0)])
def test_nothing_to_normalise(backend, shape):
    x, weight = np.empty(shape, "float32"), np.ones(4, "float32")
    y, mean, rstd = backend.group_norm_forward(x, 2, weight, weight, EPS)
    assert y.shape == shape
    assert mean.shape == rstd.shape == (shape[0], 2)
    dx, dweight, dbias = backend.group_norm_backward(x, x, mean, rstd, weight)
    assert dx.shape == shape
    np.testing.assert_array_equal([dweight, dbias], np.zeros((2, 4)))


@pytest.mark.parametrize("layout", ["C", "channels_last"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_group(backend, layout, bad):
    x = problem((3, 6, 5), "float32")[1]
    x[1, 2, 0] = bad
    y = backend.group_norm_forward(LAYOUTS.get(layout, lambda a: a)(x), 3, None, None, EPS)[0]
    wrong = np.isnan(y).any(2)
    assert wrong[1, 2]
    assert wrong[1, 3]
    wrong[1, 2:4] = False
    assert not wrong.any()


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_a_large_mean_costs_no_digits(backend, layout, dtype):
    x = normal("far", (2, 4, 50), dtype) + np.array(4096, dtype)
    _, mean, rstd = backend.group_norm_forward(LAYOUTS.get(layout, lambda a: a)(x), 2, None, None, 0.0)
    wide = x.astype(np.longdouble).reshape(2, 2, -1)
    oracle.assert_close(mean, wide.mean(2).astype(np.float64))
    oracle.assert_close(rstd, (1 / np.sqrt(wide.var(2))).astype(np.float64))
