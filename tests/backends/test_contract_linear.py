"""The fully connected layer: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

SIZES = [(2, 3, 4), (1, 1, 1), (5, 17, 33), (64, 65, 10), (3, 1024, 256), (1, 100, 1), (0, 3, 4), (7, 8, 16)]
by_size = pytest.mark.parametrize("n, i, o", SIZES, ids=lambda size: str(size))
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(n: int, i: int, o: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Return x (N, I), w (O, I), b (O,), dy (N, O)."""
    shapes = {"x": (n, i), "w": (o, i), "b": (o,), "dy": (n, o)}
    return tuple(normal((n, i, o, name), shape, dtype) for name, shape in shapes.items())


def compute(backend, x, w, b, dy) -> tuple[np.ndarray, ...]:
    return (
        backend.linear_forward(x, w, b),
        backend.linear_backward_input(dy, w),
        backend.linear_backward_weight(dy, x),
        backend.bias_backward(dy),
    )


@by_dtype
@by_size
def test_equals_torch(backend, n, i, o, dtype):
    x, w, b, dy = problem(n, i, o, dtype)
    y, gradients = oracle.torch_functional("linear", (x, w, b), dy)
    for actual, wanted in zip(compute(backend, x, w, b, dy), (y, *gradients), strict=True):
        assert actual.dtype == dtype
        oracle.assert_close(actual, wanted)
    oracle.assert_close(backend.linear_forward(x, w, None), oracle.torch_functional("linear", (x, w, None)))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_takes_any_memory_order(backend, layout, dtype):
    arrays = problem(5, 17, 33, dtype)
    y, gradients = oracle.torch_functional("linear", arrays[:3], arrays[3])
    for actual, wanted in zip(compute(backend, *map(LAYOUTS[layout], arrays)), (y, *gradients), strict=True):
        oracle.assert_close(actual, wanted)


@pytest.mark.parametrize("axis", [0, 1])
def test_takes_zero_strides(backend, axis):
    x, w, b, dy = problem(5, 17, 33, "float32")
    views = stretched(x, axis), stretched(w, axis), stretched(b, 0), stretched(dy, axis)
    y, gradients = oracle.torch_functional("linear", views[:3], views[3])
    for actual, wanted in zip(compute(backend, *views), (y, *gradients), strict=True):
        oracle.assert_close(actual, wanted)


@by_dtype
def test_parameter_gradients_are_contiguous_and_inputs_unwritten(backend, dtype):
    arrays = problem(5, 17, 33, dtype)
    before = [a.copy() for a in arrays]
    _, _, dw, db = compute(backend, *arrays)
    assert all(gradient.flags.c_contiguous for gradient in (dw, db))
    for array, copy in zip(arrays, before, strict=True):
        oracle.assert_same_bits(array, copy)


@by_dtype
@pytest.mark.parametrize("batch", [2, 5, 13])
@pytest.mark.parametrize("i, o", [(3, 4), (17, 33), (1024, 10), (64, 1)])
def test_a_sample_does_not_know_its_batch(backend, batch, i, o, dtype):
    x, w, b, dy = problem(batch, i, o, dtype)
    together = compute(backend, x, w, b, dy)[:2]
    for k in {0, batch // 2, batch - 1}:
        alone = compute(backend, x[k : k + 1], w, b, dy[k : k + 1])[:2]
        for many, one in zip(together, alone, strict=True):
            oracle.assert_same_bits(many[k : k + 1], one, f"sample {k}")


def test_nan_reaches_its_own_sample_alone(backend):
    x, w, b, _ = problem(5, 17, 33, "float32")
    x[2, 3] = np.nan
    y = backend.linear_forward(x, w, b)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, False, True, False, False])
    np.testing.assert_array_equal(np.isnan(y).any(axis=1), [False, False, True, False, False])


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_bias_of_any_stride(backend, rows):
    rng = np.random.default_rng(8)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 37), (50, 37), (50,)))
    for bias in (b[::-1], np.broadcast_to(b[3], (50,)), np.repeat(b, 2)[::2]):
        expected = x.astype(np.float64) @ w.T.astype(np.float64) + bias
        np.testing.assert_allclose(backend.linear_forward(x, w, bias), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_layers_without_features(backend, rows):
    x, w, b = np.zeros((rows, 0)), np.zeros((3, 0)), np.arange(3.0)
    np.testing.assert_array_equal(backend.linear_forward(x, w, b), np.tile(b, (rows, 1)))
    for frozen in (False, True):
        np.testing.assert_array_equal(backend.linear_forward(x, w, None, frozen), np.zeros((rows, 3)))
    dy = np.ones((rows, 3))
    assert backend.linear_backward_input(dy, w).shape == (rows, 0)
    assert backend.linear_backward_weight(dy, x).shape == (3, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("i, o", [(1, 1), (1, 7), (7, 1), (33, 5), (300, 301)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weight_gradient_of_one_sample_is_an_outer_product(backend, layout, i, o, dtype):
    x, dy = normal("x", (1, i), dtype), normal("dy", (1, o), dtype)
    dw = backend.linear_backward_weight(LAYOUTS[layout](dy), LAYOUTS[layout](x))
    assert dw.flags.c_contiguous
    np.testing.assert_array_equal(dw, dy[0][:, None] * x)
