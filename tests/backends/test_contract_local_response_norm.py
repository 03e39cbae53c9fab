"""Local response normalisation: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

SHAPES = [(2, 3, 5), (3, 17, 6), (5, 40, 1), (1, 1, 9), (2, 33, 40), (2, 96, 300), (0, 3, 2)]
OPTIONS = [(5, 1e-1, 0.75, 1.0), (1, 2.0, 1.0, 0.5), (2, 0.5, 0.5, 2.0), (4, 1.0, 0.6, 1.0), (70, 1e-1, 0.75, 1.0)]
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def problem(shape: tuple[int, int, int], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    return 2 * normal((shape, "x"), shape, dtype), normal((shape, "dy"), shape, dtype)


def compute(backend, x, dy, size, alpha, beta, k, save=lambda a: a):
    y, scale = backend.local_response_norm_forward(x, size, alpha, beta, k)
    return y, backend.local_response_norm_backward(dy, x, save(scale), size, alpha, beta)


def expected(x, dy, size, alpha, beta, k):
    if not x.size:
        return x, x
    named = {"size": size, "alpha": alpha, "beta": beta, "k": k}
    y, (dx,) = oracle.torch_functional("local_response_norm", (x,), dy, **named)
    return y, dx


@by_dtype
@by_options
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torch(backend, shape, options, dtype):
    x, dy = problem(shape, dtype)
    for actual, wanted in zip(compute(backend, x, dy, *options), expected(x, dy, *options), strict=True):
        assert actual.dtype == dtype
        oracle.assert_close(actual, wanted)


@by_dtype
@by_options
def test_scale(backend, options, dtype):
    size, alpha, _, k = options
    x, _ = problem((2, 33, 40), dtype)
    _, scale = backend.local_response_norm_forward(x, *options)
    squares = np.pad(x.astype("f8") ** 2, ((0, 0), (size // 2, size - 1 - size // 2), (0, 0)))
    oracle.assert_close(scale, k + alpha / size * sum(squares[:, i : i + 33] for i in range(size)))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 17, 6), (3, 40, 33), (4, 33, 1)], ids=str)
def test_takes_any_memory_order(backend, shape, layout, dtype):
    x, dy = problem(shape, dtype)
    before, change = (x.copy(), dy.copy()), LAYOUTS[layout]
    wanted = expected(x, dy, *OPTIONS[0])
    for arrays in ((change(x), change(dy)), (x, change(dy)), (change(x), dy)):
        for actual, plain in zip(compute(backend, *arrays, *OPTIONS[0], save=change), wanted, strict=True):
            oracle.assert_close(actual, plain)
    oracle.assert_same_bits(x, before[0])
    oracle.assert_same_bits(dy, before[1])


@pytest.mark.parametrize("axis", range(3))
def test_takes_zero_strides(backend, axis):
    x, dy = (stretched(a, axis) for a in problem((3, 40, 6), "float32"))
    copies = [np.array(a, order="C") for a in (x, dy)]
    for actual, wanted in zip(compute(backend, x, dy, *OPTIONS[0]), expected(*copies, *OPTIONS[0]), strict=True):
        oracle.assert_close(actual, wanted)


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_a_sample_does_not_know_its_batch(backend, layout, dtype):
    for shape in ((5, 10, 1), (5, 40, 7), (4, 3, 70)):
        x, dy = (LAYOUTS[layout](a) if layout in LAYOUTS else a for a in problem(shape, dtype))
        together = compute(backend, x, dy, *OPTIONS[0])
        for i in (0, shape[0] - 1):
            alone = compute(backend, x[i : i + 1], dy[i : i + 1], *OPTIONS[0])
            for many, one in zip(together, alone, strict=True):
                oracle.assert_same_bits(many[i : i + 1], one)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 40, 3), (1, 12, 3)], ids=str)
def test_a_special_value_stays_in_its_windows(backend, shape, special):
    x, dy = problem(shape, "float32")
    x[0, 6, 1] = special
    y, scale = backend.local_response_norm_forward(x, *OPTIONS[0])
    reach = np.zeros(shape, bool)
    reach[0, 4:9, 1] = True
    np.testing.assert_array_equal(~np.isfinite(scale), reach)
    assert np.isfinite(y[~reach]).all()
    dx = backend.local_response_norm_backward(dy, x, scale, *OPTIONS[0][:3])
    reach[0, 2:11, 1] = True
    assert np.isfinite(dx[~reach]).all()
