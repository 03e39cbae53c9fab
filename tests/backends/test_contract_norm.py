"""Batch normalisation: every backend against PyTorch and a two-pass formula, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

from fastconv import backends

EPS = 1e-5
SHAPES = [(4, 3, 5), (4, 1, 1), (1, 2, 7), (3, 17, 6), (16, 33, 1), (2, 8, 64), (5, 3, 100)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "n{}_c{}_l{}".format(*shape))
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(shape: tuple[int, int, int], dtype: str) -> dict[str, np.ndarray]:
    c = (shape[1],)
    shapes = {"x": shape, "dy": shape, "weight": c, "bias": c, "running_mean": c, "running_var": c}
    arrays = {name: normal((shape, name), size, dtype) for name, size in shapes.items()}
    arrays["x"] += 3.0
    arrays["running_var"] = np.abs(arrays["running_var"]) + np.array(0.1, dtype)
    return arrays


def compute(backend, x, dy, weight, bias, statistics=None) -> tuple[np.ndarray, ...]:
    """Return y, dx, dweight, dbias; in training where no statistics are given."""
    mean, variance = statistics or backend.batch_norm_statistics(x)
    rstd = (1.0 / np.sqrt(variance.astype(np.float64) + EPS)).astype(x.dtype)
    y = backend.batch_norm_forward(x, mean, rstd, weight, bias)
    return y, *backend.batch_norm_backward(dy, x, mean, rstd, weight, statistics is None)


def expected(x, dy, weight, bias, statistics=None):
    def call(t, x, weight, bias):
        mean, variance = (None, None) if statistics is None else (t.from_numpy(s.astype("f8")) for s in statistics)
        return t.nn.functional.batch_norm(x, mean, variance, weight, bias, statistics is None, 0.1, EPS)

    y, gradients = oracle.run(call, (x, weight, bias), dy)
    return y, *gradients


@by_dtype
@by_shape
def test_statistics(backend, shape, dtype):
    x = problem(shape, dtype)["x"]
    mean, variance = backend.batch_norm_statistics(x)
    assert mean.dtype == variance.dtype == dtype
    oracle.assert_close(mean, x.mean(axis=(0, 2), dtype=np.float64))
    oracle.assert_close(variance, x.var(axis=(0, 2), dtype=np.float64))


@by_dtype
def test_variance_survives_a_large_mean(backend, dtype):
    x = problem((4, 3, 50), dtype)["x"] + np.array(4096, dtype)
    _, variance = backend.batch_norm_statistics(x)
    # In float64 two passes still lose the rounding of the mean: eps * mean / deviation.
    oracle.assert_close(variance, x.astype(np.longdouble).var(axis=(0, 2)).astype(np.float64))


@by_dtype
@by_shape
def test_training_equals_torch(backend, shape, dtype):
    p = problem(shape, dtype)
    arrays = p["x"], p["dy"], p["weight"], p["bias"]
    for name, actual, wanted in zip(
        ("y", "dx", "dweight", "dbias"), compute(backend, *arrays), expected(*arrays), strict=True
    ):
        assert actual.dtype == dtype
        oracle.assert_close(actual, wanted, what=name)


@by_dtype
@by_shape
def test_inference_equals_torch(backend, shape, dtype):
    p = problem(shape, dtype)
    arrays = p["x"], p["dy"], p["weight"], p["bias"], (p["running_mean"], p["running_var"])
    for actual, wanted in zip(compute(backend, *arrays), expected(*arrays), strict=True):
        oracle.assert_close(actual, wanted)


@pytest.mark.parametrize("training", [False, True])
def test_only_the_gradients_that_are_needed(backend, training):
    x, dy, rstd = normal("x", (3, 5, 4)), normal("dy", (3, 5, 4)), 1 + np.abs(normal("rstd", (5,)))
    arguments = dy, x, normal("mean", (5,)), rstd, None, training
    every = backend.batch_norm_backward(*arguments)
    for mask in range(8):
        needs = [bool(mask >> i & 1) for i in range(3)]
        for gradient, need, whole in zip(backend.batch_norm_backward(*arguments, needs), needs, every, strict=True):
            if need:
                oracle.assert_close(gradient, whole)
            else:
                assert gradient is None


@by_dtype
def test_without_weight_and_bias(backend, dtype):
    p = problem((4, 3, 5), dtype)
    actual, wanted = compute(backend, p["x"], p["dy"], None, None), expected(p["x"], p["dy"], None, None)
    oracle.assert_close(actual[0], wanted[0])
    oracle.assert_close(actual[1], wanted[1])


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_takes_any_memory_order(backend, layout, dtype):
    p = problem((3, 17, 6), dtype)
    arrays = [p[name] for name in ("x", "dy", "weight", "bias")]
    before = [a.copy() for a in arrays]
    actual = compute(backend, *map(LAYOUTS[layout], arrays))
    for result, wanted in zip(actual, expected(*arrays), strict=True):
        oracle.assert_close(result, wanted)
    assert all(gradient.flags.c_contiguous for gradient in actual[2:])
    for array, copy in zip(arrays, before, strict=True):
        oracle.assert_same_bits(array, copy)


@pytest.mark.parametrize("axis", [0, 2])
def test_takes_zero_strides(backend, axis):
    p = problem((3, 17, 6), "float32")
    views = stretched(p["x"], axis), stretched(p["dy"], axis), stretched(p["weight"], 0), stretched(p["bias"], 0)
    copies = [np.array(a, order="C") for a in views]
    for result, wanted in zip(compute(backend, *views), expected(*copies), strict=True):
        oracle.assert_close(result, wanted)


@by_dtype
def test_a_sample_at_inference_does_not_know_its_batch(backend, dtype):
    p = problem((5, 17, 6), dtype)
    statistics = p["running_mean"], p["running_var"]
    together = compute(backend, p["x"], p["dy"], p["weight"], p["bias"], statistics)[:2]
    for i in (0, 2, 4):
        alone = compute(
            backend, p["x"][i : i + 1], p["dy"][i : i + 1], p["weight"], p["bias"], statistics
        )[:2]  # fmt: skip
        for many, one in zip(together, alone, strict=True):
            oracle.assert_same_bits(many[i : i + 1], one, f"sample {i}")


def test_empty_batch(backend):
    x = np.empty((0, 3, 5), "float32")
    ones = np.ones(3, "float32")
    assert backend.batch_norm_forward(x, ones, ones, None, None).shape == (0, 3, 5)
    dx, dweight, dbias = backend.batch_norm_backward(x, x, ones, ones, ones, False)
    assert dx.shape == (0, 3, 5)
    np.testing.assert_array_equal([dweight, dbias], np.zeros((2, 3)))


def test_nan_stays_in_its_channel(backend):
    x = problem((4, 3, 5), "float32")["x"]
    x[1, 2, 0] = np.nan
    mean, variance = backend.batch_norm_statistics(x)
    np.testing.assert_array_equal(np.isnan(mean), [False, False, True])
    np.testing.assert_array_equal(np.isnan(variance), [False, False, True])


@pytest.mark.parametrize("shape", [(2, 17, 1), (5, 3, 1), (4, 1, 6), (3, 4, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_where_dy_and_x_lie_differently(backend, shape, training):
    x, dy = normal("x", shape), normal("dy", shape)
    mean, rstd = normal("mean", shape[1:2]), 1 + np.abs(normal("rstd", shape[1:2]))
    expected = backends.get("reference").batch_norm_backward(dy, x, mean, rstd, None, training)
    for change_x in LAYOUTS.values():
        for change_dy in LAYOUTS.values():
            actual = backend.batch_norm_backward(change_dy(dy), change_x(x), mean, rstd, None, training)
            for a, e in zip(actual, expected, strict=True):
                oracle.assert_close(a, e)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reciprocal_root_and_running_statistics(backend, dtype, layout):
    variance, batch, running = (np.abs(normal((dtype, i), (19,), dtype)) for i in range(3))
    variance[:3] = 0, np.inf, np.nan
    rstd = backend.reciprocal_root(LAYOUTS[layout](variance), EPS)
    assert (rstd.dtype, rstd.shape) == (dtype, (19,))
    np.testing.assert_array_equal(rstd[1:3], [0, np.nan])
    oracle.assert_close(rstd[[0, *range(3, 19)]], 1 / np.sqrt(variance[[0, *range(3, 19)]].astype("f8") + EPS))
    assert np.isinf(backend.reciprocal_root(variance, 0.0)[0])
    expected = running + (1.25 * batch.astype("f8") - running) * 0.3
    moved = LAYOUTS[layout](running)
    moved = moved if moved.flags.writeable else moved.copy()
    backend.move_towards(moved, LAYOUTS[layout](batch), 0.3, 1.25)
    oracle.assert_close(moved, expected)
