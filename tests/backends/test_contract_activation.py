"""Activations: every backend against PyTorch, at ordinary and at extreme values."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, distinct, normal, stretched

SHAPES = [(4, 3, 5), (1, 1, 1), (3, 17, 1), (2, 33, 7), (0, 3, 2), (5, 10, 64), (7, 100, 1)]
# name -> (arguments of the backend, arguments of torch, what the backward saves)
ACTIVATIONS = {
    "relu": ((), {}, "y"),
    "leaky_relu": ((0.1,), {"negative_slope": 0.1}, "x"),
    "sigmoid": ((), {}, "y"),
    "tanh": ((), {}, "y"),
    "softmax": ((), {"dim": 1}, "y"),
    "log_softmax": ((), {"dim": 1}, "y"),
}
by_name = pytest.mark.parametrize("name", ACTIVATIONS)
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def compute(backend, name: str, x: np.ndarray, dy: np.ndarray, save=lambda a: a) -> tuple[np.ndarray, np.ndarray]:
    """Return y and dx. ``save`` may change the memory order of what the backward pass gets."""
    arguments, _, saved = ACTIVATIONS[name]
    y = getattr(backend, f"{name}_forward")(x, *arguments)
    kept = save(y) if saved == "y" else x
    return y, getattr(backend, f"{name}_backward")(dy, kept, *arguments)


def expected(name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, (dx,) = oracle.torch_functional(name, (x,), dy, **ACTIVATIONS[name][1])
    return y, dx


@by_dtype
@by_shape
@by_name
def test_equals_torch(backend, name, shape, dtype):
    x, dy = 3 * distinct((shape, "x"), shape, dtype), normal((shape, "dy"), shape, dtype)
    for actual, wanted in zip(compute(backend, name, x, dy), expected(name, x, dy), strict=True):
        assert actual.dtype == dtype
        oracle.assert_close(actual, wanted)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5)], ids=str)
def test_elementwise_ones_take_any_rank(backend, name, shape):
    x, dy = distinct(shape, shape, "float32"), normal(shape, shape, "float32")
    for actual, wanted in zip(compute(backend, name, x, dy), expected(name, x, dy), strict=True):
        assert isinstance(actual, np.ndarray)
        oracle.assert_close(actual, wanted)


@by_dtype
@by_name
def test_extreme_values(backend, name, dtype):
    x = np.array([-np.inf, -1e4, -88.0, -1e-3, -0.0, 0.0, 1e-3, 88.0, 1e4], dtype)
    if name in ("relu", "leaky_relu", "sigmoid", "tanh"):
        x = np.append(x, np.array([np.inf, np.nan], dtype))
    x = x.reshape(1, -1, 1)
    y, wanted = compute(backend, name, x, x)[0], oracle.torch_functional(name, (x,), **ACTIVATIONS[name][1])
    # A subnormal result may be flushed to zero.
    np.testing.assert_allclose(y, wanted, rtol=oracle.BOUNDS[dtype], atol=np.finfo(dtype).tiny)


@by_dtype
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_every_element_is_accurate(backend, name, dtype):
    x = np.linspace(-80, 80, 1601, dtype=dtype)
    y = getattr(backend, f"{name}_forward")(x)
    np.testing.assert_allclose(y, oracle.torch_functional(name, (x,)), rtol=oracle.BOUNDS[dtype])


@by_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_nan_fills_its_own_column_alone(backend, name, dtype):
    for shape in ((2, 5, 3), (2, 50, 1)):
        x = normal(name, shape, dtype)
        x[1, 2, 0] = np.nan
        y = getattr(backend, f"{name}_forward")(x)
        assert np.isnan(y[1, :, 0]).all()
        assert np.isnan(y).sum() == shape[1]


def test_subgradient_at_zero_is_zero(backend):
    zero, one = np.zeros(3, "float32"), np.ones(3, "float32")
    assert not backend.relu_backward(one, backend.relu_forward(zero)).any()
    np.testing.assert_array_equal(backend.leaky_relu_backward(one, zero, 0.5), 0.5 * one)


@by_dtype
def test_relu_lets_a_gradient_through_nan(backend, dtype):
    y, dy = np.array([np.nan, -1, 0, 1, np.inf, -np.inf] * 7, dtype), normal("dy", (42,), dtype)
    oracle.assert_same_bits(backend.relu_backward(dy, y), expected("relu", y, dy)[1].astype(dtype))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@by_name
def test_takes_any_memory_order(backend, name, layout, dtype):
    shape = (3, 17, 6)
    x, dy = distinct("x", shape, dtype), normal("dy", shape, dtype)
    before = x.copy(), dy.copy()
    change = LAYOUTS[layout]
    actual = compute(backend, name, change(x), change(dy), change)
    for result, wanted in zip(actual, expected(name, x, dy), strict=True):
        oracle.assert_close(result, wanted)
    mixed = compute(backend, name, x, change(dy))  # two operands of different orders
    oracle.assert_close(mixed[1], expected(name, x, dy)[1])
    oracle.assert_same_bits(x, before[0])
    oracle.assert_same_bits(dy, before[1])


@pytest.mark.parametrize("axis", range(3))
@by_name
def test_takes_zero_strides(backend, name, axis):
    x = stretched(distinct("x", (3, 17, 6), "float32"), axis)
    dy = stretched(normal("dy", (3, 17, 6), "float32"), (0, 2, 0)[axis])
    results = compute(backend, name, x, dy)
    for result, wanted in zip(results, expected(name, x, dy), strict=True):
        oracle.assert_close(result, wanted)
        assert result.flags.writeable


@by_dtype
@by_name
def test_a_sample_does_not_know_its_batch(backend, name, dtype):
    for shape in ((5, 10, 1), (5, 17, 3), (4, 3, 33), (9, 70, 1)):
        x, dy = distinct(shape, shape, dtype), normal(shape, shape, dtype)
        together = compute(backend, name, x, dy)
        for i in range(shape[0]):
            alone = compute(backend, name, x[i : i + 1], dy[i : i + 1])
            for many, one in zip(together, alone, strict=True):
                oracle.assert_same_bits(many[i : i + 1], one, f"sample {i} of {shape}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_keeps_the_sign_of_zero(backend, dtype):
    y = backend.tanh_forward(np.array([-0.0, 0.0] * 9, dtype))
    np.testing.assert_array_equal(np.signbit(y), [True, False] * 9)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_softmax_of_nothing(backend, shape):
    for name in ("softmax", "log_softmax"):
        y = getattr(backend, f"{name}_forward")(np.ones(shape))
        assert getattr(backend, f"{name}_backward")(np.ones(shape), y).shape == y.shape == shape
